//! Extends the leases of sessions, many in one statement.

use std::{ops::ControlFlow, time::Duration};

use foldhash::HashMap;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::batcher::{self, BatchLimit};
use crate::{
    domain::{error::Error, ids::SessionId},
    engine::Background,
    store::Database,
};

const LIMIT: BatchLimit = BatchLimit {
    queue: 4_096,
    weight: 4_096,
    in_flight: 1,
    beside: 0,
};

struct Heartbeat {
    session: SessionId,
    received: Instant,
    reply: oneshot::Sender<Alive>,
}

/// Whether a session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Alive {
    /// Its lease is extended.
    Yes,
    /// It is over.
    No,
}

/// The way in for heartbeats.
pub(in crate::engine) struct Heartbeats {
    queue: mpsc::Sender<Heartbeat>,
}

impl Heartbeats {
    pub(in crate::engine) fn start(db: Database, lease: Duration, background: &Background) -> Self {
        let flush = move |batch| {
            let db = db.clone();
            async move {
                flush(&db, lease, batch).await;
                ControlFlow::Continue(())
            }
        };
        Self {
            queue: batcher::start(LIMIT, |_| 1, flush, "heartbeats", background),
        }
    }

    /// Extends a session's lease; an error means that nobody knows.
    pub(in crate::engine) async fn extend(&self, session: SessionId) -> Result<Alive, Error> {
        let (reply, answer) = oneshot::channel();
        let lost = |_| Error::Unavailable("the heartbeat was not stored");
        self.queue
            .send(Heartbeat {
                session,
                received: Instant::now(),
                reply,
            })
            .await
            .map_err(|_| lost(()))?;
        answer.await.map_err(|_| lost(()))
    }
}

async fn flush(db: &Database, lease: Duration, batch: Vec<Heartbeat>) {
    // What waited for the database extends a lease from when it came, not from when it is stored: a worker that has
    // died since is not kept alive.
    let now = Instant::now();
    let mut sessions: HashMap<SessionId, Duration> = HashMap::default();
    for heartbeat in &batch {
        let age = now.saturating_duration_since(heartbeat.received);
        sessions
            .entry(heartbeat.session)
            .and_modify(|youngest| *youngest = age.min(*youngest))
            .or_insert(age);
    }
    let mut sessions: Vec<(SessionId, Duration)> = sessions.into_iter().collect();
    sessions.sort_unstable();
    match db.heartbeat(&sessions, lease).await {
        Ok(alive) => {
            for heartbeat in batch {
                let state = if alive.contains(&heartbeat.session) {
                    Alive::Yes
                } else {
                    Alive::No
                };
                let _ = heartbeat.reply.send(state);
            }
        }
        // Not acknowledged: the workers send another, and give up by themselves if none gets through.
        Err(error) => tracing::warn!(%error, "heartbeats could not be stored"),
    }
}
