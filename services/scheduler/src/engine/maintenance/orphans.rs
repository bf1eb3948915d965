//! Requeues tasks that were claimed for a session which was over by then.

use std::sync::Arc;

use super::{Job, JobParts, Reason};
use crate::{
    domain::{
        error::Error,
        verdict::{self, LossLimit},
    },
    engine::{dispatch::local_sessions::LocalSessions, writers::settler::Settler},
    store::Database,
};

pub(super) struct Orphans {
    db: Database,
    loss_limit: LossLimit,
    local_sessions: Arc<LocalSessions>,
    settler: Settler,
}

impl Orphans {
    pub(super) fn new(parts: &JobParts) -> Self {
        Self {
            db: parts.db.clone(),
            loss_limit: parts.loss_limit,
            local_sessions: parts.local_sessions.clone(),
            settler: parts.settler.clone(),
        }
    }
}

impl Job for Orphans {
    const NAME: &'static str = "requeuing the tasks of sessions that are over";

    fn is_wanted(reason: Reason<'_>) -> bool {
        matches!(reason, Reason::Tick(tick) if tick.orphaned)
    }

    async fn run_once(&self) -> Result<(), Error> {
        let decide = |dead: &_| verdict::session_ended(dead, self.loss_limit, rand::random());
        let ended = self.db.end_orphans(decide).await?;
        for session in &ended.sessions {
            // One that is still connected here must be given nothing more.
            self.local_sessions.end_session(*session, "it was over before");
        }
        self.settler.announce(&ended);
        Ok(())
    }
}
