//! `peers`: other queues and ours, in turn on the same machine.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{ExitCode, Stdio},
};

use anyhow::{bail, ensure};
use serde_json::{Map, Value, json};
use tokio::process::Command;

use crate::{
    load::Load,
    nats::{Flush, NatsServer},
    peer::{Host, Program},
    phases,
    progress::tell,
    report::{Report, joined, medians, rounded},
    server::Server,
    stand::{Fleet, Stand},
    steady,
};

/// Our name among the others.
const OURS: &str = "tasklease";

/// The database of whoever is measured.
const DATABASE: &str = "peer";

/// Installs the peers' programs.
const INSTALL: &str = "benches/peers/install";

/// Every peer that has a program, and where its tasks are stored.
const PEERS: [(&str, Storage); 8] = [
    ("graphile-worker", Storage::Postgres),
    ("graphile-rs", Storage::Postgres),
    ("jetstream", Storage::JetStream(Flush::EveryTwoMinutes)),
    ("jetstream-confirmed", Storage::JetStream(Flush::EveryTwoMinutes)),
    ("jetstream-sync", Storage::JetStream(Flush::Always)),
    ("pg-boss", Storage::Postgres),
    ("river", Storage::Postgres),
    ("river-copy", Storage::Postgres),
];

/// Where a peer stores its tasks.
#[derive(Clone, Copy)]
enum Storage {
    /// In the Postgres that Tasklease uses too.
    Postgres,
    /// In a NATS server of its own.
    JetStream(Flush),
}

/// Options of `peers`.
#[derive(clap::Args)]
pub(crate) struct Peers {
    #[command(flatten)]
    load: Load,
    /// How often every system is measured; the order is another one in each round.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Measures only these peers, separated by commas; ours is always measured.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,
    /// Leaves these peers out, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    skip: Vec<String>,
    /// Callers of the single submits.
    #[arg(long, default_value_t = 64)]
    callers: usize,
    /// Single submits.
    #[arg(long, default_value_t = 20_000)]
    unary_tasks: usize,
    /// Samples of the latency.
    #[arg(long, default_value_t = 1_000)]
    samples: usize,
    /// Slots of our worker.
    #[arg(long, default_value_t = 2_000)]
    slots: u32,
}

impl Peers {
    pub(crate) async fn run(self) -> anyhow::Result<Report> {
        let mut systems = self.chosen()?;
        let peers: Vec<&str> = systems.iter().copied().filter(|system| *system != OURS).collect();
        install(&peers).await?;
        let server = Server::start().await?;
        let mut results: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        let mut failed: BTreeMap<&str, String> = BTreeMap::new();
        for round in 1..=self.rounds {
            for &system in &systems {
                if failed.contains_key(system) {
                    continue;
                }
                tell(format_args!("round {round} of {}: {system}", self.rounds));
                match self.measure(&server, system).await {
                    Ok(figures) => results.entry(system).or_default().push(figures),
                    Err(error) => {
                        let message = without_paths(&format!("{error:#}"))?;
                        tell(format_args!("{system} failed: {message}"));
                        failed.insert(system, message);
                    }
                }
                server.drop_database(DATABASE).await?;
            }
            systems.rotate_left(1);
        }
        Ok(self.report(&results, &failed))
    }

    fn chosen(&self) -> anyhow::Result<Vec<&'static str>> {
        let names = || PEERS.into_iter().map(|(name, _)| name);
        let known = |name: &str| name == OURS || names().any(|peer| peer == name);
        if let Some(unknown) = self.only.iter().chain(&self.skip).find(|name| !known(name)) {
            let known: Vec<&str> = names().collect();
            bail!("there is no peer {unknown}; known are {}", known.join(", "));
        }
        let named = |names: &[String], peer: &str| names.iter().any(|name| name == peer);
        let peers = names()
            .filter(|peer| self.only.is_empty() || named(&self.only, peer))
            .filter(|peer| !named(&self.skip, peer));
        Ok(std::iter::once(OURS).chain(peers).collect())
    }

    async fn measure(&self, server: &Server, system: &str) -> anyhow::Result<Value> {
        let Some((name, storage)) = PEERS.into_iter().find(|(name, _)| *name == system) else {
            return self.measure_ours(server).await;
        };
        let host = match storage {
            Storage::Postgres => Host::postgres(server, DATABASE).await?,
            Storage::JetStream(flush) => Host::Nats(NatsServer::start(flush).await?),
        };
        let figures = self.measure_peer(name, &host).await;
        host.end().await?;
        figures
    }

    async fn measure_peer(&self, name: &str, host: &Host<'_>) -> anyhow::Result<Value> {
        let program = Program {
            name,
            host,
            options: vec![
                ("--batch", self.load.batch),
                ("--payload", self.load.payload),
                ("--callers", self.callers),
                ("--samples", self.samples),
            ],
        };
        program.run("prepare", self.load.tasks).await?;
        let latency = program.run("latency", self.samples).await?;
        let phases = [
            ("enqueue", "enqueue", self.load.tasks),
            ("drain", "drain", self.load.tasks),
            ("life", "whole_life", self.load.tasks),
            ("unary", "unary", self.unary_tasks),
        ];
        let mut figures = latencies(&latency);
        for (command, phase, tasks) in phases {
            let found = program.run(command, tasks).await?;
            figures = joined(figures, named_after(phase, &found));
        }
        Ok(figures)
    }

    async fn measure_ours(&self, server: &Server) -> anyhow::Result<Value> {
        let mut stand = Stand::start(server, DATABASE, Fleet::single(self.slots)).await?;
        stand.start_workers().await?;
        let latency = steady::percentiles(&steady::one_by_one(&stand, self.samples).await?)?;
        stand.stop_workers().await?;
        let cycle = phases::cycle(&mut stand, self.load).await?;
        stand.stop_workers().await?;
        let unary = phases::unary(&stand, self.callers, self.unary_tasks).await?;
        let phases = [
            ("enqueue", &cycle["enqueue"]),
            ("drain", &cycle["drain"]),
            ("whole_life", &cycle["whole_life"]),
            ("unary", &unary.figures()),
        ];
        Ok(phases
            .into_iter()
            .fold(latencies(&latency), |figures, (phase, found)| {
                joined(figures, named_after(phase, &as_of_a_peer(found)))
            }))
    }

    fn report(&self, results: &BTreeMap<&str, Vec<Value>>, failed: &BTreeMap<&str, String>) -> Report {
        let systems: BTreeMap<&str, Value> = results
            .iter()
            .map(|(system, rounds)| (*system, medians(rounds)))
            .collect();
        let rounds = results
            .iter()
            .flat_map(|(system, rounds)| rounds.iter().map(move |round| json!({ *system: round })))
            .collect();
        let parameters = json!({
            "tasks": self.load.tasks, "batch": self.load.batch, "payload": self.load.payload,
            "unary_tasks": self.unary_tasks, "callers": self.callers, "samples": self.samples,
            "slots": self.slots, "rounds": self.rounds,
        });
        let mut notes = vec!["A ratio above 1 means that ours is the better one.".to_owned()];
        notes.extend(
            LESS_DURABLE
                .iter()
                .filter(|(system, _)| results.contains_key(system))
                .map(|(system, less)| format!("{system} {less}")),
        );
        notes.extend(
            failed
                .iter()
                .map(|(system, message)| format!("{system} failed: {message}")),
        );
        let code = if failed.contains_key(OURS) {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        };
        Report::new("peers", parameters, figures(&systems))
            .with_rounds(rounds)
            .with_notes(notes)
            .with_code(code)
    }
}

/// Peers that answer before what they answer for is on the disk.
const LESS_DURABLE: [(&str, &str); 2] = [
    (
        "jetstream",
        "flushes every two minutes, and is not asked whether it has taken in an acknowledgement.",
    ),
    ("jetstream-confirmed", "flushes every two minutes."),
];

/// The columns of one phase, from what a program reports of it.
fn named_after(phase: &str, found: &Value) -> Value {
    ["per_s", "cpu_us", "server_cpu_us", "written_bytes"]
        .into_iter()
        .filter(|measure| !found[measure].is_null())
        .map(|measure| (format!("{phase}_{measure}"), found[measure].clone()))
        .collect::<Map<_, _>>()
        .into()
}

/// Figures of a phase of ours by the names that a peer's have.
fn as_of_a_peer(found: &Value) -> Value {
    let sum = |parts: &[&str]| -> f64 { parts.iter().filter_map(|part| found[part].as_f64()).sum() };
    let server = sum(&["postgres_cpu_us", "scheduler_cpu_us"]);
    let client = sum(&["worker_cpu_us", "client_cpu_us"]);
    json!({
        "per_s": found["per_s"],
        "cpu_us": rounded(server + client, 1),
        "server_cpu_us": rounded(server, 1),
        "written_bytes": found["wal_bytes"],
    })
}

/// Whether a measure is what something costs, which has a table of its own.
fn is_cost(measure: &str) -> bool {
    measure.ends_with("_cpu_us") || measure.ends_with("_bytes")
}

/// The speed and the cost of each system, and how far ours is ahead of each peer and of the best peer of each measure.
fn figures(systems: &BTreeMap<&str, Value>) -> Value {
    let mut figures = Map::new();
    for (system, measures) in systems {
        let (cost, speed): (Map<_, _>, Map<_, _>) = measures
            .as_object()
            .into_iter()
            .flatten()
            .map(|(measure, value)| (measure.clone(), value.clone()))
            .partition(|(measure, _)| is_cost(measure));
        figures.insert((*system).to_owned(), Value::Object(speed));
        if !cost.is_empty() {
            figures.insert(format!("cost of {system}"), Value::Object(cost));
        }
    }
    figures.extend(comparison(systems));
    Value::Object(figures)
}

fn comparison(systems: &BTreeMap<&str, Value>) -> Map<String, Value> {
    let mut figures = Map::new();
    let Some(ours) = systems.get(OURS).and_then(Value::as_object) else {
        return figures;
    };
    // How the cost is divided between server and client is each system's own affair.
    let compared = || {
        ours.iter()
            .filter(|(measure, _)| !measure.ends_with("_server_cpu_us"))
    };
    let mut to_best: BTreeMap<String, f64> = BTreeMap::new();
    for (system, theirs) in systems.iter().filter(|(system, _)| **system != OURS) {
        let mut ratios = Map::new();
        for (measure, our) in compared() {
            let (Some(our), Some(their)) = (our.as_f64(), theirs[measure].as_f64()) else {
                continue;
            };
            let ratio = ahead(measure, our, their);
            ratios.insert(measure_ratio(measure), json!(ratio));
            to_best
                .entry(measure_ratio(measure))
                .and_modify(|least| *least = ratio.min(*least))
                .or_insert(ratio);
        }
        figures.insert(format!("to {system}"), Value::Object(ratios));
    }
    if !to_best.is_empty() {
        figures.insert("to the best peer".to_owned(), json!(to_best));
    }
    figures
}

fn measure_ratio(measure: &str) -> String {
    let name = measure
        .strip_suffix("_per_s")
        .or_else(|| measure.strip_suffix("_us"))
        .or_else(|| measure.strip_suffix("_bytes"))
        .unwrap_or(measure);
    format!("{name}_ratio")
}

/// How many times better ours is.
fn ahead(measure: &str, ours: f64, theirs: f64) -> f64 {
    rounded(
        if measure.ends_with("_us") || measure.ends_with("_bytes") {
            theirs / ours
        } else {
            ours / theirs
        },
        3,
    )
}

fn latencies(percentiles: &Value) -> Value {
    json!({
        "latency_p50_us": percentiles["p50_us"],
        "latency_p95_us": percentiles["p95_us"],
        "latency_p99_us": percentiles["p99_us"],
    })
}

async fn install(peers: &[&str]) -> anyhow::Result<()> {
    if peers.is_empty() {
        return Ok(());
    }
    ensure!(
        Path::new(INSTALL).exists(),
        "{INSTALL} is not here; run this from the repository's root"
    );
    let status = Command::new(INSTALL)
        .args(peers)
        .stdout(Stdio::null())
        .status()
        .await?;
    // What could be installed is measured; the rest is reported as failed when it cannot run.
    if !status.success() {
        tell(format_args!("{INSTALL} failed: {status}"));
    }
    Ok(())
}

/// Results are kept and shown elsewhere: where this machine has its files is nobody's business.
fn without_paths(message: &str) -> anyhow::Result<String> {
    let here = std::env::current_dir()?;
    Ok(message.replace(&*here.to_string_lossy(), "."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_compared_with_the_best_peer_of_each_measure() {
        let systems = BTreeMap::from([
            (OURS, json!({ "drain_per_s": 60.0, "latency_p50_us": 100.0 })),
            ("a", json!({ "drain_per_s": 30.0, "latency_p50_us": 50.0 })),
            ("b", json!({ "drain_per_s": 20.0, "latency_p50_us": 400.0 })),
        ]);
        let figures = figures(&systems);
        assert_eq!(
            figures["to the best peer"],
            json!({ "drain_ratio": 2.0, "latency_p50_ratio": 0.5 })
        );
        assert_eq!(
            figures["to b"],
            json!({ "drain_ratio": 3.0, "latency_p50_ratio": 4.0 })
        );
    }

    #[test]
    fn cost_stands_apart_and_less_of_it_is_better() {
        let systems = BTreeMap::from([
            (
                OURS,
                json!({ "drain_per_s": 60.0, "drain_cpu_us": 8.0, "drain_server_cpu_us": 6.0 }),
            ),
            (
                "a",
                json!({ "drain_per_s": 30.0, "drain_cpu_us": 16.0, "drain_server_cpu_us": 1.0 }),
            ),
        ]);
        let figures = figures(&systems);
        assert_eq!(figures["a"], json!({ "drain_per_s": 30.0 }));
        assert_eq!(
            figures["cost of a"],
            json!({ "drain_cpu_us": 16.0, "drain_server_cpu_us": 1.0 })
        );
        assert_eq!(
            figures["to a"],
            json!({ "drain_ratio": 2.0, "drain_cpu_ratio": 2.0 })
        );
    }

    #[test]
    fn what_ours_costs_is_the_sum_of_all_its_processes() {
        let found = json!({
            "per_s": 9.0, "wal_bytes": 500,
            "postgres_cpu_us": 4.0, "scheduler_cpu_us": 2.0, "worker_cpu_us": 1.0, "client_cpu_us": 0.5,
        });
        assert_eq!(
            named_after("drain", &as_of_a_peer(&found)),
            json!({ "drain_per_s": 9.0, "drain_cpu_us": 7.5, "drain_server_cpu_us": 6.0, "drain_written_bytes": 500 })
        );
    }
}
