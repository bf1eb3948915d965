//! One stream to a scheduler: finds a replica and passes messages both ways, without reading them.

use std::{marker::PhantomData, time::Duration};

use futures_util::future::BoxFuture;
use tasklease_client::{Connector, ReplicaConnection, is_transport_failure};
use tasklease_proto::{
    limits,
    v1::{
        ClaimTaskRequest, ClaimTaskResponse, ReportProgressRequest, ReportProgressResponse,
        worker_service_client::WorkerServiceClient,
    },
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::AbortHandle,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Response, Status, Streaming, transport::Channel};

use super::{
    event::{Event, Incoming},
    kept_stream::Target,
};

/// How long a scheduler may take to answer the first message of a stream.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Tells the streams of a worker apart, over all reconnects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct StreamId(pub(crate) u64);

/// A stream that is open or being opened; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Stream<Req> {
    pub(crate) id: StreamId,
    /// `None` once the worker has closed its side. The number of messages that wait here is bounded,
    /// because the actor bounds the credit messages and batches that are under way.
    outbound: Option<UnboundedSender<Req>>,
    pub(crate) picked: Option<ReplicaConnection>,
    task: AbortHandle,
}

impl<Req> Stream<Req> {
    pub(crate) fn send(&self, message: Req) {
        if let Some(outbound) = &self.outbound {
            // A stream that breaks reports that itself.
            let _ = outbound.send(message);
        }
    }

    /// Closes this side; the scheduler may still speak.
    pub(crate) fn finish_sending(&mut self) {
        self.outbound = None;
    }
}

impl<Req> Drop for Stream<Req> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The two kinds of stream.
pub(crate) trait Rpc: Sized + Send + 'static {
    type Answer: Send + 'static;

    fn open(
        client: WorkerServiceClient<Channel>,
        outbound: UnboundedReceiver<Self>,
    ) -> BoxFuture<'static, Result<Response<Streaming<Self::Answer>>, Status>>;

    fn event(id: StreamId, incoming: Incoming<Self::Answer>) -> Event;
}

impl Rpc for ClaimTaskRequest {
    type Answer = ClaimTaskResponse;

    fn open(
        mut client: WorkerServiceClient<Channel>,
        outbound: UnboundedReceiver<Self>,
    ) -> BoxFuture<'static, Result<Response<Streaming<Self::Answer>>, Status>> {
        Box::pin(async move { client.claim_task(UnboundedReceiverStream::new(outbound)).await })
    }

    fn event(id: StreamId, incoming: Incoming<Self::Answer>) -> Event {
        Event::Claim(id, incoming)
    }
}

impl Rpc for ReportProgressRequest {
    type Answer = ReportProgressResponse;

    fn open(
        mut client: WorkerServiceClient<Channel>,
        outbound: UnboundedReceiver<Self>,
    ) -> BoxFuture<'static, Result<Response<Streaming<Self::Answer>>, Status>> {
        Box::pin(async move {
            client
                .report_progress(UnboundedReceiverStream::new(outbound))
                .await
        })
    }

    fn event(id: StreamId, incoming: Incoming<Self::Answer>) -> Event {
        Event::Report(id, incoming)
    }
}

/// Starts to open a stream; everything else arrives as events.
pub(crate) fn open<R: Rpc>(
    id: StreamId,
    connector: Connector,
    target: Target,
    events: UnboundedSender<Event>,
) -> Stream<R> {
    let (outbound, messages) = unbounded_channel();
    let closing = Closing::<R> {
        id,
        events,
        status: Some(Status::internal("the code that carries the stream panicked")),
        request: PhantomData,
    };
    let task = tokio::spawn(async move {
        let closed = carry::<R>(id, &connector, target, messages, &closing.events).await;
        closing.tell(closed.err());
    });
    Stream {
        id,
        outbound: Some(outbound),
        picked: None,
        task: task.abort_handle(),
    }
}

/// Tells the actor that a stream is over, also if the code of the stream panics: otherwise the actor
/// would wait for that stream for ever.
struct Closing<R: Rpc> {
    id: StreamId,
    events: UnboundedSender<Event>,
    status: Option<Status>,
    request: PhantomData<R>,
}

impl<R: Rpc> Closing<R> {
    fn tell(mut self, status: Option<Status>) {
        self.status = status;
    }
}

impl<R: Rpc> Drop for Closing<R> {
    fn drop(&mut self) {
        let closed = Incoming::Closed(self.status.take());
        // If the actor has ended, so has the worker.
        let _ = self.events.send(R::event(self.id, closed));
    }
}

async fn carry<R: Rpc>(
    id: StreamId,
    connector: &Connector,
    target: Target,
    messages: UnboundedReceiver<R>,
    events: &UnboundedSender<Event>,
) -> Result<(), Status> {
    let picked = match target {
        Target::Any => connector.pick().await,
        Target::Other(last) => connector.pick_other(&last).await,
        Target::Same(picked) => Ok(picked),
    };
    let picked = picked.map_err(|error| Status::unavailable(error.to_string()))?;
    let _ = events.send(R::event(id, Incoming::Connected(picked.clone())));
    let carried = exchange::<R>(id, picked.channel(), messages, events).await;
    match &carried {
        Err(status) if status.code() == Code::Unavailable || is_transport_failure(status) => {
            connector.failed(&picked);
        }
        _ => connector.succeeded(&picked),
    }
    carried
}

async fn exchange<R: Rpc>(
    id: StreamId,
    channel: Channel,
    messages: UnboundedReceiver<R>,
    events: &UnboundedSender<Event>,
) -> Result<(), Status> {
    let client = WorkerServiceClient::new(channel)
        .max_decoding_message_size(limits::ACCEPTED_BYTES)
        .max_encoding_message_size(limits::ACCEPTED_BYTES);
    let opening = async {
        let mut answers = R::open(client, messages).await?.into_inner();
        let first = answers.message().await?;
        Ok::<_, Status>((answers, first))
    };
    let silent = || Status::unavailable("the scheduler did not answer the first message of the stream");
    let opened = tokio::time::timeout(ANSWER_TIMEOUT, opening).await;
    let (mut answers, mut next) = opened.map_err(|_| silent())??;
    while let Some(answer) = next {
        let _ = events.send(R::event(id, Incoming::Message(answer)));
        next = answers.message().await?;
    }
    Ok(())
}
