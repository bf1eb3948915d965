//! WatchTask: a snapshot, every update, the end; resumable on any replica.
//!
//! The stream carries what the database says, never what memory says: a wake-up only makes it look, so every watcher
//! sees everything, whichever replica it asked.

use std::{pin::Pin, time::Duration};

use tasklease_proto::{
    convert::duration_to_wire,
    v1::{self, watch_task_response::Update},
};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::Status;

use super::{Api, Lifetime};
use crate::{
    domain::{
        error::Error,
        ids::{LeaseNo, TaskId},
        state::TaskState,
        task::{EventCursor, TaskRecord},
    },
    engine::{Engine, hub::Watcher},
    store::{Detail, StoredEvent},
};

/// What WatchTask answers with.
pub(super) type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchTaskResponse, Status>> + Send>>;

/// Events read at once.
const EVENTS: i64 = 500;

/// Updates that may wait for a slow client.
const BUFFER: usize = 16;

/// How often to look without being woken, while other replicas may lose a ring.
const LOOK_IN_COMPANY: Duration = Duration::from_secs(1);
/// The same while this is the only replica.
const LOOK_ALONE: Duration = Duration::from_secs(15);

type Sender = mpsc::Sender<Result<v1::WatchTaskResponse, Status>>;

/// Begins to follow a task.
///
/// # Errors
/// An unknown task, a cursor that is none, too many watchers.
pub(super) async fn open(api: &Api, task: TaskId, cursor: &str) -> Result<WatchStream, Error> {
    let cursor = parse_cursor(cursor)?;
    if api.engine.hub().len() >= api.limits.watched_tasks {
        return Err(Error::Overloaded("too many tasks are watched on this replica"));
    }
    // Watching begins before the first look, so that nothing falls between.
    let watcher = api.engine.hub().watch(task);
    let record = api
        .engine
        .db()
        .read_task(task, Detail::Full)
        .await?
        .ok_or(Error::TaskNotFound(task))?;
    let (sender, receiver) = mpsc::channel(BUFFER);
    let follow = Follow {
        engine: api.engine.clone(),
        task,
        cursor,
        sender,
        lifetime: api.streams.begin(),
    };
    api.streams.spawn(async move {
        if let Err(error) = follow.run(watcher, record).await {
            tracing::debug!(%error, %task, "a watch ended early");
        }
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

struct Follow {
    engine: Engine,
    task: TaskId,
    cursor: EventCursor,
    sender: Sender,
    lifetime: Lifetime,
}

/// The client is gone; nobody needs to know.
struct ClientGone;

impl Follow {
    async fn run(mut self, mut watcher: Watcher, mut record: TaskRecord) -> Result<(), Error> {
        if !record.state.is_final() && self.send(Update::Snapshot(record.clone().into())).await.is_err() {
            return Ok(());
        }
        let mut shown = standing(&record);
        loop {
            let events = match self.engine.db().read_events(self.task, self.cursor, EVENTS).await {
                Ok(events) => events,
                Err(error) => return self.fail(error.into()).await,
            };
            let full = i64::try_from(events.len()).is_ok_and(|n| n == EVENTS);
            let changed = (standing(&record) != shown && !record.state.is_final()).then(|| record.clone());
            shown = standing(&record);
            if self.send_all(events, changed).await.is_err() {
                return Ok(());
            }
            if full {
                continue;
            }
            if record.state.is_final() {
                let _ = self.send(Update::Ended(record.into())).await;
                return Ok(());
            }
            if self.wait(&mut watcher).await.is_err() {
                return Ok(());
            }
            record = match self.engine.db().read_task(self.task, Detail::Full).await {
                Ok(Some(record)) => record,
                Ok(None) => {
                    let gone = Error::TaskNotFound(self.task);
                    return self.fail(gone).await;
                }
                Err(error) => return self.fail(error.into()).await,
            };
        }
    }

    /// Waits for news, or the time to look anyway; an error means that the stream must end.
    async fn wait(&mut self, watcher: &mut Watcher) -> Result<(), ClientGone> {
        let look = if self.engine.has_peers() {
            LOOK_IN_COMPANY
        } else {
            LOOK_ALONE
        };
        tokio::select! {
            () = watcher.woken() => Ok(()),
            () = tokio::time::sleep_until(Instant::now() + look) => Ok(()),
            () = self.sender.closed() => Err(ClientGone),
            after = self.lifetime.over() => {
                let after = Some(duration_to_wire(after));
                let _ = self.send(Update::Reconnect(v1::Reconnect { after })).await;
                Err(ClientGone)
            }
        }
    }

    /// Sends events in order, and the task's change between the events of the run before and those after it.
    async fn send_all(
        &mut self,
        events: Vec<StoredEvent>,
        mut changed: Option<TaskRecord>,
    ) -> Result<(), ClientGone> {
        for event in events {
            if let Some(task) =
                changed.take_if(|task| follows(event.event.lease.no, task.state, task.lease_no))
            {
                self.send(Update::Changed(task.into())).await?;
            }
            self.cursor = event.cursor();
            self.send(event.into()).await?;
        }
        match changed {
            Some(task) => self.send(Update::Changed(task.into())).await,
            None => Ok(()),
        }
    }

    async fn send(&mut self, update: Update) -> Result<(), ClientGone> {
        let cursor = format!("{}.{}", self.cursor.lease_no, self.cursor.number);
        let response = v1::WatchTaskResponse {
            cursor,
            update: Some(update),
        };
        self.sender.send(Ok(response)).await.map_err(|_| ClientGone)
    }

    async fn fail(self, error: Error) -> Result<(), Error> {
        let _ = self.sender.send(Err(error.clone().into())).await;
        Err(error)
    }
}

/// True if the events of a lease come after a task's change to a state, at its current or last lease: they come after
/// the start of their run, and before what its end led to.
fn follows(events_of: LeaseNo, state: TaskState, lease_no: LeaseNo) -> bool {
    if state == TaskState::Running {
        events_of >= lease_no
    } else {
        events_of > lease_no
    }
}

/// What a watcher is told of when it changes.
fn standing(task: &TaskRecord) -> impl PartialEq + use<> {
    (
        task.state,
        task.attempt,
        task.lease_no,
        task.cancel_requested,
        task.due_us,
    )
}

fn parse_cursor(text: &str) -> Result<EventCursor, Error> {
    if text.is_empty() {
        return Ok(EventCursor::default());
    }
    text.split_once('.')
        .and_then(|(lease_no, number)| {
            Some(EventCursor {
                lease_no: lease_no.parse().ok()?,
                number: number.parse().ok()?,
            })
        })
        .filter(|cursor| cursor.lease_no >= 0 && cursor.number >= 0)
        .ok_or_else(|| Error::invalid("cursor", "must be a cursor that a watch of this task gave"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_a_run_come_between_its_start_and_what_its_end_led_to() {
        for (events_of, state, lease_no, after) in [
            (1, TaskState::Running, 1, true),
            (1, TaskState::Running, 2, false),
            (1, TaskState::Pending, 1, false),
            (1, TaskState::Scheduled, 1, false),
            (2, TaskState::Pending, 1, true),
        ] {
            assert_eq!(follows(LeaseNo(events_of), state, LeaseNo(lease_no)), after);
        }
    }
}
