//! `backlog`: throughput with millions of tasks that wait, and millions that have ended.
//!
//! The backlog waits in the same lane with the same priority: new tasks go behind it, and the drain processes its oldest
//! tasks. Ended tasks are in the same tables that the drain reads and writes.

use anyhow::ensure;
use serde_json::{Map, Value, json};

use crate::{
    load::Load,
    phases,
    preload::{self, Preload},
    progress::{grouped, tell},
    report::{Report, joined, medians, ratios},
    server::Server,
    stand::{Fleet, Stand},
};

/// Options of `backlog`.
#[derive(clap::Args)]
pub(crate) struct Backlog {
    #[command(flatten)]
    load: Load,
    /// Tasks that wait, one measurement each, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "0,1000000,10000000")]
    waiting: Vec<usize>,
    /// Tasks that have ended, one measurement each, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "0,50000000")]
    finished: Vec<usize>,
    /// Slots of the worker.
    #[arg(long, default_value_t = 2_000)]
    slots: u32,
    /// How many times each pair is measured, alternating with an empty database; the figures are medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

impl Backlog {
    pub(crate) async fn run(mut self) -> anyhow::Result<Report> {
        // Ascending, so that a database can grow from one pair to the next.
        self.waiting.sort_unstable();
        self.finished.sort_unstable();
        let server = Server::start().await?;
        let fleet = Fleet::single(self.slots);
        let mut empty = Stand::start(&server, "empty", fleet).await?;
        let (mut figures, mut rounds, mut notes) = (Map::new(), Vec::new(), Vec::new());
        for &finished in &self.finished {
            let mut full = Stand::start(&server, "full", fleet).await?;
            let mut preload = Preload::new(&server, &full).await?;
            preload.grow_finished(finished).await?;
            for &waiting in &self.waiting {
                preload.grow_waiting(waiting).await?;
                preload::settle_down(&full.db).await?;
                let name = preload.name();
                tell(format_args!("measuring {name}"));
                let taken = self.pair(&mut empty, &mut full).await?;
                let bytes = json!({ "loaded_bytes": preload::bytes(&full.db).await? });
                figures.insert(name.clone(), joined(medians(&taken), bytes));
                rounds.extend(taken.into_iter().map(|round| json!({ &name: round })));
            }
            notes.extend(preload.shortfall(finished, self.waiting.last().copied().unwrap_or_default()));
            drop(preload);
            full.end().await?;
        }
        empty.end().await?;
        let parameters = json!({
            "tasks": self.load.tasks, "batch": self.load.batch, "payload": self.load.payload,
            "waiting": self.waiting, "finished": self.finished, "slots": self.slots, "rounds": self.rounds,
        });
        Ok(Report::new("backlog", parameters, Value::Object(figures))
            .with_rounds(rounds)
            .with_notes(notes))
    }

    async fn pair(&self, empty: &mut Stand<'_>, full: &mut Stand<'_>) -> anyhow::Result<Vec<Value>> {
        let mut rounds = Vec::new();
        for _ in 0..self.rounds {
            let without = self.measure(empty).await?;
            let with = self.measure(full).await?;
            let to_empty = ratios(&with, &without);
            let without = json!({
                "empty_enqueue_per_s": without["enqueue_per_s"],
                "empty_drain_per_s": without["drain_per_s"],
            });
            rounds.push(joined(joined(with, without), to_empty));
        }
        Ok(rounds)
    }

    async fn measure(&self, stand: &mut Stand<'_>) -> anyhow::Result<Value> {
        let enqueue = phases::enqueue(stand, self.load).await?;
        let drain_per_s = phases::drain_oldest(stand, self.load.tasks).await?;
        stand.stop_workers().await?;
        ensure!(
            drain_per_s > 0.0,
            "{} tasks were worked off in no time",
            grouped(self.load.tasks)
        );
        Ok(json!({ "enqueue_per_s": enqueue.per_s(), "drain_per_s": drain_per_s }))
    }
}
