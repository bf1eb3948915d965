//! Commits how runs ended, many workers' in one transaction.
//!
//! One flush is under way at a time: the flush that removes a grant must not overtake one that ends a run in it.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use foldhash::{HashMap, HashSet, HashSetExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    batcher::{self, BatchLimit},
    counters::Counters,
};
use crate::{
    domain::{
        error::Error,
        ids::{GrantId, GrantKey, LaneId, LeaseKey, SessionId},
        outcome::Outcome,
        state::TaskState,
        verdict::{Disposition, Verdict},
    },
    engine::{Background, dispatch::local_sessions::LocalSessions, peers::announcer::Announcer, wake::Wake},
    store::{Database, EndedSessions, Fenced, Mark},
};

const LIMIT: BatchLimit = BatchLimit {
    queue: 4_096,
    weight: 4 << 20,
    in_flight: 1,
    beside: 0,
};

const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(1);

/// Failures in a row, of a kind that nobody knows to pass, after which the verdicts of a batch are tried apart.
const SUSPICIOUS: u32 = 5;

/// A verdict that was not committed, and the outcome that it would have had: the lease had ended before, or is not to
/// be ended this way.
pub(in crate::engine) type Stale = (LeaseKey, Outcome);

/// What became of verdicts. Those that are not named were committed.
#[derive(Debug, Default)]
pub(in crate::engine) struct Settled {
    /// The leases had ended before.
    pub(in crate::engine) stale: Vec<Stale>,
    /// Something in them cannot be stored; the leases go on.
    pub(in crate::engine) refused: Vec<LeaseKey>,
}

/// Verdicts of one caller, about leases of one session.
struct Settlement {
    session: SessionId,
    verdicts: Vec<Verdict>,
    /// The grant that holds just these leases, which were handed to nobody.
    undelivered: Option<GrantKey>,
    reply: oneshot::Sender<Settled>,
}

type LeasesBySession = HashMap<SessionId, Vec<(GrantId, LeaseKey)>>;

/// Takes those leases out that match.
fn take_out(leases: &mut LeasesBySession, matches: impl Fn(&LeaseKey) -> bool) -> LeasesBySession {
    leases
        .iter_mut()
        .map(|(session, leases)| (*session, leases.extract_if(.., |(_, key)| matches(key)).collect()))
        .collect()
}

/// What a flush came to.
#[derive(Default)]
struct Flushed {
    committed: Committed,
    refused: HashSet<LeaseKey>,
    unanswered: HashSet<LeaseKey>,
}

impl Flushed {
    fn add(&mut self, part: Self) {
        self.refused.extend(part.refused);
        self.unanswered.extend(part.unanswered);
    }

    fn is_complete(&self) -> bool {
        self.refused.is_empty() && self.unanswered.is_empty()
    }
}

/// Which of some verdicts were committed.
#[derive(Default)]
enum Committed {
    /// All: they are successes, and no cancel came first.
    #[default]
    AllSuccesses,
    /// Those that are named.
    These(HashMap<LeaseKey, Fenced>),
}

impl Committed {
    fn these(fenced: &[Fenced]) -> Self {
        Self::These(fenced.iter().map(|fenced| (fenced.key, *fenced)).collect())
    }

    /// How a lease ended, if its verdict was committed.
    fn outcome(&self, key: &LeaseKey) -> Option<Outcome> {
        match self {
            Self::AllSuccesses => Some(Outcome::Succeeded),
            Self::These(committed) => committed.get(key).map(|fenced| fenced.outcome),
        }
    }

    /// Where the task of a lease waits that ended, if it may run again at once.
    fn place(&self, key: &LeaseKey) -> Option<Mark> {
        match self {
            Self::AllSuccesses => None,
            Self::These(committed) => committed.get(key)?.place,
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
            match verdict.disposition {
                Disposition::Succeed { .. } => self.successes.push(verdict),
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
pub(in crate::engine) struct Settler {
    queue: mpsc::Sender<Settlement>,
    parts: SettlerParts,
}

#[derive(Clone)]
pub(in crate::engine) struct SettlerParts {
    pub(in crate::engine) db: Database,
    pub(in crate::engine) local_sessions: Arc<LocalSessions>,
    pub(in crate::engine) announcer: Announcer,
    pub(in crate::engine) counters: Arc<Counters>,
    pub(in crate::engine) wake: Arc<Wake>,
}

impl Settler {
    pub(in crate::engine) fn start(parts: SettlerParts, background: &Background) -> Self {
        let (flushing, stopping) = (parts.clone(), background.stopping().clone());
        let flush = move |batch| {
            let (parts, stop) = (flushing.clone(), stopping.clone());
            async move { parts.flush(batch, &stop).await }
        };
        let weigh = |s: &Settlement| s.verdicts.iter().map(weight).sum::<usize>() + 64;
        Self {
            queue: batcher::start(LIMIT, weigh, flush, "settlements", background),
            parts,
        }
    }

    /// Queues verdicts about leases of a session, in the order of the calls; the answer comes once they are durable.
    /// There is no answer about what could not be stored: ask again.
    pub(in crate::engine) async fn enqueue(
        &self,
        session: SessionId,
        verdicts: Vec<Verdict>,
    ) -> Result<oneshot::Receiver<Settled>, Error> {
        let (reply, answer) = oneshot::channel();
        self.queue
            .send(Settlement {
                session,
                verdicts,
                undelivered: None,
                reply,
            })
            .await
            .map_err(|_| gone())?;
        Ok(answer)
    }

    /// Commits that leases which reached nobody are handed back, together with their grant, which holds no others.
    pub(in crate::engine) async fn hand_back(
        &self,
        grant: GrantKey,
        verdicts: Vec<Verdict>,
    ) -> Result<Settled, Error> {
        let (reply, answer) = oneshot::channel();
        self.queue
            .send(Settlement {
                session: grant.session,
                verdicts,
                undelivered: Some(grant),
                reply,
            })
            .await
            .map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }

    /// Tells everybody concerned about verdicts that were committed elsewhere.
    pub(in crate::engine) fn announce(&self, ended: &EndedSessions) {
        self.parts
            .announce(ended.verdicts.iter(), &Committed::these(&ended.committed));
    }
}

fn gone() -> Error {
    Error::Unavailable("the outcomes could not be stored yet")
}

fn weight(verdict: &Verdict) -> usize {
    128 + match &verdict.disposition {
        Disposition::Succeed { result } => result.len(),
        Disposition::End { error, .. } | Disposition::Retry { error, .. } => {
            error.message.len() + error.detail.len()
        }
    }
}

impl SettlerParts {
    async fn flush(&self, batch: Vec<Settlement>, stop: &CancellationToken) -> ControlFlow<()> {
        let mut verdicts = Verdicts::with_room_for(batch.iter().map(|s| s.verdicts.len()).sum());
        let mut leases: LeasesBySession = HashMap::default();
        let mut undelivered = Vec::new();
        let mut callers = Vec::with_capacity(batch.len());
        for settlement in batch {
            let mine = leases.entry(settlement.session).or_default();
            let mut said: Vec<Stale> = Vec::with_capacity(settlement.verdicts.len());
            let mut stale = Vec::new();
            for verdict in settlement.verdicts {
                let lease = (verdict.grant, verdict.key);
                let word = (verdict.key, verdict.disposition.outcome());
                if verdicts.add(verdict) {
                    mine.push(lease);
                    said.push(word);
                } else {
                    stale.push(word);
                }
            }
            undelivered.extend(settlement.undelivered);
            callers.push((said, stale, settlement.reply));
        }
        // A grant goes with the statement that ends the last of its leases. Memory may count leases that the database
        // does not have any more, which leaves a grant to the sweep; it never misses one that goes on.
        let mut emptied = self.local_sessions.grants_that_end_with(&leases);
        emptied.extend(undelivered);
        let Some(flushed) = self.commit_all(&verdicts, &emptied, stop).await else {
            // Nothing is answered: workers report again, here or elsewhere.
            return ControlFlow::Break(());
        };
        let Flushed {
            committed,
            refused,
            unanswered,
        } = flushed;
        let unsettled: HashSet<LeaseKey> = refused.iter().chain(&unanswered).copied().collect();
        if !unsettled.is_empty() {
            self.local_sessions
                .not_settled(&take_out(&mut leases, |key| unsettled.contains(key)));
        }
        self.local_sessions.settled(&leases);
        self.announce(verdicts.iter(), &committed);
        for (said, mut stale, reply) in callers {
            if !unanswered.is_empty() && said.iter().any(|(key, _)| unanswered.contains(key)) {
                continue;
            }
            let (refused, rest): (Vec<_>, Vec<_>) =
                said.into_iter().partition(|(key, _)| refused.contains(key));
            stale.extend(
                rest.into_iter()
                    .filter(|(key, _)| committed.outcome(key).is_none()),
            );
            let refused = refused.into_iter().map(|(key, _)| key).collect();
            let _ = reply.send(Settled { stale, refused });
        }
        ControlFlow::Continue(())
    }

    /// Commits successes apart from the rest: most batches hold nothing else, and theirs is the faster statement.
    /// `None` if the process stops first.
    async fn commit_all(
        &self,
        verdicts: &Verdicts,
        emptied: &[GrantKey],
        stop: &CancellationToken,
    ) -> Option<Flushed> {
        let Verdicts {
            successes, others, ..
        } = verdicts;
        if others.is_empty() {
            let (fenced, mut flushed) = self.commit(successes, emptied, stop).await?;
            let all = fenced.len() == successes.len()
                && fenced.iter().all(|fenced| fenced.outcome == Outcome::Succeeded);
            flushed.committed = if all {
                Committed::AllSuccesses
            } else {
                Committed::these(&fenced)
            };
            return Some(flushed);
        }
        let mut all = Vec::new();
        let mut flushed = Flushed::default();
        if !successes.is_empty() {
            let (fenced, part) = self.commit(successes, &[], stop).await?;
            all.extend(fenced);
            flushed.add(part);
        }
        // Grants go last, unless something before them was not stored.
        let emptied = if flushed.is_complete() { emptied } else { &[] };
        let (fenced, part) = self.commit(others, emptied, stop).await?;
        all.extend(fenced);
        flushed.add(part);
        flushed.committed = Committed::these(&all);
        Some(flushed)
    }

    /// Commits however often it takes: verdicts are facts, and workers keep what is not acknowledged. What Postgres
    /// refuses because of a value is found and set apart, so that it does not hold up the others.
    async fn commit(
        &self,
        verdicts: &[Verdict],
        emptied: &[GrantKey],
        stop: &CancellationToken,
    ) -> Option<(Vec<Fenced>, Flushed)> {
        let mut delay = FIRST_RETRY;
        for attempt in 1_u32.. {
            let error = match self.db.settle(verdicts, emptied).await {
                Ok(committed) => return Some((committed, Flushed::default())),
                Err(error) => error,
            };
            tracing::warn!(%error, attempt, runs = verdicts.len(), "outcomes wait for the database");
            if stop.is_cancelled() {
                return None;
            }
            if error.blames_a_value() || (attempt >= SUSPICIOUS && !error.is_transient()) {
                return self.commit_in_parts(verdicts, stop).await;
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(LAST_RETRY);
        }
        None
    }

    /// Commits halves of halves, until what cannot be stored stands alone. Values are checked when they come in, so
    /// this should never happen; grants are left to the sweep.
    async fn commit_in_parts(
        &self,
        verdicts: &[Verdict],
        stop: &CancellationToken,
    ) -> Option<(Vec<Fenced>, Flushed)> {
        let mut committed = Vec::new();
        let mut flushed = Flushed::default();
        let mut parts = vec![verdicts];
        while let Some(part) = parts.pop() {
            match (self.db.settle(part, &[]).await, part) {
                (Ok(fenced), _) => committed.extend(fenced),
                (Err(_), _) if stop.is_cancelled() => return None,
                (Err(error), [verdict]) if error.blames_a_value() => {
                    tracing::error!(%error, lease = %verdict.key, "an outcome cannot be stored and is refused");
                    flushed.refused.insert(verdict.key);
                }
                (Err(error), [verdict]) => {
                    tracing::error!(%error, lease = %verdict.key, "an outcome was not stored and is not answered");
                    flushed.unanswered.insert(verdict.key);
                }
                (Err(_), part) => {
                    let (one, other) = part.split_at(part.len() / 2);
                    parts.extend([other, one]);
                }
            }
        }
        Some((committed, flushed))
    }

    fn announce<'a>(&self, verdicts: impl Iterator<Item = &'a Verdict> + Clone, committed: &Committed) {
        let mut again = Vec::new();
        let mut ended: HashMap<(LaneId, TaskState), i64> = HashMap::default();
        let committed_verdicts =
            verdicts.filter_map(|verdict| Some((verdict, committed.outcome(&verdict.key)?)));
        for (verdict, outcome) in committed_verdicts.clone() {
            let state = match (outcome, &verdict.disposition) {
                (Outcome::Succeeded, _) => TaskState::Succeeded,
                (Outcome::Cancelled, _) => TaskState::Cancelled,
                (_, Disposition::Retry { delay, .. }) => {
                    match committed.place(&verdict.key) {
                        Some(place) => again.push((verdict.lane, place)),
                        None => self.wake.due_in(*delay),
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
        self.announcer
            .tasks_changed(committed_verdicts.map(|(verdict, _)| verdict.key.task));
        self.announcer.tasks_wait(again.into_iter());
    }
}
