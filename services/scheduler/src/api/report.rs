//! Checks what workers report.

use tasklease_proto::{
    convert::timestamp_from_wire,
    json, limits, text,
    v1::{self, report::Body as Wire, succeeded::Output},
};
use uuid::Uuid;

use super::{
    spec::wait,
    task::Card,
    violations::{Violations, checked, valid},
};
use crate::{
    domain::{
        error::Violation,
        ids::{LeaseKey, LeaseToken, TaskId},
        name,
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
            "task_id must be a UUID and lease_token a positive number".to_owned(),
        ));
    };
    match body(report.body, result_bytes) {
        Ok(body) => Ok((key, body)),
        Err(broken) => Err(refused(lease, broken.to_string())),
    }
}

fn refused(lease: v1::LeaseRef, message: String) -> v1::RefusedReport {
    v1::RefusedReport {
        lease: Some(lease),
        message,
    }
}

fn body(wire: Option<Wire>, result_bytes: usize) -> Result<Report, Violations> {
    Ok(match wire {
        None => return Err(Violation::new("body", "must be set").into()),
        Some(Wire::Accepted(_)) => Report::Accepted,
        Some(Wire::Progress(report)) => {
            event(report.event_number, progress(report.progress.unwrap_or_default()))
                .map_err(|broken| broken.within("progress"))?
        }
        Some(Wire::Log(report)) => event(report.event_number, log(report.line.unwrap_or_default()))
            .map_err(|broken| broken.within("log"))?,
        Some(Wire::Succeeded(report)) => Report::Ended(ReportedOutcome::Succeeded {
            result: result(report, result_bytes)?,
        }),
        Some(Wire::Failed(report)) => Report::Ended(ReportedOutcome::Failed {
            error: task_error(report.error.unwrap_or_default()),
            non_retryable: report.non_retryable,
            retry_after: wait(report.retry_after.as_ref(), "failed.retry_after")?,
        }),
        Some(Wire::Cancelled(report)) => Report::Ended(ReportedOutcome::Cancelled {
            message: text::line(&report.message, limits::MESSAGE_CHARS),
        }),
        Some(Wire::Released(report)) => Report::Ended(ReportedOutcome::Released {
            message: text::line(&report.message, limits::MESSAGE_CHARS),
        }),
    })
}

fn event(number: i64, content: Result<EventKind, Violations>) -> Result<Report, Violations> {
    /// A numbered event.
    struct Event {
        number: i64,
        kind: EventKind,
    }
    let event = checked!(Event {
        number: event_number(number),
        kind: content,
    })?;
    Ok(Report::Event(event.number, event.kind))
}

fn event_number(number: i64) -> Result<i64, Violation> {
    if number > 0 {
        Ok(number)
    } else {
        let problem = format!("must be positive, got {number}");
        Err(Violation::new("event_number", problem))
    }
}

fn progress(progress: v1::Progress) -> Result<EventKind, Violations> {
    let card = checked!(Card {
        heading: name::text(progress.heading, limits::LINE_CHARS, "heading"),
        body: name::text(progress.body, limits::TEXT_CHARS, "body"),
        image: name::text(progress.image, limits::IMAGE_CHARS, "image"),
        detail: detail(progress.detail.as_ref()),
    });
    checked!(EventKind::Progress {
        percent: percent(progress.percent),
        message: name::text(progress.message, limits::MESSAGE_CHARS, "message"),
        card: card.and_then(card_text),
        worker_time: valid(progress.worker_time.as_ref().and_then(timestamp_from_wire)),
    })
    .map_err(|broken| broken.within("progress"))
}

fn percent(percent: Option<f64>) -> Result<Option<f64>, Violation> {
    match percent {
        Some(number) if !(0.0..=100.0).contains(&number) => Err(Violation::new(
            "percent",
            format!("must be 0 to 100, or left out while unknown, got {number}"),
        )),
        percent => Ok(percent),
    }
}

fn detail(
    detail: Option<&prost_types::Struct>,
) -> Result<Option<serde_json::Map<String, serde_json::Value>>, Violation> {
    let Some(detail) = detail else { return Ok(None) };
    let invalid = |problem: String| Violation::new("detail", problem);
    let text = json::struct_to_json(detail).map_err(|error| invalid(error.to_string()))?;
    if text.len() > limits::PROGRESS_DETAIL_BYTES {
        return Err(invalid(format!(
            "must be at most {} bytes as JSON text, has {}",
            limits::PROGRESS_DETAIL_BYTES,
            text.len()
        )));
    }
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| invalid(error.to_string()))
}

/// A card as JSON text, if any part of it is set.
fn card_text(card: Card) -> Result<Option<String>, Violations> {
    if card == Card::default() {
        return Ok(None);
    }
    serde_json::to_string(&card)
        .map(Some)
        .map_err(|error| Violation::new("detail", error.to_string()).into())
}

fn log(line: v1::LogLine) -> Result<EventKind, Violations> {
    checked!(EventKind::Log {
        level: level(line.level),
        message: name::text(line.message, limits::LOG_CHARS, "message"),
        worker_time: valid(line.worker_time.as_ref().and_then(timestamp_from_wire)),
    })
    .map_err(|broken| broken.within("line"))
}

fn level(number: i32) -> Result<String, Violation> {
    match v1::LogLevel::try_from(number) {
        Ok(level) if level != v1::LogLevel::Unspecified => Ok(level.name().to_owned()),
        _ => {
            let problem = format!("must be a level from LOG_LEVEL_TRACE to LOG_LEVEL_ERROR, got {number}");
            Err(Violation::new("level", problem))
        }
    }
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
    let kind = text::line(&error.kind, limits::NAME_CHARS);
    TaskError {
        kind: if kind.is_empty() { "ERROR".to_owned() } else { kind },
        message: text::line(&error.message, limits::MESSAGE_CHARS),
        detail: text::lines(&error.detail, limits::DETAIL_CHARS),
    }
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
            kind: String::new(),
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
        assert!(error.message.starts_with("a\u{fffd}b ä"), "{}", error.message);
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
        let log = |level| {
            Wire::Log(v1::LogReport {
                event_number: 1,
                line: Some(v1::LogLine {
                    level,
                    ..Default::default()
                }),
            })
        };
        for (body, field) in [
            (progress(Some(f64::NAN), ""), "progress.progress.percent"),
            (progress(Some(100.1), ""), "progress.progress.percent"),
            (progress(None, "\0"), "progress.progress.message"),
            (log(0), "log.line.level"),
            (log(6), "log.line.level"),
            (log(-1), "log.line.level"),
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
    fn a_refused_report_names_all_its_wrong_fields() {
        let refused = report(Wire::Progress(v1::ProgressReport {
            event_number: 0,
            progress: Some(v1::Progress {
                percent: Some(-1.0),
                heading: "\0".into(),
                ..Default::default()
            }),
        }))
        .expect_err("three fields are wrong");
        for field in [
            "progress.event_number",
            "progress.progress.percent",
            "progress.progress.heading",
        ] {
            assert!(refused.message.contains(field), "{}", refused.message);
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
