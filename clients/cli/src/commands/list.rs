//! `tasklease list`

use std::time::SystemTime;

use clap::Args;
use tasklease_client::Client;
use tasklease_proto::limits;
use tasklease_proto::v1::{ListTasksRequest, ListTasksResponse, TaskState};

use crate::describe::{age, percent_done};
use crate::failure::Failure;
use crate::screen::{Colour, Screen};
use crate::standard_error::tell;
use crate::table::{TableText, number, state, text};

/// `tasklease list`
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only tasks in this state; repeatable
    #[arg(long = "state", value_name = "STATE", value_parser = parse_state)]
    states: Vec<TaskState>,

    /// Only tasks of this type
    #[arg(
        long = "type",
        value_name = "TYPE",
        default_value = "",
        hide_default_value = true
    )]
    task_type: String,

    /// Only tasks of this queue
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    queue: String,

    /// The most tasks to show
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,

    /// Continue an earlier list with the same filters: its next page token
    #[arg(long, value_name = "TOKEN", default_value = "", hide_default_value = true)]
    page_token: String,
}

impl List {
    /// Shows the newest tasks that match.
    pub(crate) async fn run(self, client: &Client, screen: &Screen) -> Result<(), Failure> {
        let limit = self.limit as usize;
        let mut all = ListTasksResponse {
            tasks: Vec::new(),
            next_page_token: self.page_token,
        };
        loop {
            let wanted = i32::try_from(limit - all.tasks.len()).unwrap_or(i32::MAX);
            let request = ListTasksRequest {
                page_size: wanted.min(limits::PAGE),
                page_token: all.next_page_token,
                states: self.states.iter().map(|state| i32::from(*state)).collect(),
                task_type: self.task_type.clone(),
                queue: self.queue.clone(),
            };
            let page = client.list(request).await?;
            all.tasks.extend(page.tasks);
            all.next_page_token = page.next_page_token;
            if all.next_page_token.is_empty() || all.tasks.len() >= limit {
                break;
            }
        }
        screen.show(&all, |all| describe(all, SystemTime::now(), screen.colour()))?;
        if screen.format() == crate::screen::OutputFormat::Table && !all.next_page_token.is_empty() {
            tell(format_args!(
                "more tasks match; go on with --page-token {}",
                all.next_page_token
            ));
        }
        Ok(())
    }
}

fn describe(response: &ListTasksResponse, now: SystemTime, colour: Colour) -> String {
    let mut table = TableText::new(
        &[
            "ID", "TYPE", "QUEUE", "STATE", "ATTEMPT", "PROGRESS", "AGE", "TITLE",
        ],
        colour,
    );
    for task in &response.tasks {
        table.row([
            text(&task.id),
            text(&task.task_type),
            text(&task.queue),
            state(task.state),
            number(format!("{}/{}", task.attempt, task.max_attempts)),
            text(
                percent_done(task)
                    .map(|percent| format!("{percent:.0}%"))
                    .unwrap_or_default(),
            ),
            text(age(task.create_time.as_ref(), now)),
            text(&task.title),
        ]);
    }
    table.finish()
}

/// Reads a state's name in either case, with or without its prefix.
fn parse_state(name: &str) -> Result<TaskState, String> {
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("TASK_STATE_") {
        upper
    } else {
        format!("TASK_STATE_{upper}")
    };
    match TaskState::from_str_name(&full) {
        Some(state) if state != TaskState::Unspecified => Ok(state),
        _ => Err("expected scheduled, blocked, pending, running, succeeded, failed or cancelled".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use tasklease_proto::v1::{ListTasksResponse, Progress, Task, TaskState};

    use super::{describe, parse_state};
    use crate::screen::Colour;

    #[test]
    fn states_are_read_in_every_spelling() {
        for name in ["running", "RUNNING", "Running", "TASK_STATE_RUNNING"] {
            assert_eq!(parse_state(name), Ok(TaskState::Running));
        }
        for name in ["", "unspecified", "done", "RUNNING "] {
            assert!(parse_state(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_task_takes_one_line() {
        let task = Task {
            id: "01".to_owned(),
            task_type: "greet".to_owned(),
            queue: "default".to_owned(),
            state: TaskState::Running.into(),
            attempt: 1,
            max_attempts: 5,
            progress: Some(Progress {
                percent: Some(49.6),
                ..Progress::default()
            }),
            create_time: Some(prost_types::Timestamp {
                seconds: 1_000,
                nanos: 0,
            }),
            title: "two\nlines".to_owned(),
            ..Task::default()
        };
        let response = ListTasksResponse {
            tasks: vec![task],
            ..ListTasksResponse::default()
        };
        let shown = describe(
            &response,
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_090),
            Colour::Off,
        );
        assert_eq!(
            shown.lines().collect::<Vec<_>>(),
            [
                " ID  TYPE   QUEUE    STATE    ATTEMPT  PROGRESS  AGE    TITLE",
                " 01  greet  default  RUNNING  1/5      50%       1m30s  two lines",
            ]
        );
    }
}
