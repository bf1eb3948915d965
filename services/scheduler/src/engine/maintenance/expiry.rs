//! Ends sessions whose lease has expired and requeues their tasks.

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

/// Sessions ended in one transaction.
const AT_ONCE: i64 = 50;

pub(super) struct Expiry {
    db: Database,
    loss_limit: LossLimit,
    local_sessions: Arc<LocalSessions>,
    settler: Settler,
}

impl Expiry {
    pub(super) fn new(parts: &JobParts) -> Self {
        Self {
            db: parts.db.clone(),
            loss_limit: parts.loss_limit,
            local_sessions: parts.local_sessions.clone(),
            settler: parts.settler.clone(),
        }
    }
}

impl Job for Expiry {
    const NAME: &'static str = "ending expired sessions";

    fn is_wanted(reason: Reason<'_>) -> bool {
        matches!(reason, Reason::Tick(tick) if tick.expired)
    }

    async fn run_once(&self) -> Result<(), Error> {
        loop {
            let decide = |dead: &_| verdict::session_ended(dead, self.loss_limit, rand::random());
            let ended = self.db.expire_sessions(AT_ONCE, decide).await?;
            if ended.sessions.is_empty() {
                return Ok(());
            }
            for session in &ended.sessions {
                tracing::warn!(%session, "a worker stopped sending heartbeats");
                self.local_sessions
                    .end_session(*session, "no heartbeat arrived in time");
            }
            self.settler.announce(&ended);
        }
    }
}
