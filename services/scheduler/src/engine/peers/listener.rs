//! Handles the notifications of other replicas.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::watchers::Watchers;
use crate::{
    domain::ids::ReplicaId,
    engine::{
        dispatch::{lanes::LaneCache, local_sessions::LocalSessions},
        wake::Wake,
    },
    store::{Database, notify::Hints},
};

/// How long to wait before listening again.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);

/// Notifications that may wait to be handled.
const WAITING: usize = 64;

/// Passes on what other replicas say to those whom it concerns here.
pub(in crate::engine) struct Listener {
    pub(in crate::engine) db: Database,
    pub(in crate::engine) replica: ReplicaId,
    pub(in crate::engine) lanes: Arc<LaneCache>,
    pub(in crate::engine) local_sessions: Arc<LocalSessions>,
    pub(in crate::engine) watchers: Arc<Watchers>,
    pub(in crate::engine) wake: Arc<Wake>,
}

impl Listener {
    /// Handles notifications, and listens again when the connection breaks, until `stop`.
    pub(in crate::engine) async fn run(self, stop: CancellationToken) {
        let (sender, mut received) = mpsc::channel(WAITING);
        let listen = async {
            loop {
                if let Err(error) = self.db.listen(self.replica, sender.clone()).await {
                    tracing::debug!(%error, "not listening to other replicas; ticks go on");
                }
                tokio::time::sleep(LISTEN_AGAIN).await;
            }
        };
        let handle = async {
            while let Some(hints) = received.recv().await {
                self.handle(hints).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = async { tokio::join!(listen, handle); } => {}
        }
    }

    async fn handle(&self, hints: Hints) {
        if hints.cancels {
            self.wake.check_cancels_now();
        }
        if hints.pauses {
            self.wake.tick_now();
        }
        if hints.any_task {
            self.watchers.wake_all();
        } else {
            self.watchers.wake(hints.tasks);
        }
        if hints.any_lane {
            self.local_sessions.recheck_lanes();
        }
        let unserved = self.local_sessions.wake_lanes(hints.lanes);
        // A lane that is new to this replica may be one that its sessions serve.
        if let Err(error) = self.lanes.load(&unserved).await {
            tracing::debug!(%error, "new lanes wait for the next tick");
        }
    }
}
