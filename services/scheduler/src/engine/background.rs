//! Everything that runs behind the calls: loops, jobs, and work that outlives its caller.

use std::{future::Future, sync::Arc};

use parking_lot::Mutex;
use tasklease_lifecycle::Shutdown;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::domain::error::Error;

/// Runs background work. A panic in any of it ends the process, because nothing works without it; health says so by
/// then. Cheap to clone.
#[derive(Clone)]
pub struct Background {
    tasks: TaskTracker,
    stop: CancellationToken,
    shutdown: Shutdown,
}

impl Background {
    /// Background work of a process that is ended by `shutdown`; it stops at [`Background::stop`].
    pub fn new(shutdown: &Shutdown) -> Self {
        Self {
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            shutdown: shutdown.clone(),
        }
    }

    /// Cancelled when loops must end.
    pub(super) fn stopping(&self) -> &CancellationToken {
        &self.stop
    }

    /// Asks all loops to end.
    pub fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
    }

    /// Waits until everything has ended.
    pub async fn ended(&self) {
        self.tasks.wait().await;
    }

    /// Runs work that the process cannot do without.
    pub(super) fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(self.shutdown.vital(name, work));
    }

    /// Runs a change of state to its end, even if its caller leaves: a future that is dropped half-way would leave a
    /// statement running on a connection that others use.
    pub(super) async fn complete<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Error> {
        let done = self.tasks.spawn(work);
        done.await.map_err(|error| {
            tracing::error!(%error, "a change of state broke off");
            Error::Internal
        })
    }
}

/// A job that is under way once at most; whoever asks for it meanwhile makes it run once more.
#[derive(Clone, Default)]
pub(super) struct OneAtATime {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Idle,
    Running,
    RunningAndAskedFor,
}

impl OneAtATime {
    /// Starts the job unless it is under way.
    pub(super) fn start<Fut>(
        &self,
        background: &Background,
        name: &'static str,
        work: impl Fn() -> Fut + Send + 'static,
    ) where
        Fut: Future<Output = ()> + Send,
    {
        {
            let mut state = self.state();
            if *state != State::Idle {
                *state = State::RunningAndAskedFor;
                return;
            }
            *state = State::Running;
        }
        let job = self.clone();
        background.spawn(name, async move {
            loop {
                work().await;
                let mut state = job.state();
                if *state == State::Running {
                    *state = State::Idle;
                    return;
                }
                *state = State::Running;
            }
        });
    }

    fn state(&self) -> parking_lot::MutexGuard<'_, State> {
        self.state.lock()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::{Semaphore, mpsc};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_job_is_under_way_once_and_runs_again_if_it_was_asked_for_meanwhile() {
        let background = Background::new(&Shutdown::manual());
        let (job, gate) = (OneAtATime::default(), Arc::new(Semaphore::new(0)));
        let (begun, mut begins) = mpsc::unbounded_channel();
        let start = || {
            let (gate, begun) = (gate.clone(), begun.clone());
            job.start(&background, "a job", move || {
                let (gate, begun) = (gate.clone(), begun.clone());
                async move {
                    begun.send(()).expect("the test listens");
                    gate.acquire().await.expect("never closed").forget();
                }
            });
        };
        start();
        assert_eq!(begins.recv().await, Some(()));
        start();
        start();
        assert!(begins.try_recv().is_err(), "it is under way");
        gate.add_permits(1);
        assert_eq!(begins.recv().await, Some(()), "once more for both");
        gate.add_permits(1);
        background.stop();
        tokio::time::timeout(PATIENCE, background.ended())
            .await
            .expect("it ends");
        assert!(begins.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_panic_of_a_loop_ends_the_process() {
        let shutdown = Shutdown::manual();
        let background = Background::new(&shutdown);
        background.spawn("a loop", async { panic!("planted") });
        tokio::time::timeout(PATIENCE, shutdown.hard().cancelled())
            .await
            .expect("the process is told to end");
        assert_eq!(shutdown.failure(), Some("a loop"));
    }

    #[tokio::test]
    async fn work_goes_on_when_its_caller_leaves() {
        let background = Background::new(&Shutdown::manual());
        let (gate, done) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let work = {
            let (gate, done) = (gate.clone(), done.clone());
            async move {
                gate.acquire().await.expect("never closed").forget();
                done.add_permits(1);
            }
        };
        let mut call = Box::pin(background.complete(work));
        assert!(futures_util::FutureExt::now_or_never(&mut call).is_none());
        drop(call);
        gate.add_permits(1);
        tokio::time::timeout(PATIENCE, done.acquire())
            .await
            .expect("it is done")
            .expect("never closed")
            .forget();
    }
}
