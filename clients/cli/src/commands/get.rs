//! `tasklease get`

use clap::Args;
use tasklease_client::Client;

use crate::describe::describe_with_runs;
use crate::failure::Failure;
use crate::screen::Screen;

/// `tasklease get`
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The task's id
    #[arg(value_name = "ID")]
    task_id: String,
}

impl Get {
    pub(crate) async fn run(self, client: &Client, screen: &Screen) -> Result<(), Failure> {
        let response = client.get(&self.task_id).await?;
        screen.show(&response, |response| {
            describe_with_runs(response, screen.colour())
        })
    }
}
