//! What follows when leased tasks were handed to their sessions.

use std::sync::Arc;

use foldhash::HashMap;

use super::settler::Settler;
use crate::{
    domain::{
        ids::GrantKey,
        verdict::{self, Verdict},
    },
    engine::{dispatch::local_sessions::LocalSessions, wake::Wake},
    store::ClaimedTask,
};

/// Hands back what reached nobody, then rechecks pending cancels.
#[derive(Clone)]
pub(in crate::engine) struct Undelivered {
    pub(in crate::engine) settler: Settler,
    pub(in crate::engine) local_sessions: Arc<LocalSessions>,
    pub(in crate::engine) wake: Arc<Wake>,
}

impl Undelivered {
    /// Hands back the tasks whose session left while they were leased, and lets cancel requests reach the others.
    pub(in crate::engine) async fn finish(&self, undelivered: Vec<ClaimedTask>) {
        if !undelivered.is_empty() {
            self.hand_back(undelivered).await;
        }
        // A cancel may have come between the commit and the moment the session knew of the lease.
        self.wake.recheck_cancels();
    }

    async fn hand_back(&self, tasks: Vec<ClaimedTask>) {
        let mut grants: HashMap<GrantKey, Vec<Verdict>> = HashMap::default();
        for task in &tasks {
            let grant = GrantKey {
                session: task.session,
                grant: task.lease.grant,
            };
            let verdict = verdict::not_accepted(&task.lease, "");
            grants.entry(grant).or_default().push(verdict);
        }
        for (grant, verdicts) in grants {
            let tasks = verdicts.len();
            if self.settler.hand_back(grant, verdicts).await.is_err() {
                tracing::warn!(session = %grant.session, tasks, "leased tasks wait until their session is looked at");
                self.local_sessions.reconcile_later(grant.session);
            }
        }
    }
}
