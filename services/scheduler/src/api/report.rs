//! Checks what workers report.

use tasklease_proto::{
    convert::timestamp_from_wire,
    json,
    v1::{self, report::Body as Wire, succeeded::Output},
};
use uuid::Uuid;

use super::{spec::wait, task::Card};
use crate::{
    domain::{
        error::Violation,
        ids::{LeaseKey, LeaseToken, TaskId},
        limits,
        name::check_text,
        report::{EventKind, ReportedOutcome, TaskError},
    },
    engine::Report,
};

/// Reads which lease a worker means; `None` if no lease can be meant.
pub(super) fn lease_key(task_id: &str, lease_token: i64) -> Option<LeaseKey> {
    let task = TaskId(Uuid::try_parse(task_id).ok()?);
    let token = LeaseToken(i32::try_from(lease_token).ok().filter(|no| *no > 0)?);
    Some(LeaseKey { task, token })
}

/// How the wire names a lease.
pub(super) fn lease_ref(key: LeaseKey) -> v1::LeaseRef {
    v1::LeaseRef {
        task_id: key.task.to_string(),
        lease_token: i64::from(key.token.0),
    }
}

/// Checks one report. Errors of tasks are cut and cleaned, everything else that breaks a rule is refused.
pub(super) fn check(
    report: v1::Report,
    result_bytes: usize,
) -> Result<(LeaseKey, Report), v1::RefusedReport> {
    let lease = v1::LeaseRef {
        task_id: report.task_id,
        lease_token: report.lease_token,
    };
    let Some(key) = lease_key(&lease.task_id, lease.lease_token) else {
        return Err(refused(
            lease,
            "task_id must be a UUID and lease_token a positive number",
        ));
    };
    match body(report.body, result_bytes) {
        Ok(body) => Ok((key, body)),
        Err(violation) => Err(refused(
            lease,
            &format!("{}: {}", violation.field, violation.problem),
        )),
    }
}

fn refused(lease: v1::LeaseRef, message: &str) -> v1::RefusedReport {
    v1::RefusedReport {
        lease: Some(lease),
        message: message.to_owned(),
    }
}

fn body(wire: Option<Wire>, result_bytes: usize) -> Result<Report, Violation> {
    Ok(match wire {
        None => return Err(Violation::new("body", "must be set")),
        Some(Wire::Accepted(_)) => Report::Accepted,
        Some(Wire::Progress(report)) => Report::Event(
            event_number(report.event_number, "progress.event_number")?,
            progress(report.progress.unwrap_or_default())?,
        ),
        Some(Wire::Log(report)) => Report::Event(
            event_number(report.event_number, "log.event_number")?,
            log(report.line.unwrap_or_default())?,
        ),
        Some(Wire::Succeeded(report)) => Report::Ended(ReportedOutcome::Succeeded {
            result: result(report, result_bytes)?,
        }),
        Some(Wire::Failed(report)) => Report::Ended(ReportedOutcome::Failed {
            error: task_error(report.error.unwrap_or_default()),
            non_retryable: report.non_retryable,
            retry_after: wait(report.retry_after.as_ref(), "failed.retry_after")?,
        }),
        Some(Wire::Cancelled(report)) => Report::Ended(ReportedOutcome::Cancelled {
            message: clean(&report.message),
        }),
        Some(Wire::Released(report)) => Report::Ended(ReportedOutcome::Released {
            message: clean(&report.message),
        }),
    })
}

fn event_number(number: i64, field: &str) -> Result<i64, Violation> {
    if number > 0 {
        Ok(number)
    } else {
        Err(Violation::new(field, "must be positive"))
    }
}

fn progress(progress: v1::Progress) -> Result<EventKind, Violation> {
    if progress
        .percent
        .is_some_and(|percent| !(0.0..=100.0).contains(&percent))
    {
        return Err(Violation::new(
            "progress.percent",
            "must be 0 to 100, or left out while unknown",
        ));
    }
    check_text(&progress.message, limits::MESSAGE_CHARS, "progress.message")?;
    check_text(&progress.heading, limits::LINE_CHARS, "progress.heading")?;
    check_text(&progress.body, limits::TEXT_CHARS, "progress.body")?;
    check_text(&progress.image, limits::IMAGE_CHARS, "progress.image")?;
    let detail = match &progress.detail {
        None => None,
        Some(detail) => {
            let invalid = |problem: String| Violation::new("progress.detail", problem);
            let text = json::struct_to_json(detail).map_err(|error| invalid(error.to_string()))?;
            if text.len() > limits::PROGRESS_DETAIL_BYTES {
                return Err(invalid(format!(
                    "must be at most {} bytes",
                    limits::PROGRESS_DETAIL_BYTES
                )));
            }
            Some(serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?)
        }
    };
    let card = Card {
        heading: progress.heading,
        body: progress.body,
        image: progress.image,
        detail,
    };
    let card = if card == Card::default() {
        None
    } else {
        Some(serde_json::to_string(&card).map_err(|error| Violation::new("progress", error.to_string()))?)
    };
    Ok(EventKind::Progress {
        percent: progress.percent,
        message: progress.message,
        card,
        worker_time: progress.worker_time.as_ref().and_then(timestamp_from_wire),
    })
}

fn log(line: v1::LogLine) -> Result<EventKind, Violation> {
    if !["trace", "debug", "info", "warn", "error"].contains(&line.level.as_str()) {
        return Err(Violation::new(
            "log.line.level",
            "must be trace, debug, info, warn or error",
        ));
    }
    check_text(&line.message, limits::LOG_CHARS, "log.line.message")?;
    Ok(EventKind::Log {
        level: line.level,
        message: line.message,
        worker_time: line.worker_time.as_ref().and_then(timestamp_from_wire),
    })
}

fn result(report: v1::Succeeded, longest: usize) -> Result<String, Violation> {
    let (field, text) = match report.output {
        None => return Ok("{}".to_owned()),
        Some(Output::Result(object)) => (
            "succeeded.result",
            json::struct_to_json(&object)
                .map_err(|error| Violation::new("succeeded.result", error.to_string()))?,
        ),
        Some(Output::ResultJson(bytes)) => (
            "succeeded.result_json",
            json::check_object(&bytes)
                .map_err(|error| Violation::new("succeeded.result_json", error.to_string()))?
                .to_owned(),
        ),
    };
    if text.len() > longest {
        return Err(Violation::new(
            field,
            format!("must be at most {longest} bytes as JSON text, has {}", text.len()),
        ));
    }
    Ok(text)
}

fn task_error(error: v1::TaskError) -> TaskError {
    let kind = if error.r#type.is_empty() {
        "ERROR".to_owned()
    } else {
        tidy(&error.r#type, 128, |_| false)
    };
    TaskError {
        kind,
        message: clean(&error.message),
        detail: tidy(&error.detail, limits::DETAIL_CHARS, |c| matches!(c, '\n' | '\t')),
    }
}

fn clean(message: &str) -> String {
    tidy(message, limits::MESSAGE_CHARS, |_| false)
}

/// Cuts a text after `longest` characters and replaces control characters that are not kept.
fn tidy(text: &str, longest: usize, keep: impl Fn(char) -> bool) -> String {
    text.chars()
        .take(longest)
        .map(|c| if c.is_control() && !keep(c) { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(body: Wire) -> Result<(LeaseKey, Report), v1::RefusedReport> {
        check(
            v1::Report {
                task_id: Uuid::from_u128(1).to_string(),
                lease_token: 1,
                body: Some(body),
            },
            64,
        )
    }

    #[test]
    fn errors_are_cut_on_a_character_and_cleaned() {
        let error = v1::TaskError {
            r#type: String::new(),
            message: format!("a\0b\n{}", "ä".repeat(2_000)),
            detail: "one\ntwo\u{7}".into(),
        };
        let Ok((_, Report::Ended(ReportedOutcome::Failed { error, .. }))) =
            report(Wire::Failed(v1::Failed {
                error: Some(error),
                ..Default::default()
            }))
        else {
            panic!("expected a failure");
        };
        assert_eq!(error.kind, "ERROR");
        assert_eq!(error.message.chars().count(), 1_000);
        assert!(error.message.starts_with("a\u{fffd}b\u{fffd}ä"));
        assert_eq!(error.detail, "one\ntwo\u{fffd}");
    }

    #[test]
    fn what_cannot_be_stored_is_refused_with_its_field() {
        let progress = |percent, message: &str| {
            Wire::Progress(v1::ProgressReport {
                event_number: 1,
                progress: Some(v1::Progress {
                    percent,
                    message: message.into(),
                    ..Default::default()
                }),
            })
        };
        for (body, field) in [
            (progress(Some(f64::NAN), ""), "progress.percent"),
            (progress(Some(100.1), ""), "progress.percent"),
            (progress(None, "\0"), "progress.message"),
            (
                Wire::Log(v1::LogReport {
                    event_number: 1,
                    line: None,
                }),
                "log.line.level",
            ),
            (
                Wire::Progress(v1::ProgressReport::default()),
                "progress.event_number",
            ),
            (
                Wire::Succeeded(v1::Succeeded {
                    output: Some(Output::ResultJson("[1]".into())),
                }),
                "succeeded.result_json",
            ),
        ] {
            let refused = report(body).expect_err(field);
            assert!(refused.message.starts_with(field), "{}", refused.message);
        }
    }

    #[test]
    fn a_lease_that_cannot_exist_is_refused() {
        for (task_id, lease_token) in [("x", 1), ("", 1), ("0192d5a0-7c3e-7b1a-8000-1a2b3c4d5e6f", 0)] {
            let report = v1::Report {
                task_id: task_id.into(),
                lease_token,
                body: Some(Wire::Accepted(v1::Accepted {})),
            };
            assert!(check(report, 64).is_err());
        }
    }
}
