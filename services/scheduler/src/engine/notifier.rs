//! Notifies other replicas of changes, and handles their notifications.

use std::{
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::Engine;
use crate::{
    domain::ids::ReplicaId,
    store::{Database, notify::Hints},
};

/// Shortest time between two notifications; what happens meanwhile shares the second.
const GAP: Duration = Duration::from_millis(5);

/// How long to wait before listening again.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);

/// Collects what other replicas should know.
pub(super) struct Notifier {
    db: Database,
    me: ReplicaId,
    pending: Mutex<Hints>,
    changed: Notify,
    peers: AtomicBool,
}

impl Notifier {
    pub(super) fn new(db: Database, me: ReplicaId) -> Self {
        Self {
            db,
            me,
            pending: Mutex::default(),
            changed: Notify::new(),
            peers: AtomicBool::new(true),
        }
    }

    /// Notifies the others soon, if any is alive.
    pub(super) fn notify(&self, hints: Hints) {
        if hints.is_empty() || !self.has_peers() {
            return;
        }
        self.pending.lock().add(hints);
        self.changed.notify_one();
    }

    /// Says whether other replicas are alive.
    pub(super) fn set_peers(&self, peers: bool) {
        self.peers.store(peers, Ordering::Relaxed);
    }

    /// True while other replicas are alive, or may be.
    pub(super) fn has_peers(&self) -> bool {
        self.peers.load(Ordering::Relaxed)
    }

    fn take(&self) -> Hints {
        std::mem::take(&mut *self.pending.lock())
    }
}

/// Sends what was collected, until `stop`.
pub(super) async fn notify_loop(notifier: Arc<Notifier>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = notifier.changed.notified() => {}
        }
        // The ticks of the others make up for a notification that fails.
        if let Err(error) = notifier.db.notify(notifier.me, &notifier.take()).await {
            tracing::debug!(%error, "could not notify other replicas");
        }
        tokio::time::sleep(GAP).await;
    }
}

/// Handles notifications, and listens again when the connection breaks, until `stop`.
pub(super) async fn listen_loop(engine: Engine, stop: CancellationToken) {
    let (sender, mut received) = mpsc::channel(64);
    let listener = async {
        loop {
            let parts = &engine.parts;
            if let Err(error) = parts.db.listen(parts.replica, sender.clone()).await {
                tracing::debug!(%error, "not listening to other replicas; ticks go on");
            }
            tokio::time::sleep(LISTEN_AGAIN).await;
        }
    };
    let handler = async {
        while let Some(hints) = received.recv().await {
            engine.handle(hints).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = async { tokio::join!(listener, handler); } => {}
    }
}

impl Engine {
    async fn handle(&self, hints: Hints) {
        let parts = &self.parts;
        if hints.cancels {
            parts.wake.check_cancels_now();
        }
        if hints.pauses {
            parts.wake.tick_now();
        }
        if hints.any_task {
            parts.hub.wake_all();
        } else {
            parts.hub.wake(hints.tasks);
        }
        if hints.any_lane {
            parts.local_sessions.recheck_lanes();
        }
        let unserved = parts.local_sessions.wake_lanes(hints.lanes);
        // A lane that is new to this replica may be one that its sessions serve.
        if let Err(error) = parts.lanes.load(&unserved).await {
            tracing::debug!(%error, "new lanes wait for the next tick");
        }
    }
}
