//! `tasklease retry`

use clap::Args;
use tasklease_client::Client;
use tasklease_proto::v1::RetryTaskResponse;

use crate::describe::describe_submitted;
use crate::failure::Failure;
use crate::screen::Screen;

/// `tasklease retry`
#[derive(Debug, Args)]
pub(crate) struct Retry {
    /// The id of a task that failed or was cancelled
    #[arg(value_name = "ID")]
    task_id: String,
}

impl Retry {
    pub(crate) async fn run(self, client: &Client, screen: &Screen) -> Result<(), Failure> {
        let task = client.retry(&self.task_id).await?;
        let response = RetryTaskResponse { task: Some(task) };
        screen.show(&response, |response| describe_submitted(response.task.as_ref()))
    }
}
