//! Tasks as text for people.

use std::time::SystemTime;

use prost_types::{Struct, Timestamp};
use tasklease_proto::json::lay_out;
use tasklease_proto::v1::{GetTaskResponse, Outcome, Run, Task, TaskError, TaskState};

use crate::json::{Layout, to_json};
use crate::screen::Colour;
use crate::table::{TableText, number, state_name, text};
use crate::terminal_text::{safe_block, safe_lines, safe_text};
use tasklease_lifecycle::time_span::format_time_span;

/// One line on a task that was just stored: its id first, for scripts that cut words.
pub(crate) fn describe_submitted(task: Option<&Task>) -> String {
    task.map(|task| {
        format!(
            "{} {} in queue {}",
            safe_text(&task.id),
            state_name(task.state),
            safe_text(&task.queue)
        )
    })
    .unwrap_or_default()
}

/// A task with everything that is known about it.
pub(crate) fn describe_with_runs(response: &GetTaskResponse, colour: Colour) -> String {
    let Some(task) = &response.task else {
        return String::new();
    };
    let mut lines = facts(task);
    block(&mut lines, "payload", task.payload.as_ref(), &task.payload_json);
    block(&mut lines, "result", task.result.as_ref(), &task.result_json);
    if !response.runs.is_empty() {
        lines.push("runs:".to_owned());
        lines.push(runs(&response.runs, colour));
    }
    lines.join("\n")
}

/// How a task ended, with its result or its error.
pub(crate) fn describe_end(task: &Task) -> String {
    let took = match (&task.start_time, &task.finish_time) {
        (Some(start), Some(finish)) => format!(" in {}", between(start, finish)),
        _ => String::new(),
    };
    let mut lines = vec![format!(
        "{} {}{took}",
        safe_text(&task.id),
        state_name(task.state)
    )];
    if !task.cancel_reason.is_empty() {
        lines.push(format!("reason: {}", safe_text(&task.cancel_reason)));
    }
    if task.state == i32::from(TaskState::Succeeded) {
        block(&mut lines, "result", task.result.as_ref(), &task.result_json);
    }
    if let Some(error) = &task.error {
        lines.push(format!(
            "error: {}: {}",
            safe_text(&error.kind),
            hanging(&error.message, 2)
        ));
        if !error.detail.is_empty() {
            lines.push(indent(&safe_block(&error.detail)));
        }
    }
    lines.join("\n")
}

/// An error in one line.
pub(crate) fn describe_error(error: &TaskError) -> String {
    format!("error: {}: {}", safe_text(&error.kind), safe_text(&error.message))
}

/// How much of a task is done, if that is known: all of one that succeeded, whatever it said last.
pub(crate) fn percent_done(task: &Task) -> Option<f64> {
    if task.state == i32::from(TaskState::Succeeded) {
        return Some(100.0);
    }
    task.progress.as_ref()?.percent
}

/// How long ago a point in time was.
pub(crate) fn age(time: Option<&Timestamp>, now: SystemTime) -> String {
    time.and_then(|time| SystemTime::try_from(*time).ok())
        .map(|time| format_time_span(now.duration_since(time).unwrap_or_default()))
        .unwrap_or_default()
}

fn between(start: &Timestamp, finish: &Timestamp) -> String {
    match (SystemTime::try_from(*start), SystemTime::try_from(*finish)) {
        (Ok(start), Ok(finish)) => format_time_span(finish.duration_since(start).unwrap_or_default()),
        _ => String::new(),
    }
}

/// The facts that are set, one per line.
fn facts(task: &Task) -> Vec<String> {
    let mut facts: Vec<(&str, String)> = vec![
        ("id", task.id.clone()),
        ("type", task.task_type.clone()),
        ("queue", task.queue.clone()),
        ("state", state_name(task.state)),
        ("attempt", format!("{} of {}", task.attempt, task.max_attempts)),
    ];
    if task.cancel_requested {
        facts.push(("cancel", "requested".to_owned()));
    }
    if !task.cancel_reason.is_empty() {
        facts.push(("reason", task.cancel_reason.clone()));
    }
    if task.priority != 0 {
        facts.push(("priority", task.priority.to_string()));
    }
    let texts = [
        ("title", &task.title),
        ("description", &task.description),
        ("owner", &task.owner),
        ("parent", &task.parent_id),
        ("retry of", &task.retry_of),
        ("worker", &task.worker),
    ];
    facts.extend(
        texts
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(name, text)| (name, text.clone())),
    );
    let times = [
        ("submitted", &task.create_time),
        ("scheduled", &task.schedule_time),
        ("started", &task.start_time),
        ("finished", &task.finish_time),
    ];
    facts.extend(
        times
            .into_iter()
            .filter_map(|(name, time)| Some((name, time.as_ref()?.to_string()))),
    );
    let mut labels: Vec<_> = task
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    labels.sort_unstable();
    if !labels.is_empty() {
        facts.push(("labels", labels.join(" ")));
    }
    if let Some(progress) = &task.progress {
        let percent = percent_done(task)
            .map(|percent| format!("{percent:.0}% "))
            .unwrap_or_default();
        facts.push(("progress", format!("{percent}{}", progress.message)));
    }
    if let Some(error) = &task.error {
        facts.push(("error", format!("{}: {}", error.kind, error.message)));
    }
    facts
        .into_iter()
        .map(|(name, value)| format!("{:<12} {}", format!("{name}:"), hanging(&value, 13)))
        .collect()
}

/// A JSON object under its name, if it is there and not empty: its exact text, if the scheduler sent that.
fn block(lines: &mut Vec<String>, name: &str, object: Option<&Struct>, exact: &[u8]) {
    let json = match std::str::from_utf8(exact) {
        Ok(text) if !text.is_empty() => lay_out(text, Some(0)),
        _ => object
            .and_then(|object| to_json(object, Layout::Pretty).ok())
            .unwrap_or_default(),
    };
    if !json.is_empty() && json != "{}" {
        lines.push(format!("{name}:"));
        lines.push(indent(&safe_block(&json)));
    }
}

/// Text of several lines, of which all but the first are indented.
fn hanging(text: &str, margin: usize) -> String {
    let lines: Vec<String> = safe_lines(text).collect();
    lines.join(&format!("\n{}", " ".repeat(margin)))
}

fn indent(text: &str) -> String {
    text.lines()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn runs(runs: &[Run], colour: Colour) -> String {
    let mut table = TableText::new(
        &["LEASE", "ATTEMPT", "OUTCOME", "TOOK", "WORKER", "ERROR"],
        colour,
    );
    for run in runs {
        let outcome = match Outcome::try_from(run.outcome) {
            Ok(outcome) => outcome.as_str_name().trim_start_matches("OUTCOME_").to_owned(),
            Err(_) => run.outcome.to_string(),
        };
        let took = match (&run.start_time, &run.finish_time) {
            (Some(start), Some(finish)) => between(start, finish),
            _ => String::new(),
        };
        let error = run
            .error
            .as_ref()
            .map(|error| format!("{}: {}", error.kind, error.message));
        table.row([
            number(run.lease_token),
            number(run.attempt),
            text(outcome),
            text(took),
            text(&run.worker),
            text(error.unwrap_or_default()),
        ]);
    }
    table.finish()
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;
    use tasklease_proto::json::struct_from_json;
    use tasklease_proto::v1::{GetTaskResponse, Progress, Task, TaskError, TaskState};

    use super::{describe_end, describe_with_runs, percent_done};
    use crate::screen::Colour;

    #[test]
    fn the_end_of_a_task_shows_its_result() {
        let task = Task {
            id: "01".to_owned(),
            state: TaskState::Succeeded.into(),
            start_time: Some(Timestamp {
                seconds: 100,
                nanos: 0,
            }),
            finish_time: Some(Timestamp {
                seconds: 105,
                nanos: 200_000_000,
            }),
            result: Some(struct_from_json(r#"{"hello":"Ada"}"#).unwrap()),
            cancel_reason: "too late".to_owned(),
            ..Task::default()
        };
        assert_eq!(
            describe_end(&task),
            "01 SUCCEEDED in 5.2s\nreason: too late\nresult:\n  {\n    \"hello\": \"Ada\"\n  }"
        );
    }

    #[test]
    fn a_task_that_succeeded_is_done_to_a_hundred_percent() {
        let mut task = Task {
            state: TaskState::Running.into(),
            progress: Some(Progress {
                percent: Some(95.0),
                ..Progress::default()
            }),
            ..Task::default()
        };
        assert_eq!(percent_done(&task), Some(95.0));
        task.state = TaskState::Succeeded.into();
        assert_eq!(percent_done(&task), Some(100.0));
        task.progress = None;
        assert_eq!(percent_done(&task), Some(100.0));
        task.state = TaskState::Failed.into();
        assert_eq!(percent_done(&task), None);
    }

    #[test]
    fn an_error_of_several_lines_is_shown_as_lines() {
        let task = Task {
            id: "01".to_owned(),
            state: TaskState::Failed.into(),
            error: Some(TaskError {
                kind: "ERROR".to_owned(),
                message: "cannot open\r\ncaused by: no disk".to_owned(),
                ..TaskError::default()
            }),
            ..Task::default()
        };
        assert_eq!(
            describe_end(&task),
            "01 FAILED\nerror: ERROR: cannot open\n  caused by: no disk"
        );
        let response = GetTaskResponse {
            task: Some(task),
            runs: Vec::new(),
        };
        let shown = describe_with_runs(&response, Colour::Off);
        assert!(
            shown.contains("error:       ERROR: cannot open\n             caused by: no disk"),
            "{shown}"
        );
    }

    #[test]
    fn the_end_of_a_failed_task_shows_its_error() {
        let error = TaskError {
            kind: "PANIC".to_owned(),
            message: "boom\u{1b}[2J".to_owned(),
            ..TaskError::default()
        };
        let task = Task {
            id: "01".to_owned(),
            state: TaskState::Failed.into(),
            error: Some(error),
            ..Task::default()
        };
        assert_eq!(describe_end(&task), "01 FAILED\nerror: PANIC: boom�[2J");
    }

    #[test]
    fn facts_that_are_not_set_are_left_out() {
        let task = Task {
            id: "01".to_owned(),
            task_type: "greet".to_owned(),
            state: 3,
            ..Task::default()
        };
        let shown = describe_with_runs(
            &GetTaskResponse {
                task: Some(task),
                runs: Vec::new(),
            },
            Colour::Off,
        );
        assert_eq!(
            shown,
            "id:          01\ntype:        greet\nqueue:       \nstate:       PENDING\nattempt:     0 of 0"
        );
    }
}
