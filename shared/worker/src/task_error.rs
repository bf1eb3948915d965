//! Why a run failed.

use std::{error::Error, fmt, time::Duration};

/// Kind of errors that were converted with `?`.
const GENERIC_KIND: &str = "ERROR";

/// Why a run failed: a word for programs, a sentence for people, and whether to try again.
///
/// Every error type converts into it with `?`. It is deliberately no [`Error`] itself, so that the
/// conversion can exist.
#[derive(Debug, Clone)]
pub struct TaskError {
    pub(crate) kind: String,
    pub(crate) message: String,
    pub(crate) detail: String,
    pub(crate) again: Again,
    pub(crate) cause: Cause,
}

/// Whether and when to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// As the task's own policy says.
    ByPolicy,
    /// After this time.
    After(Duration),
    /// Never.
    No,
}

/// Where an error comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Something went wrong.
    Fault,
    /// The code stopped because it was told to.
    Cancelled,
}

impl TaskError {
    /// An error of a kind, such as `INPUT_TOO_LARGE`, with a sentence for people.
    pub fn new(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            message: message.into(),
            detail: String::new(),
            again: Again::ByPolicy,
            cause: Cause::Fault,
        }
    }

    /// The error of code that stops because it was cancelled.
    ///
    /// Only after a cancel request does it end the run as cancelled; otherwise the run has failed.
    pub fn cancelled() -> Self {
        Self {
            cause: Cause::Cancelled,
            ..Self::new("CANCELLED", "the task was cancelled")
        }
    }

    /// Says that no further attempt would help.
    #[must_use]
    pub fn non_retryable(mut self) -> Self {
        self.again = Again::No;
        self
    }

    /// Asks for the next attempt after this time instead of the task's back-off.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.again = Again::After(delay);
        self
    }

    /// Adds a trace or other detail for people.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// The word for programs.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The sentence for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// True if it says that the code stopped because it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.cause == Cause::Cancelled
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for TaskError {
    fn from(error: E) -> Self {
        let mut detail = String::new();
        let mut source = error.source();
        while let Some(cause) = source {
            if !detail.is_empty() {
                detail.push('\n');
            }
            detail.push_str("caused by: ");
            detail.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::new(GENERIC_KIND, error.to_string()).with_detail(detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot load the model")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn any_error_converts_with_its_message_and_its_causes() {
        let error = TaskError::from(Outer(std::io::Error::other("disk on fire")));
        assert_eq!(
            (error.kind(), error.message()),
            ("ERROR", "cannot load the model")
        );
        assert_eq!(error.detail, "caused by: disk on fire");
    }
}
