//! Ringing at other replicas, and answering when they ring.

use std::{
    sync::Arc,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::Engine;
use crate::{
    domain::ids::ReplicaId,
    store::{Database, doorbell::Ring},
};

/// Shortest time between two rings; what happens meanwhile shares the second.
const GAP: Duration = Duration::from_millis(5);

/// How long to wait before listening again.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);

/// Collects what other replicas should hear of.
pub(super) struct Doorman {
    db: Database,
    me: ReplicaId,
    pending: Mutex<Ring>,
    rung: Notify,
    company: AtomicBool,
}

impl Doorman {
    pub(super) fn new(db: Database, me: ReplicaId) -> Self {
        Self {
            db,
            me,
            pending: Mutex::default(),
            rung: Notify::new(),
            company: AtomicBool::new(true),
        }
    }

    /// Rings soon, if anybody else is alive.
    pub(super) fn ring(&self, ring: Ring) {
        if ring == Ring::default() || !self.has_company() {
            return;
        }
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        *pending = pending.and(ring);
        self.rung.notify_one();
    }

    /// Says whether other replicas are alive.
    pub(super) fn set_company(&self, company: bool) {
        self.company.store(company, Ordering::Relaxed);
    }

    /// True while other replicas are alive, or may be.
    pub(super) fn has_company(&self) -> bool {
        self.company.load(Ordering::Relaxed)
    }

    fn take(&self) -> Ring {
        std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Rings for what was collected, until `stop`.
pub(super) async fn ring_loop(doorman: Arc<Doorman>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = doorman.rung.notified() => {}
        }
        // A ring that fails is made up for by the others' poll.
        if let Err(error) = doorman.db.ring(doorman.me, doorman.take()).await {
            tracing::debug!(%error, "could not ring the doorbell");
        }
        tokio::time::sleep(GAP).await;
    }
}

/// Answers rings, and listens again when the connection breaks, until `stop`.
pub(super) async fn listen_loop(engine: Engine, stop: CancellationToken) {
    let (rings_in, mut rings) = mpsc::channel(64);
    let listener = async {
        loop {
            let parts = &engine.parts;
            if let Err(error) = parts.db.listen(parts.replica, rings_in.clone()).await {
                tracing::debug!(%error, "not listening to the doorbell; polling goes on");
            }
            tokio::time::sleep(LISTEN_AGAIN).await;
        }
    };
    let answer = async {
        while let Some(ring) = rings.recv().await {
            engine.answer(ring);
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = async { tokio::join!(listener, answer); } => {}
    }
}

impl Engine {
    fn answer(&self, ring: Ring) {
        if ring.ready {
            self.parts.fleet.wake_drained_lanes();
        }
        if ring.cancel {
            self.parts.due.look_now();
        }
        if ring.pause {
            self.parts.due.pulse_now();
        }
        if ring.watch {
            self.parts.hub.wake_all();
        }
    }
}
