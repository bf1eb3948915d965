//! What the code of a run sees of the world.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tasklease_proto::{
    convert::{micros_from_system, timestamp_from_micros},
    v1::LogLine,
};

use crate::{
    clean_text::{self, MAX_LOG},
    news::NewsItem,
    panic_capture,
    progress::Progress,
    run::Run,
    task::TaskResult,
    task_error::TaskError,
};

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Finest steps.
    Trace,
    /// Steps that help to find a fault.
    Debug,
    /// What a reader wants to know.
    Info,
    /// Something odd that the run survives.
    Warn,
    /// Something that went wrong.
    Error,
}

impl LogLevel {
    fn as_wire(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
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
    /// Hand it to systems that the code changes: one that refuses tokens lower than the highest it
    /// saw cannot be changed by a run that was given up for dead.
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

    /// The number of the last run that the task may have.
    pub fn max_attempts(&self) -> u32 {
        u32::try_from(self.run.lease.max_attempts).unwrap_or(0)
    }

    /// The W3C `traceparent` of the submitter, if it sent one.
    pub fn traceparent(&self) -> Option<&str> {
        Some(self.run.lease.traceparent.as_str()).filter(|text| !text.is_empty())
    }

    /// Reports a percentage and a line for people; never waits.
    pub fn update_progress(&self, percent: f64, message: impl Into<String>) {
        self.report(Progress::percent(percent).message(message));
    }

    /// Reports progress in all its detail; never waits.
    pub fn report(&self, progress: Progress) {
        self.run.report(NewsItem::Progress(progress.into_wire()));
    }

    /// Logs a line that watchers of the task see, cut at 4,000 characters; never waits.
    pub fn log(&self, level: LogLevel, message: impl AsRef<str>) {
        let message = clean_text::lines(message.as_ref(), MAX_LOG);
        self.run.report(NewsItem::Log(LogLine {
            level: level.as_wire().to_owned(),
            message,
            time: None,
            worker_time: Some(timestamp_from_micros(micros_from_system(SystemTime::now()))),
        }));
    }

    /// True once the run has been told to stop.
    pub fn is_cancelled(&self) -> bool {
        self.run.stop.is_raised()
    }

    /// Fails once the run has been told to stop, for use with `?`.
    ///
    /// # Errors
    /// [`TaskError::cancelled`] if the run must stop.
    pub fn check_cancelled(&self) -> TaskResult<()> {
        if self.is_cancelled() {
            Err(TaskError::cancelled())
        } else {
            Ok(())
        }
    }

    /// Completes once the run has been told to stop.
    pub async fn cancelled(&self) {
        self.run.stop.raised().await;
    }

    /// Why the run was told to stop.
    pub fn cancel_reason(&self) -> Option<&str> {
        self.run.stop.reason()
    }

    /// Sleeps; ends early with the cancelled error if the run is told to stop.
    ///
    /// # Errors
    /// [`TaskError::cancelled`] if the run must stop.
    pub async fn sleep(&self, time: Duration) -> TaskResult<()> {
        tokio::select! {
            biased;
            () = self.cancelled() => Err(TaskError::cancelled()),
            () = tokio::time::sleep(time) => Ok(()),
        }
    }

    /// Runs code that computes or blocks for long on a thread of its own and awaits its result.
    ///
    /// The closure cannot be interrupted from outside: give it a clone of the context and let it
    /// call [`check_cancelled`](Self::check_cancelled). The run's slot stays taken until it returns.
    ///
    /// # Errors
    /// The closure's error; a panic in it becomes an error of kind `PANIC`.
    pub async fn blocking<T, F>(&self, code: F) -> TaskResult<T>
    where
        F: FnOnce() -> TaskResult<T> + Send + 'static,
        T: Send + 'static,
    {
        let slot = self.run.slot.upgrade();
        let running = self.run.host.runtime.spawn_blocking(move || {
            let result = panic_capture::catch(code);
            drop(slot);
            result
        });
        match running.await {
            Ok(result) => result,
            // Panics are caught inside, so this is a runtime that shuts down.
            Err(_) => Err(TaskError::new(
                "WORKER_STOPPED",
                "the worker stopped before the code could run",
            )),
        }
    }
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
