//! `tasklease cancel`

use std::time::Duration;

use clap::Args;
use tasklease_client::Client;
use tasklease_proto::convert::duration_to_wire;
use tasklease_proto::limits;
use tasklease_proto::v1::{CancelTaskRequest, CancelTaskResponse};

use crate::failure::Failure;
use crate::screen::Screen;
use crate::table::state_name;
use crate::terminal_text::safe_text;
use tasklease_lifecycle::time_span::{format_time_span, time_span_within};

/// `tasklease cancel`
#[derive(Debug, Args)]
pub(crate) struct Cancel {
    /// The task's id
    #[arg(value_name = "ID")]
    task_id: String,

    /// Reason, for people and for the task's code
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,

    #[arg(long, value_name = "TIME",
          help = format!("How long running code may take to stop, at most {} [default: the scheduler's, {}]",
                         format_time_span(limits::LONGEST_GRACE), format_time_span(limits::DEFAULT_GRACE)),
          value_parser = time_span_within(Duration::ZERO..=limits::LONGEST_GRACE))]
    grace: Option<Duration>,
}

impl Cancel {
    pub(crate) async fn run(self, client: &Client, screen: &Screen) -> Result<(), Failure> {
        let request = CancelTaskRequest {
            task_id: self.task_id,
            reason: self.reason,
            grace: self.grace.map(duration_to_wire),
        };
        let task = client.cancel(request).await?;
        screen.show(&CancelTaskResponse { task: Some(task) }, describe)
    }
}

fn describe(response: &CancelTaskResponse) -> String {
    let task = response.task.clone().unwrap_or_default();
    match task.cancel_requested {
        true => format!("{} is asked to stop", safe_text(&task.id)),
        false => format!("{} is {}", safe_text(&task.id), state_name(task.state)),
    }
}
