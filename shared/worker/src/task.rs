//! The trait that the author of a task implements.

use std::future::Future;

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    context::Context,
    task_error::{IntoTaskError, TaskError},
};

/// What a task's code returns.
pub type TaskResult<T> = Result<T, TaskError>;

/// The code of one task type.
///
/// One value serves all runs of the type, several at the same time; what belongs to a single run is in
/// its parameters and its [`Context`].
pub trait Task: Send + Sync + 'static {
    /// The task type it runs, such as `image.resize`.
    const TYPE: &'static str;
    /// The parameters. Derive `Deserialize` with `#[serde(default)]` to give each field a default,
    /// and `deny_unknown_fields` to refuse misspelt ones.
    type Params: DeserializeOwned + Send;
    /// The result: anything that becomes a JSON object; other values are wrapped as
    /// `{"value": …}`.
    type Output: Serialize + Send;
    /// The error. [`TaskError`] takes every other error with `?`; `anyhow::Error`,
    /// `Box<dyn Error + Send + Sync>` and types that implement [`IntoTaskError`] can be used instead.
    type Error: IntoTaskError;

    /// Runs one task.
    ///
    /// The future is dropped at its next await if the lease is lost, or if the code was told to stop
    /// and does not stop in time.
    ///
    /// # Errors
    /// Any error fails the run; the task is tried again unless the error says otherwise.
    fn run(
        &self,
        params: Self::Params,
        ctx: &Context,
    ) -> impl Future<Output = Result<Self::Output, Self::Error>> + Send;
}
