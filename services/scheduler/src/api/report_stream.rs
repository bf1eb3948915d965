//! One ReportProgress stream: heartbeats and reports one way, acknowledgements and cancel requests the other.

use std::{collections::HashSet, pin::Pin, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use prost::Message as _;
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

use super::{Api, Lifetime, attached::Attached, hello::held_leases, report};
use crate::{
    domain::{
        error::Error,
        ids::{LeaseKey, SessionId},
        limits,
    },
    engine::{Engine, EventFlow, ReportPush},
};

/// Messages that may wait for a slow worker.
const BUFFER: usize = 64;

/// Messages of one worker that may wait to become durable; beyond that the stream is not read. Many small ones must
/// fit, because heartbeats come behind them.
const UNACKNOWLEDGED: usize = 4_096;

/// Bytes of the messages that may wait to become durable.
const UNACKNOWLEDGED_BYTES: usize = 32 << 20;

const DRAIN_GRACE: Duration = Duration::from_secs(5);

/// How long a goodbye waits for the reports before it.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(2);

type Sender = mpsc::Sender<Result<v1::ReportProgressResponse, Status>>;

/// A message on its way to the database; resolves to what to tell the worker, and the bytes that the message had.
type Pending = Pin<Box<dyn Future<Output = (usize, Result<v1::Acknowledgement, Error>)> + Send>>;

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
            Ok(()) | Err(StreamEnd::WorkerGone) => {}
            Err(StreamEnd::SessionOver(reason)) => {
                let ended = v1::SessionEnded {
                    reason: reason.into(),
                };
                let _ = send(&sender, ToWorker::Ended(ended)).await;
            }
            Err(StreamEnd::Failed(status)) => {
                let _ = sender.send(Err(status)).await;
            }
        }
    });
    ReceiverStream::new(receiver)
}

/// Why a stream ends.
enum StreamEnd {
    WorkerGone,
    SessionOver(&'static str),
    Failed(Status),
}

impl From<Error> for StreamEnd {
    fn from(error: Error) -> Self {
        match error {
            Error::SessionOver => Self::SessionOver("the session is over"),
            error => Self::Failed(error.into()),
        }
    }
}

impl From<Status> for StreamEnd {
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
) -> Result<(), StreamEnd> {
    let open = opening(&mut inbound).await?;
    let session = open.session;
    // Boxed, like what follows: an idle stream must not keep the room that only its busy moments need.
    let (generation, mut pushes) = Box::pin(engine.open_report(session, open.held.as_ref())).await?;
    let _attached = Attached::new(&engine, session, generation);
    send(sender, ToWorker::Opened(v1::ReportOpened {})).await?;
    let mut reports = Reports {
        engine: &engine,
        session,
        result_bytes,
        flow: Arc::default(),
        pending: FuturesUnordered::new(),
        bytes: 0,
    };
    loop {
        tokio::select! {
            message = inbound.message(), if reports.has_room() => {
                let Some(request) = message? else { break };
                if let Taken::Goodbye(sequence) = reports.take(request)? {
                    reports.acknowledge_soon(sender).await?;
                    Box::pin(engine.goodbye(session)).await?;
                    return acknowledge(sender, acknowledged(sequence)).await;
                }
            }
            Some(done) = reports.next() => acknowledge(sender, done?).await?,
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
                Some(ReportPush::Ended(reason)) => return Err(StreamEnd::SessionOver(reason)),
                // A newer stream replaced this one; the messages of this one are still acknowledged here.
                None => break,
            },
            after = lifetime.over() => {
                let notice = v1::Drain { reconnect_after: Some(duration_to_wire(after)) };
                send(sender, ToWorker::Drain(notice)).await?;
                return Box::pin(drain(reports, sender, inbound)).await;
            }
        }
    }
    reports.acknowledge_all(sender).await
}

/// The reports of one stream that are on their way to the database.
struct Reports<'a> {
    engine: &'a Engine,
    session: SessionId,
    result_bytes: usize,
    flow: Arc<EventFlow>,
    pending: FuturesUnordered<Pending>,
    bytes: usize,
}

/// What a message of a worker was.
enum Taken {
    /// It is on its way.
    Pending,
    /// The worker leaves; its sequence.
    Goodbye(u64),
}

impl Reports<'_> {
    fn has_room(&self) -> bool {
        self.pending.len() < UNACKNOWLEDGED && self.bytes < UNACKNOWLEDGED_BYTES
    }

    /// Takes a message; none waits for one before it.
    fn take(&mut self, request: v1::ReportProgressRequest) -> Result<Taken, Error> {
        let bytes = request.encoded_len();
        let sequence = request.sequence;
        let done = match request.message {
            Some(FromWorker::Heartbeat(beat)) => {
                // Before anything that comes after it on the stream.
                let held = beat.held.as_ref().map(|held| held_leases(&held.leases));
                let unknown = held.map(|held| self.engine.compare_leases(self.session, &held));
                heartbeat(
                    self.engine.clone(),
                    self.session,
                    sequence,
                    unknown.unwrap_or_default(),
                )
                .boxed()
            }
            Some(FromWorker::Reports(batch)) => self.take_reports(sequence, batch)?,
            Some(FromWorker::Goodbye(_)) => return Ok(Taken::Goodbye(sequence)),
            Some(FromWorker::Open(_)) => return Err(Error::Protocol("open must be sent exactly once")),
            None => return Err(Error::Protocol("a message must say something")),
        };
        self.bytes += bytes;
        self.pending.push(async move { (bytes, done.await) }.boxed());
        Ok(Taken::Pending)
    }

    /// Queues reports in order; what comes back resolves once all of them are durable.
    fn take_reports(
        &self,
        sequence: u64,
        batch: v1::ReportBatch,
    ) -> Result<futures_util::future::BoxFuture<'static, Result<v1::Acknowledgement, Error>>, Error> {
        if batch.reports.len() > limits::REPORTS {
            return Err(Error::invalid(
                "reports",
                format!("must be at most {}, got {}", limits::REPORTS, batch.reports.len()),
            ));
        }
        let mut reports = Vec::with_capacity(batch.reports.len());
        let mut refused = Vec::new();
        for wire in batch.reports {
            match report::check(wire, self.result_bytes) {
                Ok(checked) => reports.push(checked),
                Err(refusal) => refused.push(refusal),
            }
        }
        let durable = self.engine.report(self.session, reports, &self.flow);
        Ok(async move {
            let not_taken = durable.await?;
            let unstorable = not_taken.refused.into_iter().map(|key| v1::RefusedReport {
                lease: Some(report::lease_ref(key)),
                message: "the database cannot store what the outcome says".into(),
            });
            refused.extend(unstorable);
            Ok(v1::Acknowledgement {
                sequences: vec![sequence],
                stale: not_taken.stale.into_iter().map(report::lease_ref).collect(),
                refused,
            })
        }
        .boxed())
    }

    /// The next message that is durable; `None` if none is under way.
    async fn next(&mut self) -> Option<Result<v1::Acknowledgement, Error>> {
        let (bytes, done) = self.pending.next().await?;
        self.bytes -= bytes;
        Some(done)
    }

    /// Acknowledges what becomes durable soon, before a worker's goodbye hands back the rest: progress that the database
    /// does not take is not worth the wait.
    async fn acknowledge_soon(&mut self, sender: &Sender) -> Result<(), StreamEnd> {
        let acknowledged = tokio::time::timeout(GOODBYE_PATIENCE, self.acknowledge_all(sender)).await;
        acknowledged.unwrap_or(Ok(()))
    }

    async fn acknowledge_all(&mut self, sender: &Sender) -> Result<(), StreamEnd> {
        while let Some(done) = self.next().await {
            acknowledge(sender, done?).await?;
        }
        Ok(())
    }
}

/// How a worker opens the stream.
struct Opening {
    session: SessionId,
    held: Option<HashSet<LeaseKey>>,
}

async fn opening(inbound: &mut Streaming<v1::ReportProgressRequest>) -> Result<Opening, StreamEnd> {
    let first = match tokio::time::timeout(limits::FIRST_MESSAGE_TIMEOUT, inbound.message()).await {
        Err(_) => return Err(Error::Protocol("the first message, open, did not come in time").into()),
        Ok(message) => message?,
    };
    let Some(FromWorker::Open(open)) = first.and_then(|request| request.message) else {
        return Err(Error::Protocol("the first message must be open").into());
    };
    let invalid = |_| Error::invalid("open.session_id", "must be the id of a session");
    Ok(Opening {
        session: SessionId(Uuid::try_parse(&open.session_id).map_err(invalid)?),
        held: open.held.as_ref().map(|held| held_leases(&held.leases)),
    })
}

/// Goes on taking reports until the worker closes the stream, for a while.
async fn drain(
    mut reports: Reports<'_>,
    sender: &Sender,
    mut inbound: Streaming<v1::ReportProgressRequest>,
) -> Result<(), StreamEnd> {
    let rest = async {
        loop {
            tokio::select! {
                message = inbound.message(), if reports.has_room() => {
                    let Some(request) = message? else { break };
                    if let Taken::Goodbye(sequence) = reports.take(request)? {
                        reports.acknowledge_soon(sender).await?;
                        reports.engine.goodbye(reports.session).await?;
                        return acknowledge(sender, acknowledged(sequence)).await;
                    }
                }
                Some(done) = reports.next() => acknowledge(sender, done?).await?,
            }
        }
        reports.acknowledge_all(sender).await
    };
    tokio::time::timeout(DRAIN_GRACE, rest).await.unwrap_or(Ok(()))
}

async fn heartbeat(
    engine: Engine,
    session: SessionId,
    sequence: u64,
    unknown: Vec<LeaseKey>,
) -> Result<v1::Acknowledgement, Error> {
    match engine.heartbeat(session).await {
        Ok(()) => {
            if let Err(error) = engine.tell_unknown(session, unknown).await {
                tracing::debug!(%error, "leases of a worker wait to be compared");
            }
            Ok(acknowledged(sequence))
        }
        Err(Error::SessionOver) => Err(Error::SessionOver),
        // Not stored, so not acknowledged; the worker sends another.
        Err(_) => Ok(v1::Acknowledgement::default()),
    }
}

fn acknowledged(sequence: u64) -> v1::Acknowledgement {
    v1::Acknowledgement {
        sequences: vec![sequence],
        ..Default::default()
    }
}

async fn acknowledge(sender: &Sender, acknowledgement: v1::Acknowledgement) -> Result<(), StreamEnd> {
    if acknowledgement == v1::Acknowledgement::default() {
        return Ok(());
    }
    send(sender, ToWorker::Acknowledgement(acknowledgement)).await
}

async fn send(sender: &Sender, message: ToWorker) -> Result<(), StreamEnd> {
    sender
        .send(Ok(v1::ReportProgressResponse {
            message: Some(message),
        }))
        .await
        .map_err(|_| StreamEnd::WorkerGone)
}
