//! One ClaimTask stream: hello and session, then credit one way and leases the other.

use std::time::Duration;

use prost::Message as _;
use tasklease_proto::{
    convert::duration_to_wire,
    v1::{self, claim_task_request::Message as FromWorker, claim_task_response::Message as ToWorker},
};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Api, Lifetime, attached::Attached, hello};
use crate::{
    domain::{
        error::Error,
        ids::{LaneId, SessionId},
        limits,
    },
    engine::{ClaimPush, Engine, Generation, Opened},
    store::ClaimedTask,
};

/// Messages that may wait for a slow worker; more tasks wait in the session, bounded by its credit.
const BUFFER: usize = 16;

/// How often an idle stream gets a message: many proxies close a stream that is silent for a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// How long the stream stays open after a drain notice, for the worker to open its next one.
const DRAIN_GRACE: Duration = Duration::from_secs(5);

/// Bytes of a leased task's framing, beside its own encoding.
const TASK_OVERHEAD: usize = 16;

type Sender = mpsc::Sender<Result<v1::ClaimTaskResponse, Status>>;

/// Serves a stream until either side ends it.
pub(super) fn open(
    api: &Api,
    inbound: Streaming<v1::ClaimTaskRequest>,
) -> ReceiverStream<Result<v1::ClaimTaskResponse, Status>> {
    let (sender, receiver) = mpsc::channel(BUFFER);
    let (engine, lifetime) = (api.engine.clone(), api.streams.begin());
    api.streams.spawn(async move {
        if let Err(status) = serve(engine, lifetime, inbound, &sender).await {
            let _ = sender.send(Err(status)).await;
        }
    });
    ReceiverStream::new(receiver)
}

async fn serve(
    engine: Engine,
    mut lifetime: Lifetime,
    mut inbound: Streaming<v1::ClaimTaskRequest>,
    sender: &Sender,
) -> Result<(), Status> {
    let hello = match tokio::time::timeout(limits::FIRST_MESSAGE_TIMEOUT, inbound.message()).await {
        Err(_) => return Err(Error::Protocol("the first message, hello, did not come in time").into()),
        Ok(message) => match message?.and_then(|message| message.message) {
            Some(FromWorker::Hello(hello)) => hello,
            _ => return Err(Error::Protocol("the first message must be hello").into()),
        },
    };
    // Boxed, like the end below: an idle stream must not keep the room that only its first and last moments need.
    let opened = Box::pin(introduce(&engine, hello)).await?;
    let Opened {
        session,
        resumed,
        generation,
        mut tasks,
    } = opened;
    let attached = Attached::new(&engine, session, generation);
    let timing = engine.timing();
    let welcome = v1::SessionOpened {
        session_id: session.to_string(),
        heartbeat_interval: Some(duration_to_wire(timing.heartbeat)),
        lease_duration: Some(duration_to_wire(timing.lease)),
        accept_timeout: Some(duration_to_wire(timing.accept)),
        resumed,
    };
    if send(sender, ToWorker::Session(welcome)).await.is_err() {
        return Ok(());
    }
    let mut quiet_until = Instant::now() + KEEP_ALIVE;
    loop {
        tokio::select! {
            message = inbound.message() => match message?.and_then(|message| message.message) {
                Some(FromWorker::Credit(credit)) => add_credit(&engine, session, generation, &credit)?,
                Some(FromWorker::Hello(_)) => return Err(Error::Protocol("hello must be sent exactly once").into()),
                None => return Ok(()),
            },
            // None: a newer stream took this one's place.
            pushed = tasks.recv() => {
                let Some(pushed) = pushed else { return Ok(()) };
                let goes_on = push(&engine, sender, pushed).await;
                if !matches!(goes_on, Ok(GoesOn::Yes)) {
                    return Ok(());
                }
                quiet_until = Instant::now() + KEEP_ALIVE;
            }
            () = tokio::time::sleep_until(quiet_until) => {
                if send(sender, ToWorker::KeepAlive(v1::KeepAlive {})).await.is_err() {
                    return Ok(());
                }
                quiet_until = Instant::now() + KEEP_ALIVE;
            }
            after = lifetime.over() => {
                // From here on nothing is pushed, because the worker might not read it.
                drop(attached);
                return Box::pin(drain(&engine, sender, inbound, tasks, after)).await;
            }
        }
    }
}

/// Asks the worker to go elsewhere, hands out what was claimed before, and waits for it to close.
async fn drain(
    engine: &Engine,
    sender: &Sender,
    mut inbound: Streaming<v1::ClaimTaskRequest>,
    mut tasks: mpsc::UnboundedReceiver<ClaimPush>,
    after: Duration,
) -> Result<(), Status> {
    while let Ok(pushed) = tasks.try_recv() {
        if !matches!(push(engine, sender, pushed).await, Ok(GoesOn::Yes)) {
            return Ok(());
        }
    }
    let notice = v1::Drain {
        reconnect_after: Some(duration_to_wire(after)),
    };
    if send(sender, ToWorker::Drain(notice)).await.is_err() {
        return Ok(());
    }
    let closed = async { while let Ok(Some(_)) = inbound.message().await {} };
    let _ = tokio::time::timeout(DRAIN_GRACE, closed).await;
    Ok(())
}

fn add_credit(
    engine: &Engine,
    session: SessionId,
    generation: Generation,
    credit: &v1::Credit,
) -> Result<(), Error> {
    match u32::try_from(credit.tasks) {
        Ok(tasks @ 1..=limits::CREDIT_AT_ONCE) => {
            engine.add_credit(session, generation, tasks);
            Ok(())
        }
        _ => Err(Error::invalid(
            "credit.tasks",
            format!("must be 1 to {}, got {}", limits::CREDIT_AT_ONCE, credit.tasks),
        )),
    }
}

async fn introduce(engine: &Engine, hello: v1::WorkerHello) -> Result<Opened, Error> {
    let hello = hello::check(hello)?;
    engine.open_claim(hello.resume, &hello.profile, &hello.held).await
}

/// The worker closed its side.
struct WorkerGone;

async fn send(sender: &Sender, message: ToWorker) -> Result<(), WorkerGone> {
    sender
        .send(Ok(v1::ClaimTaskResponse {
            message: Some(message),
        }))
        .await
        .map_err(|_| WorkerGone)
}

/// Whether a stream goes on.
enum GoesOn {
    Yes,
    /// Its session is over.
    No,
}

async fn push(engine: &Engine, sender: &Sender, pushed: ClaimPush) -> Result<GoesOn, WorkerGone> {
    match pushed {
        ClaimPush::Tasks(tasks) => {
            send_leases(engine, sender, tasks).await?;
            Ok(GoesOn::Yes)
        }
        ClaimPush::Ended(reason) => {
            let reason = reason.into();
            send(sender, ToWorker::Ended(v1::SessionEnded { reason })).await?;
            Ok(GoesOn::No)
        }
    }
}

/// Sends leases in messages that fit.
async fn send_leases(engine: &Engine, sender: &Sender, pushed: Vec<ClaimedTask>) -> Result<(), WorkerGone> {
    let mut tasks = Vec::with_capacity(pushed.len());
    let mut bytes = 0;
    let mut names = LaneNames::new(engine);
    for claimed in pushed {
        let task = leased_task(&mut names, claimed);
        let size = task.encoded_len() + TASK_OVERHEAD;
        if bytes + size > limits::MESSAGE_BYTES && !tasks.is_empty() {
            let tasks = std::mem::take(&mut tasks);
            send(sender, ToWorker::Leases(v1::LeaseBatch { tasks })).await?;
            bytes = 0;
        }
        bytes += size;
        tasks.push(task);
    }
    if tasks.is_empty() {
        return Ok(());
    }
    send(sender, ToWorker::Leases(v1::LeaseBatch { tasks })).await
}

/// Looks up the names of lanes, of which one push has few, one after the other.
struct LaneNames<'a> {
    engine: &'a Engine,
    last: Option<LaneId>,
    queue: String,
    task_type: String,
}

impl<'a> LaneNames<'a> {
    fn new(engine: &'a Engine) -> Self {
        Self {
            engine,
            last: None,
            queue: String::new(),
            task_type: String::new(),
        }
    }

    /// The queue and the task type of a lane.
    fn of(&mut self, lane: LaneId) -> (String, String) {
        if self.last != Some(lane) {
            self.last = Some(lane);
            // A lane that a session takes from was looked up when the session opened.
            (self.queue, self.task_type) = self
                .engine
                .lane_name(lane)
                .map(|(queue, task_type)| (queue.name.to_string(), task_type.to_string()))
                .unwrap_or_default();
        }
        (self.queue.clone(), self.task_type.clone())
    }
}

fn leased_task(names: &mut LaneNames<'_>, claimed: ClaimedTask) -> v1::LeasedTask {
    let ClaimedTask {
        lease,
        payload,
        traceparent,
        ..
    } = claimed;
    let (queue, task_type) = names.of(lease.lane);
    v1::LeasedTask {
        task_id: lease.key.task.to_string(),
        lease_token: i64::from(lease.key.token.0),
        task_type,
        queue,
        payload_json: payload.into_bytes().into(),
        attempt: i32::from(lease.attempt),
        max_attempts: i32::from(lease.max_attempts),
        run_timeout: lease.run_timeout.map(duration_to_wire),
        traceparent: traceparent.unwrap_or_default(),
    }
}
