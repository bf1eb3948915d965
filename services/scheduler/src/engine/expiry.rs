//! Ends sessions that nobody hears of any more, and sends their tasks on.

use super::Engine;
use crate::{
    domain::verdict::{self, Verdict},
    store::{DeadLease, StoreError},
};

/// Sessions ended in one transaction.
const AT_MOST: i64 = 50;

/// Ends all sessions whose lease is over.
pub(super) async fn run_once(engine: &Engine) -> Result<(), StoreError> {
    let parts = &engine.parts;
    loop {
        let ended = parts.db.expire_sessions(AT_MOST, decide).await?;
        if ended.sessions.is_empty() {
            return Ok(());
        }
        for session in &ended.sessions {
            tracing::warn!(%session, "a worker stopped sending heartbeats");
            parts.fleet.end_session(*session, "no heartbeat arrived in time");
        }
        parts.settler.announce(&ended);
    }
}

/// Sends tasks on that were claimed for a session which was over by then.
pub(super) async fn run_orphans(engine: &Engine) -> Result<(), StoreError> {
    let ended = engine.parts.db.end_orphans(decide).await?;
    engine.parts.settler.announce(&ended);
    Ok(())
}

fn decide(dead: &DeadLease) -> Verdict {
    match &dead.worker {
        Some(worker) => verdict::lost(&dead.lease, worker.as_str(), dead.losses),
        // The session ended before it could be told of the lease, so no code ran.
        None => verdict::not_accepted(&dead.lease, ""),
    }
}
