//! `throughput`: batches in, everything worked off, and both at once.

use serde_json::json;

use crate::{load::Load, phases, progress::tell, report::Report, server::Server, stand::Fleet};

/// Options of `throughput`.
#[derive(clap::Args)]
pub(crate) struct Throughput {
    #[command(flatten)]
    load: Load,
    /// Slots of the worker.
    #[arg(long, default_value_t = 2_000)]
    slots: u32,
    /// How often, each time in a new database; the figures are medians.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
}

impl Throughput {
    pub(crate) async fn run(self) -> anyhow::Result<Report> {
        let server = Server::start().await?;
        let fleet = Fleet::single(self.slots);
        let mut rounds = Vec::new();
        for round in 1..=self.rounds {
            tell(format_args!("round {round} of {}", self.rounds));
            rounds.push(phases::whole_cycle(&server, "bench", self.load, fleet).await?);
        }
        let parameters = json!({
            "tasks": self.load.tasks, "batch": self.load.batch, "payload": self.load.payload,
            "slots": self.slots, "rounds": self.rounds,
        });
        Ok(Report::of_rounds("throughput", parameters, rounds))
    }
}
