//! Commits how runs ended, many workers' in one transaction.
//!
//! One flush is under way at a time: the flush that removes a grant must not overtake one that ends a run in it.

use std::{sync::Arc, time::Duration};

use foldhash::{HashMap, HashSet, HashSetExt as _};
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

/// A verdict that was not committed, and the outcome that it would have had: the lease had ended before, or is not to
/// be ended this way.
pub(super) type Lost = (LeaseKey, Outcome);

/// Verdicts of one caller.
struct Settlement {
    verdicts: Vec<Verdict>,
    emptied: Vec<GrantKey>,
    reply: oneshot::Sender<Vec<Lost>>,
}

/// Which of some verdicts were committed.
enum Won {
    /// All: they are successes, and no cancel came first.
    AllSuccesses,
    /// Those that are named, with these outcomes.
    These(HashMap<LeaseKey, Outcome>),
}

impl Won {
    fn these(fenced: &[Fenced]) -> Self {
        Self::These(fenced.iter().map(|fenced| (fenced.key, fenced.outcome)).collect())
    }

    /// How a lease ended, if its verdict was committed.
    fn outcome(&self, key: &LeaseKey) -> Option<Outcome> {
        match self {
            Self::AllSuccesses => Some(Outcome::Succeeded),
            Self::These(won) => won.get(key).copied(),
        }
    }
}

/// The verdicts of one flush, each lease once.
struct Verdicts {
    successes: Vec<Verdict>,
    others: Vec<Verdict>,
    known: HashSet<LeaseKey>,
}

impl Verdicts {
    fn with_room_for(verdicts: usize) -> Self {
        Self {
            successes: Vec::with_capacity(verdicts),
            others: Vec::new(),
            known: HashSet::with_capacity(verdicts),
        }
    }

    /// Adds a verdict; false if there is one about the same lease. Twice in one statement would be an error: the first
    /// word counts.
    fn add(&mut self, verdict: Verdict) -> bool {
        let is_new = self.known.insert(verdict.key);
        if is_new {
            match verdict.end {
                End::Succeeded { .. } => self.successes.push(verdict),
                _ => self.others.push(verdict),
            }
        }
        is_new
    }

    fn iter(&self) -> impl Iterator<Item = &Verdict> + Clone {
        self.successes.iter().chain(&self.others)
    }
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
        let weigh = |s: &Settlement| s.verdicts.iter().map(weight).sum::<usize>() + 64;
        Self {
            queue: batcher::start(LIMIT, weigh, flush, tasks, stop),
            parts,
        }
    }

    /// Queues verdicts, in the order of the calls; the answer comes once they are durable, with those that lost.
    pub(super) async fn enqueue(
        &self,
        verdicts: Vec<Verdict>,
        emptied: Vec<GrantKey>,
    ) -> Result<oneshot::Receiver<Vec<Lost>>, Error> {
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

    /// Commits verdicts and returns those that lost.
    pub(super) async fn settle(
        &self,
        verdicts: Vec<Verdict>,
        emptied: Vec<GrantKey>,
    ) -> Result<Vec<Lost>, Error> {
        self.enqueue(verdicts, emptied).await?.await.map_err(|_| gone())
    }

    /// Tells everybody concerned about verdicts that were committed elsewhere.
    pub(super) fn announce(&self, ended: &EndedSessions) {
        self.parts
            .announce(ended.verdicts.iter(), &Won::these(&ended.won));
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
        let mut verdicts = Verdicts::with_room_for(batch.iter().map(|s| s.verdicts.len()).sum());
        let mut emptied = Vec::new();
        let mut callers = Vec::with_capacity(batch.len());
        for settlement in batch {
            let mut said: Vec<Lost> = Vec::with_capacity(settlement.verdicts.len());
            let mut lost = Vec::new();
            for verdict in settlement.verdicts {
                let word = (verdict.key, verdict.end.outcome());
                let list = if verdicts.add(verdict) {
                    &mut said
                } else {
                    &mut lost
                };
                list.push(word);
            }
            emptied.extend(settlement.emptied);
            callers.push((said, lost, settlement.reply));
        }
        let Some(won) = self.commit_all(&verdicts, &emptied, stop).await else {
            return;
        };
        self.announce(verdicts.iter(), &won);
        for (said, mut lost, reply) in callers {
            lost.extend(said.into_iter().filter(|(key, _)| won.outcome(key).is_none()));
            let _ = reply.send(lost);
        }
    }

    /// Commits successes apart from the rest: most batches hold nothing else, and theirs is the faster statement.
    /// Grants go with the last of the runs that empty them.
    async fn commit_all(
        &self,
        verdicts: &Verdicts,
        emptied: &[GrantKey],
        stop: &CancellationToken,
    ) -> Option<Won> {
        let Verdicts {
            successes, others, ..
        } = verdicts;
        if others.is_empty() {
            let won = self.commit(successes, emptied, stop).await?;
            let all =
                won.len() == successes.len() && won.iter().all(|fenced| fenced.outcome == Outcome::Succeeded);
            return Some(if all { Won::AllSuccesses } else { Won::these(&won) });
        }
        let mut won = Vec::new();
        if !successes.is_empty() {
            won = self.commit(successes, &[], stop).await?;
        }
        won.extend(self.commit(others, emptied, stop).await?);
        Some(Won::these(&won))
    }

    /// Commits however often it takes: verdicts are facts, and workers keep what is not acknowledged. `None` if the
    /// process stops first.
    async fn commit(
        &self,
        verdicts: &[Verdict],
        emptied: &[GrantKey],
        stop: &CancellationToken,
    ) -> Option<Vec<Fenced>> {
        let mut delay = FIRST_RETRY;
        loop {
            match self.db.settle(verdicts, emptied).await {
                Ok(won) => return Some(won),
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
    async fn commit_one_by_one(&self, verdicts: &[Verdict], error: &StoreError) -> Vec<Fenced> {
        tracing::error!(%error, runs = verdicts.len(), "a batch of outcomes cannot be stored; trying them one by one");
        let mut won = Vec::new();
        for verdict in verdicts {
            match self.db.settle(std::slice::from_ref(verdict), &[]).await {
                Ok(fenced) => won.extend(fenced),
                Err(error) => tracing::error!(%error, lease = %verdict.key, "an outcome cannot be stored"),
            }
        }
        // Grants that this empties are left to the sweep, which removes those whose runs have all ended.
        won
    }

    fn announce<'a>(&self, verdicts: impl Iterator<Item = &'a Verdict> + Clone, won: &Won) {
        let mut again = Vec::new();
        let mut ended: HashMap<(LaneId, TaskState), i64> = HashMap::default();
        let won = verdicts.filter_map(|verdict| Some((verdict, won.outcome(&verdict.key)?)));
        for (verdict, outcome) in won.clone() {
            let state = match (outcome, &verdict.end) {
                (Outcome::Succeeded, _) => TaskState::Succeeded,
                (Outcome::Cancelled, _) => TaskState::Cancelled,
                (_, End::Again { delay, .. }) => {
                    if delay.is_zero() {
                        again.push((verdict.lane, Mark::START));
                    } else {
                        self.due.due_in(*delay);
                    }
                    continue;
                }
                _ => TaskState::Failed,
            };
            *ended.entry((verdict.lane, state)).or_default() += 1;
        }
        for ((lane, state), tasks) in ended {
            self.counters.add(lane, state, tasks);
        }
        self.hub.wake(won.clone().map(|(verdict, _)| verdict.key.task));
        self.doorman.ring(Ring {
            ready: !again.is_empty(),
            watch: won.clone().next().is_some(),
            ..Ring::default()
        });
        self.fleet.wake_lanes(again);
    }
}
