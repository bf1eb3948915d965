//! `tasklease stats`

use clap::Args;
use tasklease_client::Client;
use tasklease_proto::v1::{GetQueueStatsResponse, TaskTypeStats};

use crate::failure::Failure;
use crate::screen::{Colour, Screen};
use crate::table::{TableText, number, text};

/// `tasklease stats`
#[derive(Debug, Args)]
pub(crate) struct Stats {
    /// Only this queue
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    queue: String,
}

impl Stats {
    pub(crate) async fn run(self, client: &Client, screen: &Screen) -> Result<(), Failure> {
        let response = client.stats(&self.queue).await?;
        screen.show(&response, |response| describe(response, screen.colour()))
    }
}

fn describe(response: &GetQueueStatsResponse, colour: Colour) -> String {
    let heads = [
        "QUEUE",
        "TYPE",
        "WORKERS",
        "SCHEDULED",
        "BLOCKED",
        "PENDING",
        "RUNNING",
        "SUCCEEDED",
        "FAILED",
        "CANCELLED",
        "NOTE",
    ];
    let mut table = TableText::new(&heads, colour);
    for stats in &response.stats {
        // Only the counts of waiting tasks have a limit.
        let waiting = |count: i64| {
            if stats.exact {
                count.to_string()
            } else {
                format!("{count}+")
            }
        };
        table.row([
            text(&stats.queue),
            text(&stats.task_type),
            number(stats.workers),
            number(waiting(stats.scheduled)),
            number(waiting(stats.blocked)),
            number(waiting(stats.pending)),
            number(stats.running),
            number(stats.succeeded),
            number(stats.failed),
            number(stats.cancelled),
            text(note(stats)),
        ]);
    }
    table.finish()
}

/// What keeps tasks from running, if anything does.
fn note(stats: &TaskTypeStats) -> &'static str {
    let waits = stats.scheduled + stats.blocked + stats.pending > 0;
    match (stats.paused, stats.workers) {
        (true, _) => "paused",
        (false, 0) if waits => "no worker takes this type",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use tasklease_proto::v1::{GetQueueStatsResponse, TaskTypeStats};

    use super::describe;
    use crate::screen::Colour;

    #[test]
    fn a_type_that_nobody_runs_is_pointed_out() {
        let stats = TaskTypeStats {
            queue: "default".to_owned(),
            task_type: "tpyo".to_owned(),
            pending: 100_000,
            ..TaskTypeStats::default()
        };
        let shown = describe(&GetQueueStatsResponse { stats: vec![stats] }, Colour::Off);
        let line = shown.lines().nth(1).unwrap();
        assert!(
            line.contains("100000+") && line.ends_with("no worker takes this type"),
            "{line}"
        );
    }
}
