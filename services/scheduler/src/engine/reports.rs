//! What workers report: accepted leases, events, endings.

use std::collections::HashMap;

use tokio::sync::oneshot;

use super::{Engine, fleet::Ended, settler::Lost};
use crate::domain::{
    error::Error,
    ids::{LeaseKey, SessionId},
    outcome::Outcome,
    report::{Ending, EventKind, TaskEvent},
    verdict,
};

/// News of one lease.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// The worker has the task.
    Accepted,
    /// Progress or a log line, numbered within the lease.
    Event(i64, EventKind),
    /// The run ended.
    Ended(Ending),
}

/// Reports that are on their way to the database.
pub struct Acknowledged {
    stale: Vec<LeaseKey>,
    repeated: Vec<(LeaseKey, Outcome)>,
    settling: Option<oneshot::Receiver<Vec<Lost>>>,
}

impl Engine {
    /// Takes a worker's reports. Returns once its events are durable and its endings are queued in order; the result
    /// says when all of it is durable.
    ///
    /// # Errors
    /// A database that cannot be reached: nothing is acknowledged, the worker reports again.
    pub async fn report(
        &self,
        session: SessionId,
        reports: Vec<(LeaseKey, News)>,
    ) -> Result<Acknowledged, Error> {
        let fleet = &self.parts.fleet;
        let keys = || reports.iter().map(|(key, _)| *key);
        let mut holds = fleet.holds(session, keys());
        if holds.contains(&false) {
            // Claimed through another replica, or ended before.
            let leases = self.parts.db.session_leases(session).await?;
            fleet.learn(session, leases);
            holds = fleet.holds(session, keys());
        }
        let mut acknowledged = Acknowledged {
            stale: Vec::new(),
            repeated: Vec::new(),
            settling: None,
        };
        let mut accepted = Vec::new();
        let mut events = Vec::new();
        let mut endings = Vec::new();
        for ((key, news), held) in reports.into_iter().zip(holds) {
            match news {
                News::Accepted if held => accepted.push(key),
                News::Event(number, kind) if held => events.push(TaskEvent {
                    lease: key,
                    number,
                    kind,
                }),
                News::Accepted | News::Event(..) => acknowledged.stale.push(key),
                News::Ended(ending) => endings.push((key, ending)),
            }
        }
        if !accepted.is_empty() {
            fleet.accept(session, &accepted);
        }
        if !events.is_empty() {
            // Before the endings: an event of a run that has ended would be refused.
            self.parts.events.append(events).await?;
        }
        self.queue_endings(session, endings, &mut acknowledged).await?;
        Ok(acknowledged)
    }

    async fn queue_endings(
        &self,
        session: SessionId,
        endings: Vec<(LeaseKey, Ending)>,
        acknowledged: &mut Acknowledged,
    ) -> Result<(), Error> {
        let ended = self
            .parts
            .fleet
            .end_leases(session, endings.iter().map(|(key, _)| *key));
        let mut verdicts = Vec::with_capacity(endings.len());
        let mut emptied = Vec::new();
        for ((key, ending), ended) in endings.into_iter().zip(ended) {
            match ended {
                Some(Ended {
                    lease,
                    worker,
                    timed_out,
                    emptied: grant,
                }) => {
                    let verdict = verdict::reported(&lease, worker, ending, timed_out, rand::random());
                    verdicts.push(verdict);
                    emptied.extend(grant);
                }
                None => acknowledged.repeated.push((key, outcome_of(&ending))),
            }
        }
        if !verdicts.is_empty() {
            acknowledged.settling = Some(self.parts.settler.enqueue(verdicts, emptied).await?);
        }
        Ok(())
    }

    /// Waits until reports are durable, and returns the leases whose reports were refused.
    ///
    /// # Errors
    /// A database that cannot be reached, or the scheduler stops: nothing is acknowledged.
    pub async fn acknowledge(&self, reports: Acknowledged) -> Result<Vec<LeaseKey>, Error> {
        let Acknowledged {
            mut stale,
            mut repeated,
            settling,
        } = reports;
        if let Some(lost) = settling {
            let lost = lost
                .await
                .map_err(|_| Error::Unavailable("the scheduler is shutting down"))?;
            repeated.extend(lost);
        }
        if repeated.is_empty() {
            return Ok(stale);
        }
        // Either this very report came before and its acknowledgement was lost, or somebody else ended the lease.
        let keys: Vec<LeaseKey> = repeated.iter().map(|(key, _)| *key).collect();
        let ended: HashMap<LeaseKey, Option<Outcome>> = self
            .parts
            .db
            .ended_runs(&keys)
            .await?
            .into_iter()
            .map(|run| (run.key, run.outcome))
            .collect();
        stale.extend(repeated.into_iter().filter_map(|(key, outcome)| {
            let same = ended.get(&key).copied().flatten() == Some(outcome);
            (!same).then_some(key)
        }));
        Ok(stale)
    }
}

fn outcome_of(ending: &Ending) -> Outcome {
    match ending {
        Ending::Succeeded { .. } => Outcome::Succeeded,
        Ending::Failed { .. } => Outcome::Failed,
        Ending::Cancelled { .. } => Outcome::Cancelled,
        Ending::Released { .. } => Outcome::Released,
    }
}
