//! Plays the faults of a plan on the system under test.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rustix::process::Signal;
use tasklease_proto::v1::{
    ClaimTaskRequest, ListTasksRequest, WatchTaskRequest, WorkerHello,
    claim_task_request::Message as ToClaim, worker_service_client::WorkerServiceClient,
};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use uuid::Uuid;

use crate::{
    bare_worker::Order,
    behaviour::{Behaviour, End},
    client::Clients,
    fault_kind::FaultKind,
    history::{Event, Submitted},
    plan::{CLOCK_ERROR_MS, Ids, LOAD_TYPES, PlannedFault, PlannedTask, wrong_ms},
    proxy::{Proxy, Traffic},
    random::Random,
    sql_faults,
    stand::{BareSlot, SchedulerSlot, SetClock, Stand, WorkerSlot},
};

/// Tables of waiting tasks.
const WAITING: [&str; 2] = ["ready", "scheduled"];

/// How many bytes a large payload has.
const LARGE: usize = 900_000;

/// The most that the clock of Postgres jumps back, in milliseconds.
const DATABASE_BACK_MS: u64 = 4_000;

/// How many pairs of a queue and a task type a scheduler takes.
const LANES: usize = 20_000;

/// How many of them clients invent before no more are taken; the others are there by then.
const INVENTED: usize = 1_200;

/// In how many calls at once clients invent names, and how many in each.
const INVENTING_CALLS: u64 = 4;
const INVENTED_AT_ONCE: usize = 450;

/// What faults need besides the stand.
#[derive(Clone)]
pub struct FaultPlayer {
    /// The system under test.
    pub stand: Arc<Stand>,
    /// Clients that read and submit in vain.
    pub clients: Clients,
    /// Milliseconds since 1970 in the ids of large tasks.
    pub now_ms: u64,
}

/// A worker of either sort.
enum AnyWorker<'a> {
    Process(&'a WorkerSlot),
    Bare(&'a BareSlot),
}

impl AnyWorker<'_> {
    async fn name(&self) -> String {
        match self {
            Self::Process(worker) => worker.name().await,
            Self::Bare(worker) => worker.name(),
        }
    }

    fn set(&self, traffic: Traffic) {
        let links: &[Proxy] = match self {
            Self::Process(worker) => &worker.links,
            Self::Bare(worker) => &worker.links,
        };
        links.iter().for_each(|link| link.set(traffic));
    }

    async fn end(&self, signal: Signal) {
        match self {
            Self::Process(worker) => worker.signal(signal).await,
            Self::Bare(worker) if signal == Signal::KILL => worker.order(Order::Die),
            Self::Bare(worker) => worker.order(Order::Leave),
        }
    }
}

impl FaultPlayer {
    /// Plays one fault from its beginning to its end.
    pub async fn play(self, number: u64, fault: PlannedFault) {
        let target = self.target(&fault).await;
        self.stand.recorder.note(Event::FaultBegins {
            fault: number,
            kind: fault.kind,
            target,
        });
        let length = Duration::from_millis(fault.length_ms);
        if let Err(error) = self.strike(&fault, length).await {
            // Other faults may be in the way: Postgres that is stopped can fail no statement.
            self.stand.recorder.note(Event::FaultMissed {
                fault: number,
                reason: format!("{error:#}"),
            });
        }
        self.stand.recorder.note(Event::FaultEnds { fault: number });
    }

    /// The name of what a fault strikes.
    async fn target(&self, fault: &PlannedFault) -> String {
        use FaultKind as Kind;
        match fault.kind {
            Kind::FreezeWorker => match self.process(fault) {
                Some(worker) => worker.name().await,
                None => String::new(),
            },
            Kind::ForgetLeases | Kind::MoveStreams => {
                self.bare(fault).map(BareSlot::name).unwrap_or_default()
            }
            kind if kind.strikes_a_worker() => self.worker(fault).name().await,
            Kind::FailIo
            | Kind::FailDiskFull
            | Kind::FailSerialization
            | Kind::FailInternal
            | Kind::SlowStatements => sql_faults::table(fault.choice).to_owned(),
            Kind::KillScheduler
            | Kind::StopScheduler
            | Kind::FreezeScheduler
            | Kind::CutDatabase
            | Kind::CloseLog => format!("scheduler-{}", self.index(fault)),
            _ => String::new(),
        }
    }

    async fn strike(&self, fault: &PlannedFault, length: Duration) -> anyhow::Result<()> {
        use FaultKind as Kind;
        let stand = &*self.stand;
        match fault.kind {
            Kind::KillScheduler => self.end_scheduler(fault, Signal::KILL, length).await,
            Kind::StopScheduler => self.end_scheduler(fault, Signal::TERM, length).await,
            Kind::FreezeScheduler => {
                if let Some(scheduler) = self.scheduler(fault) {
                    scheduler.signal(Signal::STOP).await;
                    tokio::time::sleep(length).await;
                    scheduler.signal(Signal::CONT).await;
                }
            }
            Kind::CloseLog => {
                if let Some(scheduler) = self.scheduler(fault) {
                    scheduler.close_log().await;
                }
                tokio::time::sleep(length).await;
            }
            Kind::KillWorker => self.worker(fault).end(Signal::KILL).await,
            Kind::StopWorker => self.worker(fault).end(Signal::TERM).await,
            Kind::FreezeWorker => {
                if let Some(worker) = self.process(fault) {
                    worker.signal(Signal::STOP).await;
                    tokio::time::sleep(length).await;
                    worker.signal(Signal::CONT).await;
                }
            }
            Kind::ForgetLeases => self.order(fault, Order::Forget),
            Kind::MoveStreams => self.order(fault, Order::Move),
            Kind::CrashPostgres => stand.database.crash(Duration::ZERO).await?,
            Kind::StopPostgres => stand.database.crash(length).await?,
            Kind::FreezePostgres => stand.database.freeze(length).await?,
            Kind::FillDisk => stand.database.fill(free_bytes(fault), length).await?,
            Kind::FailOver => {
                let links = || stand.schedulers.iter().map(|scheduler| &scheduler.database);
                let switch = |to: Option<SocketAddr>| match to {
                    None => links().for_each(|link| link.set(Traffic::Refuse)),
                    Some(server) => links().for_each(|link| {
                        link.lead_to(server);
                        link.set(Traffic::Pass);
                    }),
                };
                stand.database.fail_over(length, switch).await?;
            }
            Kind::CrashPooler => stand.database.crash_pooler(length).await?,
            Kind::JumpDatabaseClock => {
                stand.database.jump(database_jump_ms(fault)).await?;
                tokio::time::sleep(length).await;
            }
            Kind::JumpClock => {
                let clocks: Vec<&SetClock> = self.clocks().collect();
                let clock = pick(&clocks, fault.choice).copied();
                self.jump(clock.into_iter(), fault, length).await?;
            }
            Kind::SkewClocks => self.jump(self.clocks(), fault, length).await?,
            Kind::EndConnections => sql_faults::end_connections(stand).await?,
            Kind::StallDatabase => self.database(Traffic::Hold, length).await,
            Kind::DelayDatabase => {
                self.database(Traffic::Late(Duration::from_millis(60)), length)
                    .await
            }
            Kind::LoseAnswers => {
                self.database(Traffic::SwallowAnswers, length).await;
                self.database(Traffic::Refuse, Duration::from_millis(100)).await;
            }
            Kind::CutDatabase => {
                if let Some(scheduler) = self.scheduler(fault) {
                    scheduler.database.set(Traffic::Refuse);
                    tokio::time::sleep(length).await;
                    scheduler.database.set(Traffic::Pass);
                }
            }
            Kind::StallWorker => self.worker_link(fault, Traffic::Hold, length).await,
            Kind::CutWorker => self.worker_link(fault, Traffic::Refuse, length).await,
            Kind::DeafenWorker => self.worker_link(fault, Traffic::HoldAnswers, length).await,
            Kind::SilenceWorker => self.worker_link(fault, Traffic::HoldRequests, length).await,
            Kind::NarrowWorker => self.worker_link(fault, Traffic::Narrow(20_000), length).await,
            Kind::CutClients => {
                stand
                    .schedulers
                    .iter()
                    .for_each(|scheduler| scheduler.clients.set(Traffic::Refuse));
                tokio::time::sleep(length).await;
                stand
                    .schedulers
                    .iter()
                    .for_each(|scheduler| scheduler.clients.set(Traffic::Pass));
            }
            Kind::FailIo
            | Kind::FailDiskFull
            | Kind::FailSerialization
            | Kind::FailInternal
            | Kind::SlowStatements => {
                let percent = if fault.choice & 1 == 0 { 100 } else { 50 };
                let table = sql_faults::table(fault.choice);
                sql_faults::disturb(stand, fault.kind, table, length, percent).await?;
            }
            Kind::LockRuns => sql_faults::lock(stand, "run", length).await?,
            Kind::LockWaiting => {
                let table = WAITING[usize::from(fault.choice & 8 == 0)];
                sql_faults::lock(stand, table, length).await?;
            }
            Kind::LockTasks => sql_faults::lock(stand, "task", length).await?,
            Kind::LockSessions => sql_faults::lock(stand, "session", length).await?,
            Kind::LockEvents => sql_faults::lock(stand, "task_event", length).await?,
            Kind::AbandonedReads => {
                self.read_behind_a_lock(Duration::from_millis(400), 3, length)
                    .await?
            }
            Kind::PatientReads => self.read_behind_a_lock(length, 12, length).await?,
            Kind::DeafWatchers => self.deaf_watchers(fault, length).await,
            Kind::NameFlood => self.name_flood(length).await,
            Kind::InventNames => {
                sql_faults::invent_lanes(stand, LANES - INVENTED).await?;
                self.invent_names(fault, length).await;
            }
            Kind::LargeTasks => self.large_tasks(fault, length).await,
        }
        Ok(())
    }

    /// The clocks of all schedulers and worker processes.
    fn clocks(&self) -> impl Iterator<Item = &SetClock> {
        let schedulers = self.stand.schedulers.iter();
        let workers = self.stand.processes.iter();
        schedulers
            .filter_map(|slot| slot.clock.as_ref())
            .chain(workers.filter_map(|slot| slot.clock.as_ref()))
    }

    /// Lets each of these clocks jump to another time, and back later.
    async fn jump<'a>(
        &self,
        clocks: impl Iterator<Item = &'a SetClock>,
        fault: &PlannedFault,
        length: Duration,
    ) -> anyhow::Result<()> {
        let clocks: Vec<&SetClock> = clocks.collect();
        let mut random = Random::new(fault.choice);
        for clock in &clocks {
            clock.jump(wrong_ms(&mut random))?;
        }
        tokio::time::sleep(length).await;
        clocks.iter().try_for_each(|clock| clock.jump_back())
    }

    async fn end_scheduler(&self, fault: &PlannedFault, signal: Signal, length: Duration) {
        if let Some(scheduler) = self.scheduler(fault) {
            scheduler.is_held.store(true, Ordering::SeqCst);
            scheduler.signal(signal).await;
            tokio::time::sleep(length).await;
            scheduler.is_held.store(false, Ordering::SeqCst);
        }
    }

    async fn database(&self, traffic: Traffic, length: Duration) {
        let schedulers = &self.stand.schedulers;
        schedulers
            .iter()
            .for_each(|scheduler| scheduler.database.set(traffic));
        tokio::time::sleep(length).await;
        schedulers
            .iter()
            .for_each(|scheduler| scheduler.database.set(Traffic::Pass));
    }

    async fn worker_link(&self, fault: &PlannedFault, traffic: Traffic, length: Duration) {
        let worker = self.worker(fault);
        worker.set(traffic);
        tokio::time::sleep(length).await;
        worker.set(Traffic::Pass);
    }

    fn order(&self, fault: &PlannedFault, order: Order) {
        if let Some(worker) = self.bare(fault) {
            worker.order(order);
        }
    }

    /// Reads of latest progress wait for the lock; their callers give up after `patience`.
    async fn read_behind_a_lock(
        &self,
        patience: Duration,
        readers: usize,
        length: Duration,
    ) -> anyhow::Result<()> {
        let mut reading = JoinSet::new();
        for reader in 0..readers {
            let client = self.clients.one(reader);
            reading.spawn(async move {
                let reads = async {
                    loop {
                        let mut request = tonic::Request::new(ListTasksRequest {
                            page_size: 50,
                            ..ListTasksRequest::default()
                        });
                        request.set_timeout(patience);
                        // Dropped by the timer, as by a caller that closes its browser.
                        let mut client = client.clone();
                        let _ = tokio::time::timeout(patience, client.list_tasks(request)).await;
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                };
                let _: Result<(), _> = tokio::time::timeout(length, reads).await;
            });
        }
        let locked = sql_faults::lock(&self.stand, "task_event", length).await;
        reading.shutdown().await;
        locked
    }

    /// Watches tasks of a megabyte on many streams, and reads nothing of them.
    async fn deaf_watchers(&self, fault: &PlannedFault, length: Duration) {
        let task = self.large(fault, 1).pop();
        let Some(mut task) = task else {
            return;
        };
        task.submitted.delay_ms = fault.length_ms;
        let id = task.submitted.task.clone();
        let mut clients = self.clients.fork(fault.choice);
        clients.submit(std::slice::from_ref(&task)).await;
        let mut streams = Vec::new();
        for number in 0..64 {
            let request = WatchTaskRequest {
                task_id: id.clone(),
                ..WatchTaskRequest::default()
            };
            let mut client = self.clients.one(number);
            if let Ok(Ok(stream)) =
                tokio::time::timeout(Duration::from_secs(2), client.watch_task(request)).await
            {
                streams.push(stream);
            }
        }
        tokio::time::sleep(length).await;
    }

    /// A worker says that it takes a thousand task types from twenty queues.
    async fn name_flood(&self, length: Duration) {
        let mut streams = Vec::new();
        for scheduler in &self.stand.schedulers {
            let (sender, receiver) = tokio::sync::mpsc::channel(1);
            let names = |prefix: &str, count: usize| -> Vec<String> {
                (0..count).map(|number| format!("{prefix}.{number}")).collect()
            };
            let hello = WorkerHello {
                name: "flood".to_owned(),
                incarnation: Uuid::new_v4().to_string(),
                task_types: names("flood", 1_000),
                queues: names("flood", 20),
                slots: 1,
                ..WorkerHello::default()
            };
            let message = Some(ToClaim::Hello(hello));
            let _ = sender.try_send(ClaimTaskRequest { message });
            let Ok(endpoint) = Endpoint::from_shared(format!("http://{}", scheduler.address)) else {
                continue;
            };
            let mut client = WorkerServiceClient::new(endpoint.connect_lazy());
            let opening = client.claim_task(ReceiverStream::new(receiver));
            let opened = tokio::time::timeout(Duration::from_secs(5), opening).await;
            streams.push((sender, opened));
        }
        tokio::time::sleep(length).await;
    }

    /// Clients name more queues and task types than there may be.
    async fn invent_names(&self, fault: &PlannedFault, length: Duration) {
        let Some(mut task) = self.large(fault, 1).pop() else {
            return;
        };
        task.submitted.padding = 0;
        let mut clients = self.clients.fork(fault.choice);
        clients.submit(std::slice::from_ref(&task)).await;
        let inventing = async {
            let mut calls = JoinSet::new();
            for call in 0..INVENTING_CALLS {
                let mut clients = self.clients.fork(fault.choice ^ (call + 1));
                let (stored, prefix) = (task.submitted.clone(), format!("flood-{}-{call}", fault.choice));
                calls.spawn(async move { clients.invent(&stored, &prefix, INVENTED_AT_ONCE).await });
            }
            calls.join_all().await;
        };
        tokio::join!(inventing, tokio::time::sleep(length));
    }

    async fn large_tasks(&self, fault: &PlannedFault, length: Duration) {
        let mut submits = JoinSet::new();
        for task in self.large(fault, 24) {
            let mut clients = self.clients.fork(fault.choice ^ submits.len() as u64);
            submits.spawn(async move { clients.submit(&[task]).await });
        }
        submits.join_all().await;
        tokio::time::sleep(length).await;
    }

    fn large(&self, fault: &PlannedFault, count: usize) -> Vec<PlannedTask> {
        let mut ids = Ids::new(Random::new(fault.choice), self.now_ms);
        let task = |number: usize| PlannedTask {
            at_ms: 0,
            submitted: Submitted {
                task: ids.draw().to_string(),
                task_type: LOAD_TYPES[number % LOAD_TYPES.len()].to_owned(),
                queue: "default".to_owned(),
                priority: 0,
                delay_ms: 0,
                max_attempts: 1_000,
                backoff_ms: 100,
                run_timeout_ms: None,
                behaviour: Behaviour {
                    run_ms: 20,
                    progress: 0,
                    end: End::Succeed,
                },
                padding: LARGE,
            },
            batch: 0,
            insists: true,
            twice: false,
            cancel_ms: None,
            watched: false,
            reads: 0,
            is_deleted: false,
        };
        (0..count).map(task).collect()
    }

    fn index(&self, fault: &PlannedFault) -> usize {
        usize::try_from(fault.choice >> 1).unwrap_or(0) % self.stand.schedulers.len().max(1)
    }

    fn scheduler(&self, fault: &PlannedFault) -> Option<&SchedulerSlot> {
        self.stand.schedulers.get(self.index(fault))
    }

    fn process(&self, fault: &PlannedFault) -> Option<&WorkerSlot> {
        pick(&self.stand.processes, fault.choice)
    }

    fn bare(&self, fault: &PlannedFault) -> Option<&BareSlot> {
        pick(&self.stand.bare, fault.choice)
    }

    fn worker(&self, fault: &PlannedFault) -> AnyWorker<'_> {
        match self.process(fault) {
            Some(process) if fault.choice & 4 == 0 => AnyWorker::Process(process),
            // There is always a worker of the bare protocol.
            _ => AnyWorker::Bare(
                self.bare(fault)
                    .unwrap_or_else(|| unreachable!("a stand has workers")),
            ),
        }
    }
}

/// How many bytes a full file system still has.
fn free_bytes(fault: &PlannedFault) -> u64 {
    [0, 16 << 10, 128 << 10, 1 << 20][usize::try_from(fault.choice >> 3).unwrap_or(0) % 4]
}

/// How far the clock of Postgres jumps. Back by little only: what is due then is due as much later.
fn database_jump_ms(fault: &PlannedFault) -> i64 {
    let mut random = Random::new(fault.choice);
    let by_ms = |high: u64, random: &mut Random| i64::try_from(random.between(1, high)).unwrap_or(1);
    if random.percent(40) {
        -by_ms(DATABASE_BACK_MS, &mut random)
    } else {
        by_ms(CLOCK_ERROR_MS, &mut random)
    }
}

fn pick<T>(list: &[T], choice: u64) -> Option<&T> {
    let index = usize::try_from(choice >> 3)
        .unwrap_or(0)
        .checked_rem(list.len())?;
    list.get(index)
}
