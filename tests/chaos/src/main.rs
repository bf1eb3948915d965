//! The command line of the harness.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand, ValueEnum as _};
use tasklease_chaos::{
    ability::Abilities,
    check::{Breach, Invariant},
    fault_kind::{FaultKind, Harm},
    history::{self, Event, Parameters},
    promises,
    run::{self, RunResult},
};
use tokio::signal::unix::{SignalKind, signal};

/// How many breaches of one promise are shown.
const SHOWN: usize = 5;

/// The exit code of a program that was interrupted.
const INTERRUPTED: u8 = 130;

/// Breaks a running Tasklease on purpose, and checks from outside that its promises hold.
///
/// A run starts Postgres, schedulers and workers, each behind a proxy, submits tasks, and strikes with faults as its
/// seed decides. When the faults are over, every task must end. What everybody saw is then checked against the
/// promises. The exit code is 0 if all held, 1 if one was broken, 2 if the run could not be made.
///
/// The programs must be built before: `cargo build --workspace --bins`, or `make chaos`.
#[derive(Parser)]
#[command(version, max_term_width = 110)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes one run for each seed.
    ///
    /// `tasklease-chaos run --seed 7` makes the run of seed 7 again: the same tasks at the same times, the same faults.
    /// What processes do in between is theirs, so a fault that needs a race may take a few tries: `--repeat 10`.
    Run(RunArgs),
    /// Lists the kinds of faults.
    ListFaults,
    /// Lists the promises that are checked.
    ListPromises,
    /// Checks a stored history again.
    Check {
        /// The history of a run.
        #[arg(value_name = "HISTORY.jsonl")]
        history: PathBuf,
        /// Shows all that the history holds about one task.
        #[arg(long, value_name = "ID")]
        task: Option<String>,
    },
    /// Writes the page of promises from the results of runs.
    Promises {
        /// Files named result.json.
        #[arg(required = true, value_name = "RESULT.json")]
        results: Vec<PathBuf>,
    },
}

#[derive(Args)]
struct RunArgs {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, each one more than the one before.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seeds: u64,
    /// How often each seed is run.
    #[arg(long, default_value_t = 1, value_name = "N")]
    repeat: u64,
    /// How long load and faults last, in minutes; by default half a minute, or a tenth with --each-kind. Healing and the
    /// end take about half a minute more.
    #[arg(long, value_parser = minutes)]
    minutes: Option<f64>,
    /// How many tasks; by default 25 for each second. Workers have as many slots as that needs.
    #[arg(long, value_name = "N")]
    tasks: Option<usize>,
    /// How many schedulers.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=9), value_name = "N")]
    replicas: u8,
    /// How many workers; half of them are processes over the worker runtime.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=50), value_name = "N")]
    workers: u8,
    /// Kinds of faults that may come; all that this machine can play by default, none for an empty text.
    #[arg(long, value_delimiter = ',', value_name = "KIND,KIND")]
    faults: Option<Vec<String>>,
    /// Makes short runs of one kind of fault each: all seeds for every kind. Of a run in which all promises held, only
    /// the result is kept.
    #[arg(long)]
    each_kind: bool,
    /// Leaves out runs whose result, of the same parameters, is there already.
    #[arg(long)]
    resume: bool,
    /// Begins no run after so many minutes; with --resume a long series can be made in parts.
    #[arg(long, value_name = "MINUTES", value_parser = minutes)]
    stop_after: Option<f64>,
    /// How long a session lives after its last heartbeat, in seconds.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(3..=60), value_name = "SECONDS")]
    lease: u64,
    /// How long after the last fault a task may take to end, in seconds: dead sessions run out, leases that were not
    /// delivered are taken back, graces and back-offs end.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600), value_name = "SECONDS")]
    patience: u64,
    /// Where the history, the result and the logs of each run go.
    #[arg(long, default_value = "target/chaos", value_name = "FOLDER")]
    out: PathBuf,
    /// Goes on with the next seed after a run that broke a promise.
    #[arg(long)]
    keep_going: bool,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    let is_usable = (0.02..=10_000.0).contains(&minutes);
    is_usable
        .then_some(minutes)
        .ok_or_else(|| "must be 0.02 to 10000".to_owned())
}

#[tokio::main]
async fn main() -> ExitCode {
    let executed = tokio::select! {
        executed = CommandLine::parse().command.execute() => executed,
        // What was started ends with this process's own runtime.
        () = interrupted() => return ExitCode::from(INTERRUPTED),
    };
    match executed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Completes when somebody wants the program to end.
async fn interrupted() {
    let Ok(mut terminated) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminated.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

impl Command {
    /// True if no promise was broken.
    async fn execute(self) -> anyhow::Result<bool> {
        match self {
            Self::Run(args) => args.execute().await,
            Self::ListFaults => {
                for kind in FaultKind::value_variants() {
                    let harm = match kind.harm() {
                        Harm::Any => "",
                        Harm::SparesSessions => " [sessions must survive it]",
                        Harm::None => " [nobody may feel it]",
                    };
                    say(&format!("{:<20} {}{harm}", kind.to_string(), kind.about()))?;
                }
                let (_, left_out) = Abilities::of_this_machine().sort(FaultKind::value_variants());
                for (kind, reason) in left_out {
                    say(&format!("{kind} cannot be played here: {reason}"))?;
                }
                Ok(true)
            }
            Self::ListPromises => {
                for invariant in Invariant::value_variants() {
                    say(&format!("{:<22} {}", invariant.to_string(), invariant.promise()))?;
                }
                Ok(true)
            }
            Self::Check { history, task } => check(&history, task.as_deref()),
            Self::Promises { results } => {
                let results: anyhow::Result<Vec<RunResult>> = results.iter().map(|path| read(path)).collect();
                say(promises::page(&results?).trim_end())?;
                Ok(true)
            }
        }
    }
}

/// One run of a series.
struct Planned {
    parameters: Parameters,
    folder: PathBuf,
}

impl RunArgs {
    async fn execute(self) -> anyhow::Result<bool> {
        let abilities = Abilities::of_this_machine();
        let (faults, left_out) = abilities.sort(&self.fault_kinds()?);
        // Comes back in a process that can play them all.
        let _prepared = abilities.prepare(&faults)?;
        for (kind, reason) in &left_out {
            say(&format!("left out: {kind}: {reason}"))?;
        }
        let series = self.series(&faults);
        let until = self
            .stop_after
            .map(|minutes| Instant::now() + Duration::from_secs_f64(minutes * 60.0));
        let mut results = Vec::new();
        for (number, planned) in series.iter().enumerate() {
            let before = || run::made_before(&planned.parameters, &planned.folder);
            if let Some(result) = self.resume.then(before).flatten() {
                results.push(result);
                continue;
            }
            if until.is_some_and(|until| Instant::now() > until) {
                say(&format!(
                    "{} runs are left; go on with --resume",
                    series.len() - number
                ))?;
                break;
            }
            let result = self.make(planned).await?;
            let is_broken = !result.breaches.is_empty();
            results.push(result);
            if is_broken && !self.keep_going {
                return Ok(false);
            }
        }
        let broken = run::broken(&results);
        for (invariant, runs) in &broken {
            say(&format!("{runs} of {} runs broke {invariant}", results.len()))?;
        }
        Ok(broken.is_empty())
    }

    async fn make(&self, planned: &Planned) -> anyhow::Result<RunResult> {
        let Planned { parameters, folder } = planned;
        let result = run::run(parameters, Duration::from_secs(self.patience), folder).await?;
        self.report(&result, folder)?;
        if self.each_kind && result.breaches.is_empty() {
            run::keep_only_the_result(folder)?;
        }
        Ok(result)
    }

    /// The runs in their order. With a run for each kind, all kinds come before the next seed does, so that the part of
    /// a series that was made says something about every kind.
    fn series(&self, faults: &[FaultKind]) -> Vec<Planned> {
        let mut series = Vec::new();
        for seed in self.seed..self.seed.saturating_add(self.seeds) {
            for turn in 0..self.repeat {
                let mut base = self.out.clone();
                if self.repeat > 1 {
                    base.push(format!("turn-{turn}"));
                }
                if self.each_kind {
                    for kind in faults {
                        let parameters = self.parameters(seed, &[*kind]);
                        let folder = run::folder(&base.join(kind.to_string()), &parameters);
                        series.push(Planned { parameters, folder });
                    }
                } else {
                    let parameters = self.parameters(seed, faults);
                    let folder = run::folder(&base, &parameters);
                    series.push(Planned { parameters, folder });
                }
            }
        }
        series
    }

    fn minutes(&self) -> f64 {
        let usual = if self.each_kind { 0.1 } else { 0.5 };
        self.minutes.unwrap_or(usual)
    }

    fn parameters(&self, seed: u64, faults: &[FaultKind]) -> Parameters {
        let load_ms = Duration::from_secs_f64(self.minutes() * 60.0).as_millis();
        let load_ms = u64::try_from(load_ms).unwrap_or(u64::MAX);
        Parameters {
            seed,
            load_ms,
            tasks: self
                .tasks
                .unwrap_or_else(|| usize::try_from(load_ms / 40).unwrap_or(usize::MAX)),
            replicas: usize::from(self.replicas),
            workers: usize::from(self.workers),
            faults: faults.to_vec(),
            lease_ms: self.lease * 1_000,
            is_short: self.each_kind,
        }
    }

    fn fault_kinds(&self) -> anyhow::Result<Vec<FaultKind>> {
        let Some(names) = &self.faults else {
            return Ok(FaultKind::value_variants().to_vec());
        };
        let mut kinds = Vec::new();
        for name in names.iter().filter(|name| !name.is_empty()) {
            match FaultKind::from_str(name, true) {
                Ok(kind) => kinds.push(kind),
                Err(_) => bail!("there is no fault {name:?}; `tasklease-chaos list-faults` shows all"),
            }
        }
        Ok(kinds)
    }

    fn report(&self, result: &RunResult, folder: &Path) -> anyhow::Result<()> {
        let seed = result.parameters.seed;
        let faults: usize = result.faults.values().sum();
        let verdict = if result.breaches.is_empty() {
            "all promises held"
        } else {
            "BROKEN"
        };
        let name = match result.parameters.faults.as_slice() {
            [kind] => format!("{kind}, seed {seed}"),
            _ => format!("seed {seed}"),
        };
        let missed = match result.missed {
            0 => String::new(),
            missed => format!(", {missed} more had no effect"),
        };
        say(&format!(
            "{name}: {verdict}; {} tasks, {} runs, {faults} faults{missed}, {} dead workers, {} s",
            result.tasks, result.runs, result.deaths, result.seconds
        ))?;
        if result.breaches.is_empty() {
            return Ok(());
        }
        show(&result.breaches)?;
        let kinds: Vec<String> = result.parameters.faults.iter().map(ToString::to_string).collect();
        // A machine that can play others would plan another run.
        let faults = if kinds.len() == FaultKind::value_variants().len() {
            String::new()
        } else {
            format!(" --faults '{}'", kinds.join(","))
        };
        let each_kind = if self.each_kind { " --each-kind" } else { "" };
        say(&format!("  history: {}", folder.join("history.jsonl").display()))?;
        say(&format!(
            "  again:   tasklease-chaos run --seed {seed} --minutes {} --tasks {} --replicas {} --workers {} --lease {}{faults}{each_kind}",
            self.minutes(),
            result.parameters.tasks,
            self.replicas,
            self.workers,
            self.lease
        ))
    }
}

fn check(path: &Path, task: Option<&str>) -> anyhow::Result<bool> {
    let entries = history::read(path)?;
    if let Some(task) = task {
        for entry in &entries {
            let line = serde_json::to_string(entry)?;
            let is_fault = matches!(
                entry.event,
                Event::FaultBegins { .. }
                    | Event::FaultEnds { .. }
                    | Event::Healed
                    | Event::SchedulerEnded { .. }
            );
            if is_fault || line.contains(task) {
                say(&line)?;
            }
        }
        return Ok(true);
    }
    let Some(Event::RunBegins(parameters)) = entries.first().map(|entry| &entry.event) else {
        bail!("{} does not begin with the parameters of a run", path.display());
    };
    let result = run::summarise(parameters, &entries);
    show(&result.breaches)?;
    say(&format!(
        "{} breaches in {} events",
        result.breaches.len(),
        entries.len()
    ))?;
    Ok(result.breaches.is_empty())
}

fn show(breaches: &[Breach]) -> anyhow::Result<()> {
    for group in breaches.chunk_by(|one, other| one.invariant == other.invariant) {
        for breach in group.iter().take(SHOWN) {
            let task = breach
                .task
                .as_deref()
                .map(|task| format!("task {task}: "))
                .unwrap_or_default();
            let seconds = breach.at as f64 / 1e6;
            say(&format!(
                "  {} at {seconds:.1} s: {task}{}",
                breach.invariant, breach.text
            ))?;
        }
        if group.len() > SHOWN {
            say(&format!("  … and {} more of this kind", group.len() - SHOWN))?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<RunResult> {
    let file = std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    serde_json::from_reader(file).with_context(|| format!("{} is no result of a run", path.display()))
}

fn say(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}
