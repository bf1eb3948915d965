//! Takes back leases that were pushed but never accepted, and ends runs that are out of time.

use tokio::time::Instant;

use super::{Engine, fleet::Overdue};
use crate::domain::{error::Error, verdict};

/// One look at all leases that this replica judges.
pub(super) async fn run_once(engine: &Engine, now: Instant) -> Result<(), Error> {
    let parts = &engine.parts;
    engine.check_leases().await;
    parts.fleet.stop_timed_out(now, parts.timing.timeout_grace);
    let mut verdicts = Vec::new();
    let mut emptied = Vec::new();
    for (session, overdue) in parts
        .fleet
        .take_overdue(now, parts.timing.accept, parts.timing.timeout_grace)
    {
        let (ended, verdict) = match overdue {
            Overdue::NotAccepted(ended) => {
                let verdict = verdict::not_accepted(&ended.lease, ended.worker.clone());
                (ended, verdict)
            }
            Overdue::TimedOut(ended) => {
                let verdict = verdict::overdue(&ended.lease, ended.worker.clone(), rand::random());
                (ended, verdict)
            }
        };
        tracing::info!(%session, lease = %ended.lease.key, outcome = ?verdict.end.outcome(), "took a lease back");
        verdicts.push(verdict);
        emptied.extend(ended.emptied);
    }
    if !verdicts.is_empty() {
        parts.settler.settle(verdicts, emptied).await?;
    }
    Ok(())
}
