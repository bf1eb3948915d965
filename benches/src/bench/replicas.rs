//! `replicas`: throughput of several schedulers over one database.

use std::collections::BTreeMap;

use anyhow::ensure;
use serde_json::{Map, Value, json};

use crate::{
    load::Load,
    phases,
    progress::tell,
    report::{Report, joined, medians, ratios},
    server::Server,
    stand::Fleet,
};

/// Options of `replicas`.
#[derive(clap::Args)]
pub(crate) struct Replicas {
    #[command(flatten)]
    load: Load,
    /// How many schedulers, one measurement each, separated by commas; ratios are to the first.
    #[arg(long, value_delimiter = ',', default_value = "1,2,3")]
    schedulers: Vec<usize>,
    /// Slots of all workers together.
    #[arg(long, default_value_t = 2_000)]
    slots: u32,
    /// How often, in turn and each time in a new database; the figures are medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

impl Replicas {
    pub(crate) async fn run(self) -> anyhow::Result<Report> {
        ensure!(!self.schedulers.contains(&0), "zero schedulers serve nobody");
        let server = Server::start().await?;
        // As many workers with one scheduler as with several, so that only the schedulers differ.
        let workers = self.schedulers.iter().copied().max().unwrap_or(1);
        let mut results: BTreeMap<usize, Vec<Value>> = BTreeMap::new();
        for round in 1..=self.rounds {
            for &schedulers in &self.schedulers {
                tell(format_args!(
                    "round {round} of {}: {schedulers} schedulers",
                    self.rounds
                ));
                let fleet = Fleet {
                    schedulers,
                    workers,
                    slots: self.slots,
                };
                let cycle = phases::whole_cycle(&server, "bench", self.load, fleet).await?;
                results.entry(schedulers).or_default().push(phases::rates(&cycle));
            }
        }
        let medians: BTreeMap<usize, Value> = results
            .iter()
            .map(|(schedulers, rounds)| (*schedulers, medians(rounds)))
            .collect();
        let first = self
            .schedulers
            .first()
            .and_then(|first| medians.get(first))
            .cloned()
            .unwrap_or_default();
        let figures: Map<String, Value> = medians
            .into_iter()
            .map(|(schedulers, rates)| {
                let to_first = ratios(&rates, &first);
                (format!("schedulers_{schedulers}"), joined(rates, to_first))
            })
            .collect();
        let parameters = json!({
            "tasks": self.load.tasks, "batch": self.load.batch, "payload": self.load.payload,
            "workers": workers, "slots": self.slots, "rounds": self.rounds,
        });
        Ok(Report::new("replicas", parameters, Value::Object(figures)))
    }
}
