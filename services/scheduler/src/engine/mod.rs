//! The hot path and the background loops: what runs between the wire and the database.
//!
//! [`Engine`] holds the parts and is what `api` calls. Batchers collect work for one statement each, the
//! [`fleet::Fleet`] knows the sessions whose streams end here, the dispatcher claims for all of them.

mod acceptance;
mod batcher;
mod cancels;
mod counters;
mod dispatcher;
mod doorman;
mod events;
mod expiry;
pub mod fleet;
mod handover;
mod heartbeats;
pub mod hub;
mod lanes;
mod pulse;
mod queues;
mod reports;
pub mod retention;
mod sessions;
mod settler;
mod submitter;

use std::{sync::Arc, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    counters::Counters, doorman::Doorman, events::EventLog, fleet::Fleet, handover::Handover,
    heartbeats::Heartbeats, hub::WatchHub, lanes::LaneCache, pulse::DueHint, settler::Settler,
    submitter::Submitter,
};
pub use self::{
    reports::{Acknowledged, News},
    sessions::Opened,
    submitter::Stored,
};
use crate::{
    domain::ids::ReplicaId,
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
    /// How often the pulse is taken.
    pub pulse: Duration,
    /// How long code may take to stop after its run's time is up.
    pub timeout_grace: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(5),
            lease: Duration::from_secs(15),
            accept: Duration::from_secs(10),
            pulse: Duration::from_secs(1),
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
    retention: RetentionPolicy,
    replica: ReplicaId,
    name: String,
    lanes: LaneCache,
    fleet: Arc<Fleet>,
    hub: Arc<WatchHub>,
    doorman: Arc<Doorman>,
    counters: Arc<Counters>,
    due: Arc<DueHint>,
    submitter: Submitter,
    settler: Settler,
    events: EventLog,
    handover: Handover,
    heartbeats: Heartbeats,
}

/// What an engine needs to know.
pub struct EngineConfig {
    /// The database, migrated.
    pub db: Database,
    /// Times of the protocol and the loops.
    pub timing: Timing,
    /// How long to keep what has ended.
    pub retention: RetentionPolicy,
    /// This process start.
    pub replica: ReplicaId,
    /// Name of this replica, for people.
    pub name: String,
}

impl Engine {
    /// Starts the engine; its tasks run on `tasks` until `stop`.
    pub fn start(config: EngineConfig, tasks: &TaskTracker, stop: &CancellationToken) -> Self {
        let EngineConfig {
            db,
            timing,
            retention,
            replica,
            name,
        } = config;
        let fleet = Arc::new(Fleet::default());
        let hub = Arc::new(WatchHub::default());
        let doorman = Arc::new(Doorman::new(db.clone(), replica));
        let counters = Arc::new(Counters::default());
        let due = Arc::new(DueHint::default());
        let settler = Settler::start(
            settler::SettlerParts {
                db: db.clone(),
                fleet: fleet.clone(),
                hub: hub.clone(),
                doorman: doorman.clone(),
                counters: counters.clone(),
                due: due.clone(),
            },
            tasks,
            stop.clone(),
        );
        let handover = Handover {
            settler: settler.clone(),
            due: due.clone(),
        };
        let submitter = Submitter::start(
            submitter::Flusher {
                db: db.clone(),
                fleet: fleet.clone(),
                doorman: doorman.clone(),
                due: due.clone(),
                handover: handover.clone(),
            },
            tasks,
            stop.clone(),
        );
        let events = EventLog::start(db.clone(), hub.clone(), doorman.clone(), tasks, stop.clone());
        let heartbeats = Heartbeats::start(db.clone(), timing.lease, tasks, stop.clone());
        let lanes = LaneCache::new(db.clone(), fleet.clone());
        let engine = Self {
            parts: Arc::new(Parts {
                db,
                timing,
                retention,
                replica,
                name,
                lanes,
                fleet,
                hub,
                doorman,
                counters,
                due,
                submitter,
                settler,
                events,
                handover,
                heartbeats,
            }),
        };
        engine.start_loops(tasks, stop);
        engine
    }

    fn start_loops(&self, tasks: &TaskTracker, stop: &CancellationToken) {
        let parts = &self.parts;
        tasks.spawn(dispatcher::run(self.clone(), stop.clone()));
        tasks.spawn(doorman::ring_loop(parts.doorman.clone(), stop.clone()));
        tasks.spawn(doorman::listen_loop(self.clone(), stop.clone()));
        tasks.spawn(pulse::run(self.clone(), stop.clone()));
        tasks.spawn(hub::run(self.clone(), stop.clone()));
        tasks.spawn(counters::run(
            parts.counters.clone(),
            parts.db.clone(),
            stop.clone(),
        ));
        tasks.spawn(retention::run(parts.db.clone(), parts.retention, stop.clone()));
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

    /// Who waits for news of which task.
    pub fn hub(&self) -> &Arc<WatchHub> {
        &self.parts.hub
    }

    /// True while other replicas may change what this one watches.
    pub fn has_company(&self) -> bool {
        self.parts.doorman.has_company()
    }

    /// Adds the tasks that ended here to the stored counts at once, so that whoever saw a task end finds it counted.
    pub async fn flush_counts(&self) {
        self.parts.counters.flush(&self.parts.db).await;
    }

    /// True while the database answers the pulse.
    pub fn is_healthy(&self) -> bool {
        self.parts.due.is_healthy()
    }
}
