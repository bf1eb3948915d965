//! What a task's code needs from the run it is part of.

use std::future::Future;
use std::time::Duration;

use tasklease_worker::{Context, TaskError};

use crate::failure::Failure;

/// Names one run of a task: the task, and the lease under which it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunName {
    /// The task's id as text.
    pub task_id: String,
    /// The lease token; a later run of the same task has a greater one.
    pub lease_token: u64,
}

/// The run that a task's code reports to and that may tell it to stop.
///
/// The worker runtime's [`Context`] is one; tests put a recorder in its place, so that the marks
/// and every cancel window can be observed without a scheduler.
pub trait Steps: Sync {
    /// What a failed step returns.
    type Error: From<Failure> + Send;

    /// Reports progress in percent with a message.
    fn update_progress(&self, percent: f64, message: &str);

    /// Fails if the run has been told to stop.
    ///
    /// # Errors
    /// The cancelled error.
    fn check_cancelled(&self) -> Result<(), Self::Error>;

    /// Completes once the run has been told to stop.
    fn cancelled(&self) -> impl Future<Output = ()> + Send;

    /// Sleeps; ends early with the cancelled error when the run is told to stop.
    fn sleep(&self, time: Duration) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Runs code that blocks or computes for long on a thread of its own.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> impl Future<Output = Result<T, Self::Error>> + Send;

    /// The name of this run, for temporary files.
    fn run_name(&self) -> RunName;
}

impl Steps for Context {
    type Error = TaskError;

    fn update_progress(&self, percent: f64, message: &str) {
        Context::update_progress(self, percent, message);
    }

    fn check_cancelled(&self) -> Result<(), TaskError> {
        Ok(Context::check_cancelled(self)?)
    }

    async fn cancelled(&self) {
        Context::cancelled(self).await;
    }

    async fn sleep(&self, time: Duration) -> Result<(), TaskError> {
        Ok(Context::sleep(self, time).await?)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, TaskError> {
        Ok(Context::blocking(self, move || work().map_err(TaskError::from)).await?)
    }

    fn run_name(&self) -> RunName {
        RunName {
            task_id: self.task_id().to_string(),
            lease_token: self.lease_token(),
        }
    }
}
