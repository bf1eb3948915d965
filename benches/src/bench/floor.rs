//! `floor`: the scheduler's SQL alone, and how close the whole system comes to it.

use serde_json::{Value, json};

use crate::{
    load::Load,
    phases,
    progress::tell,
    report::{Report, ratios},
    server::Server,
    sql_path::{Connections, SqlPath},
    stand::Fleet,
};

/// Options of `floor`.
#[derive(clap::Args)]
pub(crate) struct Floor {
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    connections: Connections,
    /// How many rounds, each in a new database; the figures are medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Whether to run the whole system in turn with it.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    compare: bool,
    /// Slots of the worker of the whole system.
    #[arg(long, default_value_t = 2_000)]
    slots: u32,
}

impl Floor {
    pub(crate) async fn run(self) -> anyhow::Result<Report> {
        let server = Server::start().await?;
        let mut rounds = Vec::new();
        for round in 1..=self.rounds {
            tell(format_args!("round {round} of {}", self.rounds));
            rounds.push(self.round(&server).await?);
        }
        let parameters = json!({
            "tasks": self.load.tasks, "batch": self.load.batch, "payload": self.load.payload,
            "submitters": self.connections.submitters, "claimers": self.connections.claimers,
            "settlers": self.connections.settlers, "slots": self.slots,
            "compare": self.compare, "rounds": self.rounds,
        });
        Ok(Report::of_rounds("floor", parameters, rounds))
    }

    async fn round(&self, server: &Server) -> anyhow::Result<Value> {
        let floor = self.sql(server).await?;
        if !self.compare {
            return Ok(json!({ "floor": floor }));
        }
        let fleet = Fleet::single(self.slots);
        let cycle = phases::whole_cycle(server, "whole", self.load, fleet).await?;
        let whole = phases::rates(&cycle);
        let to_floor = ratios(&whole, &floor);
        Ok(json!({ "floor": floor, "whole_system": whole, "whole_to_floor": to_floor }))
    }

    async fn sql(&self, server: &Server) -> anyhow::Result<Value> {
        server.create("floor").await?;
        let path = SqlPath::prepare(server.url("floor"), self.load, self.connections).await?;
        let figures = json!({
            "enqueue_per_s": path.enqueue().await?,
            "drain_per_s": path.drain().await?,
            "whole_life_per_s": path.whole_life().await?,
        });
        drop(path);
        server.drop_database("floor").await?;
        Ok(figures)
    }
}
