//! The context of a run: what its code can ask and report.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use tasklease_proto::{
    convert::timestamp_to_wire,
    limits, text,
    v1::{self, LogLine},
};

use crate::{
    blocking,
    interrupt::{RaiseOnDrop, StopFlag},
    progress::Progress,
    run::Run,
    run_events::RunEvent,
    stop::{StopReason, Stopped},
    task::TaskResult,
    task_error::{CodeError, TaskError},
};

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Every step, for tracing a single run.
    Trace,
    /// Steps that help to find a fault.
    Debug,
    /// What a reader of the log wants to know.
    Info,
    /// Something unexpected after which the run goes on.
    Warn,
    /// A failure, whether or not the run goes on.
    Error,
}

impl LogLevel {
    fn to_wire(self) -> v1::LogLevel {
        match self {
            Self::Trace => v1::LogLevel::Trace,
            Self::Debug => v1::LogLevel::Debug,
            Self::Info => v1::LogLevel::Info,
            Self::Warn => v1::LogLevel::Warn,
            Self::Error => v1::LogLevel::Error,
        }
    }

    #[cfg(feature = "testing")]
    pub(crate) fn from_wire(level: v1::LogLevel) -> Self {
        match level {
            v1::LogLevel::Trace => Self::Trace,
            v1::LogLevel::Debug => Self::Debug,
            v1::LogLevel::Info | v1::LogLevel::Unspecified => Self::Info,
            v1::LogLevel::Warn => Self::Warn,
            v1::LogLevel::Error => Self::Error,
        }
    }
}

/// One run of a task: who it is, whether it must stop, and where it reports.
///
/// Clones are cheap and mean the same run, so that closures and helper tasks can have one.
#[derive(Clone)]
pub struct Context {
    run: Arc<Run>,
}

impl Context {
    pub(crate) fn new(run: Arc<Run>) -> Self {
        Self { run }
    }

    /// The task's id.
    pub fn task_id(&self) -> &str {
        &self.run.lease.task_id
    }

    /// The token of this run's lease, greater than that of every earlier run of the task.
    ///
    /// Hand it to the systems that the code writes to: a system that refuses tokens lower than the
    /// highest it has seen cannot be changed by an earlier run that was given up for dead.
    pub fn lease_token(&self) -> u64 {
        u64::try_from(self.run.lease.lease_token).unwrap_or(0)
    }

    /// The task's type.
    pub fn task_type(&self) -> &str {
        &self.run.lease.task_type
    }

    /// The queue the task came from.
    pub fn queue(&self) -> &str {
        &self.run.lease.queue
    }

    /// The number of this run, from 1.
    pub fn attempt(&self) -> u32 {
        u32::try_from(self.run.lease.attempt).unwrap_or(0)
    }

    /// How many counted runs the task may have.
    pub fn max_attempts(&self) -> u32 {
        u32::try_from(self.run.lease.max_attempts).unwrap_or(0)
    }

    /// The W3C `traceparent` of the submitter, if it sent one.
    pub fn traceparent(&self) -> Option<&str> {
        Some(self.run.lease.traceparent.as_str()).filter(|text| !text.is_empty())
    }

    /// When the run will be told to stop because of the task's run timeout; `None` if it has none.
    pub fn deadline(&self) -> Option<Instant> {
        self.run.deadline
    }

    /// Reports a percentage and a line for people; never waits.
    ///
    /// Watchers see at most about ten reports of a run per second: a report replaces earlier ones
    /// that have not been sent yet, and the last report of a run is always sent.
    pub fn update_progress(&self, percent: f64, message: impl Into<String>) {
        self.report(Progress::percent(percent).message(message));
    }

    /// Reports progress in all its detail; never waits. See [`update_progress`](Self::update_progress).
    pub fn report(&self, progress: Progress) {
        self.run.report(RunEvent::Progress(v1::Progress {
            worker_time: Some(now()),
            ..progress.into_wire()
        }));
    }

    /// Logs a line that watchers of the task see, cut at 4,000 characters; never waits.
    pub fn log(&self, level: LogLevel, message: impl AsRef<str>) {
        let message = text::lines(message.as_ref(), limits::LOG_CHARS);
        self.run.report(RunEvent::Log(LogLine {
            level: level.to_wire().into(),
            message,
            time: None,
            worker_time: Some(now()),
        }));
    }

    /// True once the run has been told to stop.
    pub fn is_cancelled(&self) -> bool {
        self.stop_reason().is_some()
    }

    /// Fails once the run has been told to stop, for use with `?`.
    ///
    /// # Errors
    /// [`Stopped`] if the run must stop.
    pub fn check_cancelled(&self) -> Result<(), Stopped> {
        #[cfg(feature = "testing")]
        self.run.count_check();
        self.stop_reason()
            .map_or(Ok(()), |reason| Err(Stopped::new(reason.clone())))
    }

    /// Completes once the run has been told to stop.
    pub async fn cancelled(&self) {
        self.run.stop.raised().await;
    }

    /// Why the run was told to stop; `None` while it may go on.
    pub fn stop_reason(&self) -> Option<&StopReason> {
        self.run.stop.reason()
    }

    /// True once the worker drains: it takes no more tasks, and lets running ones go on for its
    /// grace period.
    ///
    /// Code that needs longer may save its state now and return [`TaskError::cancelled`],
    /// which hands the task back without counting the attempt.
    ///
    /// [`TaskError::cancelled`]: crate::TaskError::cancelled
    pub fn is_draining(&self) -> bool {
        self.run.host.draining.is_cancelled()
    }

    /// Completes once the worker drains; see [`is_draining`](Self::is_draining).
    pub async fn draining(&self) {
        self.run.host.draining.cancelled().await;
    }

    /// Sleeps; ends early if the run is told to stop.
    ///
    /// # Errors
    /// [`Stopped`] if the run must stop.
    pub async fn sleep(&self, time: Duration) -> Result<(), Stopped> {
        #[cfg(feature = "testing")]
        if self.run.skips_sleep(time) {
            return self.unless_stopped(std::future::ready(())).await;
        }
        self.unless_stopped(tokio::time::sleep(time)).await
    }

    /// Runs code that computes or blocks for long on a thread of its own and awaits its result.
    ///
    /// The closure cannot be interrupted from outside: give it a clone of the context and let it
    /// call [`check_cancelled`](Self::check_cancelled). The run's slot stays taken until it returns.
    /// A closure that has not begun when its run ends, or when this future is dropped, never begins.
    ///
    /// # Errors
    /// The closure's error; a panic in it becomes an error of kind `PANIC`.
    pub async fn blocking<T, F>(&self, code: F) -> Result<T, CodeError>
    where
        F: FnOnce() -> TaskResult<T> + Send + 'static,
        T: Send + 'static,
    {
        Ok(blocking::run(&self.run, code).await?)
    }

    /// Runs code that computes or blocks for long, as [`blocking`](Self::blocking) does, but waits
    /// for it only until the run is told to stop.
    ///
    /// The closure gets a flag that is raised then, and also when this future is dropped; it should
    /// look at the flag often. The run's slot stays taken until the closure returns.
    ///
    /// # Errors
    /// Those of [`blocking`](Self::blocking), or a stop.
    pub async fn interruptible<T, F>(&self, code: F) -> Result<T, CodeError>
    where
        F: FnOnce(&StopFlag) -> TaskResult<T> + Send + 'static,
        T: Send + 'static,
    {
        let flag = StopFlag::default();
        let _raise = RaiseOnDrop(flag.clone());
        self.unless_stopped(self.blocking(move || code(&flag)))
            .await
            .map_err(TaskError::from)?
    }

    /// Awaits something, but only until the run is told to stop; then the future is dropped.
    ///
    /// # Errors
    /// [`Stopped`] if the run must stop.
    pub async fn unless_stopped<T>(&self, future: impl Future<Output = T>) -> Result<T, Stopped> {
        tokio::select! {
            biased;
            reason = self.run.stop.raised() => Err(Stopped::new(reason.clone())),
            output = future => Ok(output),
        }
    }
}

fn now() -> prost_types::Timestamp {
    timestamp_to_wire(jiff::Timestamp::now())
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("task_id", &self.task_id())
            .field("lease_token", &self.lease_token())
            .field("attempt", &self.attempt())
            .field("is_cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}
