//! `tasklease watch`

use clap::Args;
use tasklease_client::Client;

use crate::failure::Failure;
use crate::follow::{Attention, follow};
use crate::screen::Screen;

/// `tasklease watch`
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// The task's id
    #[arg(value_name = "ID")]
    task_id: String,
}

impl Watch {
    /// Follows the task until it ends.
    pub(crate) async fn run(self, client: &Client, screen: &Screen) -> Result<(), Failure> {
        // Says at once that nobody answers, or that there is no such task; following is patient.
        client.get(&self.task_id).await?;
        follow(client, &self.task_id, Attention::Live, screen).await
    }
}
