//! Tests of tasks without a scheduler (feature `testing`).
//!
//! A [`TestRun`] runs the code of a task as the runtime does: parameters come from JSON, panics are
//! caught, and the outcome follows from what the code said and what it was told.
//!
//! ```
//! use serde_json::json;
//! use tasklease_worker::{Context, Task, TaskError, TaskResult, testing::TestRun};
//!
//! struct Count;
//!
//! #[derive(serde::Deserialize)]
//! struct Params {
//!     to: u32,
//! }
//!
//! impl Task for Count {
//!     const TYPE: &'static str = "count";
//!     type Params = Params;
//!     type Output = u32;
//!     type Error = TaskError;
//!
//!     async fn run(&self, params: Params, ctx: &Context) -> TaskResult<u32> {
//!         for number in 1..=params.to {
//!             ctx.update_progress(f64::from(number) * 100.0 / f64::from(params.to), "Counting");
//!             ctx.sleep(std::time::Duration::from_millis(1)).await?;
//!         }
//!         Ok(params.to)
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! // It counts.
//! let run = TestRun::new(Count);
//! let outcome = run.run(json!({ "to": 3 })).await;
//! assert_eq!(outcome.result(), Some(&json!({ "value": 3 })));
//! assert_eq!(run.progress().len(), 3);
//!
//! // It stops halfway when it is cancelled.
//! let run = TestRun::new(Count);
//! let cancel_halfway = async {
//!     run.until(|events| events.len() >= 500).await;
//!     run.cancel("not needed");
//! };
//! let (outcome, ()) = tokio::join!(run.run(json!({ "to": 1_000 })), cancel_halfway);
//! assert!(outcome.is_cancelled());
//! assert!(run.progress().len() < 1_000);
//! # }
//! ```

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;
use tasklease_proto::{
    convert::{duration_from_wire, duration_to_wire},
    json,
    v1::{Failed, LeasedTask, report::Body, succeeded::Output},
};
use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc::unbounded_channel},
};
use uuid::Uuid;

use crate::{
    context::{Context, LogLevel},
    lease_key::LeaseKey,
    outcome::{self, Draining, Told},
    panic_capture,
    registry::run_task,
    run::{Host, Run, run_timeout},
    run_events::RunEvent,
    slot::Slot,
    stop::{StopReason, StopSignal},
    task::{Task, TaskResult},
    task_error::TaskError,
};

/// One run of a task under test.
///
/// The methods that configure it come first, then at most one [`run`](Self::run); all others may be
/// called before, while and after the code runs.
pub struct TestRun<T> {
    task: T,
    lease: LeasedTask,
    run: Arc<Run>,
    /// Held for as long as the code may start blocking closures.
    slot: Arc<Slot>,
    recorder: Arc<Recorder>,
}

/// Progress as it was reported; fields that the code did not set are empty.
#[derive(Debug, Clone, PartialEq)]
pub struct TestProgress {
    /// 0 to 100; `None` if it is unknown.
    pub percent: Option<f64>,
    /// The line for people.
    pub message: String,
    /// The title of the card.
    pub heading: String,
    /// The text of the card.
    pub body: String,
    /// The address of the card's image.
    pub image: String,
    /// The free detail.
    pub detail: Option<Value>,
}

/// Something that the code reported.
#[derive(Debug, Clone, PartialEq)]
pub enum TestEvent {
    /// Progress.
    Progress(TestProgress),
    /// A line for watchers.
    Log {
        /// How much it matters.
        level: LogLevel,
        /// The text.
        message: String,
    },
}

/// How a run under test ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum TestOutcome {
    /// With this result, as it would be stored.
    Succeeded(Value),
    /// With this error.
    Failed(TaskError),
    /// Cancelled, for this reason.
    Cancelled(String),
    /// Handed back because the worker is draining; the task will run again, uncounted.
    Released,
    /// The lease was lost before, so whatever the code returned does not count.
    Discarded,
}

impl TestOutcome {
    /// The result of a run that succeeded.
    pub fn result(&self) -> Option<&Value> {
        match self {
            Self::Succeeded(result) => Some(result),
            _ => None,
        }
    }

    /// The error of a run that failed; one that ran out of time has the kind `TIMED_OUT`.
    pub fn error(&self) -> Option<&TaskError> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// True if the run was cancelled.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled(_))
    }

    fn from_wire(body: Body) -> Self {
        match body {
            Body::Succeeded(success) => match success.output {
                Some(Output::ResultJson(text)) => {
                    Self::Succeeded(serde_json::from_slice(&text).unwrap_or_default())
                }
                _ => Self::Succeeded(Value::Null),
            },
            Body::Failed(failed) => Self::Failed(task_error(failed)),
            Body::Cancelled(cancelled) => Self::Cancelled(cancelled.message),
            Body::Released(_) | Body::Accepted(_) | Body::Progress(_) | Body::Log(_) => Self::Released,
        }
    }
}

impl<T: Task> TestRun<T> {
    /// A first attempt of a task in the queue `default`, without a run timeout. Needs a running
    /// tokio runtime.
    pub fn new(task: T) -> Self {
        let lease = LeasedTask {
            task_id: Uuid::new_v4().to_string(),
            lease_token: 1,
            task_type: T::TYPE.to_owned(),
            queue: "default".to_owned(),
            attempt: 1,
            max_attempts: 5,
            ..LeasedTask::default()
        };
        Self::of(task, lease, Arc::default())
    }

    /// The same test of a run with another lease.
    fn remade(self) -> Self {
        Self::of(self.task, self.lease, self.recorder)
    }

    fn of(task: T, lease: LeasedTask, recorder: Arc<Recorder>) -> Self {
        panic_capture::install();
        // The receiver is dropped: there is no protocol.
        let (events, _) = unbounded_channel();
        let host = Arc::new(Host::new(Handle::current(), events));
        let slot = Arc::new(Slot::new(Arc::clone(&host)));
        let key = LeaseKey {
            task: Uuid::nil(),
            token: lease.lease_token,
        };
        let mut run = Run::new(key, lease.clone(), Instant::now(), &slot, host);
        run.recorder = Some(Arc::clone(&recorder));
        Self {
            task,
            lease,
            run: Arc::new(run),
            slot,
            recorder,
        }
    }

    /// Sets the number of the attempt, from 1.
    #[must_use]
    pub fn attempt(mut self, number: u32) -> Self {
        self.lease.attempt = number.try_into().unwrap_or(i32::MAX);
        self.remade()
    }

    /// Sets how many counted runs the task may have.
    #[must_use]
    pub fn max_attempts(mut self, number: u32) -> Self {
        self.lease.max_attempts = number.try_into().unwrap_or(i32::MAX);
        self.remade()
    }

    /// Sets the lease token.
    #[must_use]
    pub fn lease_token(mut self, token: u64) -> Self {
        self.lease.lease_token = token.try_into().unwrap_or(i64::MAX);
        self.remade()
    }

    /// Sets the task's id.
    #[must_use]
    pub fn task_id(mut self, id: impl Into<String>) -> Self {
        self.lease.task_id = id.into();
        self.remade()
    }

    /// Sets the queue.
    #[must_use]
    pub fn queue(mut self, name: impl Into<String>) -> Self {
        self.lease.queue = name.into();
        self.remade()
    }

    /// Sets the run timeout; it counts from this call.
    #[must_use]
    pub fn run_timeout(mut self, timeout: Duration) -> Self {
        self.lease.run_timeout = Some(duration_to_wire(timeout));
        self.remade()
    }

    /// Cancels the task as soon as its code reports this percentage.
    #[must_use]
    pub fn cancel_at_progress(self, percent: f64) -> Self {
        self.recorder.script().cancel_at_progress = Some(percent);
        self
    }

    /// Cancels the task at the n-th time, from 0, that its code calls
    /// [`check_cancelled`](Context::check_cancelled): with 0, 1, 2 and so on until the run is not
    /// cancelled any more, a test stops the code at each point where it can be stopped.
    #[must_use]
    pub fn cancel_at_check(self, number: usize) -> Self {
        self.recorder.script().cancel_at_check = Some(number);
        self
    }

    /// Lets every [`Context::sleep`] end at once; [`slept`](Self::slept) adds them up.
    #[must_use]
    pub fn without_sleeping(self) -> Self {
        self.recorder.script().skips_sleeps = true;
        self
    }

    /// How long the code would have slept, if the run is [`without_sleeping`](Self::without_sleeping).
    pub fn slept(&self) -> Duration {
        self.recorder.script().slept
    }

    /// The context of the run, for tests of code that takes one.
    pub fn context(&self) -> Context {
        Context::new(Arc::clone(&self.run))
    }

    /// Runs the task's code once and says how the run ended. Unlike the runtime it waits for code
    /// that does not stop when it is told to.
    pub async fn run(&self, payload: Value) -> TestOutcome {
        let context = self.context();
        let code = run_task(&self.task, payload.to_string().into(), &context);
        let result = self.in_time(panic_capture::catch_async(code)).await;
        self.run.mailbox.close();
        let told = match self.run.stop.reason() {
            None => Told::Nothing,
            Some(StopReason::Drained) => Told::Release,
            Some(StopReason::TimedOut) => Told::TimeOut {
                limit: run_timeout(&self.lease).unwrap_or_default(),
            },
            Some(StopReason::Cancelled { reason }) => Told::Cancel {
                reason: reason.clone(),
            },
            Some(StopReason::LeaseLost { .. }) => return TestOutcome::Discarded,
        };
        let draining = if context.is_draining() {
            Draining::Yes
        } else {
            Draining::No
        };
        TestOutcome::from_wire(outcome::of_return(result, &told, draining))
    }

    /// Tells the code when it is out of time.
    async fn in_time(&self, code: impl Future<Output = TaskResult<Bytes>>) -> TaskResult<Bytes> {
        let mut code = std::pin::pin!(code);
        if let Some(deadline) = self.run.deadline {
            match tokio::time::timeout_at(deadline.into(), &mut code).await {
                Ok(result) => return result,
                Err(_) => self.time_out(),
            }
        }
        code.await
    }

    /// Cancels the task for this reason.
    pub fn cancel(&self, reason: impl Into<String>) {
        self.run.stop.raise(StopReason::Cancelled {
            reason: reason.into(),
        });
    }

    /// Tells the code that its time is up, as the end of the run timeout does.
    pub fn time_out(&self) {
        self.run.stop.raise(StopReason::TimedOut);
    }

    /// Lets the worker drain: the code may go on for the grace period.
    pub fn begin_drain(&self) {
        self.run.host.draining.cancel();
    }

    /// Ends the grace period of a draining worker: the code must stop.
    pub fn end_drain(&self) {
        self.begin_drain();
        self.run.stop.raise(StopReason::Drained);
    }

    /// Takes the lease away, as when no scheduler was reachable for too long.
    pub fn lose_lease(&self, why: impl Into<String>) {
        self.run.stop.raise(StopReason::LeaseLost { why: why.into() });
    }

    /// All that the code has reported so far, in order.
    pub fn events(&self) -> Vec<TestEvent> {
        self.recorder.events().clone()
    }

    /// All progress that the code has reported so far, in order.
    pub fn progress(&self) -> Vec<TestProgress> {
        let progress = |event| match event {
            TestEvent::Progress(progress) => Some(progress),
            TestEvent::Log { .. } => None,
        };
        self.events().into_iter().filter_map(progress).collect()
    }

    /// The texts of all lines that the code has logged so far, in order.
    pub fn logs(&self) -> Vec<String> {
        let message = |event| match event {
            TestEvent::Log { message, .. } => Some(message),
            TestEvent::Progress(_) => None,
        };
        self.events().into_iter().filter_map(message).collect()
    }

    /// Waits until `is_reached` accepts the events so far. Combine it with [`run`](Self::run) by
    /// `tokio::join!`.
    pub async fn until(&self, is_reached: impl Fn(&[TestEvent]) -> bool) {
        loop {
            // Created before the check, so that an event between the two is not missed.
            let changed = self.recorder.changed.notified();
            if is_reached(&self.recorder.events()) {
                return;
            }
            changed.await;
        }
    }
}

impl<T> fmt::Debug for TestRun<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestRun")
            .field("run", &self.run)
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}

/// Keeps every report of a run, where the runtime would keep only the latest progress, and stops
/// the run where the test wants it.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    events: Mutex<Vec<TestEvent>>,
    changed: Notify,
    script: Mutex<Script>,
}

/// When a test stops the run, and what it counts.
#[derive(Debug, Default)]
struct Script {
    cancel_at_progress: Option<f64>,
    cancel_at_check: Option<usize>,
    checks: usize,
    skips_sleeps: bool,
    slept: Duration,
}

impl Recorder {
    pub(crate) fn record(&self, item: RunEvent, stop: &StopSignal) {
        let percent = match &item {
            RunEvent::Progress(progress) => progress.percent,
            RunEvent::Log(_) => None,
        };
        if percent.is_some() && percent == self.script().cancel_at_progress {
            cancel_by_script(stop);
        }
        self.events().push(item.into());
        self.changed.notify_waiters();
    }

    pub(crate) fn count_check(&self, stop: &StopSignal) {
        let mut script = self.script();
        if script.cancel_at_check == Some(script.checks) {
            cancel_by_script(stop);
        }
        script.checks += 1;
    }

    pub(crate) fn skips_sleep(&self, time: Duration) -> bool {
        let mut script = self.script();
        if script.skips_sleeps {
            script.slept += time;
        }
        script.skips_sleeps
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock()
    }

    fn events(&self) -> MutexGuard<'_, Vec<TestEvent>> {
        self.events.lock()
    }
}

fn cancel_by_script(stop: &StopSignal) {
    stop.raise(StopReason::Cancelled {
        reason: "the test cancels here".to_owned(),
    });
}

impl From<RunEvent> for TestEvent {
    fn from(item: RunEvent) -> Self {
        match item {
            RunEvent::Progress(progress) => Self::Progress(TestProgress {
                percent: progress.percent,
                message: progress.message,
                heading: progress.heading,
                body: progress.body,
                image: progress.image,
                detail: progress.detail.and_then(|detail| {
                    let text = json::struct_to_json(&detail).ok()?;
                    serde_json::from_str(&text).ok()
                }),
            }),
            RunEvent::Log(line) => Self::Log {
                level: LogLevel::from_wire(line.level()),
                message: line.message,
            },
        }
    }
}

fn task_error(failed: Failed) -> TaskError {
    let error = failed.error.unwrap_or_default();
    let task_error = TaskError::new(error.kind, error.message).with_detail(error.detail);
    match failed.retry_after.as_ref().and_then(duration_from_wire) {
        _ if failed.non_retryable => task_error.non_retryable(),
        Some(delay) => task_error.retry_after(delay),
        None => task_error,
    }
}
