//! `peers`: other Postgres queues and ours, in turn on the same server.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Map, Value, json};
use tokio::process::Command;

use crate::{
    load::Load,
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

/// Where it puts them, one program of each peer's name.
const PROGRAMS: &str = "target/peers/bin";

/// Every peer that has a program.
const PEERS: [&str; 5] = ["graphile-worker", "graphile-rs", "pg-boss", "river", "river-copy"];

/// What one command may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Lines of a failed program's standard error that the report shows.
const SHOWN_LINES: usize = 3;

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
    /// Measures.
    pub(crate) async fn run(self) -> anyhow::Result<Report> {
        let mut systems = self.chosen()?;
        if systems.iter().any(|system| *system != OURS) {
            install().await?;
        }
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
        let known = |name: &str| name == OURS || PEERS.contains(&name);
        if let Some(unknown) = self.only.iter().chain(&self.skip).find(|name| !known(name)) {
            bail!("there is no peer {unknown}; known are {}", PEERS.join(", "));
        }
        let named = |names: &[String], peer: &str| names.iter().any(|name| name == peer);
        let peers = PEERS
            .into_iter()
            .filter(|peer| self.only.is_empty() || named(&self.only, peer))
            .filter(|peer| !named(&self.skip, peer));
        Ok(std::iter::once(OURS).chain(peers).collect())
    }

    async fn measure(&self, server: &Server, system: &str) -> anyhow::Result<Value> {
        if system == OURS {
            return self.measure_ours(server).await;
        }
        server.create(DATABASE).await?;
        let program = Path::new(PROGRAMS).join(system);
        let url = server.url(DATABASE);
        let run = async |command: &str, tasks: usize| self.run_program(&program, command, &url, tasks).await;
        run("prepare", self.load.tasks).await?;
        let latency = run("latency", self.samples).await?;
        let enqueue = run("enqueue", self.load.tasks).await?;
        let drain = run("drain", self.load.tasks).await?;
        let life = run("life", self.load.tasks).await?;
        let unary = run("unary", self.unary_tasks).await?;
        Ok(joined(
            json!({
                "enqueue_per_s": enqueue["per_s"],
                "drain_per_s": drain["per_s"],
                "whole_life_per_s": life["per_s"],
                "unary_per_s": unary["per_s"],
            }),
            latencies(&latency),
        ))
    }

    async fn measure_ours(&self, server: &Server) -> anyhow::Result<Value> {
        let mut stand = Stand::start(server, DATABASE, Fleet::single(self.slots)).await?;
        stand.start_workers().await?;
        let latency = steady::percentiles(&steady::one_by_one(&stand, self.samples).await?)?;
        stand.stop_workers().await?;
        let cycle = phases::cycle(&mut stand, self.load).await?;
        stand.stop_workers().await?;
        let unary = phases::unary(&stand, self.callers, self.unary_tasks).await?;
        Ok(joined(
            joined(phases::rates(&cycle), latencies(&latency)),
            json!({ "unary_per_s": unary.per_s() }),
        ))
    }

    async fn run_program(
        &self,
        program: &Path,
        command: &str,
        url: &str,
        tasks: usize,
    ) -> anyhow::Result<Value> {
        let options = [
            ("--url", url.to_owned()),
            ("--tasks", tasks.to_string()),
            ("--batch", self.load.batch.to_string()),
            ("--payload", self.load.payload.to_string()),
            ("--callers", self.callers.to_string()),
            ("--samples", self.samples.to_string()),
        ];
        let child = Command::new(program)
            .arg(command)
            .args(
                options
                    .iter()
                    .flat_map(|(name, value)| [(*name).to_owned(), value.clone()]),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output())
            .await
            .with_context(|| format!("{command} takes too long"))??;
        ensure!(
            output.status.success(),
            "{command}: {}",
            last_lines(&String::from_utf8_lossy(&output.stderr))
        );
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text
            .lines()
            .last()
            .with_context(|| format!("{command} says nothing"))?;
        serde_json::from_str(line).with_context(|| format!("{command} says: {line}"))
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
            failed
                .iter()
                .map(|(system, message)| format!("{system} failed: {message}")),
        );
        let code = if failed.contains_key(OURS) {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        };
        Report::new("peers", parameters, with_ratios(&systems))
            .with_rounds(rounds)
            .with_notes(notes)
            .with_code(code)
    }
}

/// Adds how far ours is ahead of each peer, and of the best peer of each measure.
fn with_ratios(systems: &BTreeMap<&str, Value>) -> Value {
    let mut figures: Map<String, Value> = systems
        .iter()
        .map(|(system, figures)| ((*system).to_owned(), figures.clone()))
        .collect();
    let Some(ours) = systems.get(OURS).and_then(Value::as_object) else {
        return Value::Object(figures);
    };
    let mut to_best: BTreeMap<String, f64> = BTreeMap::new();
    for (system, theirs) in systems.iter().filter(|(system, _)| **system != OURS) {
        let mut ratios = Map::new();
        for (measure, our) in ours {
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
    Value::Object(figures)
}

fn measure_ratio(measure: &str) -> String {
    let name = measure
        .strip_suffix("_per_s")
        .or_else(|| measure.strip_suffix("_us"))
        .unwrap_or(measure);
    format!("{name}_ratio")
}

/// How many times better ours is.
fn ahead(measure: &str, ours: f64, theirs: f64) -> f64 {
    rounded(
        if measure.ends_with("_us") {
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

async fn install() -> anyhow::Result<()> {
    ensure!(
        Path::new(INSTALL).exists(),
        "{INSTALL} is not here; run this from the repository's root"
    );
    let status = Command::new(INSTALL).stdout(Stdio::null()).status().await?;
    // What could be installed is measured; the rest is reported as failed when it cannot run.
    if !status.success() {
        tell(format_args!("{INSTALL} failed: {status}"));
    }
    Ok(())
}

/// The end of what a program says about its failure, without the stack.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("at "))
        .collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join(" | ")
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
        let figures = with_ratios(&systems);
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
    fn a_failure_is_told_without_its_stack() {
        let text = "Error: no such table\n    at file:///somewhere/bench.mjs:7\n\n  code: 42\n";
        assert_eq!(last_lines(text), "Error: no such table | code: 42");
    }
}
