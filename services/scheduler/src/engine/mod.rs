//! The hot path and the background loops: what runs between the wire and the database.
//!
//! [`Engine`] holds the parts and is what `api` calls. Batchers collect work for one statement each, the
//! [`local_sessions::LocalSessions`] knows the sessions connected to this replica, the dispatcher claims for all of them.

mod background;
mod batcher;
mod budget;
mod cancels;
mod counters;
mod dispatch;
mod dispatcher;
mod events;
mod expiry;
mod health;
mod heartbeats;
pub mod hub;
mod lanes;
mod lease_timeouts;
pub mod local_sessions;
mod notifier;
mod queues;
mod reports;
pub mod retention;
mod sessions;
mod settler;
mod strays;
mod submitter;
mod tick;
mod undelivered;
mod wake;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use uuid::Uuid;

pub use self::{
    background::Background,
    events::EventFlow,
    reports::{NotTaken, Report},
    sessions::Opened,
    submitter::Stored,
};
use self::{
    counters::Counters, events::EventLog, health::Health, heartbeats::Heartbeats, hub::WatchHub,
    lanes::LaneCache, local_sessions::LocalSessions, notifier::Notifier, settler::Settler,
    submitter::Submitter, undelivered::Undelivered, wake::Wake,
};
use crate::{
    domain::{
        error::Error,
        ids::{ReplicaId, TaskId},
        verdict::LossLimit,
    },
    store::{Database, RetentionPolicy},
};

/// What the protocol promises to workers, and how often loops look.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How often a worker sends a heartbeat.
    pub heartbeat: Duration,
    /// How long a session lives after its last heartbeat.
    pub lease: Duration,
    /// How long a pushed lease may stay unaccepted.
    pub accept: Duration,
    /// How long a tick is apart from the next.
    pub tick: Duration,
    /// How long code may take to stop after its run's time is up.
    pub timeout_grace: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(5),
            lease: Duration::from_secs(15),
            accept: Duration::from_secs(10),
            tick: Duration::from_secs(1),
            timeout_grace: Duration::from_secs(10),
        }
    }
}

/// Everything between the wire and the database; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    parts: Arc<Parts>,
}

struct Parts {
    db: Database,
    timing: Timing,
    loss_limit: LossLimit,
    replica: ReplicaId,
    name: String,
    background: Background,
    lanes: LaneCache,
    local_sessions: Arc<LocalSessions>,
    hub: Arc<WatchHub>,
    notifier: Arc<Notifier>,
    counters: Arc<Counters>,
    wake: Arc<Wake>,
    health: Health,
    submitter: Submitter,
    settler: Settler,
    events: EventLog,
    undelivered: Undelivered,
    heartbeats: Heartbeats,
    /// The next page of the search for strays is below this id.
    next_strays: Mutex<TaskId>,
}

/// What an engine needs to know.
pub struct EngineConfig {
    /// The database, migrated.
    pub db: Database,
    /// Times of the protocol and the loops.
    pub timing: Timing,
    /// How long to keep what has ended.
    pub retention: RetentionPolicy,
    /// When a task that kills workers is quarantined.
    pub loss_limit: LossLimit,
    /// This process start.
    pub replica: ReplicaId,
    /// Name of this replica, for people.
    pub name: String,
}

impl Engine {
    /// Starts the engine; it runs in `background` until that is stopped.
    pub fn start(config: EngineConfig, background: &Background) -> Self {
        let EngineConfig {
            db,
            timing,
            retention,
            loss_limit,
            replica,
            name,
        } = config;
        let local_sessions = Arc::new(LocalSessions::default());
        let hub = Arc::new(WatchHub::default());
        let notifier = Arc::new(Notifier::new(db.clone(), replica));
        let counters = Arc::new(Counters::default());
        let wake = Arc::new(Wake::default());
        let health = Health::default();
        let settler = Settler::start(
            settler::SettlerParts {
                db: db.clone(),
                local_sessions: local_sessions.clone(),
                hub: hub.clone(),
                notifier: notifier.clone(),
                counters: counters.clone(),
                wake: wake.clone(),
            },
            background,
        );
        let undelivered = Undelivered {
            settler: settler.clone(),
            local_sessions: local_sessions.clone(),
            wake: wake.clone(),
        };
        let submitter = Submitter::start(
            submitter::Flusher {
                db: db.clone(),
                local_sessions: local_sessions.clone(),
                notifier: notifier.clone(),
                wake: wake.clone(),
                undelivered: undelivered.clone(),
            },
            background,
        );
        let events = EventLog::start(db.clone(), hub.clone(), notifier.clone(), background);
        let heartbeats = Heartbeats::start(db.clone(), timing.lease, background);
        let lanes = LaneCache::new(db.clone(), local_sessions.clone());
        let engine = Self {
            parts: Arc::new(Parts {
                db,
                timing,
                loss_limit,
                replica,
                name,
                background: background.clone(),
                lanes,
                local_sessions,
                hub,
                notifier,
                counters,
                wake,
                health,
                submitter,
                settler,
                events,
                undelivered,
                heartbeats,
                next_strays: Mutex::new(TaskId(Uuid::max())),
            }),
        };
        engine.start_loops(retention);
        engine
    }

    fn start_loops(&self, retention: RetentionPolicy) {
        let parts = &self.parts;
        let background = &parts.background;
        let stop = || background.stopping().clone();
        background.spawn("the dispatcher", dispatcher::run(self.clone(), stop()));
        background.spawn(
            "the notifier",
            notifier::notify_loop(parts.notifier.clone(), stop()),
        );
        background.spawn("the listener", notifier::listen_loop(self.clone(), stop()));
        background.spawn("the watch hub", hub::run(self.clone(), stop()));
        background.spawn("the tick", tick::run(self.clone(), background.clone()));
        background.spawn(
            "the counters",
            counters::run(parts.counters.clone(), parts.db.clone(), stop()),
        );
        background.spawn("retention", retention::run(parts.db.clone(), retention, stop()));
    }

    /// The database, for reads that need no engine.
    pub fn db(&self) -> &Database {
        &self.parts.db
    }

    /// Times of the protocol.
    pub fn timing(&self) -> &Timing {
        &self.parts.timing
    }

    /// Name of this replica.
    pub fn name(&self) -> &str {
        &self.parts.name
    }

    /// Who waits for changes of which task.
    pub fn hub(&self) -> &Arc<WatchHub> {
        &self.parts.hub
    }

    /// True while other replicas may change what this one watches.
    pub fn has_peers(&self) -> bool {
        self.parts.notifier.has_peers()
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

impl Parts {
    fn next_stray_page(&self) -> TaskId {
        *self.next_strays.lock()
    }

    fn set_next_stray_page(&self, below: TaskId) {
        *self.next_strays.lock() = below;
    }
}
