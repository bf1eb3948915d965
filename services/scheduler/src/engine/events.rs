//! Appends progress and log lines, many workers' in one statement.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    batcher::{self, BatchLimit},
    doorman::Doorman,
    hub::WatchHub,
};
use crate::{
    domain::{
        error::Error,
        report::{EventKind, TaskEvent},
    },
    store::{Database, doorbell::Ring},
};

const LIMIT: BatchLimit = BatchLimit {
    queue: 4_096,
    weight: 2 << 20,
    in_flight: 1,
};

const RETRY: Duration = Duration::from_millis(200);

struct Append {
    events: Vec<TaskEvent>,
    reply: oneshot::Sender<()>,
}

/// The way in for events.
pub(super) struct EventLog {
    queue: mpsc::Sender<Append>,
}

impl EventLog {
    pub(super) fn start(
        db: Database,
        hub: Arc<WatchHub>,
        doorman: Arc<Doorman>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let stopping = stop.clone();
        let flush = move |batch: Vec<Append>| {
            let (db, hub, doorman, stop) = (db.clone(), hub.clone(), doorman.clone(), stopping.clone());
            async move {
                let (events, replies): (Vec<_>, Vec<_>) = batch
                    .into_iter()
                    .map(|append| (append.events, append.reply))
                    .unzip();
                let events = events.concat();
                if !store(&db, &events, &stop).await {
                    return;
                }
                hub.wake(
                    events
                        .iter()
                        .map(|event| event.lease.task)
                        .collect::<HashSet<_>>(),
                );
                doorman.ring(Ring {
                    watch: true,
                    ..Ring::default()
                });
                for reply in replies {
                    let _ = reply.send(());
                }
            }
        };
        let weigh = |append: &Append| append.events.iter().map(weight).sum();
        Self {
            queue: batcher::start(LIMIT, weigh, flush, tasks, stop),
        }
    }

    /// Appends events and returns once they are durable.
    pub(super) async fn append(&self, events: Vec<TaskEvent>) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        let gone = |_| Error::Unavailable("the scheduler is shutting down");
        self.queue
            .send(Append { events, reply })
            .await
            .map_err(|_| gone(()))?;
        answer.await.map_err(|_| gone(()))
    }
}

fn weight(event: &TaskEvent) -> usize {
    128 + match &event.kind {
        EventKind::Progress { message, card, .. } => message.len() + card.as_ref().map_or(0, String::len),
        EventKind::Log { message, .. } => message.len(),
    }
}

/// True once the events are stored, or were dropped because they cannot be.
async fn store(db: &Database, events: &[TaskEvent], stop: &CancellationToken) -> bool {
    loop {
        match db.append_events(events).await {
            Ok(()) => return true,
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, "progress waits for the database");
                if stop
                    .run_until_cancelled(tokio::time::sleep(RETRY))
                    .await
                    .is_none()
                {
                    return false;
                }
            }
            Err(error) => {
                tracing::error!(%error, events = events.len(), "progress cannot be stored and is dropped");
                return true;
            }
        }
    }
}
