//! What `api` calls: one file for each kind of call.
//!
//! A call that changes something is run to its end even if its caller leaves, see [`Background::complete`].

mod cancel;
mod pause;
mod report;
mod session;
mod submit;

use std::sync::Arc;

pub use self::{
    report::{NotTaken, Report},
    session::Opened,
};
use super::{
    Timing,
    background::Background,
    dispatch::{lanes::LaneCache, local_sessions::LocalSessions},
    health::Health,
    peers::{announcer::Announcer, watchers::Watchers},
    wake::Wake,
    writers::{
        counters::Counters, event_log::EventLog, heartbeats::Heartbeats, noted_spans::NotedSpans,
        settler::Settler, submitter::Submitter,
    },
};
use crate::{
    domain::{error::Error, ids::TaskId},
    store::Database,
};

/// Everything between the wire and the database; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    parts: Arc<Parts>,
}

/// What calls need.
pub(super) struct Parts {
    pub(super) db: Database,
    pub(super) timing: Timing,
    /// Name of this replica, for people.
    pub(super) name: String,
    pub(super) background: Background,
    pub(super) lanes: Arc<LaneCache>,
    pub(super) noted_spans: NotedSpans,
    pub(super) local_sessions: Arc<LocalSessions>,
    pub(super) announcer: Announcer,
    pub(super) counters: Arc<Counters>,
    pub(super) wake: Arc<Wake>,
    pub(super) health: Arc<Health>,
    pub(super) submitter: Submitter,
    pub(super) settler: Settler,
    pub(super) events: EventLog,
    pub(super) heartbeats: Heartbeats,
}

impl Engine {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            parts: Arc::new(parts),
        }
    }

    /// The database, for reads that need no engine.
    pub fn db(&self) -> &Database {
        &self.parts.db
    }

    /// Times of the protocol.
    pub fn timing(&self) -> &Timing {
        &self.parts.timing
    }

    /// Who waits for changes of which task.
    pub fn watchers(&self) -> &Arc<Watchers> {
        &self.parts.announcer.watchers
    }

    /// Adds the tasks that ended here to the stored counts at once, so that whoever saw a task end finds it counted.
    pub async fn flush_counts(&self) {
        let engine = self.clone();
        let flush = async move { engine.parts.counters.flush(&engine.parts.db).await };
        let _ = self.parts.background.complete(flush).await;
    }

    /// Removes a task that has ended; false if it has not.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn delete(&self, task: TaskId) -> Result<bool, Error> {
        let db = self.parts.db.clone();
        let deleted = self
            .parts
            .background
            .complete(async move { db.delete_task(task).await });
        Ok(deleted.await??)
    }

    /// True while the database answers ticks in time.
    pub fn is_healthy(&self) -> bool {
        self.parts.health.is_good(self.parts.timing.tick)
    }
}
