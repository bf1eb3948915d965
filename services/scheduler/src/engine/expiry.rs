//! Ends sessions whose lease has expired and requeues their tasks.

use super::Engine;
use crate::{
    domain::{
        lease::DeadLease,
        verdict::{self, LossLimit, Verdict},
    },
    store::StoreError,
};

/// Sessions ended in one transaction.
const AT_MOST: i64 = 50;

/// Ends all sessions whose lease is over.
pub(super) async fn run_once(engine: &Engine) -> Result<(), StoreError> {
    let parts = &engine.parts;
    let limit = parts.loss_limit;
    loop {
        let ended = parts
            .db
            .expire_sessions(AT_MOST, |dead| decide(dead, limit))
            .await?;
        if ended.sessions.is_empty() {
            return Ok(());
        }
        for session in &ended.sessions {
            tracing::warn!(%session, "a worker stopped sending heartbeats");
            parts
                .local_sessions
                .end_session(*session, "no heartbeat arrived in time");
        }
        parts.settler.announce(&ended);
    }
}

/// Sends tasks on that were claimed for a session which was over by then.
pub(super) async fn run_orphans(engine: &Engine) -> Result<(), StoreError> {
    let limit = engine.parts.loss_limit;
    let ended = engine.parts.db.end_orphans(|dead| decide(dead, limit)).await?;
    for session in &ended.sessions {
        // One that is still connected here must be given nothing more.
        engine
            .parts
            .local_sessions
            .end_session(*session, "it was over before");
    }
    engine.parts.settler.announce(&ended);
    Ok(())
}

fn decide(dead: &DeadLease, limit: LossLimit) -> Verdict {
    match &dead.worker {
        Some(_) if dead.was_spared => verdict::given_up(dead),
        Some(_) => verdict::lost(dead, limit, rand::random()),
        // The session ended before it could be told of the lease, so no code ran.
        None => verdict::never_delivered(dead),
    }
}
