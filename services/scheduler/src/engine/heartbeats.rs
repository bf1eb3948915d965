//! Extends the leases of sessions, many in one statement.

use std::{collections::HashSet, time::Duration};

use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::batcher::{self, BatchLimit};
use crate::{
    domain::{error::Error, ids::SessionId},
    store::Database,
};

const LIMIT: BatchLimit = BatchLimit {
    queue: 4_096,
    weight: 4_096,
    in_flight: 1,
};

struct Beat {
    session: SessionId,
    reply: oneshot::Sender<Alive>,
}

/// Whether a session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alive {
    /// Its lease is extended.
    Yes,
    /// It is over.
    No,
}

/// The way in for heartbeats.
pub(super) struct Heartbeats {
    queue: mpsc::Sender<Beat>,
}

impl Heartbeats {
    pub(super) fn start(db: Database, lease: Duration, tasks: &TaskTracker, stop: CancellationToken) -> Self {
        let flush = move |batch: Vec<Beat>| {
            let db = db.clone();
            async move {
                let sessions: HashSet<SessionId> = batch.iter().map(|beat| beat.session).collect();
                let sessions: Vec<SessionId> = sessions.into_iter().collect();
                match db.heartbeat(&sessions, lease).await {
                    Ok(alive) => {
                        for beat in batch {
                            let state = if alive.contains(&beat.session) {
                                Alive::Yes
                            } else {
                                Alive::No
                            };
                            let _ = beat.reply.send(state);
                        }
                    }
                    // Not acknowledged: the workers send another, and give up by themselves if none gets through.
                    Err(error) => tracing::warn!(%error, "heartbeats could not be stored"),
                }
            }
        };
        Self {
            queue: batcher::start(LIMIT, |_| 1, flush, tasks, stop),
        }
    }

    /// Extends a session's lease; an error means that nobody knows.
    pub(super) async fn beat(&self, session: SessionId) -> Result<Alive, Error> {
        let (reply, answer) = oneshot::channel();
        let lost = |_| Error::Unavailable("the heartbeat was not stored");
        self.queue
            .send(Beat { session, reply })
            .await
            .map_err(|_| lost(()))?;
        answer.await.map_err(|_| lost(()))
    }
}
