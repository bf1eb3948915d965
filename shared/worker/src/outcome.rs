//! What a run's end means, given what it was told.

use bytes::Bytes;
use tasklease_proto::{
    convert::duration_to_wire,
    v1::{self, Cancelled, Failed, Released, Succeeded, report::News, succeeded::Output},
};

use crate::{
    clean_text::{self, MAX_DETAIL, MAX_KIND, MAX_MESSAGE},
    task::TaskResult,
    task_error::{Again, Cause, TaskError},
};

/// What the runtime told the code of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Told {
    /// Nothing: it may run to its end.
    #[default]
    Nothing,
    /// To stop because the worker stops; the task will run elsewhere.
    Release,
    /// To stop because the task was cancelled or timed out.
    Cancel {
        /// Why.
        reason: String,
    },
}

/// The report of a run whose code has returned.
///
/// After a cancel request every return is a cancelled run, because that request has been promised
/// to win. Code that was merely asked to make room may still have finished in time.
pub(crate) fn of_return(result: TaskResult<Bytes>, told: &Told) -> News {
    match (told, result) {
        (Told::Cancel { reason }, _) => cancelled(reason),
        (_, Ok(result)) => News::Succeeded(Succeeded {
            output: Some(Output::ResultJson(result)),
        }),
        (Told::Release, Err(_)) => released("the worker is stopping"),
        (Told::Nothing, Err(error)) if error.cause == Cause::Cancelled => failed(&TaskError::new(
            "CANCELLED_BY_CODE",
            "the code stopped as if it were cancelled, but nobody asked it to",
        )),
        (Told::Nothing, Err(error)) => failed(&error),
    }
}

pub(crate) fn cancelled(message: &str) -> News {
    News::Cancelled(Cancelled {
        message: clean_text::line(message, MAX_MESSAGE),
    })
}

pub(crate) fn released(message: &str) -> News {
    News::Released(Released {
        message: clean_text::line(message, MAX_MESSAGE),
    })
}

pub(crate) fn failed(error: &TaskError) -> News {
    let kind = clean_text::line(&error.kind, MAX_KIND);
    News::Failed(Failed {
        error: Some(v1::TaskError {
            r#type: if kind.is_empty() { "ERROR".to_owned() } else { kind },
            message: clean_text::line(&error.message, MAX_MESSAGE),
            detail: clean_text::lines(&error.detail, MAX_DETAIL),
        }),
        non_retryable: error.again == Again::No,
        retry_after: match error.again {
            Again::After(delay) => Some(duration_to_wire(delay.min(LONGEST_RETRY))),
            Again::ByPolicy | Again::No => None,
        },
    })
}

/// The longest delay that the contract allows.
const LONGEST_RETRY: std::time::Duration = std::time::Duration::from_secs(366 * 24 * 3_600);

#[cfg(test)]
mod tests {
    use super::*;

    fn cancel() -> Told {
        Told::Cancel {
            reason: "by hand".into(),
        }
    }

    fn kind_of(news: &News) -> &str {
        match news {
            News::Failed(failed) => failed.error.as_ref().map_or("", |error| error.r#type.as_str()),
            _ => "",
        }
    }

    #[test]
    fn a_cancel_request_wins_over_every_return() {
        for result in [
            Ok(Bytes::from_static(b"{}")),
            Err(TaskError::cancelled()),
            Err(TaskError::new("X", "x")),
        ] {
            assert_eq!(of_return(result, &cancel()), cancelled("by hand"));
        }
    }

    #[test]
    fn a_cancelled_error_that_nobody_asked_for_is_a_failure() {
        assert_eq!(
            kind_of(&of_return(Err(TaskError::cancelled()), &Told::Nothing)),
            "CANCELLED_BY_CODE"
        );
    }

    #[test]
    fn code_that_makes_room_for_a_stopping_worker_is_released_unless_it_finished() {
        assert!(matches!(
            of_return(Err(TaskError::cancelled()), &Told::Release),
            News::Released(_)
        ));
        assert!(matches!(
            of_return(Ok(Bytes::new()), &Told::Release),
            News::Succeeded(_)
        ));
    }

    #[test]
    fn error_texts_are_brought_within_the_limits() {
        let error = TaskError::new("", "é".repeat(3_000)).with_detail("x\n".repeat(20_000));
        let News::Failed(failed) = failed(&error) else {
            panic!("not failed")
        };
        let error = failed.error.expect("an error");
        assert_eq!(error.r#type, "ERROR");
        assert_eq!(
            (error.message.chars().count(), error.detail.chars().count()),
            (MAX_MESSAGE, MAX_DETAIL)
        );
    }
}
