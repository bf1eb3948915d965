//! One run: load and faults, healing, waiting for the end of all tasks, and the check.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{
    audit,
    behaviour::{Behaviour, End},
    check::{self, Breach, Invariant},
    client::Clients,
    faults::FaultPlayer,
    history::{self, Event, Gone, Parameters, Submitted},
    plan::{Ids, LOAD_TYPES, Plan, PlannedTask, QUEUES, TURN_TYPES},
    random::Random,
    recorder::Recorder,
    sql_faults,
    stand::Stand,
};

/// The file in a run's folder that holds its result.
const RESULT: &str = "result.json";

/// How long the end of all tasks may take before the harness tells which are missing.
const TO_WARN: Duration = Duration::from_secs(20);

/// How far the times in the ids of large tasks lie apart, and that of the last tasks from the first: within the day that
/// the scheduler allows.
const FAULT_IDS_MS: u64 = 10_000;
const TURN_IDS_MS: u64 = 40_000_000;

/// How often the harness asks whether all tasks have ended.
const ASK: Duration = Duration::from_millis(250);

/// How often the tables are searched for tasks in no place.
const SEARCH: Duration = Duration::from_secs(3);

/// Looks take no more than one of so many parts of the time: many tasks take longer.
const SHARE: u32 = 12;

/// How many tasks are read once more at the end.
const READ_AGAIN: usize = 2_000;

/// How often the harness looks at its own clock.
const TICK: Duration = Duration::from_millis(100);

/// What a run gave.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunResult {
    /// With what it was made.
    pub parameters: Parameters,
    /// How many tasks were stored.
    pub tasks: usize,
    /// How many runs of code began.
    pub runs: usize,
    /// How many changes under an old lease token the outside system refused.
    pub overlaps: usize,
    /// How many faults of each kind came.
    pub faults: BTreeMap<String, usize>,
    /// How many faults could not be played whole, because others were in the way.
    #[serde(default)]
    pub missed: usize,
    /// How many workers died.
    pub deaths: usize,
    /// How many seconds it took.
    pub seconds: u64,
    /// What was broken.
    pub breaches: Vec<Breach>,
}

/// Makes a run in which every task must end within `patience` after the last fault. Puts its history, its result and all
/// logs into a folder.
///
/// # Errors
/// The system does not start, or the folder cannot be written.
pub async fn run(parameters: &Parameters, patience: Duration, folder: &Path) -> anyhow::Result<RunResult> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let now_ms = u64::try_from(now_ms)?;
    let plan = Plan::of(parameters, now_ms);
    let recorder = Recorder::start();
    recorder.note(Event::RunBegins(parameters.clone()));
    let stand = Stand::start(parameters, &plan, recorder.clone(), folder.to_owned()).await?;
    sql_faults::install(&stand).await?;
    let random = Random::new(parameters.seed);
    let addresses: Vec<_> = stand
        .schedulers
        .iter()
        .map(|slot| slot.clients.address())
        .collect();
    let (settle, settled) = watch::channel(false);
    let clients = Clients::new(
        recorder.clone(),
        &addresses,
        random.fork(10),
        settled,
        stand.closing.subscribe(),
    )?;
    let watching = watch_the_run(&stand);
    let mut playing = load(&plan, &stand, &clients, now_ms).await;
    stand.heal().await;
    recorder.note(Event::Healed);
    let healed = recorder.now();
    let have_ended = await_ends(&stand, patience).await;
    if !parameters.is_short {
        take_turns(&clients, random.fork(11), now_ms).await;
        // What has not ended by now does not end.
        await_ends(&stand, if have_ended { patience } else { TO_WARN }).await;
    }
    settle.send_replace(true);
    // Watchers have a while to hear of the last ends.
    let rest = Duration::from_micros(recorder.now() - healed);
    tokio::time::timeout(Duration::from_secs(12).saturating_sub(rest), async {
        while playing.join_next().await.is_some() {}
    })
    .await
    .ok();
    read_again(&clients, &plan).await;
    watching.abort();
    let found = match stand.database.connect().await {
        Ok(mut client) => audit::tasks(&mut client).await?,
        Err(error) => return Err(error.context("Postgres cannot be read at the end")),
    };
    for task in found {
        recorder.note(Event::TaskFound(task));
    }
    for _ in 0..stand.deadlocks() {
        recorder.note(Event::Deadlock);
    }
    recorder.note(Event::RunEnds);
    let entries = recorder.take();
    stand.keep_postgres_logs();
    stand.close().await;
    playing.shutdown().await;
    history::write(&folder.join("history.jsonl"), &entries)?;
    let result = summarise(parameters, &entries);
    let file = std::fs::File::create(folder.join(RESULT))?;
    serde_json::to_writer_pretty(file, &result)?;
    Ok(result)
}

/// Checks a history, and counts what was in it.
pub fn summarise(parameters: &Parameters, entries: &[history::Entry]) -> RunResult {
    let count = |is_one: fn(&Event) -> bool| entries.iter().filter(|entry| is_one(&entry.event)).count();
    let missed: HashSet<u64> = entries
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::FaultMissed { fault, .. } => Some(*fault),
            _ => None,
        })
        .collect();
    let mut faults = BTreeMap::new();
    for entry in entries {
        if let Event::FaultBegins { kind, fault, .. } = &entry.event
            && !missed.contains(fault)
        {
            *faults.entry(kind.to_string()).or_insert(0) += 1;
        }
    }
    RunResult {
        parameters: parameters.clone(),
        tasks: count(|event| matches!(event, Event::TaskFound(_))),
        runs: count(|event| matches!(event, Event::CodeStarted { .. })),
        overlaps: count(|event| matches!(event, Event::Effect { accepted: false, .. })),
        faults,
        missed: missed.len(),
        deaths: count(|event| {
            matches!(
                event,
                Event::WorkerGone {
                    why: Gone::Killed | Gone::ByTask | Gone::ByItself,
                    ..
                }
            )
        }),
        seconds: entries.last().map_or(0, |entry| entry.at / 1_000_000),
        breaches: check::check(entries),
    }
}

/// Plays tasks and faults; comes back when all faults have ended and all tasks were submitted once.
async fn load(plan: &Plan, stand: &Arc<Stand>, clients: &Clients, now_ms: u64) -> JoinSet<()> {
    let start = Instant::now();
    let mut faults = JoinSet::new();
    for (number, fault) in plan.faults.iter().cloned().enumerate() {
        let player = FaultPlayer {
            stand: stand.clone(),
            clients: clients.fork(1_000 + number as u64),
            // Ids of large tasks must differ from those of the load.
            now_ms: now_ms + FAULT_IDS_MS * (1 + number as u64),
        };
        faults.spawn(async move {
            sleep_until(start + Duration::from_millis(fault.at_ms)).await;
            player.play(number as u64, fault).await;
        });
    }
    let mut playing = JoinSet::new();
    let batches = plan.tasks.chunk_by(|one, other| one.batch == other.batch);
    for (number, batch) in batches.enumerate() {
        let at_ms = batch.first().map_or(0, |task| task.at_ms);
        sleep_until(start + Duration::from_millis(at_ms)).await;
        playing.spawn(clients.fork(1_000_000 + number as u64).play(batch.to_vec()));
    }
    faults.join_all().await;
    playing
}

/// Waits until no task is unfinished. False if some are when all should have ended.
async fn await_ends(stand: &Stand, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    let mut warn_at = Some(Instant::now() + TO_WARN);
    let mut client = None;
    let mut pause = ASK;
    while Instant::now() < until {
        tokio::time::sleep(pause).await;
        let start = Instant::now();
        if client.is_none() {
            client = stand.database.connect().await.ok();
        }
        let Some(open) = &client else {
            continue;
        };
        match audit::unfinished(open).await {
            Ok(0) => return true,
            Ok(count) if warn_at.is_some_and(|at| Instant::now() > at) => {
                warn_at = None;
                eprintln!("{count} tasks have not ended {TO_WARN:?} after the last fault; waiting on");
            }
            Ok(_) => {}
            Err(_) => client = None,
        }
        pause = ASK.max(SHARE * start.elapsed());
    }
    false
}

/// One task of every lane at once, and beside it a backlog of two types on a worker with one slot, into which tasks of a
/// third type and of high priority come by way of other replicas.
async fn take_turns(clients: &Clients, random: Random, now_ms: u64) {
    let mut ids = Ids::new(random, now_ms + TURN_IDS_MS);
    let mut task = |task_type: &str, queue: &str, priority: i32, run_ms: u64| PlannedTask {
        at_ms: 0,
        submitted: Submitted {
            task: ids.draw().to_string(),
            task_type: task_type.to_owned(),
            queue: queue.to_owned(),
            priority,
            delay_ms: 0,
            max_attempts: 1_000,
            backoff_ms: 50,
            run_timeout_ms: None,
            behaviour: Behaviour {
                run_ms,
                progress: 0,
                end: End::Succeed,
            },
            padding: 0,
        },
        batch: 0,
        insists: true,
        twice: false,
        cancel_ms: None,
        watched: false,
        reads: 0,
        is_deleted: false,
    };
    let every_lane: Vec<PlannedTask> = QUEUES
        .iter()
        .flat_map(|queue| {
            LOAD_TYPES
                .iter()
                .map(|name| task(name, queue, 0, 10))
                .collect::<Vec<_>>()
        })
        .collect();
    let backlog = |name: &str,
                   task: &mut dyn FnMut(&str, &str, i32, u64) -> PlannedTask|
     -> Vec<PlannedTask> { (0..90).map(|_| task(name, "default", 0, 25)).collect() };
    let first = backlog(TURN_TYPES[0], &mut task);
    let second = backlog(TURN_TYPES[1], &mut task);
    let third: Vec<PlannedTask> = (0..3).map(|_| task(TURN_TYPES[2], "critical", 0, 25)).collect();
    let urgent = vec![task(TURN_TYPES[0], "default", 50, 25)];
    let mut submits = JoinSet::new();
    for (number, batch) in [every_lane, first, second, third].into_iter().enumerate() {
        let mut clients = clients.fork(20 + number as u64);
        submits.spawn(async move { clients.submit(&batch).await });
    }
    submits.join_all().await;
    clients.fork(30).submit(&urgent).await;
}

/// Reads tasks once more: all, or so many of them that the rest would show nothing new.
async fn read_again(clients: &Clients, plan: &Plan) {
    let each = plan.tasks.len().div_ceil(READ_AGAIN).max(1);
    let ids: Vec<String> = plan
        .tasks
        .iter()
        .step_by(each)
        .map(|task| task.submitted.task.clone())
        .collect();
    let mut reading = JoinSet::new();
    for (number, part) in ids.chunks(ids.len().div_ceil(8).max(1)).enumerate() {
        let (mut clients, part) = (clients.fork(40 + number as u64), part.to_vec());
        reading.spawn(async move {
            for task in part {
                clients.read(&task).await;
            }
        });
    }
    reading.join_all().await;
}

/// Watches the machine's clock and the tables while the run goes on.
fn watch_the_run(stand: &Arc<Stand>) -> tokio::task::AbortHandle {
    let stand = stand.clone();
    let watching = async move {
        let clock = async {
            let mut last = Instant::now();
            loop {
                tokio::time::sleep(TICK).await;
                let late = last.elapsed().saturating_sub(TICK);
                if late > TICK {
                    let ms = u64::try_from(late.as_millis()).unwrap_or(u64::MAX);
                    stand.recorder.note(Event::HarnessStalled { ms });
                }
                last = Instant::now();
            }
        };
        let tables = async {
            let mut pause = SEARCH;
            loop {
                tokio::time::sleep(pause).await;
                let start = Instant::now();
                // While Postgres is away there is nothing to see.
                let Ok(mut client) = stand.database.connect().await else {
                    continue;
                };
                let reading = tokio::time::timeout(Duration::from_secs(5), audit::tasks(&mut client)).await;
                if let Ok(Ok(tasks)) = reading {
                    let tasks: Vec<_> = tasks
                        .into_iter()
                        .filter(|task| check::misplaced(task).is_some())
                        .collect();
                    if !tasks.is_empty() {
                        stand.recorder.note(Event::Misplaced { tasks });
                    }
                }
                pause = SEARCH.max(SHARE * start.elapsed());
            }
        };
        tokio::join!(clock, tables)
    };
    tokio::spawn(watching).abort_handle()
}

/// The folder of a run under `base`.
pub fn folder(base: &Path, parameters: &Parameters) -> PathBuf {
    base.join(format!("seed-{}", parameters.seed))
}

/// The result that a folder holds of a run with these parameters, if there is one.
pub fn made_before(parameters: &Parameters, folder: &Path) -> Option<RunResult> {
    let file = std::fs::File::open(folder.join(RESULT)).ok()?;
    let result: RunResult = serde_json::from_reader(std::io::BufReader::new(file)).ok()?;
    (result.parameters == *parameters).then_some(result)
}

/// Removes what only helps to find out why a promise was broken.
///
/// # Errors
/// The folder cannot be changed.
pub fn keep_only_the_result(folder: &Path) -> std::io::Result<()> {
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if path.is_file() && !path.ends_with(RESULT) {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// How many runs broke each promise.
pub fn broken(results: &[RunResult]) -> BTreeMap<Invariant, usize> {
    let mut broken = BTreeMap::new();
    for result in results {
        let invariants: std::collections::BTreeSet<_> =
            result.breaches.iter().map(|breach| breach.invariant).collect();
        for invariant in invariants {
            *broken.entry(invariant).or_insert(0) += 1;
        }
    }
    broken
}
