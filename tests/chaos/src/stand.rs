//! The system under test: Postgres, schedulers, workers, and a proxy on every link between them.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use rustix::process::Signal;
use tasklease_tests::program;
use tempfile::TempDir;
use tokio::sync::{Mutex, mpsc, watch};

use crate::{
    bare_worker::{BareWorker, Identity, Order},
    child::Child,
    clock::{self, Clock},
    database::{Database, Wants},
    fault_kind::FaultKind,
    history::{Event, Gone, Micros, Parameters},
    outside::Outside,
    plan::{LOAD_TYPES, Plan, QUEUES, TURN_TYPES},
    proxy::{Proxy, Traffic},
    random::Random,
    recorder::Recorder,
};

const ANNOUNCEMENT: &str = "tasklease-scheduler listening on ";

/// How often the stand looks whether a process has ended.
const LOOK: Duration = Duration::from_millis(50);

/// How long a scheduler waits for its streams when it is asked to stop, in seconds.
const GRACE: &str = "5s";

/// The exit code of a worker process that a task has killed.
const KILLED_BY_TASK: i32 = 9;

/// Everything that a run needs and breaks.
pub struct Stand {
    /// What happened.
    pub recorder: Recorder,
    /// Postgres.
    pub database: Database,
    /// The schedulers.
    pub schedulers: Vec<SchedulerSlot>,
    /// Worker processes.
    pub processes: Vec<WorkerSlot>,
    /// Workers of the bare protocol.
    pub bare: Vec<BareSlot>,
    /// True once nothing is started again.
    pub closing: watch::Sender<bool>,
    outside: Outside,
    outside_address: SocketAddr,
    logs: PathBuf,
    // Declared last: Postgres ends before its folder goes.
    _folder: TempDir,
}

/// A clock and what it is wrong by when no fault lets it jump, in milliseconds.
pub struct SetClock {
    clock: Clock,
    usual_ms: i64,
}

/// A place for a scheduler process, which is started again when it ends.
pub struct SchedulerSlot {
    /// Where it listens; the same after each start.
    pub address: SocketAddr,
    /// Its link to Postgres.
    pub database: Proxy,
    /// The link of clients to it.
    pub clients: Proxy,
    /// True while it is kept from being started again.
    pub is_held: AtomicBool,
    /// Its clock, if it has one of its own.
    pub clock: Option<SetClock>,
    process: Mutex<Option<Child>>,
    was_asked: AtomicBool,
    largest_mib: AtomicU64,
    arguments: Vec<String>,
}

/// A place for a worker process.
pub struct WorkerSlot {
    /// Its links to the schedulers.
    pub links: Vec<Proxy>,
    /// Its clock, if it has one of its own.
    pub clock: Option<SetClock>,
    number: usize,
    slots: u32,
    state: Mutex<WorkerState>,
}

#[derive(Default)]
struct WorkerState {
    generation: usize,
    name: String,
    process: Option<Child>,
    why: Option<Gone>,
}

/// A place for a worker of the bare protocol.
pub struct BareSlot {
    /// Its links to the schedulers.
    pub links: Vec<Proxy>,
    number: usize,
    identity: Identity,
    state: parking_lot::Mutex<BareState>,
}

#[derive(Default)]
struct BareState {
    name: String,
    orders: Option<mpsc::Sender<Order>>,
}

impl Stand {
    /// Starts Postgres and the schedulers, and a proxy on every link. Logs go to the folder `logs`.
    ///
    /// # Errors
    /// A program is missing or does not start.
    pub async fn start(
        parameters: &Parameters,
        plan: &Plan,
        recorder: Recorder,
        logs: PathBuf,
    ) -> anyhow::Result<Arc<Self>> {
        let folder = tempfile::tempdir()?;
        let mut permissions = std::fs::metadata(folder.path())?.permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
        std::fs::set_permissions(folder.path(), permissions)?;
        let database = Database::start(folder.path(), wants(plan)).await?;
        let clocks = Clocks::of(plan, folder.path())?;
        let mut schedulers = Vec::new();
        for number in 0..parameters.replicas {
            let server = database.address();
            let link = Proxy::start(database.entrance()).await?;
            let url = database
                .url()
                .replace(&server.to_string(), &link.address().to_string());
            let clock = clocks.make(&format!("scheduler-{number}"), number)?;
            let arguments = [
                "--lease",
                &format!("{}ms", parameters.lease_ms),
                "--grace",
                GRACE,
                "--stream-age",
                &format!("{}s", plan.stream_age_s),
                "--database-url",
                &url,
            ];
            let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
            let log = logs.join(format!("scheduler-{number}.log"));
            let (process, address) = launch(&arguments, clock.as_ref(), "127.0.0.1:0", &log).await?;
            schedulers.push(SchedulerSlot {
                address,
                database: link,
                clock,
                clients: Proxy::start(address).await?,
                is_held: AtomicBool::new(false),
                process: Mutex::new(Some(process)),
                was_asked: AtomicBool::new(false),
                largest_mib: AtomicU64::new(0),
                arguments,
            });
        }
        let outside = Outside::new(recorder.clone());
        let outside_address = outside.listen().await?;
        let mut processes = Vec::new();
        for (number, slots) in plan.processes.iter().enumerate() {
            processes.push(WorkerSlot {
                links: links(&schedulers).await?,
                clock: clocks.make(&format!("process-{number}"), schedulers.len() + number)?,
                number,
                slots: *slots,
                state: Mutex::default(),
            });
        }
        let mut bare = Vec::new();
        for (number, slots) in plan.bare_workers.iter().enumerate() {
            bare.push(BareSlot::new(
                number,
                &LOAD_TYPES,
                *slots,
                links(&schedulers).await?,
            ));
        }
        // One more with little room: what it does last shows whose turn comes when.
        bare.push(BareSlot::new(
            bare.len(),
            &TURN_TYPES,
            1,
            links(&schedulers).await?,
        ));
        let stand = Arc::new(Self {
            recorder,
            database,
            schedulers,
            processes,
            bare,
            closing: watch::channel(false).0,
            outside,
            outside_address,
            logs,
            _folder: folder,
        });
        stand.keep_alive(parameters.seed);
        Ok(stand)
    }

    /// Lets everything pass and run again.
    pub async fn heal(&self) {
        for scheduler in &self.schedulers {
            scheduler.database.set(Traffic::Pass);
            scheduler.clients.set(Traffic::Pass);
            scheduler.is_held.store(false, Ordering::SeqCst);
            scheduler.signal(Signal::CONT).await;
        }
        for worker in &self.processes {
            worker.links.iter().for_each(|link| link.set(Traffic::Pass));
            worker.signal(Signal::CONT).await;
        }
        for worker in &self.bare {
            worker.links.iter().for_each(|link| link.set(Traffic::Pass));
        }
        if let Err(error) = self.database.heal().await {
            eprintln!("Postgres does not start again: {error:#}");
        }
    }

    /// Ends all processes but Postgres.
    pub async fn close(&self) {
        self.closing.send_replace(true);
        for scheduler in &self.schedulers {
            *scheduler.process.lock().await = None;
        }
        for worker in &self.processes {
            worker.state.lock().await.process = None;
        }
    }

    /// How often Postgres has broken a deadlock.
    pub fn deadlocks(&self) -> usize {
        let count = |path: PathBuf| {
            let log = std::fs::read(path).unwrap_or_default();
            String::from_utf8_lossy(&log)
                .matches("ERROR:  deadlock detected")
                .count()
        };
        self.database.logs().into_iter().map(count).sum()
    }

    /// Copies the logs of Postgres beside the others.
    pub fn keep_postgres_logs(&self) {
        for (number, log) in self.database.logs().into_iter().enumerate() {
            // It only helps people.
            let _ = std::fs::copy(log, self.logs.join(format!("postgres-{number}.log")));
        }
    }

    fn keep_alive(self: &Arc<Self>, seed: u64) {
        for number in 0..self.schedulers.len() {
            tokio::spawn(self.clone().keep_scheduler(number));
        }
        for number in 0..self.processes.len() {
            tokio::spawn(self.clone().keep_process(number));
        }
        for number in 0..self.bare.len() {
            let random = Random::new(seed).fork(100 + number as u64);
            tokio::spawn(self.clone().keep_bare(number, random));
        }
    }

    fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Starts a scheduler again whenever it has ended, and takes down what it uses.
    async fn keep_scheduler(self: Arc<Self>, number: usize) {
        let Some(slot) = self.schedulers.get(number) else {
            return;
        };
        let log = self.logs.join(format!("scheduler-{number}.log"));
        while !self.is_closing() {
            tokio::time::sleep(LOOK).await;
            let mut process = slot.process.lock().await;
            if self.is_closing() {
                return;
            }
            if let Some(child) = process.as_mut() {
                if let Some(code) = child.ended() {
                    let asked = slot.was_asked.swap(false, Ordering::SeqCst);
                    self.recorder.note(Event::SchedulerEnded {
                        scheduler: number,
                        asked,
                        code,
                    });
                    *process = None;
                } else if let Some(mib) = child.pid().and_then(memory_mib)
                    && mib > slot.largest_mib.load(Ordering::SeqCst) + 16
                {
                    slot.largest_mib.store(mib, Ordering::SeqCst);
                    self.recorder.note(Event::SchedulerMemory {
                        scheduler: number,
                        mib,
                    });
                }
            }
            if process.is_none() && !slot.is_held.load(Ordering::SeqCst) {
                slot.was_asked.store(false, Ordering::SeqCst);
                // While Postgres is away it cannot start; the next look tries again.
                *process = launch(
                    &slot.arguments,
                    slot.clock.as_ref(),
                    &slot.address.to_string(),
                    &log,
                )
                .await
                .ok()
                .map(|(child, _)| child);
            }
        }
    }

    async fn keep_process(self: Arc<Self>, number: usize) {
        let Some(slot) = self.processes.get(number) else {
            return;
        };
        while !self.is_closing() {
            {
                let mut state = slot.state.lock().await;
                if self.is_closing() {
                    return;
                }
                let ended = state.process.as_mut().and_then(Child::ended);
                if let Some(code) = ended {
                    let why = state.why.take().unwrap_or(if code == Some(KILLED_BY_TASK) {
                        Gone::ByTask
                    } else {
                        Gone::ByItself
                    });
                    let worker = state.name.clone();
                    self.recorder.note(Event::WorkerGone { worker, why });
                    state.process = None;
                }
                if state.process.is_none()
                    && let Err(error) = self.launch_worker(slot, &mut state)
                {
                    eprintln!("a worker does not start: {error:#}");
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn launch_worker(&self, slot: &WorkerSlot, state: &mut WorkerState) -> anyhow::Result<()> {
        state.generation += 1;
        state.name = format!("process-{}.{}", slot.number, state.generation);
        let addresses: Vec<String> = slot.links.iter().map(|link| link.address().to_string()).collect();
        let mut arguments = vec![
            "--addr".to_owned(),
            addresses.join(","),
            "--slots".to_owned(),
            slot.slots.to_string(),
            "--grace".to_owned(),
            "2s".to_owned(),
        ];
        for queue in QUEUES {
            arguments.extend(["--queue".to_owned(), queue.to_owned()]);
        }
        let outside = self.outside_address.to_string();
        let mut environment = environment(slot.clock.as_ref());
        environment.push(("TASKLEASE_WORKER_NAME", state.name.clone()));
        environment.push(("TASKLEASE_CHAOS_OUTSIDE", outside));
        let log = self.logs.join(format!("process-{}.log", slot.number));
        let child = Child::spawn(&program("tasklease-chaos-worker"), &arguments, &environment, &log)?;
        self.recorder.note(Event::WorkerStarted {
            worker: state.name.clone(),
            task_types: LOAD_TYPES.map(str::to_owned).to_vec(),
            queues: QUEUES.map(str::to_owned).to_vec(),
            slots: slot.slots,
            bare: false,
        });
        state.process = Some(child);
        Ok(())
    }

    async fn keep_bare(self: Arc<Self>, number: usize, random: Random) {
        let Some(slot) = self.bare.get(number) else {
            return;
        };
        let mut closing = self.closing.subscribe();
        for generation in 1.. {
            let mut identity = slot.identity.clone();
            identity.name = format!("bare-{}.{generation}", slot.number);
            let (orders, heard) = mpsc::channel(8);
            {
                let mut state = slot.state.lock();
                state.name = identity.name.clone();
                state.orders = Some(orders);
            }
            let worker = BareWorker::run(
                identity,
                self.recorder.clone(),
                self.outside.clone(),
                random.fork(generation),
                heard,
            );
            tokio::select! {
                _ = worker => {}
                _ = closing.wait_for(|closing| *closing) => return,
            }
        }
    }
}

impl SetClock {
    /// Lets it jump to so many milliseconds after the right time.
    ///
    /// # Errors
    /// Its file cannot be written.
    pub fn jump(&self, offset_ms: i64) -> anyhow::Result<()> {
        Ok(self.clock.set(offset_ms)?)
    }

    /// Lets it jump to what it usually shows.
    ///
    /// # Errors
    /// Its file cannot be written.
    pub fn jump_back(&self) -> anyhow::Result<()> {
        self.jump(self.usual_ms)
    }
}

/// What makes the clocks of schedulers and workers, if a plan lets some of them jump.
struct Clocks<'a> {
    library: Option<PathBuf>,
    folder: &'a Path,
    plan: &'a Plan,
}

impl<'a> Clocks<'a> {
    fn of(plan: &'a Plan, folder: &'a Path) -> anyhow::Result<Self> {
        let is_wanted = plan.has(FaultKind::JumpClock) || plan.has(FaultKind::SkewClocks);
        let library = is_wanted
            .then(|| clock::library().context("libfaketime is gone"))
            .transpose()?;
        Ok(Self {
            library,
            folder,
            plan,
        })
    }

    fn make(&self, name: &str, number: usize) -> anyhow::Result<Option<SetClock>> {
        let Some(library) = &self.library else {
            return Ok(None);
        };
        let usual_ms = self.plan.clocks_ms.get(number).copied().unwrap_or(0);
        let clock = Clock::create(self.folder.join(format!("clock-of-{name}")), library)?;
        let clock = SetClock { clock, usual_ms };
        clock.jump_back()?;
        Ok(Some(clock))
    }
}

/// What Postgres needs for the faults of a plan.
fn wants(plan: &Plan) -> Wants {
    Wants {
        volume: plan.has(FaultKind::FillDisk),
        clock_ms: plan
            .has(FaultKind::JumpDatabaseClock)
            .then_some(plan.database_clock_ms),
        standby: plan.has(FaultKind::FailOver),
        pooler: plan.has(FaultKind::CrashPooler),
    }
}

impl SchedulerSlot {
    /// Sends a signal to the process.
    pub async fn signal(&self, signal: Signal) {
        let process = self.process.lock().await;
        if let Some(process) = process.as_ref() {
            if matches!(signal, Signal::KILL | Signal::TERM) {
                self.was_asked.store(true, Ordering::SeqCst);
            }
            process.signal(signal);
        }
    }

    /// Lets the reader of the process's log go away.
    pub async fn close_log(&self) {
        if let Some(process) = self.process.lock().await.as_ref() {
            process.close_log();
        }
    }
}

impl WorkerSlot {
    /// The name of the worker that is there now.
    pub async fn name(&self) -> String {
        self.state.lock().await.name.clone()
    }

    /// Sends a signal to the process.
    pub async fn signal(&self, signal: Signal) {
        let mut state = self.state.lock().await;
        let why = match signal {
            Signal::KILL => Some(Gone::Killed),
            Signal::TERM => Some(Gone::Stopped),
            _ => None,
        };
        if let Some(process) = &state.process {
            process.signal(signal);
            state.why = why.or(state.why);
        }
    }
}

impl BareSlot {
    fn new(number: usize, task_types: &[&str], slots: u32, links: Vec<Proxy>) -> Self {
        Self {
            number,
            identity: Identity {
                name: String::new(),
                task_types: task_types.iter().map(|name| (*name).to_owned()).collect(),
                queues: QUEUES.map(str::to_owned).to_vec(),
                slots,
                replicas: links.iter().map(Proxy::address).collect(),
            },
            links,
            state: parking_lot::Mutex::default(),
        }
    }

    /// The name of the worker that is there now.
    pub fn name(&self) -> String {
        self.state().name.clone()
    }

    /// Tells the worker what to do.
    pub fn order(&self, order: Order) {
        if let Some(orders) = &self.state().orders {
            // A full channel belongs to a worker that has much to do already.
            let _ = orders.try_send(order);
        }
    }

    fn state(&self) -> parking_lot::MutexGuard<'_, BareState> {
        self.state.lock()
    }
}

async fn links(schedulers: &[SchedulerSlot]) -> anyhow::Result<Vec<Proxy>> {
    let mut links = Vec::new();
    for scheduler in schedulers {
        links.push(Proxy::start(scheduler.address).await?);
    }
    Ok(links)
}

fn environment(clock: Option<&SetClock>) -> Vec<(&'static str, String)> {
    clock.map(|own| own.clock.environment()).unwrap_or_default()
}

async fn launch(
    arguments: &[String],
    clock: Option<&SetClock>,
    listen: &str,
    log: &Path,
) -> anyhow::Result<(Child, SocketAddr)> {
    let mut arguments = arguments.to_vec();
    arguments.extend(["--listen".to_owned(), listen.to_owned()]);
    let mut child = Child::spawn(
        &program("tasklease-scheduler"),
        &arguments,
        &environment(clock),
        log,
    )?;
    let address = child.address(ANNOUNCEMENT).await;
    let address = address.with_context(|| format!("a scheduler does not start; see {}", log.display()))?;
    Ok((child, address))
}

/// Resident memory of a process.
fn memory_mib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1_024)
}

/// A time of the run as the history counts it.
pub fn micros(duration: Duration) -> Micros {
    Micros::try_from(duration.as_micros()).unwrap_or(Micros::MAX)
}
