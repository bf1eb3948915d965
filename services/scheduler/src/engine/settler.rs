//! Commits how runs ended, many workers' in one transaction.
//!
//! One flush is under way at a time: the flush that removes a grant must not overtake one that ends a run in it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    batcher::{self, BatchLimit},
    counters::Counters,
    doorman::Doorman,
    fleet::Fleet,
    hub::WatchHub,
    pulse::DueHint,
};
use crate::{
    domain::{
        error::Error,
        ids::{LaneId, LeaseKey},
        outcome::Outcome,
        state::TaskState,
        verdict::{End, Verdict},
    },
    store::{Database, EndedSessions, Fenced, GrantKey, Mark, StoreError, doorbell::Ring},
};

const LIMIT: BatchLimit = BatchLimit {
    queue: 4_096,
    weight: 4 << 20,
    in_flight: 1,
};

const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(1);

/// Verdicts of one caller.
struct Settlement {
    verdicts: Vec<(Verdict, LaneId)>,
    emptied: Vec<GrantKey>,
    reply: oneshot::Sender<Vec<Fenced>>,
}

/// The way in for verdicts.
#[derive(Clone)]
pub(super) struct Settler {
    queue: mpsc::Sender<Settlement>,
    parts: SettlerParts,
}

#[derive(Clone)]
pub(super) struct SettlerParts {
    pub(super) db: Database,
    pub(super) fleet: Arc<Fleet>,
    pub(super) hub: Arc<WatchHub>,
    pub(super) doorman: Arc<Doorman>,
    pub(super) counters: Arc<Counters>,
    pub(super) due: Arc<DueHint>,
}

impl Settler {
    pub(super) fn start(parts: SettlerParts, tasks: &TaskTracker, stop: CancellationToken) -> Self {
        let (flushing, stopping) = (parts.clone(), stop.clone());
        let flush = move |batch| {
            let (parts, stop) = (flushing.clone(), stopping.clone());
            async move { parts.flush(batch, &stop).await }
        };
        let weigh = |s: &Settlement| {
            s.verdicts
                .iter()
                .map(|(verdict, _)| weight(verdict))
                .sum::<usize>()
                + 64
        };
        Self {
            queue: batcher::start(LIMIT, weigh, flush, tasks, stop),
            parts,
        }
    }

    /// Queues verdicts, in the order of the calls; the answer comes once they are durable, with those that won.
    pub(super) async fn enqueue(
        &self,
        verdicts: Vec<(Verdict, LaneId)>,
        emptied: Vec<GrantKey>,
    ) -> Result<oneshot::Receiver<Vec<Fenced>>, Error> {
        let (reply, answer) = oneshot::channel();
        self.queue
            .send(Settlement {
                verdicts,
                emptied,
                reply,
            })
            .await
            .map_err(|_| gone())?;
        Ok(answer)
    }

    /// Commits verdicts and returns those that won.
    pub(super) async fn settle(
        &self,
        verdicts: Vec<(Verdict, LaneId)>,
        emptied: Vec<GrantKey>,
    ) -> Result<Vec<Fenced>, Error> {
        self.enqueue(verdicts, emptied).await?.await.map_err(|_| gone())
    }

    /// Tells everybody concerned about verdicts that were committed elsewhere.
    pub(super) fn announce(&self, ended: &EndedSessions) {
        let won = ended
            .won
            .iter()
            .map(|fenced| (fenced.key, fenced.outcome))
            .collect();
        let lanes = ended
            .verdicts
            .iter()
            .map(|(verdict, lane)| (verdict.key, *lane))
            .collect();
        self.parts
            .announce(ended.verdicts.iter().map(|(verdict, _)| verdict), &won, &lanes);
    }
}

fn gone() -> Error {
    Error::Unavailable("the scheduler is shutting down")
}

fn weight(verdict: &Verdict) -> usize {
    128 + match &verdict.end {
        End::Succeeded { result } => result.len(),
        End::Final { error, .. } | End::Again { error, .. } => error.message.len() + error.detail.len(),
    }
}

impl SettlerParts {
    async fn flush(&self, batch: Vec<Settlement>, stop: &CancellationToken) {
        let mut verdicts = Vec::new();
        let mut lanes = HashMap::new();
        let mut emptied = Vec::new();
        let mut callers = Vec::with_capacity(batch.len());
        for settlement in batch {
            let mut keys = Vec::with_capacity(settlement.verdicts.len());
            for (verdict, lane) in settlement.verdicts {
                // The same lease twice in one statement would be an error; the first word counts.
                if lanes.insert(verdict.key, lane).is_none() {
                    keys.push(verdict.key);
                    verdicts.push(verdict);
                }
            }
            emptied.extend(settlement.emptied);
            callers.push((keys, settlement.reply));
        }
        let Some(won) = self.commit_all(&mut verdicts, &emptied, stop).await else {
            return;
        };
        self.announce(&verdicts, &won, &lanes);
        for (keys, reply) in callers {
            let fenced = keys
                .into_iter()
                .filter_map(|key| {
                    won.get(&key).map(|outcome| Fenced {
                        key,
                        outcome: *outcome,
                    })
                })
                .collect();
            let _ = reply.send(fenced);
        }
    }

    /// Commits successes apart from the rest: most batches hold nothing else, and theirs is the faster statement.
    /// Grants go with the last of the runs that empty them.
    async fn commit_all(
        &self,
        verdicts: &mut [Verdict],
        emptied: &[GrantKey],
        stop: &CancellationToken,
    ) -> Option<HashMap<LeaseKey, Outcome>> {
        verdicts.sort_by_key(|verdict| !matches!(verdict.end, End::Succeeded { .. }));
        let successes = verdicts.partition_point(|verdict| matches!(verdict.end, End::Succeeded { .. }));
        let (successes, others) = verdicts.split_at(successes);
        if others.is_empty() {
            return self.commit(successes, emptied, stop).await;
        }
        let mut won = HashMap::new();
        if !successes.is_empty() {
            won = self.commit(successes, &[], stop).await?;
        }
        won.extend(self.commit(others, emptied, stop).await?);
        Some(won)
    }

    /// Commits however often it takes: verdicts are facts, and workers keep what is not acknowledged. `None` if the
    /// process stops first.
    async fn commit(
        &self,
        verdicts: &[Verdict],
        emptied: &[GrantKey],
        stop: &CancellationToken,
    ) -> Option<HashMap<LeaseKey, Outcome>> {
        let mut delay = FIRST_RETRY;
        loop {
            match self.db.settle(verdicts, emptied).await {
                Ok(won) => {
                    return Some(
                        won.into_iter()
                            .map(|fenced| (fenced.key, fenced.outcome))
                            .collect(),
                    );
                }
                Err(error) if error.is_transient() => {
                    tracing::warn!(%error, runs = verdicts.len(), "outcomes wait for the database");
                    if stop.is_cancelled() {
                        return None;
                    }
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(LAST_RETRY);
                }
                Err(error) => return Some(self.commit_one_by_one(verdicts, &error).await),
            }
        }
    }

    /// Some value in the batch cannot be stored: commit the others. Should never happen, because values are checked
    /// when they come in; if it does, one bad report must not hold up all workers.
    async fn commit_one_by_one(
        &self,
        verdicts: &[Verdict],
        error: &StoreError,
    ) -> HashMap<LeaseKey, Outcome> {
        tracing::error!(%error, runs = verdicts.len(), "a batch of outcomes cannot be stored; trying them one by one");
        let mut won = HashMap::new();
        for verdict in verdicts {
            match self.db.settle(std::slice::from_ref(verdict), &[]).await {
                Ok(fenced) => won.extend(fenced.into_iter().map(|fenced| (fenced.key, fenced.outcome))),
                Err(error) => tracing::error!(%error, lease = %verdict.key, "an outcome cannot be stored"),
            }
        }
        // Grants that this empties are left to the sweep, which removes those whose runs have all ended.
        won
    }

    fn announce<'a>(
        &self,
        verdicts: impl IntoIterator<Item = &'a Verdict>,
        won: &HashMap<LeaseKey, Outcome>,
        lanes: &HashMap<LeaseKey, LaneId>,
    ) {
        let mut again = Vec::new();
        let mut ended: HashMap<(LaneId, TaskState), i64> = HashMap::new();
        for verdict in verdicts {
            let (Some(outcome), Some(lane)) = (won.get(&verdict.key), lanes.get(&verdict.key)) else {
                continue;
            };
            match (outcome, &verdict.end) {
                (Outcome::Succeeded, _) => *ended.entry((*lane, TaskState::Succeeded)).or_default() += 1,
                (Outcome::Cancelled, _) => *ended.entry((*lane, TaskState::Cancelled)).or_default() += 1,
                (_, End::Again { delay, .. }) if delay.is_zero() => again.push((*lane, Mark::START)),
                (_, End::Again { delay, .. }) => self.due.due_in(*delay),
                _ => *ended.entry((*lane, TaskState::Failed)).or_default() += 1,
            }
        }
        for ((lane, state), tasks) in ended {
            self.counters.add(lane, state, tasks);
        }
        self.hub.wake(won.keys().map(|key| key.task));
        self.doorman.ring(Ring {
            ready: !again.is_empty(),
            watch: !won.is_empty(),
            ..Ring::default()
        });
        self.fleet.wake_lanes(again);
    }
}
