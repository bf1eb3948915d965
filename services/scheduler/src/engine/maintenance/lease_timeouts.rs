//! Takes back leases that were pushed but never accepted, and ends runs that are out of time.

use std::sync::Arc;

use foldhash::HashMap;
use tokio::time::Instant;

use super::{Job, JobParts, Reason};
use crate::{
    domain::{
        error::Error,
        ids::SessionId,
        verdict::{self, Verdict},
    },
    engine::{
        Timing,
        dispatch::local_sessions::{LocalSessions, Overdue},
        wake::Wake,
        writers::settler::Settler,
    },
    store::Database,
};

pub(super) struct LeaseTimeouts {
    db: Database,
    timing: Timing,
    local_sessions: Arc<LocalSessions>,
    settler: Settler,
    wake: Arc<Wake>,
}

impl LeaseTimeouts {
    pub(super) fn new(parts: &JobParts) -> Self {
        Self {
            db: parts.db.clone(),
            timing: parts.timing,
            local_sessions: parts.local_sessions.clone(),
            settler: parts.settler.clone(),
            wake: parts.wake.clone(),
        }
    }

    /// Learns of leases that sessions were given while this replica did not look.
    async fn reconcile(&self) {
        let sessions = self.local_sessions.take_sessions_to_reconcile();
        if sessions.is_empty() {
            return;
        }
        match self.db.session_leases(&sessions, None).await {
            Ok(leases) => {
                self.local_sessions.learn(leases);
                self.wake.recheck_cancels();
            }
            Err(error) => {
                tracing::warn!(%error, "leases of moved sessions wait for the database");
                for session in sessions {
                    self.local_sessions.reconcile_later(session);
                }
            }
        }
    }
}

impl Job for LeaseTimeouts {
    const NAME: &'static str = "taking overdue leases back";

    fn is_wanted(reason: Reason<'_>) -> bool {
        matches!(reason, Reason::Tick(_))
    }

    async fn run_once(&self) -> Result<(), Error> {
        self.reconcile().await;
        let now = Instant::now();
        let Timing {
            accept,
            timeout_grace,
            ..
        } = self.timing;
        self.local_sessions.stop_timed_out(now, timeout_grace);
        let mut verdicts: HashMap<SessionId, Vec<Verdict>> = HashMap::default();
        for (session, overdue) in self.local_sessions.take_overdue(now, accept, timeout_grace) {
            let verdict = match overdue {
                Overdue::NotAccepted(settling) => verdict::not_accepted(&settling.lease, settling.worker),
                Overdue::TimedOut(settling) => {
                    verdict::overdue(&settling.lease, settling.worker, rand::random())
                }
            };
            tracing::info!(
                %session,
                lease = %verdict.key,
                outcome = ?verdict.disposition.outcome(),
                "took a lease back"
            );
            verdicts.entry(session).or_default().push(verdict);
        }
        // Nobody waits for the answers: what is not stored now is found again.
        for (session, verdicts) in verdicts {
            self.settler.enqueue(session, verdicts).await?;
        }
        Ok(())
    }
}
