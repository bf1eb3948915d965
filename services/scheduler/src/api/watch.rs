//! WatchTask: a snapshot, every update, the end; resumable on any replica.
//!
//! The stream carries what the database says, never what memory says: the engine only tells that something is new, so every
//! watcher sees everything, whichever replica it asked. Nothing is read before the client has room for it, so a client
//! that does not read costs no more than one message and one page of events.

use std::{pin::Pin, time::Duration};

use jiff::Timestamp;
use tasklease_proto::{
    convert::duration_to_wire,
    v1::{self, watch_task_response::Update},
};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::Status;

use super::{Api, Lifetime, task};
use crate::{
    domain::{
        error::Error,
        ids::{LeaseToken, TaskId},
        state::TaskState,
        task::{EventCursor, TaskRecord, TaskVersion},
    },
    engine::{Engine, Seen, Watcher},
    store::{Detail, EventPage, StoreError, StoredEvent},
};

/// What WatchTask answers with.
pub(super) type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchTaskResponse, Status>> + Send>>;

/// Events read at once, and bytes of them after which no further one begins.
const EVENTS: i64 = 500;
const EVENT_BYTES: i64 = 512 << 10;

/// Updates that may wait for a slow client. A snapshot may have some MiB.
const BUFFER: usize = 1;

/// How long a client that reads nothing may take to make room for the notice that the stream ends.
const LAST_WORD: Duration = Duration::from_secs(1);

type Sender = mpsc::Sender<Result<v1::WatchTaskResponse, Status>>;

/// Begins to follow a task.
///
/// # Errors
/// An unknown task, a cursor that is none, too many watchers.
pub(super) async fn open(
    api: &Api,
    id: TaskId,
    request: &v1::WatchTaskRequest,
) -> Result<WatchStream, Error> {
    let cursor = parse_cursor(&request.cursor)?;
    if api.engine.watchers().len() >= api.limits.watched_tasks {
        return Err(Error::Overloaded("too many tasks are watched on this replica"));
    }
    // Watching begins before the first look, so that nothing falls between.
    let watcher = api.engine.watchers().watch(id);
    let record = api
        .engine
        .db()
        .read_task(id, Detail::Full)
        .await?
        .ok_or(Error::TaskNotFound(id))?;
    let (sender, receiver) = mpsc::channel(BUFFER);
    let follow = Follow {
        engine: api.engine.clone(),
        task: id,
        format: task::payload_format(request.payload_format),
        cursor,
        sender,
        lifetime: api.streams.begin(),
    };
    api.streams.spawn(async move {
        let mut follow = follow;
        // A client that is gone needs to know nothing.
        if let Err(WatchEnd::Failed(error)) = follow.run(watcher, record).await {
            tracing::debug!(%error, task = %id, "a watch ended early");
            follow.last_word(Err(error.into())).await;
        }
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

struct Follow {
    engine: Engine,
    task: TaskId,
    format: v1::PayloadFormat,
    /// The last event that was sent.
    cursor: EventCursor,
    sender: Sender,
    lifetime: Lifetime,
}

/// Why a stream ends before its task.
enum WatchEnd {
    /// The client is gone, or was asked to come again.
    Closed,
    /// The task, or the database, is gone.
    Failed(Error),
}

impl From<StoreError> for WatchEnd {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl Follow {
    async fn run(&mut self, mut watcher: Watcher, record: TaskRecord) -> Result<(), WatchEnd> {
        let mut shown = Shown::of(&record);
        if !shown.state.is_final() {
            self.send_task(Update::Snapshot, record, self.cursor).await?;
        }
        let mut changed = None;
        let mut handled = Seen::NotYet;
        loop {
            self.send_events(&mut changed).await?;
            if let Some(record) = changed.take() {
                self.send_task(Update::Changed, record, self.cursor).await?;
            }
            if shown.state.is_final() {
                let record = self.read(Detail::Full).await?;
                return self.send_task(Update::Ended, record, self.cursor).await;
            }
            let version = self.next_version(&mut watcher, &shown, &mut handled).await?;
            if shown.differs_from(&version) {
                let record = self.read(Detail::Summary).await?;
                let now = Shown::of(&record);
                if now != shown && !now.state.is_final() {
                    changed = Some(record);
                }
                shown = now;
            }
        }
    }

    async fn read(&self, detail: Detail) -> Result<TaskRecord, WatchEnd> {
        let record = self.engine.db().read_task(self.task, detail).await?;
        record.ok_or(WatchEnd::Failed(Error::TaskNotFound(self.task)))
    }

    /// Waits until the task stands otherwise than was shown, or has an event that was not sent.
    async fn next_version(
        &mut self,
        watcher: &mut Watcher,
        shown: &Shown,
        handled: &mut Seen,
    ) -> Result<TaskVersion, WatchEnd> {
        loop {
            let seen = watcher.seen();
            match seen {
                Seen::Gone => return Err(WatchEnd::Failed(Error::TaskNotFound(self.task))),
                // What was seen may be older than what was read since; it is not sent twice.
                Seen::Task(version)
                    if seen != *handled
                        && (shown.differs_from(&version) || version.last_event > self.cursor) =>
                {
                    *handled = seen;
                    return Ok(version);
                }
                Seen::Task(_) | Seen::NotYet => {}
            }
            tokio::select! {
                () = watcher.changed() => {}
                () = self.sender.closed() => return Err(WatchEnd::Closed),
                after = self.lifetime.over() => return Err(self.part(after).await),
            }
        }
    }

    /// Sends all events that were not sent, in order, and the task's change between the events of the run before and
    /// those after it.
    async fn send_events(&mut self, changed: &mut Option<TaskRecord>) -> Result<(), WatchEnd> {
        loop {
            self.wait_for_room().await?;
            let EventPage { events, more } = self
                .engine
                .db()
                .read_events(self.task, self.cursor, EVENTS, EVENT_BYTES)
                .await?;
            for event in events {
                let lease_token = event.event.lease.token;
                if let Some(record) =
                    changed.take_if(|task| follows(lease_token, task.standing.state(), task.lease_token()))
                {
                    self.send_task(Update::Changed, record, self.cursor).await?;
                }
                self.send_event(event).await?;
            }
            if !more {
                return Ok(());
            }
        }
    }

    async fn send_event(&mut self, event: StoredEvent) -> Result<(), WatchEnd> {
        let (cursor, lease_token, attempt) = (event.cursor(), event.event.lease.token, event.attempt);
        self.send(event.into(), cursor, lease_token, attempt).await?;
        self.cursor = cursor;
        Ok(())
    }

    async fn send_task(
        &mut self,
        update: fn(v1::Task) -> Update,
        record: TaskRecord,
        cursor: EventCursor,
    ) -> Result<(), WatchEnd> {
        let (lease_token, attempt) = (record.lease_token(), record.attempt());
        let task = task::with_payload(record, self.format);
        self.send(update(task), cursor, lease_token, attempt).await
    }

    async fn send(
        &mut self,
        update: Update,
        cursor: EventCursor,
        lease_token: LeaseToken,
        attempt: i32,
    ) -> Result<(), WatchEnd> {
        self.wait_for_room().await?;
        let response = response(update, cursor, lease_token, attempt);
        // There is room, and nobody else sends.
        self.sender.send(Ok(response)).await.map_err(|_| WatchEnd::Closed)
    }

    /// Waits until the client has read all but the last update. A client that does not read must not keep a scheduler
    /// from stopping.
    async fn wait_for_room(&mut self) -> Result<(), WatchEnd> {
        let after = tokio::select! {
            biased;
            after = self.lifetime.over() => after,
            room = self.sender.reserve() => return room.map(drop).map_err(|_| WatchEnd::Closed),
        };
        Err(self.part(after).await)
    }

    /// Asks the client to come again.
    async fn part(&mut self, after: Duration) -> WatchEnd {
        let reconnect = Update::Reconnect(v1::Reconnect {
            after: Some(duration_to_wire(after)),
        });
        self.last_word(Ok(response(reconnect, self.cursor, LeaseToken(0), 0)))
            .await;
        WatchEnd::Closed
    }

    async fn last_word(&mut self, word: Result<v1::WatchTaskResponse, Status>) {
        let _ = tokio::time::timeout(LAST_WORD, self.sender.send(word)).await;
    }
}

fn response(
    update: Update,
    cursor: EventCursor,
    lease_token: LeaseToken,
    attempt: i32,
) -> v1::WatchTaskResponse {
    v1::WatchTaskResponse {
        cursor: format!("{}.{}", cursor.lease_token, cursor.number),
        lease_token: i64::from(lease_token.0),
        attempt,
        update: Some(update),
    }
}

/// What a watcher was told of a task.
#[derive(PartialEq, Eq)]
struct Shown {
    state: TaskState,
    lease_token: LeaseToken,
    cancel_requested: bool,
    due_at: Option<Timestamp>,
}

impl Shown {
    fn of(task: &TaskRecord) -> Self {
        Self {
            state: task.standing.state(),
            lease_token: task.lease_token(),
            cancel_requested: task.standing.is_cancel_requested(),
            due_at: task.standing.due_at(),
        }
    }

    fn differs_from(&self, version: &TaskVersion) -> bool {
        let TaskVersion {
            state,
            lease_token,
            cancel_requested,
            due_at,
            last_event: _,
        } = *version;
        *self
            != Self {
                state,
                lease_token,
                cancel_requested,
                due_at,
            }
    }
}

/// True if the events of a lease come after a task's change to a state, at its current or last lease: they come after
/// the start of their run, and before what its end led to.
fn follows(events_of: LeaseToken, state: TaskState, lease_token: LeaseToken) -> bool {
    if state == TaskState::Running {
        events_of >= lease_token
    } else {
        events_of > lease_token
    }
}

fn parse_cursor(text: &str) -> Result<EventCursor, Error> {
    if text.is_empty() {
        return Ok(EventCursor::default());
    }
    text.split_once('.')
        .and_then(|(lease_token, number)| {
            Some(EventCursor {
                lease_token: lease_token.parse().ok()?,
                number: number.parse().ok()?,
            })
        })
        .filter(|cursor| cursor.lease_token >= 0 && cursor.number >= 0)
        .ok_or_else(|| Error::invalid("cursor", "must be a cursor that a watch of this task gave"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_a_run_come_between_its_start_and_what_its_end_led_to() {
        for (events_of, state, lease_token, after) in [
            (1, TaskState::Running, 1, true),
            (1, TaskState::Running, 2, false),
            (1, TaskState::Pending, 1, false),
            (1, TaskState::Scheduled, 1, false),
            (2, TaskState::Pending, 1, true),
        ] {
            assert_eq!(
                follows(LeaseToken(events_of), state, LeaseToken(lease_token)),
                after
            );
        }
    }
}
