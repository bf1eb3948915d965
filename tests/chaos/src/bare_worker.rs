//! A worker over the bare protocol that takes down all it sends and hears.
//!
//! It keeps the rules of the contract, and no more: so what the history holds of it is what any worker in any language
//! may see.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    time::Duration,
};

use tasklease_proto::{
    convert::duration_from_wire,
    v1::{
        Accepted, Acknowledgement, Cancelled, ClaimTaskRequest, ClaimTaskResponse, Credit, Failed, Goodbye,
        Heartbeat, HeldLeases, LeaseRef, LeasedTask, Progress, ProgressReport, Report, ReportBatch,
        ReportOpen, ReportProgressRequest, ReportProgressResponse, SessionOpened, Succeeded, TaskError,
        WorkerHello, claim_task_request::Message as ToClaim, claim_task_response::Message as FromClaim,
        report::Body, report_progress_request::Message as ToReport,
        report_progress_response::Message as FromReport, succeeded,
        worker_service_client::WorkerServiceClient,
    },
};
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use uuid::Uuid;

use crate::{
    behaviour::{Behaviour, CodeEnd, End},
    history::{Event, Gone, Micros, ReportAnswer, Reported},
    outside::{Outside, Step, Visit},
    random::Random,
    recorder::Recorder,
};

/// How often the worker looks whether a heartbeat is due.
const TICK: Duration = Duration::from_millis(50);

/// How long opening a stream may take.
const OPENING: Duration = Duration::from_secs(3);

/// What waits before a stream is opened again.
const AGAIN: Duration = Duration::from_millis(150);

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(3);

/// Messages on their way to a stream.
const ROOM: usize = 4_096;

/// Who a worker is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its name, which no other worker of the run has.
    pub name: String,
    /// The task types that it takes.
    pub task_types: Vec<String>,
    /// The queues that it serves.
    pub queues: Vec<String>,
    /// How many tasks it runs at once.
    pub slots: u32,
    /// The replicas that it can reach.
    pub replicas: Vec<SocketAddr>,
}

/// What the harness does to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Dies without a word.
    Die,
    /// Says goodbye and ends.
    Leave,
    /// Forgets its leases and goes on with its session.
    Forget,
    /// Opens both streams anew, each on another replica.
    Move,
}

/// A task's payload.
#[derive(serde::Deserialize)]
struct Payload {
    script: Behaviour,
}

/// A lease, as (task, token).
type Key = (String, i64);

/// What reaches the worker from its streams, its code, and the harness.
enum Input {
    ClaimUp(u64, SessionOpened, mpsc::Sender<ClaimTaskRequest>, Micros),
    Claim(u64, Box<ClaimTaskResponse>),
    ClaimDown(u64),
    ReportUp(u64, mpsc::Sender<ReportProgressRequest>),
    Report(u64, Box<ReportProgressResponse>),
    ReportDown(u64, Option<String>),
    Progress(Key, u32),
    Ended(Key, CodeEnd),
    Killed,
}

struct Held {
    code: AbortHandle,
    stop: watch::Sender<bool>,
    has_ended: bool,
}

struct Pending {
    key: Key,
    report: Reported,
    body: Body,
    sequence: Option<u64>,
}

struct Session {
    id: String,
    heartbeat: Duration,
    lease: Micros,
    last_answered: Micros,
    last_sent: Option<Instant>,
}

/// A running worker.
pub struct BareWorker {
    identity: Identity,
    recorder: Recorder,
    outside: Outside,
    random: Random,
    incarnation: String,
    inputs: mpsc::UnboundedSender<Input>,
    session: Option<Session>,
    claim: Option<mpsc::Sender<ClaimTaskRequest>>,
    claim_number: u64,
    report: Option<mpsc::Sender<ReportProgressRequest>>,
    report_number: u64,
    held: HashMap<Key, Held>,
    pending: BTreeMap<u64, Pending>,
    next_pending: u64,
    sequence: u64,
    heartbeats: HashMap<u64, Micros>,
    open_credit: u32,
    goodbye: Option<(u64, Instant)>,
    has_left: bool,
    /// The replica of the claim stream.
    claims_at: Option<SocketAddr>,
    /// The replica of the report stream.
    reports_at: Option<SocketAddr>,
    /// True once each stream goes to a replica of its own.
    is_split: bool,
}

impl BareWorker {
    /// Runs a worker until it dies or leaves, and says why it ended.
    pub async fn run(
        identity: Identity,
        recorder: Recorder,
        outside: Outside,
        random: Random,
        mut orders: mpsc::Receiver<Order>,
    ) -> Gone {
        recorder.note(Event::WorkerStarted {
            worker: identity.name.clone(),
            task_types: identity.task_types.clone(),
            queues: identity.queues.clone(),
            slots: identity.slots,
            bare: true,
        });
        let (inputs, mut heard) = mpsc::unbounded_channel();
        let mut worker = Self {
            identity,
            recorder,
            outside,
            random,
            incarnation: Uuid::new_v4().to_string(),
            inputs,
            session: None,
            claim: None,
            claim_number: 0,
            report: None,
            report_number: 0,
            held: HashMap::new(),
            pending: BTreeMap::new(),
            next_pending: 0,
            sequence: 1,
            heartbeats: HashMap::new(),
            open_credit: 0,
            goodbye: None,
            has_left: false,
            claims_at: None,
            reports_at: None,
            is_split: false,
        };
        worker.open_claim(Duration::ZERO);
        let mut tick = tokio::time::interval(TICK);
        let why = loop {
            tokio::select! {
                Some(input) = heard.recv() => {
                    if matches!(input, Input::Killed) {
                        break Gone::ByTask;
                    }
                    worker.on_input(input);
                }
                Some(order) = orders.recv() => match order {
                    Order::Die => break Gone::Killed,
                    Order::Leave => worker.leave(),
                    Order::Forget => worker.forget(),
                    Order::Move => {
                        worker.is_split = true;
                        worker.open_claim(Duration::ZERO);
                        worker.open_report(Duration::ZERO);
                    }
                },
                _ = tick.tick() => worker.on_tick(),
            }
            let is_late = worker.goodbye.is_some_and(|(_, until)| Instant::now() > until);
            if worker.has_left || is_late {
                break Gone::Stopped;
            }
        };
        // Taken down first: what its code still says is said by a dead worker.
        let name = worker.identity.name.clone();
        worker.recorder.note(Event::WorkerGone { worker: name, why });
        for held in worker.held.values() {
            held.code.abort();
        }
        why
    }

    fn on_input(&mut self, input: Input) {
        match input {
            Input::ClaimUp(number, session, sender, sent) if number == self.claim_number => {
                self.on_session(session, sender, sent);
            }
            Input::Claim(number, message) if number == self.claim_number => match message.message {
                Some(FromClaim::Leases(batch)) => {
                    for lease in batch.tasks {
                        self.on_lease(lease);
                    }
                }
                Some(FromClaim::Drain(_)) => self.open_claim(Duration::ZERO),
                Some(FromClaim::Ended(ended)) => self.lose_session(&ended.reason),
                _ => {}
            },
            Input::ClaimDown(number) if number == self.claim_number => self.open_claim(AGAIN),
            Input::ReportUp(number, sender) if number == self.report_number => {
                self.report = Some(sender);
                self.heartbeats.clear();
                if let Some(session) = &mut self.session {
                    session.last_sent = None;
                }
                for pending in self.pending.values_mut() {
                    pending.sequence = None;
                }
                self.send_pending();
                self.on_tick();
                self.offer();
            }
            Input::Report(number, message) if number == self.report_number => match message.message {
                Some(FromReport::Acknowledgement(acknowledgement)) => self.on_answer(acknowledgement),
                Some(FromReport::Cancels(batch)) => {
                    for notice in batch.cancels {
                        if let Some(lease) = notice.lease {
                            self.on_stop((lease.task_id, lease.lease_token));
                        }
                    }
                }
                Some(FromReport::Ended(ended)) => self.lose_session(&ended.reason),
                Some(FromReport::Drain(_)) => self.open_report(Duration::ZERO),
                _ => {}
            },
            Input::ReportDown(number, over) if number == self.report_number => match over {
                Some(reason) => self.lose_session(&reason),
                None => self.open_report(AGAIN),
            },
            Input::Progress(key, number) => {
                let progress = Progress {
                    percent: Some(f64::from(number)),
                    message: format!("{}:{number}", key.1),
                    ..Progress::default()
                };
                let body = Body::Progress(ProgressReport {
                    event_number: i64::from(number),
                    progress: Some(progress),
                });
                if self.held.contains_key(&key) {
                    self.report(key, Reported::Progress(number), body);
                }
            }
            Input::Ended(key, end) => self.on_ended(key, end),
            _ => {}
        }
    }

    fn on_session(&mut self, opened: SessionOpened, sender: mpsc::Sender<ClaimTaskRequest>, sent: Micros) {
        let goes_on = opened.resumed
            && self
                .session
                .as_ref()
                .is_some_and(|own| own.id == opened.session_id);
        if !goes_on {
            if self.session.is_some() {
                self.drop_session("the scheduler answered a hello with a new session");
            }
            let length = |wire: &Option<prost_types::Duration>| {
                wire.as_ref().and_then(duration_from_wire).unwrap_or_default()
            };
            let lease = length(&opened.lease_duration);
            self.session = Some(Session {
                id: opened.session_id.clone(),
                heartbeat: length(&opened.heartbeat_interval),
                lease: Micros::try_from(lease.as_micros()).unwrap_or(Micros::MAX),
                last_answered: sent,
                last_sent: None,
            });
            self.recorder.note(Event::SessionAlive {
                worker: self.identity.name.clone(),
                session: opened.session_id,
                sent,
            });
            self.open_report(Duration::ZERO);
        }
        self.claim = Some(sender);
        self.open_credit = 0;
        if goes_on && !self.is_split && self.reports_at != self.claims_at {
            self.open_report(Duration::ZERO);
        }
        self.offer();
    }

    fn on_lease(&mut self, lease: LeasedTask) {
        self.open_credit = self.open_credit.saturating_sub(1);
        let key = (lease.task_id.clone(), lease.lease_token);
        // After a goodbye nothing is reported any more, so nothing is begun either.
        if self.held.contains_key(&key) || self.goodbye.is_some() {
            return;
        }
        let worker = self.identity.name.clone();
        self.recorder.note(Event::LeaseReceived {
            worker,
            session: self
                .session
                .as_ref()
                .map(|own| own.id.clone())
                .unwrap_or_default(),
            task: lease.task_id.clone(),
            token: lease.lease_token,
            attempt: u32::try_from(lease.attempt).unwrap_or(0),
        });
        let Ok(Payload { script }) = serde_json::from_slice(&lease.payload_json) else {
            return;
        };
        // The outcome of a short run says that it was accepted.
        let tells_acceptance = script.run_ms > 60 || self.random.percent(60);
        let (stop, stopped) = watch::channel(false);
        let code = play(
            lease,
            script,
            self.outside.clone(),
            self.identity.name.clone(),
            self.inputs.clone(),
            stopped,
        );
        let held = Held {
            code: tokio::spawn(code).abort_handle(),
            stop,
            has_ended: false,
        };
        self.held.insert(key.clone(), held);
        if tells_acceptance {
            self.report(key, Reported::Accepted, Body::Accepted(Accepted {}));
        }
    }

    fn on_ended(&mut self, key: Key, end: CodeEnd) {
        let Some(held) = self.held.get_mut(&key) else {
            return;
        };
        held.has_ended = true;
        let error = || {
            Some(TaskError {
                kind: "SCRIPTED".to_owned(),
                message: "the script says so".to_owned(),
                detail: String::new(),
            })
        };
        let (report, body) = match end {
            CodeEnd::Succeeded => {
                let result = format!("{{\"token\":{}}}", key.1);
                let output = Some(succeeded::Output::ResultJson(result.into()));
                (Reported::Succeeded, Body::Succeeded(Succeeded { output }))
            }
            CodeEnd::Failed | CodeEnd::FailedForGood => {
                let failed = Failed {
                    error: error(),
                    non_retryable: end == CodeEnd::FailedForGood,
                    retry_after: None,
                };
                (Reported::Failed, Body::Failed(failed))
            }
            CodeEnd::Stopped => (Reported::Cancelled, Body::Cancelled(Cancelled::default())),
        };
        self.report(key, report, body);
    }

    fn on_stop(&mut self, key: Key) {
        self.recorder.note(Event::StopReceived {
            worker: self.identity.name.clone(),
            task: key.0.clone(),
            token: key.1,
        });
        if let Some(held) = self.held.get(&key) {
            held.stop.send_replace(true);
        }
    }

    fn on_answer(&mut self, acknowledgement: Acknowledgement) {
        let key = |lease: &LeaseRef| (lease.task_id.clone(), lease.lease_token);
        let stale: HashSet<Key> = acknowledgement.stale.iter().map(key).collect();
        let refused = acknowledgement.refused.iter();
        let refused: HashSet<Key> = refused
            .filter_map(|report| report.lease.as_ref().map(key))
            .collect();
        let sequences: HashSet<u64> = acknowledgement.sequences.into_iter().collect();
        for sequence in &sequences {
            if let (Some(sent), Some(session)) = (self.heartbeats.remove(sequence), &mut self.session) {
                session.last_answered = session.last_answered.max(sent);
                self.recorder.note(Event::SessionAlive {
                    worker: self.identity.name.clone(),
                    session: session.id.clone(),
                    sent,
                });
            }
            if self.goodbye.is_some_and(|(goodbye, _)| goodbye == *sequence) {
                self.has_left = true;
            }
        }
        let answered: Vec<u64> = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.sequence.is_some_and(|own| sequences.contains(&own)))
            .map(|(number, _)| *number)
            .collect();
        for number in answered {
            let Some(pending) = self.pending.remove(&number) else {
                continue;
            };
            let answer = if stale.contains(&pending.key) {
                ReportAnswer::Stale
            } else if refused.contains(&pending.key) {
                ReportAnswer::Refused
            } else {
                ReportAnswer::Stored
            };
            self.recorder.note(Event::ReportAnswered {
                worker: self.identity.name.clone(),
                task: pending.key.0.clone(),
                token: pending.key.1,
                report: pending.report,
                answer,
            });
            if pending.report.is_outcome() {
                self.held.remove(&pending.key);
            }
        }
        for key in stale {
            self.drop_lease(&key);
        }
        self.offer();
    }

    /// Stops the code of a lease that is not the worker's any more.
    fn drop_lease(&mut self, key: &Key) {
        self.pending.retain(|_, pending| pending.key != *key);
        if let Some(held) = self.held.remove(key) {
            self.recorder.note(Event::LeaseDropped {
                worker: self.identity.name.clone(),
                task: key.0.clone(),
                token: key.1,
            });
            self.abort(key, &held);
        }
    }

    fn abort(&self, key: &Key, held: &Held) {
        held.code.abort();
        if !held.has_ended {
            self.outside.visit(Visit {
                worker: self.identity.name.clone(),
                task: key.0.clone(),
                token: key.1,
                step: Step::Ended(None),
            });
        }
    }

    fn on_tick(&mut self) {
        let now = self.recorder.now();
        let Some(session) = &mut self.session else {
            return;
        };
        if now > session.last_answered + session.lease * 9 / 10 {
            self.lose_session("no heartbeat was answered in time");
            return;
        }
        let is_due = session
            .last_sent
            .is_none_or(|sent| sent.elapsed() >= session.heartbeat);
        if let (true, Some(report)) = (is_due, &self.report) {
            self.sequence += 1;
            let heartbeat = ReportProgressRequest {
                sequence: self.sequence,
                message: Some(ToReport::Heartbeat(Heartbeat::default())),
            };
            if report.try_send(heartbeat).is_ok() {
                session.last_sent = Some(Instant::now());
                self.heartbeats.insert(self.sequence, now);
            }
        }
    }

    fn lose_session(&mut self, reason: &str) {
        if self.goodbye.is_some() {
            self.has_left = true;
            return;
        }
        self.drop_session(reason);
        self.open_claim(AGAIN);
    }

    /// Ends all that belonged to the session.
    fn drop_session(&mut self, reason: &str) {
        if let Some(session) = self.session.take() {
            self.recorder.note(Event::SessionLost {
                worker: self.identity.name.clone(),
                session: session.id,
                last_sent: session.last_answered,
                reason: reason.to_owned(),
            });
        }
        for (key, held) in std::mem::take(&mut self.held) {
            self.abort(&key, &held);
        }
        self.pending.clear();
        self.heartbeats.clear();
        self.report = None;
        self.report_number += 1;
    }

    fn forget(&mut self) {
        let keys: Vec<Key> = self.held.keys().cloned().collect();
        for key in keys {
            self.drop_lease(&key);
        }
        self.open_claim(Duration::ZERO);
    }

    fn leave(&mut self) {
        self.sequence += 1;
        let goodbye = ReportProgressRequest {
            sequence: self.sequence,
            message: Some(ToReport::Goodbye(Goodbye {})),
        };
        match &self.report {
            Some(report) if report.try_send(goodbye).is_ok() => {
                self.goodbye = Some((self.sequence, Instant::now() + GOODBYE));
                // Nothing is reported after a goodbye.
                for held in self.held.values() {
                    held.code.abort();
                }
            }
            _ => self.has_left = true,
        }
    }

    fn report(&mut self, key: Key, report: Reported, body: Body) {
        if self.goodbye.is_some() {
            return;
        }
        self.recorder.note(Event::ReportSent {
            worker: self.identity.name.clone(),
            task: key.0.clone(),
            token: key.1,
            report,
        });
        let pending = Pending {
            key,
            report,
            body,
            sequence: None,
        };
        self.pending.insert(self.next_pending, pending);
        self.next_pending += 1;
        self.send_pending();
    }

    fn send_pending(&mut self) {
        let Some(sender) = &self.report else {
            return;
        };
        for pending in self
            .pending
            .values_mut()
            .filter(|pending| pending.sequence.is_none())
        {
            self.sequence += 1;
            let report = Report {
                task_id: pending.key.0.clone(),
                lease_token: pending.key.1,
                body: Some(pending.body.clone()),
            };
            let message = ReportProgressRequest {
                sequence: self.sequence,
                message: Some(ToReport::Reports(ReportBatch {
                    reports: vec![report],
                })),
            };
            if sender.try_send(message).is_err() {
                return;
            }
            pending.sequence = Some(self.sequence);
        }
    }

    /// Gives credit for the slots that are free and were not offered yet.
    fn offer(&mut self) {
        let taken = u32::try_from(self.held.len()).unwrap_or(u32::MAX);
        let room = self
            .identity
            .slots
            .saturating_sub(taken)
            .saturating_sub(self.open_credit);
        if room == 0 || self.report.is_none() || self.goodbye.is_some() {
            return;
        }
        let credit = ClaimTaskRequest {
            message: Some(ToClaim::Credit(Credit {
                tasks: i32::try_from(room).unwrap_or(i32::MAX),
            })),
        };
        if let Some(claim) = &self.claim
            && claim.try_send(credit).is_ok()
        {
            self.open_credit += room;
        }
    }

    fn replica(&mut self) -> Option<SocketAddr> {
        self.random.pick(&self.identity.replicas).copied()
    }

    fn held_leases(&self) -> Vec<LeaseRef> {
        let lease = |(task_id, lease_token): &Key| LeaseRef {
            task_id: task_id.clone(),
            lease_token: *lease_token,
        };
        self.held.keys().map(lease).collect()
    }

    /// Opens the claim stream; what the one before still says does not count.
    fn open_claim(&mut self, pause: Duration) {
        self.claim_number += 1;
        self.claim = None;
        self.claims_at = self.replica();
        let Some(replica) = self.claims_at else {
            return;
        };
        let session = self.session.as_ref().map(|session| session.id.clone());
        let hello = WorkerHello {
            held: if session.is_some() {
                self.held_leases()
            } else {
                Vec::new()
            },
            session_id: session.unwrap_or_default(),
            name: self.identity.name.clone(),
            incarnation: self.incarnation.clone(),
            task_types: self.identity.task_types.clone(),
            queues: self.identity.queues.clone(),
            slots: i32::try_from(self.identity.slots).unwrap_or(i32::MAX),
            ..WorkerHello::default()
        };
        let (number, inputs, recorder) = (self.claim_number, self.inputs.clone(), self.recorder.clone());
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            // Its end, whatever it was, is told below.
            let _ = claim(replica, hello, number, &inputs, &recorder).await;
            let _ = inputs.send(Input::ClaimDown(number));
        });
    }

    fn open_report(&mut self, pause: Duration) {
        self.report_number += 1;
        self.report = None;
        // Mostly where the claim stream is, as a good worker does; after a break perhaps elsewhere.
        let replica = match self.claims_at {
            Some(replica) if !self.is_split => Some(replica),
            _ => self.replica(),
        };
        let (Some(replica), Some(session)) = (replica, &self.session) else {
            return;
        };
        self.reports_at = Some(replica);
        let open = ReportOpen {
            session_id: session.id.clone(),
            held: Some(HeldLeases {
                leases: self.held_leases(),
            }),
        };
        let (number, inputs) = (self.report_number, self.inputs.clone());
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let ended = report(replica, open, number, &inputs).await;
            let over = match ended {
                Err(StreamEnd::Over(reason)) => Some(reason),
                _ => None,
            };
            let _ = inputs.send(Input::ReportDown(number, over));
        });
    }
}

/// How a report stream ended.
enum StreamEnd {
    /// The session is over.
    Over(String),
    /// The stream broke.
    Broken,
}

async fn connect(replica: SocketAddr) -> Option<WorkerServiceClient<tonic::transport::Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://{replica}")).ok()?;
    let endpoint = endpoint
        .connect_timeout(Duration::from_secs(1))
        .http2_keep_alive_interval(Duration::from_secs(1))
        .keep_alive_timeout(Duration::from_secs(1))
        .keep_alive_while_idle(true);
    let channel = tokio::time::timeout(OPENING, endpoint.connect())
        .await
        .ok()?
        .ok()?;
    Some(WorkerServiceClient::new(channel))
}

async fn claim(
    replica: SocketAddr,
    hello: WorkerHello,
    number: u64,
    inputs: &mpsc::UnboundedSender<Input>,
    recorder: &Recorder,
) -> Option<()> {
    let mut client = connect(replica).await?;
    let (sender, receiver) = mpsc::channel(ROOM);
    let message = Some(ToClaim::Hello(hello));
    sender.try_send(ClaimTaskRequest { message }).ok()?;
    let sent = recorder.now();
    let opening = async {
        let mut claims = client
            .claim_task(ReceiverStream::new(receiver))
            .await
            .ok()?
            .into_inner();
        match claims.message().await.ok()??.message? {
            FromClaim::Session(session) => Some((claims, session)),
            _ => None,
        }
    };
    let (mut claims, session) = tokio::time::timeout(OPENING, opening).await.ok()??;
    inputs.send(Input::ClaimUp(number, session, sender, sent)).ok()?;
    while let Some(message) = claims.message().await.ok()? {
        inputs.send(Input::Claim(number, Box::new(message))).ok()?;
    }
    None
}

async fn report(
    replica: SocketAddr,
    open: ReportOpen,
    number: u64,
    inputs: &mpsc::UnboundedSender<Input>,
) -> Result<(), StreamEnd> {
    let mut client = connect(replica).await.ok_or(StreamEnd::Broken)?;
    let (sender, receiver) = mpsc::channel(ROOM);
    let open = ReportProgressRequest {
        sequence: 1,
        message: Some(ToReport::Open(open)),
    };
    sender.try_send(open).map_err(|_| StreamEnd::Broken)?;
    let ended = |status: tonic::Status| match status.code() {
        tonic::Code::NotFound | tonic::Code::FailedPrecondition => {
            StreamEnd::Over(status.message().to_owned())
        }
        _ => StreamEnd::Broken,
    };
    let opening = async {
        let reports = client.report_progress(ReceiverStream::new(receiver)).await;
        let mut reports = reports.map_err(ended)?.into_inner();
        match reports
            .message()
            .await
            .map_err(ended)?
            .and_then(|first| first.message)
        {
            Some(FromReport::Opened(_)) => Ok(reports),
            Some(FromReport::Ended(over)) => Err(StreamEnd::Over(over.reason)),
            _ => Err(StreamEnd::Broken),
        }
    };
    let opened = tokio::time::timeout(OPENING, opening).await;
    let mut reports = opened.map_err(|_| StreamEnd::Broken)??;
    inputs
        .send(Input::ReportUp(number, sender))
        .map_err(|_| StreamEnd::Broken)?;
    while let Some(message) = reports.message().await.map_err(ended)? {
        let told = inputs.send(Input::Report(number, Box::new(message)));
        told.map_err(|_| StreamEnd::Broken)?;
    }
    Err(StreamEnd::Broken)
}

/// Plays the code of a lease.
async fn play(
    lease: LeasedTask,
    script: Behaviour,
    outside: Outside,
    worker: String,
    inputs: mpsc::UnboundedSender<Input>,
    mut stopped: watch::Receiver<bool>,
) {
    let key = (lease.task_id, lease.lease_token);
    let attempt = u32::try_from(lease.attempt).unwrap_or(0);
    let visit = |step| {
        outside.visit(Visit {
            worker: worker.clone(),
            task: key.0.clone(),
            token: key.1,
            step,
        })
    };
    visit(Step::Started(attempt));
    visit(Step::Effect);
    if script.end == End::KillWorker {
        let _ = inputs.send(Input::Killed);
        return;
    }
    let end = {
        let key = &key;
        let inputs = &inputs;
        let working = async {
            let (steps, pause_ms) = script.steps();
            for step in 1..=steps {
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                if step < steps {
                    let _ = inputs.send(Input::Progress(key.clone(), step));
                }
            }
            match script.own_end(attempt) {
                Some(end) => end,
                None => std::future::pending().await,
            }
        };
        if script.end == End::IgnoreStop {
            working.await
        } else {
            tokio::select! {
                end = working => end,
                _ = stopped.wait_for(|stop| *stop) => CodeEnd::Stopped,
            }
        }
    };
    visit(Step::Effect);
    visit(Step::Ended(Some(end)));
    let _ = inputs.send(Input::Ended(key, end));
}
