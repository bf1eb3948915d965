//! What workers report: accepted leases, events, outcomes.

use std::{collections::HashMap, sync::Arc};

use super::Engine;
use crate::{
    domain::{
        error::Error,
        ids::{LeaseKey, SessionId, TaskId},
        outcome::Outcome,
        report::{EventKind, ReportedOutcome, TaskEvent},
        verdict,
    },
    engine::{
        dispatch::local_sessions::Settling,
        writers::event_log::{AppendNo, EventFlow},
    },
};

/// What a worker reports of one lease.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// The worker has the task.
    Accepted,
    /// Progress or a log line, numbered within the lease.
    Event(i64, EventKind),
    /// The run ended.
    Ended(ReportedOutcome),
}

/// Reports that were not taken.
#[derive(Debug, Default)]
pub struct NotTaken {
    /// The leases are not the session's any more.
    pub stale: Vec<LeaseKey>,
    /// Postgres cannot store what the outcomes say.
    pub refused: Vec<LeaseKey>,
}

/// Reports of one message that are on their way to the database.
struct Pending {
    stale: Vec<LeaseKey>,
    endings: Vec<(LeaseKey, ReportedOutcome)>,
    append: Option<AppendNo>,
}

impl Engine {
    /// Takes a worker's reports. The future that comes back resolves once all of them are durable; until it does, other
    /// messages of the stream, such as heartbeats, go on. Nothing waits for events but the answer, and, for a moment,
    /// outcomes.
    ///
    /// # Errors
    /// A database that cannot be reached, or the scheduler stops: nothing is acknowledged, the worker reports again.
    pub fn report(
        &self,
        session: SessionId,
        reports: Vec<(LeaseKey, Report)>,
        flow: &Arc<EventFlow>,
    ) -> impl Future<Output = Result<NotTaken, Error>> + Send + use<> {
        let (engine, flow) = (self.clone(), flow.clone());
        let holds = engine.holds(session, &reports);
        // At once if possible, so that events are queued in the order in which they came.
        let taken = if holds.contains(&false) {
            Err(reports)
        } else {
            Ok(engine.take(session, reports, holds, &flow))
        };
        async move {
            let pending = match taken {
                Ok(pending) => pending,
                Err(reports) => {
                    // Claimed through another replica, or ended before.
                    let tasks: Vec<TaskId> = reports.iter().map(|(key, _)| key.task).collect();
                    let leases = engine.parts.db.session_leases(&[session], Some(&tasks)).await?;
                    engine.parts.local_sessions.learn(leases);
                    let holds = engine.holds(session, &reports);
                    engine.take(session, reports, holds, &flow)
                }
            };
            engine.finish(session, pending, &flow).await
        }
    }

    fn holds(&self, session: SessionId, reports: &[(LeaseKey, Report)]) -> Vec<bool> {
        self.parts
            .local_sessions
            .holds(session, reports.iter().map(|(key, _)| *key))
    }

    fn take(
        &self,
        session: SessionId,
        reports: Vec<(LeaseKey, Report)>,
        holds: Vec<bool>,
        flow: &EventFlow,
    ) -> Pending {
        let mut pending = Pending {
            stale: Vec::new(),
            endings: Vec::new(),
            append: None,
        };
        let mut accepted = Vec::new();
        let mut events = Vec::new();
        for ((key, report), held) in reports.into_iter().zip(holds) {
            match report {
                Report::Accepted if held => accepted.push(key),
                Report::Event(number, kind) if held => {
                    accepted.push(key);
                    events.push(TaskEvent {
                        lease: key,
                        number,
                        kind,
                    });
                }
                Report::Accepted | Report::Event(..) => pending.stale.push(key),
                Report::Ended(ending) => pending.endings.push((key, ending)),
            }
        }
        if !accepted.is_empty() {
            self.parts.local_sessions.accept(session, &accepted);
        }
        if !events.is_empty() {
            pending.append = self.parts.events.append(events, flow);
        }
        pending
    }

    async fn finish(
        &self,
        session: SessionId,
        pending: Pending,
        flow: &EventFlow,
    ) -> Result<NotTaken, Error> {
        let Pending {
            stale,
            endings,
            append,
        } = pending;
        let mut not_taken = NotTaken {
            stale,
            refused: Vec::new(),
        };
        if !endings.is_empty() {
            self.parts.events.head_start(flow).await;
            self.settle(session, endings, &mut not_taken).await?;
        }
        if let Some(append) = append {
            self.parts.events.durable(append, flow).await?;
        }
        Ok(not_taken)
    }

    async fn settle(
        &self,
        session: SessionId,
        endings: Vec<(LeaseKey, ReportedOutcome)>,
        not_taken: &mut NotTaken,
    ) -> Result<(), Error> {
        let settling = self
            .parts
            .local_sessions
            .begin_to_settle(session, endings.iter().map(|(key, _)| *key));
        let mut verdicts = Vec::with_capacity(endings.len());
        let mut repeated: Vec<(LeaseKey, Outcome)> = Vec::new();
        for ((key, ending), settling) in endings.into_iter().zip(settling) {
            match settling {
                Some(Settling {
                    lease,
                    worker,
                    timed_out,
                }) => {
                    let verdict = verdict::reported(&lease, worker, ending, timed_out, rand::random());
                    verdicts.push(verdict);
                }
                None => repeated.push((key, outcome_of(&ending))),
            }
        }
        if !verdicts.is_empty() {
            let settled = self.parts.settler.enqueue(session, verdicts).await?;
            let settled = settled
                .await
                .map_err(|_| Error::Unavailable("the outcomes could not be stored yet"))?;
            repeated.extend(settled.stale);
            not_taken.refused = settled.refused;
        }
        if repeated.is_empty() {
            return Ok(());
        }
        // Either this very report came before and its acknowledgement was stale, or somebody else ended the lease.
        let keys: Vec<LeaseKey> = repeated.iter().map(|(key, _)| *key).collect();
        let ended: HashMap<LeaseKey, Option<Outcome>> = self
            .parts
            .db
            .ended_runs(&keys)
            .await?
            .into_iter()
            .map(|run| (run.key, run.outcome))
            .collect();
        not_taken
            .stale
            .extend(repeated.into_iter().filter_map(|(key, outcome)| {
                let same = ended.get(&key).copied().flatten() == Some(outcome);
                (!same).then_some(key)
            }));
        Ok(())
    }
}

fn outcome_of(ending: &ReportedOutcome) -> Outcome {
    match ending {
        ReportedOutcome::Succeeded { .. } => Outcome::Succeeded,
        ReportedOutcome::Failed { .. } => Outcome::Failed,
        ReportedOutcome::Cancelled { .. } => Outcome::Cancelled,
        ReportedOutcome::Released { .. } => Outcome::Released,
    }
}
