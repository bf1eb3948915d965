//! Which outcome to report for a run, given how its code ended and what it was told.

use std::time::Duration;

use bytes::Bytes;
use tasklease_proto::{
    convert::duration_to_wire,
    limits, text,
    v1::{self, Cancelled, Failed, Released, Succeeded, report::Body, succeeded::Output},
};

use crate::{
    task::TaskResult,
    task_error::{Cause, Retry, TaskError},
};

/// What the runtime told the code of a run; a later variant overrides an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Told {
    /// Nothing: it may run to its end.
    #[default]
    Nothing,
    /// To stop because the worker stops; the task will run elsewhere.
    Release,
    /// To stop because the run has reached its run timeout.
    TimeOut {
        /// The run timeout.
        limit: Duration,
    },
    /// To stop because the task was cancelled.
    Cancel {
        /// The reason of the cancel.
        reason: String,
    },
}

/// Whether the worker has begun to drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Draining {
    Yes,
    No,
}

/// The report of a run whose code has returned.
///
/// After a cancel request the run is cancelled whatever the code returned, because a cancel wins over
/// every later result. Otherwise the result counts: a draining worker hands back only runs whose code
/// stopped because of the drain.
pub(crate) fn of_return(result: TaskResult<Bytes>, told: &Told, draining: Draining) -> Body {
    let error = match (told, result) {
        (Told::Cancel { reason }, _) => return cancelled(reason),
        (_, Ok(result)) => {
            return Body::Succeeded(Succeeded {
                output: Some(Output::ResultJson(result)),
            });
        }
        (_, Err(error)) => error,
    };
    match (error.cause, told) {
        (Cause::Dropped, _) => released(&error.message),
        (_, Told::TimeOut { limit }) => timed_out(*limit, Some(&error)),
        (Cause::Stopped, Told::Release) => released(RELEASED),
        (Cause::Stopped, _) if draining == Draining::Yes => released(RELEASED),
        (Cause::Stopped, _) => failed(&TaskError::new(
            "CANCELLED_BY_CODE",
            "the code stopped as if it were cancelled, but nobody asked it to",
        )),
        (Cause::Fault, _) => failed(&error),
    }
}

/// The report of a run whose code did not stop within its grace.
pub(crate) fn of_dropped(told: &Told) -> Body {
    match told {
        Told::Cancel { reason } => cancelled(reason),
        Told::TimeOut { limit } => timed_out(*limit, None),
        Told::Nothing | Told::Release => released(RELEASED),
    }
}

/// Why a draining worker hands tasks back.
pub(crate) const RELEASED: &str = "the worker is stopping";

fn timed_out(limit: Duration, error: Option<&TaskError>) -> Body {
    let message = format!("the run took longer than its limit of {} s", limit.as_secs_f64());
    let said = error.filter(|error| error.cause == Cause::Fault);
    let detail = said.map(|error| format!("when told to stop, the code failed with {error}"));
    failed(&TaskError::new("TIMED_OUT", message).with_detail(detail.unwrap_or_default()))
}

pub(crate) fn cancelled(message: &str) -> Body {
    Body::Cancelled(Cancelled {
        message: text::line(message, limits::MESSAGE_CHARS),
    })
}

pub(crate) fn released(message: &str) -> Body {
    Body::Released(Released {
        message: text::line(message, limits::MESSAGE_CHARS),
    })
}

pub(crate) fn failed(error: &TaskError) -> Body {
    let kind = text::line(&error.kind, limits::NAME_CHARS);
    Body::Failed(Failed {
        error: Some(v1::TaskError {
            kind: if kind.is_empty() { "ERROR".to_owned() } else { kind },
            message: text::line(&error.message, limits::MESSAGE_CHARS),
            detail: text::lines(&error.detail, limits::DETAIL_CHARS),
        }),
        non_retryable: error.retry == Retry::Never,
        retry_after: match error.retry {
            Retry::After(delay) => Some(duration_to_wire(delay.min(limits::LONGEST_WAIT))),
            Retry::ByPolicy | Retry::Never => None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cancel() -> Told {
        Told::Cancel {
            reason: "by hand".into(),
        }
    }

    fn kind_of(body: &Body) -> &str {
        match body {
            Body::Failed(failed) => failed.error.as_ref().map_or("", |error| error.kind.as_str()),
            _ => "",
        }
    }

    const TIME_OUT: Told = Told::TimeOut {
        limit: Duration::from_secs(9),
    };

    /// What code may return: a success, a stop, a failure, and a failure that no retry can fix.
    fn returns() -> [TaskResult<Bytes>; 4] {
        let failure = TaskError::new("X", "x");
        let hopeless = failure.clone().non_retryable();
        [
            Ok(Bytes::from_static(b"{}")),
            Err(TaskError::cancelled()),
            Err(failure),
            Err(hopeless),
        ]
    }

    fn words(told: &Told, draining: Draining) -> [String; 4] {
        returns().map(|result| match of_return(result, told, draining) {
            Body::Succeeded(_) => "succeeded".into(),
            Body::Cancelled(cancelled) => format!("cancelled: {}", cancelled.message),
            Body::Released(_) => "released".into(),
            Body::Failed(failed) => {
                let hopeless = if failed.non_retryable { ", hopeless" } else { "" };
                format!("failed: {}{hopeless}", failed.error.unwrap_or_default().kind)
            }
            other => panic!("no outcome: {other:?}"),
        })
    }

    #[test]
    fn a_cancel_request_wins_over_every_return() {
        for draining in [Draining::No, Draining::Yes] {
            assert_eq!(words(&cancel(), draining), ["cancelled: by hand"; 4]);
        }
    }

    #[test]
    fn what_code_says_while_the_worker_drains_counts_and_only_a_stop_is_handed_back() {
        let expected = ["succeeded", "released", "failed: X", "failed: X, hopeless"];
        assert_eq!(words(&Told::Release, Draining::Yes), expected);
        assert_eq!(words(&Told::Nothing, Draining::Yes), expected);
    }

    #[test]
    fn a_stop_that_nobody_asked_for_is_a_failure() {
        assert_eq!(
            words(&Told::Nothing, Draining::No),
            [
                "succeeded",
                "failed: CANCELLED_BY_CODE",
                "failed: X",
                "failed: X, hopeless"
            ]
        );
    }

    #[test]
    fn a_run_out_of_time_has_timed_out_unless_it_succeeded() {
        let (timed_out, said) = ("failed: TIMED_OUT", words(&TIME_OUT, Draining::Yes));
        assert_eq!(said, ["succeeded", timed_out, timed_out, timed_out]);
        let Body::Failed(failed) = of_return(Err(TaskError::new("X", "x")), &TIME_OUT, Draining::No) else {
            panic!("not failed")
        };
        let detail = failed.error.expect("an error").detail;
        assert!(detail.ends_with("failed with X: x"), "{detail}");
    }

    #[test]
    fn code_that_does_not_stop_ends_as_it_was_told() {
        assert_eq!(of_dropped(&cancel()), cancelled("by hand"));
        assert_eq!(kind_of(&of_dropped(&TIME_OUT)), "TIMED_OUT");
        assert!(matches!(of_dropped(&Told::Release), Body::Released(_)));
    }

    #[test]
    fn code_that_its_runtime_dropped_is_handed_back() {
        let outcome = of_return(Err(TaskError::dropped()), &Told::Nothing, Draining::No);
        assert!(matches!(outcome, Body::Released(_)));
    }

    #[test]
    fn a_cancel_overrides_a_time_out_and_that_a_release() {
        assert!(cancel() > TIME_OUT && TIME_OUT > Told::Release && Told::Release > Told::Nothing);
    }

    #[test]
    fn error_texts_are_brought_within_the_limits() {
        let error = TaskError::new("", "é".repeat(3_000)).with_detail("x\n".repeat(20_000));
        let Body::Failed(failed) = failed(&error) else {
            panic!("not failed")
        };
        let error = failed.error.expect("an error");
        assert_eq!(error.kind, "ERROR");
        assert_eq!(
            (error.message.chars().count(), error.detail.chars().count()),
            (limits::MESSAGE_CHARS, limits::DETAIL_CHARS)
        );
    }
}
