//! The hot path and the background loops: what runs between the wire and the database.
//!
//! ```text
//!            api
//!             │
//!           calls            what a caller can ask for
//!             │
//!        maintenance         jobs that nobody asks for, and the tick that starts them
//!             │
//!          writers           submits, claims, settlements, events, heartbeats: many in one statement
//!             │
//!           peers            who must hear of a change: watchers here, other replicas
//!             │
//!          dispatch          who runs what next: memory and decisions
//! ```
//!
//! A room uses those below it and none above. What all share lies beside them: [`Background`] runs work to its end,
//! `wake` asks for a tick before its time, `health` tells whether ticks succeed. [`start`] puts the parts together, and
//! each gets what it needs; only [`Engine`], which calls use, has them all.

mod background;
mod calls;
mod dispatch;
mod health;
mod maintenance;
mod peers;
mod wake;
mod writers;

use std::{sync::Arc, time::Duration};

pub use self::{
    background::Background,
    calls::{Engine, NotTaken, Opened, Report},
    dispatch::local_sessions::{ClaimPush, Generation, ReportPush},
    maintenance::retention::run_once as run_retention_once,
    peers::watchers::{Seen, Watcher},
    writers::{event_log::EventFlow, submitter::Stored},
};
use self::{
    dispatch::{lanes::LaneCache, local_sessions::LocalSessions},
    health::Health,
    maintenance::{JobParts, retention, tick::Ticker},
    peers::{
        announcer::Announcer,
        listener::Listener,
        notifier::{self, Notifier},
        watchers::{self, Watchers},
    },
    wake::Wake,
    writers::{
        claimer::Claimer,
        counters::{self, Counters},
        event_log::EventLog,
        heartbeats::Heartbeats,
        noted_spans::NotedSpans,
        settler::{Settler, SettlerParts},
        submitter::{Flusher, Submitter},
        undelivered::Undelivered,
    },
};
use crate::{
    domain::{ids::ReplicaId, verdict::LossLimit},
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

/// What an engine needs to know.
pub struct EngineConfig {
    /// The database, migrated.
    pub db: Database,
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

/// Starts an engine; it runs in `background` until that is stopped.
pub fn start(config: EngineConfig, background: &Background) -> Engine {
    let EngineConfig {
        db,
        timing,
        retention,
        loss_limit,
        replica,
        name,
    } = config;
    let local_sessions = Arc::new(LocalSessions::default());
    let lanes = Arc::new(LaneCache::new(db.clone(), local_sessions.clone()));
    let wake = Arc::new(Wake::default());
    let health = Arc::new(Health::default());
    let counters = Arc::new(Counters::default());
    let announcer = Announcer {
        local_sessions: local_sessions.clone(),
        watchers: Arc::new(Watchers::default()),
        notifier: Arc::new(Notifier::new(db.clone(), replica)),
    };
    let settler = Settler::start(
        SettlerParts {
            db: db.clone(),
            local_sessions: local_sessions.clone(),
            announcer: announcer.clone(),
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
        Flusher {
            db: db.clone(),
            local_sessions: local_sessions.clone(),
            announcer: announcer.clone(),
            wake: wake.clone(),
            undelivered: undelivered.clone(),
        },
        background,
    );
    let loops = Loops {
        claimer: Claimer {
            db: db.clone(),
            local_sessions: local_sessions.clone(),
            announcer: announcer.clone(),
            undelivered,
        },
        listener: Listener {
            db: db.clone(),
            replica,
            lanes: lanes.clone(),
            local_sessions: local_sessions.clone(),
            watchers: announcer.watchers.clone(),
            wake: wake.clone(),
        },
        ticker: Ticker::new(
            JobParts {
                db: db.clone(),
                timing,
                loss_limit,
                local_sessions: local_sessions.clone(),
                announcer: announcer.clone(),
                settler: settler.clone(),
                counters: counters.clone(),
                wake: wake.clone(),
            },
            replica,
            name.clone(),
            lanes.clone(),
            health.clone(),
            background.clone(),
        ),
    };
    let engine = Engine::new(calls::Parts {
        timing,
        name,
        background: background.clone(),
        lanes,
        noted_spans: NotedSpans::new(db.clone()),
        local_sessions,
        counters: counters.clone(),
        wake,
        health,
        submitter,
        settler,
        events: EventLog::start(db.clone(), announcer.clone(), background),
        heartbeats: Heartbeats::start(db.clone(), timing.lease, background),
        announcer: announcer.clone(),
        db: db.clone(),
    });
    loops.spawn(db, &announcer, counters, retention, background);
    engine
}

/// What runs for as long as the engine.
struct Loops {
    claimer: Claimer,
    listener: Listener,
    ticker: Ticker,
}

impl Loops {
    fn spawn(
        self,
        db: Database,
        announcer: &Announcer,
        counters: Arc<Counters>,
        policy: RetentionPolicy,
        background: &Background,
    ) {
        let stop = || background.stopping().clone();
        let Announcer {
            watchers, notifier, ..
        } = announcer.clone();
        background.spawn("the claimer", self.claimer.run(stop()));
        background.spawn("the notifier", notifier::run(notifier.clone(), stop()));
        background.spawn("the listener", self.listener.run(stop()));
        background.spawn(
            "the watchers",
            watchers::run(watchers, db.clone(), notifier, stop()),
        );
        background.spawn("the tick", self.ticker.run());
        background.spawn("the counters", counters::run(counters, db.clone(), stop()));
        background.spawn("retention", retention::run(db, policy, stop()));
    }
}
