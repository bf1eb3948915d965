//! A worker that does exactly what a test tells it, over the bare protocol.

use std::collections::VecDeque;

use tasklease_proto::v1::{
    Accepted, CancelNotice, ClaimTaskRequest, ClaimTaskResponse, Credit, Goodbye, Heartbeat, LeaseRef,
    LeasedTask, Report, ReportBatch, ReportOpen, ReportProgressRequest, ReportProgressResponse,
    SessionOpened, WorkerHello, claim_task_request::Message as ToClaim,
    claim_task_response::Message as FromClaim, report::Body, report_progress_request::Message as ToReport,
    report_progress_response::Message as FromReport,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use uuid::Uuid;

use crate::{patience::in_time, scheduler::Scheduler};

/// What the scheduler said to a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is durable.
    Stored,
    /// The lease is not the worker's any more.
    Stale,
    /// It breaks a rule.
    Refused(String),
}

/// The scheduler ended the session, or the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionOver(pub String);

/// Who a raw worker says it is.
#[derive(Debug, Clone)]
pub struct Hello(WorkerHello);

impl Hello {
    /// A new worker that takes these task types from the queue `default`.
    pub fn new(name: &str, task_types: &[&str]) -> Self {
        Self(WorkerHello {
            name: name.to_owned(),
            incarnation: Uuid::new_v4().to_string(),
            task_types: task_types.iter().map(|name| (*name).to_owned()).collect(),
            slots: 100,
            ..WorkerHello::default()
        })
    }

    /// The same worker with other queues.
    #[must_use]
    pub fn queues(mut self, queues: &[&str]) -> Self {
        self.0.queues = queues.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    /// The same worker, which goes on with a session and still knows these leases.
    #[must_use]
    pub fn resuming(mut self, session_id: &str, held: &[&LeasedTask]) -> Self {
        self.0.session_id = session_id.to_owned();
        self.0.held = held.iter().map(|lease| lease_ref(lease)).collect();
        self
    }
}

/// A worker with an open session and both of its streams.
pub struct RawWorker {
    session: SessionOpened,
    claim_sender: mpsc::Sender<ClaimTaskRequest>,
    claims: Streaming<ClaimTaskResponse>,
    leases: VecDeque<LeasedTask>,
    report_sender: mpsc::Sender<ReportProgressRequest>,
    reports: Streaming<ReportProgressResponse>,
    cancels: VecDeque<CancelNotice>,
    stale: Vec<LeaseRef>,
    sequence: u64,
}

impl RawWorker {
    /// Opens a session on a replica.
    ///
    /// # Panics
    /// If the protocol does not go as documented.
    pub async fn connect(scheduler: &Scheduler, hello: Hello) -> Self {
        in_time("a session", Self::open(scheduler, hello)).await
    }

    /// Opens a session that takes one task type, with room for so many tasks.
    pub async fn with_credit(scheduler: &Scheduler, task_type: &str, tasks: i32) -> Self {
        let worker = Self::connect(scheduler, Hello::new("raw", &[task_type])).await;
        worker.credit(tasks).await;
        worker
    }

    /// Goes on with the session of the hello, and opens the streams the other way round than a new worker.
    ///
    /// # Panics
    /// If the protocol does not go as documented.
    pub async fn reconnect_reports_first(scheduler: &Scheduler, hello: Hello) -> Self {
        let opening = async {
            let reports = open_reports(scheduler, &hello.0.session_id).await;
            Self::over(open_claims(scheduler, hello).await, reports)
        };
        in_time("a session", opening).await
    }

    async fn open(scheduler: &Scheduler, hello: Hello) -> Self {
        let claims = open_claims(scheduler, hello).await;
        let reports = open_reports(scheduler, &claims.0.session_id).await;
        Self::over(claims, reports)
    }

    fn over((session, claim_sender, claims): Claims, (report_sender, reports): Reports) -> Self {
        Self {
            session,
            claim_sender,
            claims,
            leases: VecDeque::new(),
            report_sender,
            reports,
            cancels: VecDeque::new(),
            stale: Vec::new(),
            sequence: 1,
        }
    }

    /// The session as the scheduler opened it.
    pub fn session(&self) -> &SessionOpened {
        &self.session
    }

    /// Says that there is room for more tasks.
    ///
    /// # Panics
    /// If the stream is closed.
    pub async fn credit(&self, tasks: i32) {
        let message = Some(ToClaim::Credit(Credit { tasks }));
        self.claim_sender
            .send(ClaimTaskRequest { message })
            .await
            .expect("an open stream");
    }

    /// Waits for the next lease, and does nothing about it.
    ///
    /// # Panics
    /// If none comes.
    pub async fn next_lease(&mut self) -> LeasedTask {
        loop {
            if let Some(lease) = self.leases.pop_front() {
                return lease;
            }
            let response = in_time("a lease", self.claims.message()).await;
            match response
                .expect("the claim stream")
                .expect("the claim stream")
                .message
            {
                Some(FromClaim::Leases(batch)) => self.leases.extend(batch.tasks),
                Some(FromClaim::KeepAlive(_)) => {}
                other => panic!("not a lease: {other:?}"),
            }
        }
    }

    /// Waits for the next lease and accepts it.
    pub async fn next_accepted(&mut self) -> LeasedTask {
        let lease = self.next_lease().await;
        assert_eq!(self.accept(&lease).await, Ok(Answer::Stored));
        lease
    }

    /// Says that the worker has the task.
    ///
    /// # Errors
    /// The session is over.
    pub async fn accept(&mut self, lease: &LeasedTask) -> Result<Answer, SessionOver> {
        self.report(lease, Body::Accepted(Accepted {})).await
    }

    /// Reports one piece of body and waits until the scheduler has dealt with it.
    ///
    /// # Errors
    /// The session is over.
    pub async fn report(&mut self, lease: &LeasedTask, body: Body) -> Result<Answer, SessionOver> {
        self.report_as(lease_ref(lease), body).await
    }

    /// The same about any lease.
    ///
    /// # Errors
    /// The session is over.
    pub async fn report_as(&mut self, lease: LeaseRef, body: Body) -> Result<Answer, SessionOver> {
        let report = Report {
            task_id: lease.task_id.clone(),
            lease_token: lease.lease_token,
            body: Some(body),
        };
        let batch = ReportBatch {
            reports: vec![report],
        };
        self.talk(ToReport::Reports(batch)).await
    }

    /// Sends a heartbeat and waits until it is stored.
    ///
    /// # Errors
    /// The session is over.
    pub async fn heartbeat(&mut self) -> Result<Answer, SessionOver> {
        self.talk(ToReport::Heartbeat(Heartbeat::default())).await
    }

    /// Says goodbye and waits until all leases are handed back.
    ///
    /// # Errors
    /// The session is over.
    pub async fn goodbye(&mut self) -> Result<Answer, SessionOver> {
        self.talk(ToReport::Goodbye(Goodbye {})).await
    }

    /// Waits for the next request to stop a run.
    ///
    /// # Panics
    /// If none comes.
    pub async fn next_cancel(&mut self) -> CancelNotice {
        loop {
            if let Some(notice) = self.cancels.pop_front() {
                return notice;
            }
            self.hear().await.expect("a session");
        }
    }

    /// Waits until the scheduler says, unasked, that a lease is lost.
    ///
    /// # Panics
    /// If it does not.
    pub async fn hears_of_loss(&mut self, lease: &LeasedTask) {
        let lost = lease_ref(lease);
        while !self.stale.contains(&lost) {
            self.hear().await.expect("a session");
        }
    }

    /// Waits until the scheduler ends the session.
    pub async fn hears_of_end(&mut self) -> SessionOver {
        loop {
            if let Err(over) = self.hear().await {
                return over;
            }
        }
    }

    async fn talk(&mut self, message: ToReport) -> Result<Answer, SessionOver> {
        self.sequence += 1;
        let sequence = self.sequence;
        let message = Some(message);
        self.report_sender
            .send(ReportProgressRequest { sequence, message })
            .await
            .map_err(|_| SessionOver("the stream is closed".to_owned()))?;
        loop {
            if let Some(answer) = self.hear().await?.take_if(|(heard, _)| heard.contains(&sequence)) {
                return Ok(answer.1);
            }
        }
    }

    /// Takes one message from the report stream; gives the sequences that it acknowledges.
    async fn hear(&mut self) -> Result<Option<(Vec<u64>, Answer)>, SessionOver> {
        let response = in_time("a message on the report stream", self.reports.message())
            .await
            .map_err(|status| SessionOver(status.to_string()))?
            .ok_or_else(|| SessionOver("the stream ended".to_owned()))?;
        match response.message {
            Some(FromReport::Acknowledgement(acknowledgement)) => {
                let answer = if let Some(refused) = acknowledgement.refused.first() {
                    Answer::Refused(refused.message.clone())
                } else if acknowledgement.stale.is_empty() {
                    Answer::Stored
                } else {
                    Answer::Stale
                };
                self.stale.extend(acknowledgement.stale);
                Ok(Some((acknowledgement.sequences, answer)))
            }
            Some(FromReport::Cancels(batch)) => {
                self.cancels.extend(batch.cancels);
                Ok(None)
            }
            Some(FromReport::Ended(ended)) => Err(SessionOver(ended.reason)),
            other => panic!("unexpected on the report stream: {other:?}"),
        }
    }
}

/// An open claim stream, and the session that it is for.
type Claims = (
    SessionOpened,
    mpsc::Sender<ClaimTaskRequest>,
    Streaming<ClaimTaskResponse>,
);

/// An open report stream.
type Reports = (
    mpsc::Sender<ReportProgressRequest>,
    Streaming<ReportProgressResponse>,
);

async fn open_claims(scheduler: &Scheduler, Hello(hello): Hello) -> Claims {
    let (sender, receiver) = mpsc::channel(16);
    let message = Some(ToClaim::Hello(hello));
    sender.try_send(ClaimTaskRequest { message }).expect("room");
    let mut claims = scheduler
        .workers()
        .claim_task(ReceiverStream::new(receiver))
        .await
        .expect("a claim stream")
        .into_inner();
    let first = claims.message().await.expect("an answer").expect("an answer");
    let Some(FromClaim::Session(session)) = first.message else {
        panic!("not a session: {first:?}");
    };
    (session, sender, claims)
}

async fn open_reports(scheduler: &Scheduler, session_id: &str) -> Reports {
    let (sender, receiver) = mpsc::channel(16);
    let open = ReportOpen {
        session_id: session_id.to_owned(),
        held: None,
    };
    let message = Some(ToReport::Open(open));
    sender
        .try_send(ReportProgressRequest { sequence: 1, message })
        .expect("room");
    let mut reports = scheduler
        .workers()
        .report_progress(ReceiverStream::new(receiver))
        .await
        .expect("a report stream")
        .into_inner();
    let first = reports.message().await.expect("an answer").expect("an answer");
    assert!(
        matches!(first.message, Some(FromReport::Opened(_))),
        "not opened: {first:?}"
    );
    (sender, reports)
}

fn lease_ref(lease: &LeasedTask) -> LeaseRef {
    LeaseRef {
        task_id: lease.task_id.clone(),
        lease_token: lease.lease_token,
    }
}
