//! One ReportProgress stream: heartbeats and reports one way, acknowledgements and cancel requests the other.

use std::{pin::Pin, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use tasklease_proto::{
    convert::duration_to_wire,
    v1::{
        self, report_progress_request::Message as FromWorker, report_progress_response::Message as ToWorker,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use uuid::Uuid;

use super::{Api, Lifetime, attached::Attached, report};
use crate::{
    domain::{
        error::Error,
        ids::{LeaseKey, SessionId},
        limits,
    },
    engine::{Engine, fleet::ReportPush},
};

/// Messages that may wait for a slow worker.
const BUFFER: usize = 64;

/// Messages of one worker that may wait to become durable; beyond it the stream is not read.
const UNACKNOWLEDGED: usize = 256;

const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
const DRAIN_GRACE: Duration = Duration::from_secs(5);

type Sender = mpsc::Sender<Result<v1::ReportProgressResponse, Status>>;

/// A message on its way to the database; resolves to what to tell the worker.
type Pending = Pin<Box<dyn Future<Output = Result<v1::Acknowledgement, Error>> + Send>>;

/// Serves a stream until either side ends it.
pub(super) fn open(
    api: &Api,
    inbound: Streaming<v1::ReportProgressRequest>,
) -> ReceiverStream<Result<v1::ReportProgressResponse, Status>> {
    let (sender, receiver) = mpsc::channel(BUFFER);
    let (engine, lifetime, result_bytes) =
        (api.engine.clone(), api.streams.begin(), api.limits.payload_bytes);
    api.streams.spawn(async move {
        let served = serve(engine, lifetime, inbound, &sender, result_bytes).await;
        match served {
            Ok(()) | Err(End::WorkerGone) => {}
            Err(End::SessionOver(reason)) => {
                let ended = v1::SessionEnded {
                    reason: reason.into(),
                };
                let _ = send(&sender, ToWorker::Ended(ended)).await;
            }
            Err(End::Failed(status)) => {
                let _ = sender.send(Err(status)).await;
            }
        }
    });
    ReceiverStream::new(receiver)
}

/// Why a stream ends.
enum End {
    WorkerGone,
    SessionOver(&'static str),
    Failed(Status),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        match error {
            Error::SessionOver => Self::SessionOver("the session is over"),
            error => Self::Failed(error.into()),
        }
    }
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Failed(status)
    }
}

async fn serve(
    engine: Engine,
    mut lifetime: Lifetime,
    mut inbound: Streaming<v1::ReportProgressRequest>,
    sender: &Sender,
    result_bytes: usize,
) -> Result<(), End> {
    let session = opening(&mut inbound).await?;
    // Boxed, like what follows: an idle stream must not keep the room that only its busy moments need.
    let (generation, mut pushes) = Box::pin(engine.open_report(session)).await?;
    let _attached = Attached::new(&engine, session, generation);
    send(sender, ToWorker::Opened(v1::ReportOpened {})).await?;
    let mut pending: FuturesUnordered<Pending> = FuturesUnordered::new();
    loop {
        tokio::select! {
            message = inbound.message(), if pending.len() < UNACKNOWLEDGED => {
                let Some(request) = message? else { break };
                let sequence = request.sequence;
                match request.message {
                    Some(FromWorker::Heartbeat(_)) => pending.push(heartbeat(engine.clone(), session, sequence)),
                    Some(FromWorker::Reports(batch)) => {
                        let taken = Box::pin(take_reports(&engine, session, sequence, batch, result_bytes)).await?;
                        pending.push(taken);
                    }
                    Some(FromWorker::Goodbye(_)) => {
                        acknowledge_all(sender, &mut pending).await?;
                        Box::pin(engine.goodbye(session)).await?;
                        return acknowledge(sender, acknowledged(sequence)).await;
                    }
                    Some(FromWorker::Open(_)) => return Err(Error::Protocol("open comes once").into()),
                    None => return Err(Error::Protocol("a message must say something").into()),
                }
            }
            Some(done) = pending.next() => acknowledge(sender, done?).await?,
            pushed = pushes.recv() => match pushed {
                Some(ReportPush::Cancel(orders)) => {
                    let cancels = orders.into_iter().map(|order| v1::CancelNotice {
                        lease: Some(report::lease_ref(order.key)),
                        reason: order.reason,
                        grace: Some(duration_to_wire(order.grace)),
                    });
                    let batch = v1::CancelBatch { cancels: cancels.collect() };
                    send(sender, ToWorker::Cancels(batch)).await?;
                }
                Some(ReportPush::Stale(keys)) => {
                    let stale = keys.into_iter().map(report::lease_ref).collect();
                    let notice = v1::Acknowledgement { stale, ..Default::default() };
                    send(sender, ToWorker::Acknowledgement(notice)).await?;
                }
                Some(ReportPush::Ended(reason)) => return Err(End::SessionOver(reason)),
                // A newer stream took this one's place; what came on this one is still acknowledged here.
                None => break,
            },
            after = lifetime.over() => {
                let notice = v1::Drain { reconnect_after: Some(duration_to_wire(after)) };
                send(sender, ToWorker::Drain(notice)).await?;
                acknowledge_all(sender, &mut pending).await?;
                return Box::pin(drain(&engine, session, sender, inbound, result_bytes)).await;
            }
        }
    }
    acknowledge_all(sender, &mut pending).await
}

async fn opening(inbound: &mut Streaming<v1::ReportProgressRequest>) -> Result<SessionId, End> {
    let first = match tokio::time::timeout(OPEN_TIMEOUT, inbound.message()).await {
        Err(_) => return Err(Error::Protocol("the first message, open, did not come in time").into()),
        Ok(message) => message?,
    };
    let Some(FromWorker::Open(open)) = first.and_then(|request| request.message) else {
        return Err(Error::Protocol("the first message must be open").into());
    };
    let invalid = |_| Error::invalid("open.session_id", "must be the id of a session");
    Ok(SessionId(Uuid::try_parse(&open.session_id).map_err(invalid)?))
}

/// Goes on taking reports until the worker closes the stream, for a while.
async fn drain(
    engine: &Engine,
    session: SessionId,
    sender: &Sender,
    mut inbound: Streaming<v1::ReportProgressRequest>,
    result_bytes: usize,
) -> Result<(), End> {
    let rest = async {
        while let Some(request) = inbound.message().await? {
            let sequence = request.sequence;
            let done = match request.message {
                Some(FromWorker::Heartbeat(_)) => heartbeat(engine.clone(), session, sequence).await?,
                Some(FromWorker::Reports(batch)) => {
                    take_reports(engine, session, sequence, batch, result_bytes)
                        .await?
                        .await?
                }
                Some(FromWorker::Goodbye(_)) => {
                    engine.goodbye(session).await?;
                    return acknowledge(sender, acknowledged(sequence)).await;
                }
                Some(FromWorker::Open(_)) | None => return Ok(()),
            };
            acknowledge(sender, done).await?;
        }
        Ok(())
    };
    tokio::time::timeout(DRAIN_GRACE, rest).await.unwrap_or(Ok(()))
}

fn heartbeat(engine: Engine, session: SessionId, sequence: u64) -> Pending {
    async move {
        match engine.heartbeat(session).await {
            Ok(()) => Ok(acknowledged(sequence)),
            Err(Error::SessionOver) => Err(Error::SessionOver),
            // Not stored, so not acknowledged; the worker sends another.
            Err(_) => Ok(v1::Acknowledgement::default()),
        }
    }
    .boxed()
}

/// Queues reports in order; what comes back resolves once all of them are durable.
async fn take_reports(
    engine: &Engine,
    session: SessionId,
    sequence: u64,
    batch: v1::ReportBatch,
    result_bytes: usize,
) -> Result<Pending, Error> {
    if batch.reports.len() > limits::REPORTS {
        return Err(Error::invalid(
            "reports",
            format!("must be at most {}", limits::REPORTS),
        ));
    }
    let mut reports = Vec::with_capacity(batch.reports.len());
    let mut refused = Vec::new();
    for wire in batch.reports {
        match report::check(wire, result_bytes) {
            Ok(checked) => reports.push(checked),
            Err(refusal) => refused.push(refusal),
        }
    }
    let queued = engine.report(session, reports).await?;
    let engine = engine.clone();
    Ok(async move {
        let stale: Vec<LeaseKey> = engine.acknowledge(queued).await?;
        let stale = stale.into_iter().map(report::lease_ref).collect();
        Ok(v1::Acknowledgement {
            sequences: vec![sequence],
            stale,
            refused,
        })
    }
    .boxed())
}

fn acknowledged(sequence: u64) -> v1::Acknowledgement {
    v1::Acknowledgement {
        sequences: vec![sequence],
        ..Default::default()
    }
}

async fn acknowledge_all(sender: &Sender, pending: &mut FuturesUnordered<Pending>) -> Result<(), End> {
    while let Some(done) = pending.next().await {
        acknowledge(sender, done?).await?;
    }
    Ok(())
}

async fn acknowledge(sender: &Sender, acknowledgement: v1::Acknowledgement) -> Result<(), End> {
    if acknowledgement == v1::Acknowledgement::default() {
        return Ok(());
    }
    send(sender, ToWorker::Acknowledgement(acknowledgement)).await
}

async fn send(sender: &Sender, message: ToWorker) -> Result<(), End> {
    sender
        .send(Ok(v1::ReportProgressResponse {
            message: Some(message),
        }))
        .await
        .map_err(|_| End::WorkerGone)
}
