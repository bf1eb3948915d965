//! A run that records what a task reports and can be told to stop at any point.

use std::sync::Mutex;
use std::time::Duration;

use tasklease_documents::failure::Failure;
use tasklease_documents::steps::{RunName, Steps};
use tokio::sync::watch;

/// When the recorder tells the task to stop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum StopAt {
    Never,
    /// As soon as this percentage is reported.
    Mark(f64),
    /// At the n-th look of the task, counted from zero.
    Check(usize),
}

pub(crate) struct Recorder {
    stop_at: StopAt,
    stopped: watch::Sender<bool>,
    checks: Mutex<usize>,
    marks: Mutex<Vec<f64>>,
    slept: Mutex<Duration>,
}

impl Recorder {
    pub(crate) fn new(stop_at: StopAt) -> Recorder {
        Recorder {
            stop_at,
            stopped: watch::channel(false).0,
            checks: Mutex::default(),
            marks: Mutex::default(),
            slept: Mutex::default(),
        }
    }

    pub(crate) fn marks(&self) -> Vec<f64> {
        self.marks.lock().unwrap().clone()
    }

    pub(crate) fn slept(&self) -> Duration {
        *self.slept.lock().unwrap()
    }

    fn result(&self) -> Result<(), Failure> {
        if *self.stopped.borrow() {
            return Err(Failure::cancelled());
        }
        Ok(())
    }
}

impl Steps for Recorder {
    type Error = Failure;

    fn update_progress(&self, percent: f64, _message: &str) {
        self.marks.lock().unwrap().push(percent);
        if self.stop_at == StopAt::Mark(percent) {
            self.stopped.send_replace(true);
        }
    }

    fn check_cancelled(&self) -> Result<(), Failure> {
        let mut checks = self.checks.lock().unwrap();
        if self.stop_at == StopAt::Check(*checks) {
            self.stopped.send_replace(true);
        }
        *checks += 1;
        self.result()
    }

    async fn cancelled(&self) {
        let mut stopped = self.stopped.subscribe();
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }

    /// Adds up instead of waiting.
    async fn sleep(&self, time: Duration) -> Result<(), Failure> {
        *self.slept.lock().unwrap() += time;
        self.result()
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        tokio::task::spawn_blocking(work).await.unwrap()
    }

    fn run_name(&self) -> RunName {
        RunName {
            task_id: "0190f3c4-0000-7000-8000-000000000001".to_owned(),
            lease_token: 7,
        }
    }
}
