//! `tasklease queue`

use std::time::SystemTime;

use clap::Subcommand;
use tasklease_client::Client;
use tasklease_proto::v1::{ListQueuesResponse, PauseQueueResponse, ResumeQueueResponse};

use crate::describe::age;
use crate::failure::Failure;
use crate::screen::{Colour, Screen};
use crate::table::{TableText, text};
use crate::terminal_text::safe_text;

/// `tasklease queue`
#[derive(Debug, Subcommand)]
pub(crate) enum Queue {
    /// List the queues
    List,
    /// Stop handing out a queue's tasks; running ones go on
    Pause {
        /// The queue
        #[arg(value_name = "NAME")]
        name: String,

        /// Create the queue if it does not exist
        #[arg(long)]
        create: bool,
    },
    /// Hand out a paused queue's tasks again
    Resume {
        /// The queue
        #[arg(value_name = "NAME")]
        name: String,
    },
}

impl Queue {
    /// Does what was asked with the queue.
    pub(crate) async fn run(self, client: &Client, screen: &Screen) -> Result<(), Failure> {
        match self {
            Self::List => {
                let response = ListQueuesResponse {
                    queues: client.queues().await?,
                    next_page_token: String::new(),
                };
                screen.show(&response, |response| {
                    describe(response, SystemTime::now(), screen.colour())
                })
            }
            Self::Pause { name, create } => {
                if !create {
                    require(client, &name, ", or create it with --create").await?;
                }
                let queue = client.pause(&name).await?;
                screen.show(&PauseQueueResponse { queue: Some(queue) }, |_| {
                    format!("{} is paused; its running tasks go on", safe_text(&name))
                })
            }
            Self::Resume { name } => {
                require(client, &name, "").await?;
                let queue = client.resume(&name).await?;
                screen.show(&ResumeQueueResponse { queue: Some(queue) }, |_| {
                    format!("{} hands out its tasks again", safe_text(&name))
                })
            }
        }
    }
}

/// Fails unless the queue exists: a scheduler takes any name, and a typing error would seem to have
/// worked.
async fn require(client: &Client, name: &str, advice: &str) -> Result<(), Failure> {
    let queues = client.queues().await?;
    if queues.iter().any(|queue| queue.name == name) {
        return Ok(());
    }
    Err(Failure::Unknown(format!(
        "there is no queue {}; `tasklease queue list` shows the queues there are{advice}",
        safe_text(name)
    )))
}

fn describe(response: &ListQueuesResponse, now: SystemTime, colour: Colour) -> String {
    let mut table = TableText::new(&["NAME", "STATE", "AGE"], colour);
    for queue in &response.queues {
        table.row([
            text(&queue.name),
            text(if queue.paused { "paused" } else { "open" }),
            text(age(queue.create_time.as_ref(), now)),
        ]);
    }
    table.finish()
}
