//! Errors of calls.

use std::{error::Error as _, time::Duration};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::connector::ConnectError;

/// Why a call has no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The scheduler refused the call, or the connection broke and the call was not repeated.
    #[error("{}", describe(.0))]
    Status(Box<Status>),
    /// No replica could be reached within the deadline.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A replica was reached, but no answer came within the deadline.
    #[error("no answer from a scheduler within {} s", .0.as_secs_f64())]
    Deadline(Duration),
    /// The answer lacks what the contract promises.
    #[error("the scheduler answered {method} without {missing}")]
    Incomplete {
        /// The called method.
        method: &'static str,
        /// The missing field.
        missing: &'static str,
    },
}

/// One field of a request that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// Path of the field.
    pub field: String,
    /// The rule it breaks.
    pub description: String,
}

impl ClientError {
    /// The gRPC code; errors on this side have one too.
    pub fn code(&self) -> Code {
        match self {
            Self::Status(status) => status.code(),
            Self::Connect(_) => Code::Unavailable,
            Self::Deadline(_) => Code::DeadlineExceeded,
            Self::Incomplete { .. } => Code::Internal,
        }
    }

    /// The status from the scheduler, if there is one.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Status(status) => Some(status),
            _ => None,
        }
    }

    /// The stable reason of the error (`google.rpc.ErrorInfo`), such as `TASK_NOT_FOUND`.
    pub fn reason(&self) -> Option<String> {
        self.status()?.get_details_error_info().map(|info| info.reason)
    }

    /// The fields of the request that break a rule (`google.rpc.BadRequest`).
    pub fn violations(&self) -> Vec<FieldViolation> {
        let details = self.status().and_then(|status| status.get_details_bad_request());
        let violations = details
            .map(|details| details.field_violations)
            .unwrap_or_default();
        violations
            .into_iter()
            .map(|violation| FieldViolation {
                field: violation.field,
                description: violation.description,
            })
            .collect()
    }

    /// True if no scheduler answered, so that it is unknown whether the call had an effect.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Deadline(_) => true,
            Self::Status(status) => is_unanswered(status),
            Self::Incomplete { .. } => false,
        }
    }

    /// True if the named thing does not exist.
    pub fn is_not_found(&self) -> bool {
        self.code() == Code::NotFound
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

/// True if the status was made on this side because the connection broke, not sent by a server.
///
/// tonic keeps the cause of such a status as its source; a status from the wire has none.
pub fn is_transport_failure(status: &Status) -> bool {
    status.source().is_some()
}

/// True if another replica may answer where this one did not.
pub(crate) fn is_unanswered(status: &Status) -> bool {
    status.code() == Code::Unavailable || is_transport_failure(status)
}

fn describe(status: &Status) -> String {
    if is_transport_failure(status) {
        format!("the connection to the scheduler broke: {}", status.message())
    } else if status.message().is_empty() {
        status.code().description().to_owned()
    } else {
        status.message().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn reason_and_violations_of_a_status_stay_readable() {
        let mut details = ErrorDetails::new();
        details.set_error_info("INVALID_FIELD", "tasklease", std::collections::HashMap::new());
        details.add_bad_request_violation("task.priority", "must be -100 to 100");
        let status = Status::with_error_details(Code::InvalidArgument, "bad", details);
        let error = ClientError::from(status);
        assert_eq!(error.code(), Code::InvalidArgument);
        assert_eq!(error.reason().as_deref(), Some("INVALID_FIELD"));
        assert_eq!(error.violations()[0].field, "task.priority");
        assert!(!error.is_unreachable());
    }

    #[test]
    fn a_status_from_the_wire_is_no_transport_failure() {
        assert!(!is_transport_failure(&Status::unknown("told by a server")));
        assert!(is_transport_failure(&Status::from_error(Box::new(
            std::io::Error::other("reset")
        ))));
    }
}
