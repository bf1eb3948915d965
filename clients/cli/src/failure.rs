//! Why a command did not do what it was asked for.

use std::io;

use tasklease_client::{ClientError, is_transport_failure};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::exit::Exit;
use crate::terminal_text::safe_text;

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The watched task failed or was cancelled, which was shown already.
    TaskDidNotSucceed,
    /// The reader of standard output has gone.
    NobodyReads,
    /// The command line or a file named there breaks a rule.
    Usage(String),
    /// No server answers.
    Unreachable(String),
    /// The server refused.
    Refused(Status),
    /// What was named does not exist, and the command would have created it.
    Unknown(String),
    /// Anything else.
    Other(String),
}

impl Failure {
    /// The command line breaks a rule.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// Anything that is neither the user's nor the server's doing.
    pub(crate) fn other(message: impl Into<String>) -> Self {
        Self::Other(message.into())
    }

    /// How the command ends because of it.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::NobodyReads => Exit::Done,
            Self::TaskDidNotSucceed | Self::Other(_) => Exit::Failed,
            Self::Usage(_) => Exit::Usage,
            Self::Unknown(_) => Exit::NotFound,
            Self::Unreachable(_) => Exit::Unreachable,
            Self::Refused(status) => match status.code() {
                Code::InvalidArgument | Code::OutOfRange => Exit::Usage,
                Code::NotFound => Exit::NotFound,
                Code::Unavailable | Code::DeadlineExceeded => Exit::Unreachable,
                _ => Exit::Failed,
            },
        }
    }

    /// What to tell the user: the error, what breaks which rule, and what to do.
    pub(crate) fn lines(&self) -> Vec<String> {
        match self {
            Self::TaskDidNotSucceed | Self::NobodyReads => Vec::new(),
            Self::Usage(message) => vec![format!("error: {message}")],
            Self::Unknown(message) | Self::Other(message) => vec![format!("error: {message}")],
            Self::Unreachable(message) => vec![
                format!("error: {}", safe_text(message)),
                UNREACHABLE_HINT.to_owned(),
            ],
            Self::Refused(status) => refusal(status),
        }
    }
}

const UNREACHABLE_HINT: &str =
    "hint: start one with `tasklease dev`, or name another address with --addr or TASKLEASE_ADDR";

/// Tells a server's refusal with the details that it carries.
fn refusal(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let message = match status.message() {
        "" => format!("the server answered {:?}", status.code()),
        message => safe_text(message),
    };
    let mut lines = vec![format!("error: {message}")];
    if let Some(request) = details.bad_request() {
        for violation in &request.field_violations {
            let rule = format!(
                "{}: {}",
                safe_text(&violation.field),
                safe_text(&violation.description)
            );
            // The message of a scheduler names the rules too, as far as there is room.
            if !message.contains(&rule) {
                lines.push(format!("  {rule}"));
            }
        }
    }
    let hint = match status.code() {
        Code::NotFound => Some("hint: `tasklease list` shows the tasks there are"),
        Code::Unavailable | Code::DeadlineExceeded => Some(UNREACHABLE_HINT),
        Code::Unimplemented => {
            Some("hint: the server is older than this command, or the address is not its own")
        }
        _ => None,
    };
    lines.extend(hint.map(str::to_owned));
    lines
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Status(status) if !is_transport_failure(&status) => Self::Refused(*status),
            error if error.is_unreachable() => Self::Unreachable(error.to_string()),
            error => Self::Other(error.to_string()),
        }
    }
}

impl From<io::Error> for Failure {
    /// Only writing to the screen converts this way.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::NobodyReads,
            _ => Self::Other(format!("cannot write the output: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::Failure;

    #[test]
    fn every_kind_of_failure_has_its_exit_code() {
        let codes = [
            (Failure::TaskDidNotSucceed, 1),
            (Failure::NobodyReads, 0),
            (Failure::usage("x"), 2),
            (Failure::Unknown("x".to_owned()), 4),
            (Failure::Unreachable("x".to_owned()), 3),
            (Failure::other("x"), 1),
            (Failure::Refused(Status::invalid_argument("x")), 2),
            (Failure::Refused(Status::not_found("x")), 4),
            (Failure::Refused(Status::unavailable("x")), 3),
            (Failure::Refused(Status::deadline_exceeded("x")), 3),
            (Failure::Refused(Status::failed_precondition("x")), 1),
            (Failure::Refused(Status::already_exists("x")), 1),
            (Failure::Refused(Status::internal("x")), 1),
        ];
        for (failure, code) in codes {
            assert_eq!(failure.exit().code(), code, "{failure:?}");
        }
    }

    #[test]
    fn a_refusal_names_each_field_that_breaks_a_rule() {
        let details = ErrorDetails::with_bad_request_violation("task.priority", "must be at most 100");
        let status = Status::with_error_details(Code::InvalidArgument, "the task breaks a rule", details);
        assert_eq!(
            Failure::from(status).lines(),
            [
                "error: the task breaks a rule",
                "  task.priority: must be at most 100"
            ]
        );
    }

    #[test]
    fn a_rule_that_the_message_names_is_told_once() {
        let details = ErrorDetails::with_bad_request_violation("task.priority", "must be at most 100");
        let status = Status::with_error_details(
            Code::InvalidArgument,
            "invalid request: task.priority: must be at most 100",
            details,
        );
        assert_eq!(
            Failure::from(status).lines(),
            ["error: invalid request: task.priority: must be at most 100"]
        );
    }

    #[test]
    fn an_unreachable_server_comes_with_advice() {
        let lines = Failure::Unreachable("no answer from 127.0.0.1:1".to_owned()).lines();
        assert_eq!(lines[0], "error: no answer from 127.0.0.1:1");
        assert!(lines[1].contains("tasklease dev"));
    }
}
