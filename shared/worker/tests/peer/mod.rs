//! The scheduler's half of the protocol, spoken by a test over a real connection.

use std::{net::SocketAddr, pin::Pin, time::Duration};

use tasklease_lifecycle::Shutdown;
use tasklease_proto::v1::{
    Acknowledgement, CancelBatch, CancelNotice, ClaimTaskRequest, ClaimTaskResponse, LeaseBatch, LeaseRef,
    LeasedTask, ListWorkersRequest, ListWorkersResponse, RefusedReport, Report, ReportOpened,
    ReportProgressRequest, ReportProgressResponse, SessionOpened, WorkerHello, claim_task_request,
    claim_task_response,
    report::Body,
    report_progress_request, report_progress_response,
    worker_service_server::{WorkerService, WorkerServiceServer},
};
use tasklease_worker::{Worker, WorkerArgs, WorkerError};
use tokio::{
    net::TcpListener,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinHandle,
};
use tokio_stream::{Stream, wrappers::TcpListenerStream, wrappers::UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};

/// No step of a test takes longer unless something is broken.
const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .unwrap_or_else(|_| panic!("{what} did not happen in time"))
}

struct Service {
    claims: UnboundedSender<ClaimStream>,
    reports: UnboundedSender<ReportStream>,
}

/// A ClaimTask stream that a worker opened.
pub(crate) struct ClaimStream {
    inbound: Streaming<ClaimTaskRequest>,
    outbound: UnboundedSender<Result<ClaimTaskResponse, Status>>,
}

/// A ReportProgress stream that a worker opened.
pub(crate) struct ReportStream {
    inbound: Streaming<ReportProgressRequest>,
    outbound: UnboundedSender<Result<ReportProgressResponse, Status>>,
    waiting: std::collections::VecDeque<(u64, Report)>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl WorkerService for Service {
    type ClaimTaskStream = Answers<ClaimTaskResponse>;
    type ReportProgressStream = Answers<ReportProgressResponse>;

    async fn claim_task(
        &self,
        request: Request<Streaming<ClaimTaskRequest>>,
    ) -> Result<Response<Self::ClaimTaskStream>, Status> {
        let (outbound, answers) = unbounded_channel();
        let _ = self.claims.send(ClaimStream {
            inbound: request.into_inner(),
            outbound,
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(answers))))
    }

    async fn report_progress(
        &self,
        request: Request<Streaming<ReportProgressRequest>>,
    ) -> Result<Response<Self::ReportProgressStream>, Status> {
        let (outbound, answers) = unbounded_channel();
        let stream = ReportStream {
            inbound: request.into_inner(),
            outbound,
            waiting: Default::default(),
        };
        let _ = self.reports.send(stream);
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(answers))))
    }

    async fn list_workers(
        &self,
        _: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersResponse>, Status> {
        Err(Status::unimplemented("the peer knows no workers"))
    }
}

/// The peer of one worker.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    claims: UnboundedReceiver<ClaimStream>,
    reports: UnboundedReceiver<ReportStream>,
    server: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Peer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (claims, claims_in) = unbounded_channel();
        let (reports, reports_in) = unbounded_channel();
        let service = WorkerServiceServer::new(Service { claims, reports });
        let server = tokio::spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            let served = tonic::transport::Server::builder().add_service(service);
            served.serve_with_incoming(incoming).await.expect("serves");
        });
        Self {
            address,
            claims: claims_in,
            reports: reports_in,
            server,
        }
    }

    /// The next ClaimTask stream, with the hello that opened it.
    pub(crate) async fn hello(&mut self) -> (ClaimStream, WorkerHello) {
        let mut stream = within("a claim stream", self.claims.recv())
            .await
            .expect("the server runs");
        match stream.next().await {
            Some(claim_task_request::Message::Hello(hello)) => (stream, hello),
            other => panic!("expected a hello, got {other:?}"),
        }
    }

    /// The next ReportProgress stream, opened for this session and answered.
    pub(crate) async fn report_stream(&mut self, session: &str) -> ReportStream {
        let mut stream = within("a report stream", self.reports.recv())
            .await
            .expect("the server runs");
        match stream.message().await.expect("an open").message {
            Some(report_progress_request::Message::Open(open)) => assert_eq!(open.session_id, session),
            other => panic!("expected an open, got {other:?}"),
        }
        stream.send(report_progress_response::Message::Opened(ReportOpened {}));
        stream
    }

    /// A new session with both streams, and the credit the worker sent.
    pub(crate) async fn session(
        &mut self,
        session: &str,
        timing: Timing,
    ) -> (ClaimStream, ReportStream, i32) {
        let (mut claim, hello) = self.hello().await;
        assert_eq!(hello.session_id, "", "a new session was expected");
        claim.open(session, timing, Answer::New);
        let reports = self.report_stream(session).await;
        let credit = claim.credit().await;
        (claim, reports, credit)
    }
}

/// Durations that a session is given.
#[derive(Clone, Copy)]
pub(crate) enum Timing {
    /// Heartbeats of 5 s and a lease of 15 s, as in production.
    Usual,
    /// A lease so short that the fence comes within the test.
    Short,
    /// The same, and no heartbeat is overdue before the fence.
    Unheard,
}

/// Whether a session goes on.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Answer {
    New,
    Resumed,
}

impl ClaimStream {
    pub(crate) async fn next(&mut self) -> Option<claim_task_request::Message> {
        let message = within("a message on the claim stream", self.inbound.message()).await;
        message.ok().flatten().and_then(|message| message.message)
    }

    pub(crate) fn send(&self, message: claim_task_response::Message) {
        let _ = self.outbound.send(Ok(ClaimTaskResponse {
            message: Some(message),
        }));
    }

    pub(crate) fn open(&self, session: &str, timing: Timing, answer: Answer) {
        let millis = |millis: i64| {
            Some(prost_types::Duration {
                seconds: millis / 1_000,
                nanos: (millis % 1_000) as i32 * 1_000_000,
            })
        };
        let (heartbeat, lease) = match timing {
            Timing::Usual => (millis(5_000), millis(15_000)),
            Timing::Short => (millis(200), millis(1_500)),
            Timing::Unheard => (millis(5_000), millis(1_500)),
        };
        self.send(claim_task_response::Message::Session(SessionOpened {
            session_id: session.to_owned(),
            heartbeat_interval: heartbeat,
            lease_duration: lease,
            accept_timeout: millis(10_000),
            resumed: answer == Answer::Resumed,
        }));
    }

    pub(crate) fn refuse(&self, status: Status) {
        let _ = self.outbound.send(Err(status));
    }

    pub(crate) async fn credit(&mut self) -> i32 {
        match self.next().await {
            Some(claim_task_request::Message::Credit(credit)) => credit.tasks,
            other => panic!("expected credit, got {other:?}"),
        }
    }

    pub(crate) fn lease(&self, name: &str, task_type: &str, payload: &str) {
        self.leases(&[name], task_type, payload);
    }

    /// Leases tasks in one message.
    pub(crate) fn leases(&self, names: &[&str], task_type: &str, payload: &str) {
        let tasks = names.iter().map(|name| leased(name, task_type, payload));
        self.send(claim_task_response::Message::Leases(LeaseBatch {
            tasks: tasks.collect(),
        }));
    }

    /// Leases a task whose runs may take this long.
    pub(crate) fn lease_for(&self, name: &str, task_type: &str, run_timeout: Duration) {
        let task = LeasedTask {
            run_timeout: Some(tasklease_proto::convert::duration_to_wire(run_timeout)),
            ..leased(name, task_type, "{}")
        };
        self.send(claim_task_response::Message::Leases(LeaseBatch {
            tasks: vec![task],
        }));
    }
}

impl ReportStream {
    pub(crate) async fn message(&mut self) -> Option<ReportProgressRequest> {
        within("a message on the report stream", self.inbound.message())
            .await
            .ok()
            .flatten()
    }

    pub(crate) fn send(&self, message: report_progress_response::Message) {
        let _ = self.outbound.send(Ok(ReportProgressResponse {
            message: Some(message),
        }));
    }

    pub(crate) fn acknowledge(&self, sequence: u64) {
        self.answer(Acknowledgement {
            sequences: vec![sequence],
            ..Acknowledgement::default()
        });
    }

    pub(crate) fn answer(&self, acknowledgement: Acknowledgement) {
        self.send(report_progress_response::Message::Acknowledgement(
            acknowledgement,
        ));
    }

    pub(crate) fn cancel(&self, name: &str, reason: &str, grace: Duration) {
        let notice = CancelNotice {
            lease: Some(lease_ref(name)),
            reason: reason.to_owned(),
            grace: Some(tasklease_proto::convert::duration_to_wire(grace)),
        };
        self.send(report_progress_response::Message::Cancels(CancelBatch {
            cancels: vec![notice],
        }));
    }

    /// The next report without acknowledging its batch; heartbeats are acknowledged on the way.
    pub(crate) async fn unacknowledged(&mut self) -> (u64, Report) {
        within("a report", self.skip_heartbeats()).await
    }

    async fn skip_heartbeats(&mut self) -> (u64, Report) {
        loop {
            if let Some(report) = self.waiting.pop_front() {
                return report;
            }
            let message = self
                .message()
                .await
                .expect("the worker keeps the report stream open");
            match message.message {
                Some(report_progress_request::Message::Heartbeat(_)) => self.acknowledge(message.sequence),
                Some(report_progress_request::Message::Reports(batch)) => {
                    self.waiting
                        .extend(batch.reports.into_iter().map(|report| (message.sequence, report)));
                }
                other => panic!("expected reports, got {other:?}"),
            }
        }
    }

    /// The next report; its batch is acknowledged.
    pub(crate) async fn report(&mut self) -> Report {
        let (sequence, report) = self.unacknowledged().await;
        self.acknowledge(sequence);
        report
    }

    /// The next report, which must be about this task.
    pub(crate) async fn body_of(&mut self, name: &str) -> Body {
        let report = self.report().await;
        assert_eq!((report.task_id, report.lease_token), (id_of(name), 1));
        report.body.expect("body")
    }

    pub(crate) async fn expect_accepted(&mut self, name: &str) {
        let body = self.body_of(name).await;
        assert!(
            matches!(body, Body::Accepted(_)),
            "expected accepted, got {body:?}"
        );
    }

    /// Waits until the stream breaks because of a message that is too large, and says so as a
    /// scheduler does. Everything before that message is left unacknowledged.
    pub(crate) async fn breaks(mut self) {
        let status = loop {
            match within("the end of the report stream", self.inbound.message()).await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended in order"),
                Err(status) => break status,
            }
        };
        assert_eq!(status.code(), tonic::Code::OutOfRange, "{status}");
        let _ = self.outbound.send(Err(status));
    }

    /// Refuses the next report, which must be about this task.
    pub(crate) async fn refuse(&mut self, name: &str, message: &str) -> Body {
        let (sequence, report) = self.unacknowledged().await;
        assert_eq!(report.task_id, id_of(name));
        self.answer(Acknowledgement {
            sequences: vec![sequence],
            refused: vec![RefusedReport {
                lease: Some(lease_ref(name)),
                message: message.to_owned(),
            }],
            ..Acknowledgement::default()
        });
        report.body.expect("body")
    }

    /// How the task's run ends, which a report of its acceptance may precede.
    pub(crate) async fn outcome_of(&mut self, name: &str) -> Body {
        match self.body_of(name).await {
            Body::Accepted(_) => self.body_of(name).await,
            outcome => outcome,
        }
    }

    /// Answers the goodbye that comes next.
    pub(crate) async fn expect_goodbye(&mut self) {
        loop {
            let message = self
                .message()
                .await
                .expect("a goodbye before the end of the stream");
            self.acknowledge(message.sequence);
            match message.message {
                Some(report_progress_request::Message::Goodbye(_)) => return,
                Some(report_progress_request::Message::Heartbeat(_)) => {}
                other => panic!("expected goodbye, got {other:?}"),
            }
        }
    }
}

fn leased(name: &str, task_type: &str, payload: &str) -> LeasedTask {
    LeasedTask {
        task_id: id_of(name),
        lease_token: 1,
        task_type: task_type.to_owned(),
        queue: "default".to_owned(),
        payload_json: payload.to_owned().into(),
        attempt: 1,
        max_attempts: 5,
        ..LeasedTask::default()
    }
}

/// The id of a task that a test calls by a short name.
fn id_of(name: &str) -> String {
    let id = name.bytes().fold(0, |id: u128, byte| id << 8 | u128::from(byte));
    uuid::Uuid::from_u128(id).to_string()
}

pub(crate) fn lease_ref(name: &str) -> LeaseRef {
    LeaseRef {
        task_id: id_of(name),
        lease_token: 1,
    }
}

/// A worker that runs until the test stops it.
pub(crate) struct RunningWorker {
    pub(crate) shutdown: Shutdown,
    ended: JoinHandle<Result<(), WorkerError>>,
}

impl RunningWorker {
    pub(crate) fn start(peers: &[&Peer], grace: u64, register: impl FnOnce(Worker) -> Worker) -> Self {
        let addr: Vec<String> = peers.iter().map(|peer| peer.address.to_string()).collect();
        let args = WorkerArgs {
            addr: addr.join(","),
            slots: Some(2),
            grace: Duration::from_secs(grace),
            ..WorkerArgs::default()
        };
        let worker = register(Worker::new(args).expect("valid options"));
        Self::start_on(&tokio::runtime::Handle::current(), worker)
    }

    /// Starts a worker whose tasks run on another runtime than the test.
    pub(crate) fn start_on(runtime: &tokio::runtime::Handle, worker: Worker) -> Self {
        let shutdown = Shutdown::manual();
        let ended = runtime.spawn(worker.run_until(shutdown.clone()));
        Self { shutdown, ended }
    }

    pub(crate) async fn ended(self) -> Result<(), WorkerError> {
        within("the end of the worker", self.ended)
            .await
            .expect("no panic")
    }
}
