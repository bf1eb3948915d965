//! Asks workers to stop cancelled runs, and revokes the leases of those that do not.

use std::sync::Arc;

use super::{Job, JobParts, Reason};
use crate::{
    domain::{error::Error, ids::LeaseKey, state::TaskState},
    engine::{
        dispatch::local_sessions::LocalSessions, peers::announcer::Announcer, wake::Wake,
        writers::counters::Counters,
    },
    store::Database,
};

/// Most open requests that one run pushes.
const OPEN: i64 = 10_000;

pub(super) struct Cancels {
    db: Database,
    local_sessions: Arc<LocalSessions>,
    announcer: Announcer,
    counters: Arc<Counters>,
    wake: Arc<Wake>,
}

impl Cancels {
    pub(super) fn new(parts: &JobParts) -> Self {
        Self {
            db: parts.db.clone(),
            local_sessions: parts.local_sessions.clone(),
            announcer: parts.announcer.clone(),
            counters: parts.counters.clone(),
            wake: parts.wake.clone(),
        }
    }

    /// Ends the runs whose grace is over.
    async fn revoke_overdue(&self) -> Result<(), Error> {
        let revoked = self.db.revoke_overdue().await?;
        if revoked.is_empty() {
            return Ok(());
        }
        tracing::info!(
            leases = revoked.len(),
            "revoked leases whose code did not stop after a cancel"
        );
        for (_, lane) in &revoked {
            self.counters.add(*lane, TaskState::Cancelled, 1);
        }
        let keys: Vec<LeaseKey> = revoked.iter().map(|(key, _)| *key).collect();
        self.local_sessions.revoke(&keys);
        self.announcer.tasks_changed(keys.iter().map(|key| key.task));
        Ok(())
    }
}

impl Job for Cancels {
    const NAME: &'static str = "stopping cancelled runs";

    fn is_wanted(reason: Reason<'_>) -> bool {
        match reason {
            Reason::CancelRequested => true,
            Reason::Tick(tick) => tick.cancelling,
            Reason::Due | Reason::NowAndThen => false,
        }
    }

    async fn run_once(&self) -> Result<(), Error> {
        // Set first: a lease that becomes known during this run must ask for another.
        self.wake.set_stop_orders(true);
        self.revoke_overdue().await?;
        let open = self.db.stop_orders(OPEN).await?;
        self.local_sessions.push_cancels(&open);
        self.wake.set_stop_orders(!open.is_empty());
        Ok(())
    }
}
