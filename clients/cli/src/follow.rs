//! Follows one task until it ends: as a live bar, as lines, as JSON, or silently.

use std::io::{self, IsTerminal};
use std::time::Duration;

use futures_util::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use tasklease_client::{Client, RetryPolicy};
use tasklease_proto::v1::{
    GetTaskResponse, LogLine, Progress, Task, TaskState, WatchTaskResponse, watch_task_response::Update,
};

use crate::describe::{describe_end, describe_error};
use crate::failure::Failure;
use crate::json::{Layout, to_json};
use crate::screen::{OutputFormat, Screen};
use crate::table::state_name;
use crate::terminal_text::{safe_lines, safe_text};

/// How long a scheduler may be away while a task is followed: the task goes on meanwhile, and a
/// restart or a failover of the database takes its time.
const OUTAGE: Duration = Duration::from_secs(120);

/// How much of a task's life is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attention {
    /// Every update as it comes.
    Live,
    /// Nothing until it has ended.
    EndOnly,
}

/// Follows a task to its end and shows that.
///
/// # Errors
///
/// [`Failure::TaskDidNotSucceed`] if it failed or was cancelled.
pub(crate) async fn follow(
    client: &Client,
    task_id: &str,
    attention: Attention,
    screen: &Screen,
) -> Result<(), Failure> {
    let mut view = View::new(attention, screen);
    let patient = client.clone().with_policy(RetryPolicy {
        deadline: OUTAGE,
        ..RetryPolicy::default()
    });
    let mut updates = patient.watch(task_id);
    while let Some(update) = updates.next().await {
        if let Some(task) = view.update(update?)? {
            return view.end(&task);
        }
    }
    Err(Failure::other(format!(
        "the server closed the watch of {task_id} before the task ended; watch it again"
    )))
}

/// Shows what it is given until nobody reads it any more; the exit code still tells how the task
/// ended.
#[derive(Clone, Copy)]
struct Viewer<'a> {
    screen: &'a Screen,
}

impl Viewer<'_> {
    fn line(&self, text: &str) -> Result<(), Failure> {
        match self.screen.line(text) {
            Err(Failure::NobodyReads) => Ok(()),
            written => written,
        }
    }
}

/// Where updates are shown.
enum View<'a> {
    /// One JSON document per update.
    JsonLines(Viewer<'a>),
    /// One JSON document at the end.
    JsonEnd(Viewer<'a>),
    /// A bar on the terminal.
    Bar(Viewer<'a>, ProgressBar),
    /// A line per update.
    Lines(Viewer<'a>),
    /// The end alone.
    End(Viewer<'a>),
}

impl<'a> View<'a> {
    fn new(attention: Attention, screen: &'a Screen) -> Self {
        let viewer = Viewer { screen };
        match (screen.format(), attention) {
            (OutputFormat::Json, Attention::Live) => Self::JsonLines(viewer),
            (OutputFormat::Json, Attention::EndOnly) => Self::JsonEnd(viewer),
            (OutputFormat::Table, Attention::EndOnly) => Self::End(viewer),
            // The bar is drawn on standard error; a reader of standard output gets lines.
            (OutputFormat::Table, Attention::Live)
                if io::stderr().is_terminal() && io::stdout().is_terminal() =>
            {
                Self::Bar(viewer, new_bar())
            }
            (OutputFormat::Table, Attention::Live) => Self::Lines(viewer),
        }
    }

    /// Shows an update; gives the task back if it has ended.
    fn update(&mut self, response: WatchTaskResponse) -> Result<Option<Task>, Failure> {
        if let Self::JsonLines(screen) = self {
            screen.line(&to_json(&response, Layout::Line)?)?;
        }
        match response.update {
            Some(Update::Ended(task)) => return Ok(Some(task)),
            Some(Update::Snapshot(task) | Update::Changed(task)) => self.task(&task)?,
            Some(Update::Progress(progress)) => self.progress(&progress, response.attempt)?,
            Some(Update::Log(log)) => self.log(&log, response.attempt)?,
            // The client follows on by itself.
            Some(Update::Reconnect(_)) | None => {}
        }
        Ok(None)
    }

    fn task(&self, task: &Task) -> Result<(), Failure> {
        match self {
            Self::Bar(_, bar) => {
                bar.set_prefix(state_name(task.state));
                match &task.progress {
                    Some(progress) => draw(bar, progress),
                    None => bar.set_position(0),
                }
                if let (Some(error), false) = (&task.error, task.state == i32::from(TaskState::Running)) {
                    bar.set_message(describe_error(error));
                }
                Ok(())
            }
            Self::Lines(screen) => screen.line(&task_line(task)),
            Self::JsonLines(_) | Self::JsonEnd(_) | Self::End(_) => Ok(()),
        }
    }

    fn progress(&self, progress: &Progress, attempt: i32) -> Result<(), Failure> {
        match self {
            Self::Bar(_, bar) => {
                draw(bar, progress);
                Ok(())
            }
            Self::Lines(screen) => {
                screen.line(&format!("{}{}", attempt_mark(attempt), progress_line(progress)))
            }
            Self::JsonLines(_) | Self::JsonEnd(_) | Self::End(_) => Ok(()),
        }
    }

    fn log(&self, log: &LogLine, attempt: i32) -> Result<(), Failure> {
        let text = format!("{}{}{}", attempt_mark(attempt), time_of_day(log), log_text(log));
        match self {
            Self::Bar(_, bar) => {
                bar.println(text);
                Ok(())
            }
            Self::Lines(screen) => screen.line(&text),
            Self::JsonLines(_) | Self::JsonEnd(_) | Self::End(_) => Ok(()),
        }
    }

    fn end(self, task: &Task) -> Result<(), Failure> {
        match self {
            Self::JsonLines(_) => {}
            Self::JsonEnd(screen) => {
                let response = GetTaskResponse {
                    task: Some(task.clone()),
                    runs: Vec::new(),
                };
                screen.line(&to_json(&response, Layout::Pretty)?)?;
            }
            Self::Bar(screen, bar) => {
                bar.finish_and_clear();
                screen.line(&describe_end(task))?;
            }
            Self::Lines(screen) | Self::End(screen) => screen.line(&describe_end(task))?,
        }
        match TaskState::try_from(task.state) {
            Ok(TaskState::Succeeded) => Ok(()),
            _ => Err(Failure::TaskDidNotSucceed),
        }
    }
}

fn new_bar() -> ProgressBar {
    let bar = ProgressBar::new(100);
    if let Ok(style) =
        ProgressStyle::with_template("{prefix:<9} [{bar:30}] {percent:>3}% {elapsed} {wide_msg}")
    {
        bar.set_style(style.progress_chars("=> "));
    }
    // Keeps the elapsed time moving between two updates.
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    bar
}

fn draw(bar: &ProgressBar, progress: &Progress) {
    if let Some(percent) = progress.percent {
        // The cast saturates, and not a number becomes zero.
        bar.set_position(percent.clamp(0.0, 100.0) as u64);
    }
    bar.set_message(safe_text(&progress.message));
}

/// A log entry with its level in front; further lines are indented below the first.
fn log_text(log: &LogLine) -> String {
    let level = format!("{:>5} ", log.level().name());
    let margin = " ".repeat(level.chars().count());
    let mut text = level;
    for (index, line) in safe_lines(&log.message).enumerate() {
        if index > 0 {
            text.push('\n');
            text.push_str(&margin);
        }
        text.push_str(&line);
    }
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

fn task_line(task: &Task) -> String {
    let attempt = if task.attempt > 0 {
        format!(" attempt {} of {}", task.attempt, task.max_attempts)
    } else {
        String::new()
    };
    let worker = if task.worker.is_empty() {
        String::new()
    } else {
        format!(" on {}", safe_text(&task.worker))
    };
    let error = task
        .error
        .as_ref()
        .map(|error| format!(" ({})", describe_error(error)))
        .unwrap_or_default();
    format!("{}{attempt}{worker}{error}", state_name(task.state))
}

/// Tells lines of a later attempt from those of the first.
fn attempt_mark(attempt: i32) -> String {
    if attempt > 1 {
        format!("#{attempt} ")
    } else {
        String::new()
    }
}

/// When a line was logged, in UTC, by the worker's clock or else by the scheduler's.
fn time_of_day(log: &LogLine) -> String {
    log.worker_time
        .as_ref()
        .or(log.time.as_ref())
        .map(|time| {
            let seconds = time.seconds.rem_euclid(86_400);
            let millis = time.nanos / 1_000_000;
            let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
            format!("{hours:02}:{minutes:02}:{seconds:02}.{millis:03} ")
        })
        .unwrap_or_default()
}

fn progress_line(progress: &Progress) -> String {
    let percent = progress
        .percent
        .map_or_else(|| "   ?".to_owned(), |percent| format!("{percent:>3.0}%"));
    format!("{percent} {}", safe_text(&progress.message))
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use tasklease_proto::v1::{LogLevel, LogLine, Progress, Task, TaskError, TaskState};

    use super::{attempt_mark, log_text, progress_line, task_line, time_of_day};

    #[test]
    fn a_log_entry_of_several_lines_is_shown_as_lines() {
        let log = LogLine {
            level: LogLevel::Warn.into(),
            message: "cannot open\r\n\tat a.rs\n\nnext\u{1b}[2J\n".to_owned(),
            ..LogLine::default()
        };
        assert_eq!(
            log_text(&log),
            " warn cannot open\n      \tat a.rs\n\n      next�[2J"
        );
    }

    #[test]
    fn progress_without_a_percentage_says_so() {
        let progress = |percent| Progress {
            percent,
            message: "Halfway".to_owned(),
            ..Progress::default()
        };
        assert_eq!(progress_line(&progress(Some(50.0))), " 50% Halfway");
        assert_eq!(progress_line(&progress(None)), "   ? Halfway");
    }

    #[test]
    fn a_line_says_when_it_was_logged_and_in_which_attempt() {
        let log = LogLine {
            worker_time: Some(prost_types::Timestamp {
                seconds: 1_800_000_061,
                nanos: 5_000_000,
            }),
            ..LogLine::default()
        };
        assert_eq!(time_of_day(&log), "08:01:01.005 ");
        assert_eq!(time_of_day(&LogLine::default()), "");
        assert_eq!((attempt_mark(1).as_str(), attempt_mark(2).as_str()), ("", "#2 "));
    }

    #[test]
    fn a_task_that_waits_for_its_retry_says_why() {
        let task = Task {
            state: TaskState::Scheduled.into(),
            attempt: 1,
            max_attempts: 5,
            worker: "w".to_owned(),
            error: Some(TaskError {
                kind: "ERROR".to_owned(),
                message: "no".to_owned(),
                ..TaskError::default()
            }),
            ..Task::default()
        };
        assert_eq!(
            task_line(&task),
            "SCHEDULED attempt 1 of 5 on w (error: ERROR: no)"
        );
    }
}
