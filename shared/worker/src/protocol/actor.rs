//! The actor that owns the worker's state, and its loop.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant},
};

use futures_util::future::AbortHandle;
use tasklease_client::Connector;
use tasklease_lifecycle::Shutdown;
use tasklease_proto::v1::{ClaimTaskRequest, LeasedTask, ReportProgressRequest};
use tokio::{
    runtime::Handle,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};
use tokio_util::sync::CancellationToken;

use crate::{
    args::Settings, error::WorkerError, lease_key::LeaseKey, registry::Registry, run_code::Launcher,
    run_code::RunningCode, stop::StopReason,
};

use super::{
    credit::Credit,
    event::Event,
    heartbeats::Heartbeats,
    kept_stream::{KeptStream, Target},
    leases::Leases,
    outbox::Outbox,
    stopping::{Stopping, Urgency},
    stream::{self, Rpc, StreamId},
};

/// How long code of a lost lease may clean up before its future is dropped. The fence leaves a fifth
/// of the lease duration for that.
pub(super) const TIDY_UP: Duration = Duration::from_millis(500);
/// The most events that are handled before the timers are checked again.
const MAX_EVENTS: usize = 1_024;

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// No code runs any more.
    Clean,
    /// Code that does not stop still holds this many slots.
    CodeStillRuns(u32),
}

/// The session that the scheduler opened.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) heartbeats: Heartbeats,
}

/// Everything a worker knows.
pub(crate) struct Actor {
    pub(super) settings: Settings,
    /// Random per start of the process.
    pub(super) incarnation: String,
    pub(super) connector: Connector,
    pub(super) launcher: Launcher,
    pub(super) session: Option<Session>,
    pub(super) claim: KeptStream<ClaimTaskRequest>,
    pub(super) report: KeptStream<ReportProgressRequest>,
    /// When the hello of the claim stream that is being opened was sent.
    pub(super) hello_at: Option<Instant>,
    /// Leases that came on the old claim stream after the hello on the new one. Unless the new
    /// stream fails, the scheduler takes them back, because that hello did not name them.
    pub(super) deferred: Vec<LeasedTask>,
    pub(super) leases: Leases,
    pub(super) outbox: Outbox,
    pub(super) credit: Credit,
    /// Runs whose code has reported something, in the order of their reports.
    pub(super) with_events: VecDeque<LeaseKey>,
    /// Runs with progress that must wait, and until when.
    pub(super) delayed_events: BTreeSet<(Instant, LeaseKey)>,
    /// Leases whose outcome was refused and replaced by another, and how often.
    pub(super) refusals: HashMap<LeaseKey, u32>,
    /// Code of lost leases, and when its future is dropped.
    pub(super) lost_code: Vec<(Instant, AbortHandle)>,
    pub(super) stopping: Stopping,
    pub(super) last_sequence: u64,
    /// Set when the scheduler refuses the worker itself.
    pub(super) refused: Option<String>,
    next_stream: u64,
    events: UnboundedSender<Event>,
    inbox: UnboundedReceiver<Event>,
}

impl Actor {
    pub(crate) fn new(settings: Settings, registry: Registry, code_runtime: Handle) -> Self {
        let (events, inbox) = unbounded_channel();
        Self {
            incarnation: uuid::Uuid::new_v4().simple().to_string(),
            connector: Connector::new(settings.endpoints.clone()),
            launcher: Launcher::new(registry, code_runtime, events.clone()),
            session: None,
            claim: KeptStream::default(),
            report: KeptStream::default(),
            hello_at: None,
            deferred: Vec::new(),
            leases: Leases::default(),
            outbox: Outbox::default(),
            credit: Credit::new(settings.slots),
            with_events: VecDeque::new(),
            delayed_events: BTreeSet::new(),
            refusals: HashMap::new(),
            lost_code: Vec::new(),
            stopping: Stopping::default(),
            last_sequence: 0,
            refused: None,
            next_stream: 0,
            settings,
            events,
            inbox,
        }
    }

    /// Runs until the shutdown is done.
    pub(crate) async fn run(
        mut self,
        shutdown: Shutdown,
        abandoned: CancellationToken,
    ) -> Result<Ended, WorkerError> {
        tracing::info!(
            name = self.settings.name,
            scheduler = %self.settings.endpoints,
            task_types = ?self.launcher.task_types(),
            queues = ?self.settings.queues,
            slots = self.settings.slots,
            "worker starts"
        );
        self.claim.renew(Instant::now(), Target::Any);
        let mut batch = Vec::with_capacity(MAX_EVENTS);
        loop {
            let wake = self.next_wake();
            tokio::select! {
                biased;
                () = until(wake) => {}
                () = shutdown.hard().cancelled(), if self.stopping.listens_to(Urgency::Hard) => {
                    self.stop(Urgency::Hard, Instant::now());
                }
                () = abandoned.cancelled(), if self.stopping.listens_to(Urgency::Hard) => {
                    self.stop(Urgency::Hard, Instant::now());
                }
                () = shutdown.soft().cancelled(), if self.stopping.listens_to(Urgency::Soft) => {
                    self.stop(Urgency::Soft, Instant::now());
                }
                _ = self.inbox.recv_many(&mut batch, MAX_EVENTS) => {}
            }
            // The fence comes before everything that arrived meanwhile: a process that was stopped
            // and continued must not act on a session that has run out.
            let now = Instant::now();
            self.check_fence(now);
            for event in batch.drain(..) {
                self.handle(event, now);
            }
            self.run_timers(now);
            self.flush(now);
            if let Some(reason) = self.refused.take() {
                for code in self.leases.remove_all() {
                    self.stop_lost_code(code, "the scheduler refuses this worker", now);
                }
                self.drop_lost_code(None);
                return Err(WorkerError::Refused(reason));
            }
            if self.stopping_is_done(now) {
                self.drop_lost_code(None);
                tracing::info!("worker ends");
                return Ok(match self.credit.taken() {
                    0 => Ended::Clean,
                    count => Ended::CodeStillRuns(count),
                });
            }
        }
    }

    fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::Claim(id, incoming) => self.on_claim(id, incoming, now),
            Event::Report(id, incoming) => self.on_report(id, incoming, now),
            Event::RunEvents(key) => self.with_events.push_back(key),
            Event::Returned {
                key,
                result,
                frees_slot,
            } => {
                self.on_returned(key, result);
                if frees_slot {
                    self.credit.freed();
                }
            }
            Event::SlotFreed => self.credit.freed(),
        }
    }

    /// Handles all events so far, so that code which has returned counts as ended.
    pub(super) fn catch_up(&mut self, now: Instant) {
        self.check_fence(now);
        for _ in 0..self.inbox.len() {
            match self.inbox.try_recv() {
                Ok(event) => self.handle(event, now),
                Err(_) => return,
            }
        }
    }

    fn run_timers(&mut self, now: Instant) {
        self.drop_lost_code(Some(now));
        self.time_out_runs(now);
        self.end_overdue_runs(now);
        while let Some((at, key)) = self.delayed_events.first().copied()
            && at <= now
        {
            self.delayed_events.pop_first();
            self.with_events.push_back(key);
        }
        self.advance_stopping(now);
        self.check_overdue(now);
        if let Some(target) = self.claim.take_due(now) {
            let stream = self.open_stream(target);
            self.claim.opening(stream);
        }
        if self.session.is_some()
            && let Some(target) = self.report.take_due(now)
        {
            let stream = self.open_stream(target);
            self.report.opening(stream);
        }
    }

    fn open_stream<R: Rpc>(&mut self, target: Target) -> stream::Stream<R> {
        self.next_stream += 1;
        stream::open(
            StreamId(self.next_stream),
            self.connector.clone(),
            target,
            self.events.clone(),
        )
    }

    fn next_wake(&self) -> Option<Instant> {
        let session = self.session.as_ref();
        let moments = [
            self.claim.due(),
            session.and_then(|_| self.report.due()),
            session.and_then(|session| session.heartbeats.fence_at()),
            session.and_then(|session| session.heartbeats.next()),
            session
                .filter(|_| !self.report.is_renewing())
                .and_then(|s| s.heartbeats.overdue_at()),
            self.leases.next_grace_end(),
            self.leases.next_deadline(),
            self.delayed_events.first().map(|(at, _)| *at),
            self.lost_code.iter().map(|(at, _)| *at).min(),
            self.stopping.next_wake(),
        ];
        moments.into_iter().flatten().min()
    }

    /// Stops code whose lease is lost: tells it to stop, and drops its future later if it goes on.
    pub(super) fn stop_lost_code(&mut self, code: RunningCode, why: &str, now: Instant) {
        code.run.stop.raise(StopReason::LeaseLost { why: why.to_owned() });
        self.lost_code.push((now + TIDY_UP, code.abort));
    }

    /// Drops the futures whose time is over, or all of them.
    fn drop_lost_code(&mut self, now: Option<Instant>) {
        self.lost_code.retain(|(at, abort)| {
            let stays = now.is_some_and(|now| *at > now);
            if !stays {
                abort.abort();
            }
            stays
        });
    }

    pub(super) fn next_sequence(&mut self) -> u64 {
        self.last_sequence += 1;
        self.last_sequence
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
