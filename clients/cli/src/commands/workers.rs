//! `tasklease workers`

use std::time::SystemTime;

use clap::Args;
use tasklease_client::Client;
use tasklease_proto::v1::ListWorkersResponse;

use crate::describe::age;
use crate::failure::Failure;
use crate::screen::{Colour, Screen};
use crate::table::{TableText, number, text};

/// `tasklease workers`
#[derive(Debug, Args)]
pub(crate) struct Workers {}

impl Workers {
    /// Shows the workers that are alive.
    pub(crate) async fn run(self, client: &Client, screen: &Screen) -> Result<(), Failure> {
        let response = ListWorkersResponse {
            workers: client.workers().await?,
            next_page_token: String::new(),
        };
        screen.show(&response, |response| {
            describe(response, SystemTime::now(), screen.colour())
        })
    }
}

fn describe(response: &ListWorkersResponse, now: SystemTime, colour: Colour) -> String {
    let heads = [
        "NAME",
        "SESSION",
        "RUNNING",
        "SLOTS",
        "AGE",
        "HEARTBEAT",
        "QUEUES",
        "TYPES",
    ];
    let mut table = TableText::new(&heads, colour);
    for worker in &response.workers {
        table.row([
            text(&worker.name),
            text(&worker.session_id),
            number(worker.running),
            number(worker.slots),
            text(age(worker.create_time.as_ref(), now)),
            text(format!("{} ago", age(worker.heartbeat_time.as_ref(), now))),
            text(worker.queues.join(",")),
            text(worker.task_types.join(",")),
        ]);
    }
    table.finish()
}
