//! `tasklease delete`

use clap::Args;
use tasklease_client::Client;
use tasklease_proto::v1::DeleteTaskResponse;

use crate::failure::Failure;
use crate::screen::Screen;
use crate::terminal_text::safe_text;

/// `tasklease delete`
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// The id of a finished task
    #[arg(value_name = "ID")]
    task_id: String,
}

impl Delete {
    pub(crate) async fn run(self, client: &Client, screen: &Screen) -> Result<(), Failure> {
        client.delete(&self.task_id).await?;
        screen.show(&DeleteTaskResponse {}, |_| {
            format!("{} is removed", safe_text(&self.task_id))
        })
    }
}
