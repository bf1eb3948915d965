//! What follows when leased tasks were handed to their sessions.

use std::sync::Arc;

use super::{pulse::DueHint, settler::Settler};
use crate::{
    domain::verdict::{self, Verdict},
    store::{ClaimedTask, GrantKey},
};

/// Finishes what [`super::fleet::Fleet::deal`] and its kin began.
#[derive(Clone)]
pub(super) struct Handover {
    pub(super) settler: Settler,
    pub(super) due: Arc<DueHint>,
}

impl Handover {
    /// Sends home the tasks whose session left, and lets cancel requests reach the others.
    pub(super) async fn finish(&self, homeless: Vec<ClaimedTask>) {
        if !homeless.is_empty() {
            self.send_home(homeless).await;
        }
        // A cancel may have come between the commit and the moment the session knew of the lease.
        self.due.look_again_at_cancels();
    }

    /// Hands tasks back whose session left while they were leased.
    async fn send_home(&self, tasks: Vec<ClaimedTask>) {
        let mut emptied: Vec<GrantKey> = Vec::new();
        let mut verdicts: Vec<Verdict> = Vec::new();
        for task in &tasks {
            let key = GrantKey {
                session: task.session,
                grant: task.lease.grant,
            };
            if !emptied.contains(&key) {
                emptied.push(key);
            }
            verdicts.push(verdict::not_accepted(&task.lease, ""));
        }
        if self.settler.settle(verdicts, emptied).await.is_err() {
            tracing::warn!(
                tasks = tasks.len(),
                "leased tasks wait for their session to expire"
            );
        }
    }
}
