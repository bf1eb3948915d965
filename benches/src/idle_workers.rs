//! Workers that hold a session and have nothing to do, many in one process.

use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tasklease_proto::{
    limits,
    v1::{
        ClaimTaskRequest, ClaimTaskResponse, Credit, Heartbeat, ListWorkersRequest, ReportOpen,
        ReportProgressRequest, ReportProgressResponse, WorkerHello, claim_task_request::Message as ToClaim,
        claim_task_response::Message as FromClaim, report_progress_request::Message as ToReport,
        report_progress_response::Message as FromReport, worker_service_client::WorkerServiceClient,
    },
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use crate::stand::Stand;

/// Sessions that are opened at once.
const OPENED_AT_ONCE: usize = 50;

/// Slots of each session.
const SLOTS: i32 = 10;

/// Open sessions; they end when this is dropped.
pub(crate) struct IdleWorkers {
    sessions: JoinSet<anyhow::Result<()>>,
}

/// A session with both its streams.
struct Session {
    to_claim: mpsc::Sender<ClaimTaskRequest>,
    from_claim: Streaming<ClaimTaskResponse>,
    to_report: mpsc::Sender<ReportProgressRequest>,
    from_report: Streaming<ReportProgressResponse>,
    heartbeat: Duration,
}

impl IdleWorkers {
    /// Opens `count` sessions, each on a connection of its own as a real worker's is.
    pub(crate) async fn open(stand: &Stand<'_>, count: usize) -> anyhow::Result<Self> {
        let sessions: Vec<Session> = stream::iter(0..count)
            .map(async |n| Session::open(stand.channel(n).await?, n).await)
            .buffer_unordered(OPENED_AT_ONCE)
            .try_collect()
            .await?;
        let mut running = JoinSet::new();
        for session in sessions {
            running.spawn(session.run());
        }
        Ok(Self { sessions: running })
    }

    /// Why the first session ended that has ended, if any.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let ended = self.sessions.try_join_next()?;
        Some(match ended {
            Ok(Ok(())) => "a stream was closed".to_owned(),
            Ok(Err(error)) => format!("{error:#}"),
            Err(error) => error.to_string(),
        })
    }
}

impl Session {
    async fn open(channel: Channel, n: usize) -> anyhow::Result<Self> {
        let mut service = WorkerServiceClient::new(channel);
        let (to_claim, requests) = mpsc::channel(4);
        let hello = WorkerHello {
            name: format!("idle-{n}"),
            incarnation: format!("{}-{n}", std::process::id()),
            task_types: vec!["noop".into()],
            slots: SLOTS,
            ..Default::default()
        };
        to_claim.send(claim(ToClaim::Hello(hello))).await?;
        to_claim
            .send(claim(ToClaim::Credit(Credit { tasks: SLOTS })))
            .await?;
        let mut from_claim = service
            .claim_task(ReceiverStream::new(requests))
            .await?
            .into_inner();
        let opened = from_claim.message().await?.and_then(|response| response.message);
        let Some(FromClaim::Session(session)) = opened else {
            bail!("expected a session, got {opened:?}");
        };
        let (to_report, requests) = mpsc::channel(4);
        let open = ReportOpen {
            session_id: session.session_id,
            held: None,
        };
        to_report.send(report(1, ToReport::Open(open))).await?;
        let from_report = service
            .report_progress(ReceiverStream::new(requests))
            .await?
            .into_inner();
        let interval = session
            .heartbeat_interval
            .context("a session has a heartbeat interval")?;
        Ok(Self {
            to_claim,
            from_claim,
            to_report,
            from_report,
            heartbeat: Duration::try_from(interval)?,
        })
    }

    /// Sends heartbeats until a stream ends.
    async fn run(mut self) -> anyhow::Result<()> {
        let mut sequence = 1;
        let mut due = tokio::time::interval(self.heartbeat);
        loop {
            tokio::select! {
                _ = due.tick() => {
                    sequence += 1;
                    self.to_report.send(report(sequence, ToReport::Heartbeat(Heartbeat::default()))).await?;
                }
                message = self.from_claim.message() => if message?.is_none() {
                    return Ok(());
                },
                message = self.from_report.message() => {
                    let Some(message) = message? else { return Ok(()) };
                    if let Some(FromReport::Ended(ended)) = message.message {
                        bail!("the session ended: {}", ended.reason);
                    }
                }
                () = self.to_claim.closed() => return Ok(()),
            }
        }
    }
}

/// How many sessions the scheduler lists.
pub(crate) async fn listed(channel: Channel) -> anyhow::Result<usize> {
    let mut service = WorkerServiceClient::new(channel);
    let (mut count, mut page_token) = (0, String::new());
    loop {
        let request = ListWorkersRequest {
            page_size: limits::PAGE,
            page_token,
        };
        let page = service.list_workers(request).await?.into_inner();
        count += page.workers.len();
        if page.next_page_token.is_empty() {
            return Ok(count);
        }
        page_token = page.next_page_token;
    }
}

fn claim(message: ToClaim) -> ClaimTaskRequest {
    ClaimTaskRequest {
        message: Some(message),
    }
}

fn report(sequence: u64, message: ToReport) -> ReportProgressRequest {
    ReportProgressRequest {
        sequence,
        message: Some(message),
    }
}
