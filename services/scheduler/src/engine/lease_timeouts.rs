//! Takes back leases that were pushed but never accepted, and ends runs that are out of time.

use foldhash::HashMap;
use tokio::time::Instant;

use super::{Engine, local_sessions::Overdue};
use crate::domain::{
    error::Error,
    ids::SessionId,
    verdict::{self, Verdict},
};

/// One look at all leases that this replica judges.
pub(super) async fn run_once(engine: &Engine, now: Instant) -> Result<(), Error> {
    let parts = &engine.parts;
    engine.reconcile_leases().await;
    parts
        .local_sessions
        .stop_timed_out(now, parts.timing.timeout_grace);
    let mut verdicts: HashMap<SessionId, Vec<Verdict>> = HashMap::default();
    for (session, overdue) in
        parts
            .local_sessions
            .take_overdue(now, parts.timing.accept, parts.timing.timeout_grace)
    {
        let verdict = match overdue {
            Overdue::NotAccepted(settling) => verdict::not_accepted(&settling.lease, settling.worker),
            Overdue::TimedOut(settling) => verdict::overdue(&settling.lease, settling.worker, rand::random()),
        };
        tracing::info!(%session, lease = %verdict.key, outcome = ?verdict.disposition.outcome(), "took a lease back");
        verdicts.entry(session).or_default().push(verdict);
    }
    // Nobody waits for the answers: what is not stored now is found again.
    for (session, verdicts) in verdicts {
        parts.settler.enqueue(session, verdicts).await?;
    }
    Ok(())
}
