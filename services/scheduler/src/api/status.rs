//! The one place where errors become gRPC statuses.
//!
//! Every status carries `google.rpc.ErrorInfo` with the domain `tasklease`; its reason is stable.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::domain::error::Error;

/// The domain of all reasons.
const DOMAIN: &str = "tasklease";

/// When a client may try again after an overload or outage.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// Violations that the details name. Message and details must fit into the 8 KiB of trailers that most clients accept;
/// the details hold the message once more, and travel as base64.
const VIOLATIONS: usize = 16;

/// Bytes of a violation's field, and of its problem.
const VIOLATION_BYTES: usize = 120;

/// Bytes of a message.
const MESSAGE_BYTES: usize = 512;

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let (code, reason) = match &error {
            Error::Invalid(_) => (Code::InvalidArgument, "INVALID_REQUEST"),
            Error::TaskNotFound(_) => (Code::NotFound, "TASK_NOT_FOUND"),
            Error::WrongState { .. } => (Code::FailedPrecondition, "WRONG_STATE"),
            Error::TasksExist(_) => (Code::AlreadyExists, "TASK_EXISTS"),
            Error::TaskDeleted(_) => (Code::AlreadyExists, "TASK_DELETED"),
            Error::SessionOver => (Code::FailedPrecondition, "SESSION_OVER"),
            Error::Protocol(_) => (Code::InvalidArgument, "PROTOCOL"),
            Error::Overloaded(_) => (Code::ResourceExhausted, "OVERLOADED"),
            Error::Unavailable(_) => (Code::Unavailable, "UNAVAILABLE"),
            Error::Internal => (Code::Internal, "INTERNAL"),
        };
        let mut metadata = HashMap::new();
        let mut details = ErrorDetails::new();
        match &error {
            Error::Invalid(violations) => {
                details.set_bad_request(
                    violations
                        .iter()
                        .take(VIOLATIONS)
                        .map(|v| {
                            FieldViolation::new(
                                cut(&v.field, VIOLATION_BYTES),
                                cut(&v.problem, VIOLATION_BYTES),
                            )
                        })
                        .collect::<Vec<_>>(),
                );
            }
            Error::TaskNotFound(task) | Error::TaskDeleted(task) => {
                metadata.insert("task_id".to_owned(), task.to_string());
            }
            Error::TasksExist(tasks) => {
                let ids: Vec<String> = tasks.iter().take(VIOLATIONS).map(ToString::to_string).collect();
                metadata.insert("task_id".to_owned(), ids.join(" "));
            }
            Error::WrongState { task, state, .. } => {
                metadata.insert("task_id".to_owned(), task.to_string());
                metadata.insert("state".to_owned(), state.to_string());
            }
            Error::Overloaded(_) | Error::Unavailable(_) => {
                details.set_retry_info(Some(RETRY_AFTER));
            }
            Error::SessionOver | Error::Protocol(_) | Error::Internal => {}
        }
        details.set_error_info(reason, DOMAIN, metadata);
        Self::with_error_details(code, cut(&error.to_string(), MESSAGE_BYTES), details)
    }
}

fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::{error::Violation, ids::TaskId, state::TaskState};

    #[test]
    fn every_error_names_its_reason_and_domain() {
        let task = TaskId(Uuid::from_u128(7));
        for (error, code, reason) in [
            (Error::invalid("a", "b"), Code::InvalidArgument, "INVALID_REQUEST"),
            (Error::TaskNotFound(task), Code::NotFound, "TASK_NOT_FOUND"),
            (
                Error::WrongState {
                    task,
                    state: TaskState::Failed,
                    needs: "x",
                },
                Code::FailedPrecondition,
                "WRONG_STATE",
            ),
            (Error::TasksExist(vec![task]), Code::AlreadyExists, "TASK_EXISTS"),
            (Error::SessionOver, Code::FailedPrecondition, "SESSION_OVER"),
            (Error::Overloaded("x"), Code::ResourceExhausted, "OVERLOADED"),
            (Error::Unavailable("x"), Code::Unavailable, "UNAVAILABLE"),
            (Error::Internal, Code::Internal, "INTERNAL"),
        ] {
            let status = Status::from(error);
            let info = status
                .get_error_details()
                .error_info()
                .cloned()
                .expect("an ErrorInfo");
            assert_eq!(
                (status.code(), info.reason.as_str(), info.domain.as_str()),
                (code, reason, DOMAIN)
            );
        }
    }

    #[test]
    fn many_long_violations_stay_small() {
        let violations = vec![Violation::new("ä".repeat(500), "b".repeat(500)); 1_000];
        let status = Status::from(Error::Invalid(violations));
        // A byte of a message becomes three where it is no printable ASCII.
        let trailers = status.details().len() * 4 / 3 + status.message().len() * 3;
        assert!(trailers < 8 * 1024, "{trailers} bytes");
        assert_eq!(
            status
                .get_error_details()
                .bad_request()
                .map(|b| b.field_violations.len()),
            Some(VIOLATIONS)
        );
    }
}
