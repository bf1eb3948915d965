//! Notifies other replicas of changes.

use std::{
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    domain::ids::ReplicaId,
    store::{Database, notify::Hints},
};

/// Shortest time between two notifications; what happens meanwhile shares the second.
const GAP: Duration = Duration::from_millis(5);

/// Collects what other replicas should know.
pub(in crate::engine) struct Notifier {
    db: Database,
    me: ReplicaId,
    pending: Mutex<Hints>,
    changed: Notify,
    peers: AtomicBool,
}

impl Notifier {
    pub(in crate::engine) fn new(db: Database, me: ReplicaId) -> Self {
        Self {
            db,
            me,
            pending: Mutex::default(),
            changed: Notify::new(),
            peers: AtomicBool::new(true),
        }
    }

    /// Notifies the others soon, if any is alive.
    pub(in crate::engine) fn notify(&self, hints: Hints) {
        if hints.is_empty() || !self.has_peers() {
            return;
        }
        self.pending.lock().add(hints);
        self.changed.notify_one();
    }

    /// Says whether other replicas are alive.
    pub(in crate::engine) fn set_peers(&self, peers: bool) {
        self.peers.store(peers, Ordering::Relaxed);
    }

    /// True while other replicas are alive, or may be.
    pub(in crate::engine) fn has_peers(&self) -> bool {
        self.peers.load(Ordering::Relaxed)
    }

    fn take(&self) -> Hints {
        std::mem::take(&mut *self.pending.lock())
    }
}

/// Sends what was collected, until `stop`.
pub(in crate::engine) async fn run(notifier: Arc<Notifier>, stop: CancellationToken) {
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
