//! `snapshot`: what an old snapshot of the database costs, such as a long report or a backup holds.

use serde_json::{Map, Value, json};
use tokio_postgres::Client;

use crate::{
    load::Load,
    phases::{self, quarters},
    progress::tell,
    report::{Report, joined, ratios, rounded},
    server::Server,
    stand::{Fleet, Stand},
    steady::{self, Sample},
};

const MINUTE_US: i64 = 60_000_000;

/// Options of `snapshot`.
#[derive(clap::Args)]
pub(crate) struct Snapshot {
    /// Tasks of each phase.
    #[arg(long, default_value_t = 1_000_000)]
    tasks: usize,
    /// How often, in turn and each time in a new database; the figures are medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Instead of phases, a steady load for so many minutes without and with a snapshot.
    #[arg(long, value_name = "N")]
    minutes: Option<u32>,
    /// Tasks a second of the steady load.
    #[arg(long, default_value_t = 2_000)]
    rate: u32,
    /// Slots of the worker.
    #[arg(long, default_value_t = 2_000)]
    slots: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Free,
    Held,
}

impl Condition {
    const BOTH: [Self; 2] = [Self::Free, Self::Held];

    fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Held => "held",
        }
    }

    /// Whoever holds the snapshot; it is let go with the connection.
    async fn impose(self, stand: &Stand<'_>) -> anyhow::Result<Option<Client>> {
        if self == Self::Free {
            return Ok(None);
        }
        let holder = stand.connect().await?;
        holder
            .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM tasklease.queue")
            .await?;
        Ok(Some(holder))
    }
}

impl Snapshot {
    pub(crate) async fn run(self) -> anyhow::Result<Report> {
        let server = Server::start().await?;
        match self.minutes {
            None => self.phases(&server).await,
            Some(minutes) => self.steady(&server, minutes).await,
        }
    }

    async fn phases(&self, server: &Server) -> anyhow::Result<Report> {
        let mut rounds = Vec::new();
        for round in 1..=self.rounds {
            let mut results = Map::new();
            for condition in Condition::BOTH {
                tell(format_args!(
                    "round {round} of {}: {}",
                    self.rounds,
                    condition.name()
                ));
                results.insert(condition.name().to_owned(), self.cycle(server, condition).await?);
            }
            let held_to_free = ratios(&results["held"], &results["free"]);
            results.insert("held_to_free".to_owned(), held_to_free);
            rounds.push(Value::Object(results));
        }
        let parameters = json!({ "tasks": self.tasks, "slots": self.slots, "rounds": self.rounds });
        Ok(Report::of_rounds("snapshot", parameters, rounds))
    }

    async fn cycle(&self, server: &Server, condition: Condition) -> anyhow::Result<Value> {
        let load = Load {
            tasks: self.tasks,
            batch: 1_000,
            payload: 100,
        };
        let mut stand = Stand::start(server, "bench", Fleet::single(self.slots)).await?;
        let holder = condition.impose(&stand).await?;
        let enqueue = phases::enqueue(&stand, load).await?;
        let drain = phases::drain(&mut stand, load.tasks).await?;
        let quarters = quarters(&stand.db).await?;
        let life = phases::whole_life(&stand, load).await?;
        drop(holder);
        stand.end().await?;
        let rates = json!({
            "enqueue_per_s": enqueue.per_s(),
            "drain_per_s": drain.per_s(),
            "whole_life_per_s": life.per_s(),
        });
        Ok(joined(rates, quarters))
    }

    async fn steady(&self, server: &Server, minutes: u32) -> anyhow::Result<Report> {
        let samples = usize::try_from(self.rate)? * 60 * usize::try_from(minutes)?;
        let mut figures = Map::new();
        for condition in Condition::BOTH {
            let name = condition.name();
            tell(format_args!(
                "{name}: {} tasks a second for {minutes} minutes",
                self.rate
            ));
            let mut stand = Stand::start(server, "bench", Fleet::single(self.slots)).await?;
            stand.start_workers().await?;
            let holder = condition.impose(&stand).await?;
            let taken = steady::at_rate(&stand, self.rate, samples).await?;
            drop(holder);
            stand.end().await?;
            figures.insert(name.to_owned(), steady::percentiles(&taken)?);
            for (minute, row) in per_minute(&taken)?.into_iter().enumerate() {
                figures.insert(format!("{name}, minute {}", minute + 1), row);
            }
        }
        let parameters = json!({ "minutes": minutes, "rate": self.rate, "slots": self.slots });
        Ok(Report::new("snapshot", parameters, Value::Object(figures)))
    }
}

/// Latency of what was meant to be sent in each minute, and how many tasks a second started in it.
fn per_minute(samples: &[Sample]) -> anyhow::Result<Vec<Value>> {
    let first = samples
        .iter()
        .map(|sample| sample.intended_us)
        .min()
        .unwrap_or_default();
    let last = samples
        .iter()
        .map(|sample| sample.intended_us)
        .max()
        .unwrap_or_default();
    (0..=(last - first) / MINUTE_US)
        .map(|minute| {
            let span = first + minute * MINUTE_US..first + (minute + 1) * MINUTE_US;
            let sent = samples.iter().filter(|sample| span.contains(&sample.intended_us));
            let started = samples
                .iter()
                .filter(|sample| span.contains(&sample.started_us()))
                .count();
            let rate = json!({ "per_s": rounded(started as f64 / 60.0, 0) });
            Ok(joined(steady::percentiles(sent)?, rate))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_task_counts_for_the_minute_that_it_was_meant_for_and_the_one_that_it_started_in() {
        let samples: Vec<Sample> = [(0, 10), (30_000_000, 40_000_000), (61_000_000, 10)]
            .map(|(intended_us, latency_us)| Sample {
                intended_us,
                latency_us,
            })
            .into();
        let minutes = per_minute(&samples).expect("latencies that can be counted");
        assert_eq!(minutes.len(), 2);
        assert!(minutes[0]["max_us"].as_f64() >= Some(40_000_000.0));
        assert_eq!(minutes[1]["max_us"], 10);
    }
}
