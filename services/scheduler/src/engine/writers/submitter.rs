//! Stores new tasks, many callers' in one statement.

use std::{ops::ControlFlow, sync::Arc};

use foldhash::{HashMap, HashSet};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tasklease_proto::json;
use tokio::sync::{mpsc, oneshot};

use super::{
    batcher::{self, BatchLimit},
    budget::{ByteBudget, Spent},
    undelivered::Undelivered,
};
use crate::{
    domain::{
        error::Error,
        ids::{GrantId, LaneId, LeaseKey, LeaseToken, SessionId, TaskId},
        lease::Lease,
        new_task::{NewTask, Start},
    },
    engine::{
        Background,
        dispatch::local_sessions::{DirectReservation, LocalSessions},
        peers::announcer::Announcer,
        wake::Wake,
    },
    store::{ClaimedTask, Database, Mark, StoreError, StoredPayload, SubmitBatch},
};

/// Bytes of payload and overhead after which a statement is closed.
const LIMIT: BatchLimit = BatchLimit {
    queue: 4_096,
    weight: 4 << 20,
    in_flight: 2,
    // About 150 small tasks. Fewer cost less if they wait: a statement has fixed costs of 240 µs, a task of 4.
    beside: 32 << 10,
};

/// Bytes of new tasks that may wait to be stored on this replica.
const WAITING_BYTES: usize = 64 << 20;

/// How often tasks whose ids are taken are told apart from new ones before the callers must try again. Each round loses
/// against another submit of the same ids.
const ROUNDS: usize = 10;

/// Tasks of one caller.
struct Submission {
    tasks: Vec<(NewTask, LaneId)>,
    /// True once one of the tasks turned out to be stored before.
    is_repeated: bool,
    reply: oneshot::Sender<Result<Stored, Error>>,
    _spent: Spent,
}

/// What became of a submit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// All of its tasks are new; the time of the commit.
    Created(Timestamp),
    /// Some of its tasks had been stored before, by the same submit or a part of it.
    AlreadyStored,
}

/// The way in for new tasks.
pub(in crate::engine) struct Submitter {
    queue: mpsc::Sender<Submission>,
    budget: ByteBudget,
}

#[derive(Clone)]
pub(in crate::engine) struct Flusher {
    pub(in crate::engine) db: Database,
    pub(in crate::engine) local_sessions: Arc<LocalSessions>,
    pub(in crate::engine) announcer: Announcer,
    pub(in crate::engine) wake: Arc<Wake>,
    pub(in crate::engine) undelivered: Undelivered,
}

impl Submitter {
    pub(in crate::engine) fn start(flusher: Flusher, background: &Background) -> Self {
        let flush = move |batch| {
            let flusher = flusher.clone();
            async move {
                flusher.flush(batch).await;
                ControlFlow::Continue(())
            }
        };
        Self {
            queue: batcher::start(LIMIT, |s| weight(&s.tasks), flush, "submits", background),
            budget: ByteBudget::new(WAITING_BYTES),
        }
    }

    /// Sets bytes aside for tasks that will be submitted.
    pub(in crate::engine) fn spend(&self, bytes: usize) -> Result<Spent, Error> {
        self.budget
            .spend(bytes)
            .ok_or(Error::Overloaded("too many bytes of new tasks wait to be stored"))
    }

    /// Stores tasks, all or none, and answers once that is durable.
    ///
    /// # Errors
    /// An id that another task has, or a database that cannot be reached.
    pub(in crate::engine) async fn submit(
        &self,
        tasks: Vec<(NewTask, LaneId)>,
        spent: Spent,
    ) -> Result<Stored, Error> {
        let (reply, answer) = oneshot::channel();
        let gone = |_| Error::Unavailable("the scheduler is shutting down");
        self.queue
            .send(Submission {
                tasks,
                is_repeated: false,
                reply,
                _spent: spent,
            })
            .await
            .map_err(|_| gone(()))?;
        answer.await.map_err(|_| gone(()))?
    }
}

fn weight(tasks: &[(NewTask, LaneId)]) -> usize {
    tasks.iter().map(|(task, _)| task.weight()).sum()
}

impl Flusher {
    async fn flush(&self, mut batch: Vec<Submission>) {
        // A caller that went away is told nothing, so nothing of it is stored.
        batch.retain(|submission| !submission.reply.is_closed());
        if batch.is_empty() {
            return;
        }
        let direct = self
            .local_sessions
            .reserve_direct(&startable(&batch), Timestamp::now());
        let direct = direct.as_ref();
        match self.db.submit(&columns(&batch, direct)).await {
            Ok(commit) => {
                self.announce(&batch, direct, commit);
                if let Some((grant, direct)) = direct {
                    let tasks = leased(&batch, *grant, direct, commit);
                    let undelivered = self.local_sessions.deal_direct(direct, tasks);
                    self.undelivered.finish(undelivered).await;
                }
                answer(batch, commit);
            }
            Err(error) if error.blames_a_value() => {
                if let Some((_, direct)) = direct {
                    self.local_sessions.release_direct(direct);
                }
                if matches!(error, StoreError::Exists) {
                    self.store_what_is_new(batch).await;
                } else {
                    self.store_apart(batch).await;
                }
            }
            Err(error) => {
                if let Some((_, direct)) = direct {
                    self.local_sessions.direct_failed(direct);
                }
                refuse(batch, &Error::from(error));
            }
        }
    }

    /// Some ids are taken: asks once which, answers for those, and stores the rest in one statement, so that callers
    /// who repeat themselves cost the others little.
    async fn store_what_is_new(&self, mut batch: Vec<Submission>) {
        for _ in 0..ROUNDS {
            let existing = match self.existing(&batch).await {
                Ok(existing) => existing,
                Err(error) => return refuse(batch, &error),
            };
            let mut now = Vec::with_capacity(batch.len());
            let mut later = Vec::new();
            let mut ids = HashSet::default();
            for mut submission in batch {
                match without_existing(&mut submission, &existing) {
                    Err(error) => {
                        let _ = submission.reply.send(Err(error));
                    }
                    Ok(()) if submission.tasks.is_empty() => {
                        let _ = submission.reply.send(Ok(Stored::AlreadyStored));
                    }
                    // Two callers that bring the same id at the same time: the second finds it stored.
                    Ok(()) if submission.tasks.iter().any(|(task, _)| ids.contains(&task.id)) => {
                        later.push(submission);
                    }
                    Ok(()) => {
                        ids.extend(submission.tasks.iter().map(|(task, _)| task.id));
                        now.push(submission);
                    }
                }
            }
            if !now.is_empty() {
                match self.db.submit(&columns(&now, None)).await {
                    Ok(commit) => {
                        self.announce(&now, None, commit);
                        answer(now, commit);
                    }
                    Err(StoreError::Exists) => later.extend(now),
                    Err(error) if error.blames_a_value() => self.store_apart(now).await,
                    Err(error) => refuse(now, &Error::from(error)),
                }
            }
            if later.is_empty() {
                return;
            }
            batch = later;
        }
        refuse(
            batch,
            &Error::Unavailable("other submits of the same ids are under way"),
        );
    }

    /// The tasks of a batch whose ids are taken, with whether by the same task: of the same lane, and with a payload of
    /// the same JSON value, or if it was deleted of the same text.
    async fn existing(&self, batch: &[Submission]) -> Result<HashMap<TaskId, bool>, Error> {
        let submitted: HashMap<TaskId, (&NewTask, LaneId)> = tasks_of(batch)
            .map(|(task, lane)| (task.id, (task, *lane)))
            .collect();
        let is_same = |id, lane, stored: StoredPayload<'_>| {
            submitted.get(&id).is_some_and(|(task, submitted)| {
                let same_payload = match stored {
                    StoredPayload::Text(text) => json::same_value(text, &task.payload),
                    StoredPayload::Sha256(digest) => {
                        *digest == format!("{:x}", Sha256::digest(&task.payload))
                    }
                };
                *submitted == lane && same_payload
            })
        };
        let ids: Vec<TaskId> = submitted.keys().copied().collect();
        let existing = self.db.existing_tasks(&ids, is_same).await?;
        Ok(existing.into_iter().map(|task| (task.id, task.same)).collect())
    }

    /// Some value cannot be stored: finds out whose. Values are checked when they come in, so this should never happen.
    async fn store_apart(&self, batch: Vec<Submission>) {
        for submission in batch {
            let alone = std::slice::from_ref(&submission);
            match self.db.submit(&columns(alone, None)).await {
                Ok(commit) => {
                    self.announce(alone, None, commit);
                    answer(vec![submission], commit);
                }
                Err(error) => refuse(vec![submission], &Error::from(error)),
            }
        }
    }

    /// Wakes whoever can run the tasks that were not leased, or waits for their time.
    fn announce(&self, batch: &[Submission], direct: Direct<'_>, commit: Timestamp) {
        let mut lowest: HashMap<LaneId, Mark> = HashMap::default();
        for ((task, lane), session) in tasks_of(batch).zip(sessions_of(direct)) {
            match task.start {
                _ if session.is_some() => {}
                Start::After(delay) if delay.as_micros() > 0 => self.wake.due_in(delay),
                Start::At(time) if time > commit => {
                    self.wake.due_in(time.duration_since(commit).unsigned_abs());
                }
                Start::Now | Start::After(_) | Start::At(_) => {
                    let mark = Mark::before(-task.spec.priority, commit.as_microsecond());
                    lowest
                        .entry(*lane)
                        .and_modify(|low| *low = mark.min(*low))
                        .or_insert(mark);
                }
            }
        }
        self.announcer
            .tasks_wait(lowest.iter().map(|(lane, place)| (*lane, *place)));
    }
}

/// Who gets which of the new tasks at once, and by which grant.
type Direct<'a> = Option<&'a (GrantId, DirectReservation)>;

fn answer(batch: Vec<Submission>, commit: Timestamp) {
    for submission in batch {
        let stored = if submission.is_repeated {
            Stored::AlreadyStored
        } else {
            Stored::Created(commit)
        };
        let _ = submission.reply.send(Ok(stored));
    }
}

fn refuse(batch: Vec<Submission>, error: &Error) {
    for submission in batch {
        let _ = submission.reply.send(Err(error.clone()));
    }
}

/// Leaves out the tasks that are stored already.
///
/// # Errors
/// An id that a different task has; all of such ids are named.
fn without_existing(submission: &mut Submission, existing: &HashMap<TaskId, bool>) -> Result<(), Error> {
    let mut different = Vec::new();
    submission.tasks.retain(|(task, _)| match existing.get(&task.id) {
        None => true,
        Some(same) => {
            submission.is_repeated = true;
            if !same {
                different.push(task.id);
            }
            false
        }
    });
    if different.is_empty() {
        Ok(())
    } else {
        Err(Error::TasksExist(different))
    }
}

fn tasks_of(batch: &[Submission]) -> impl Iterator<Item = &(NewTask, LaneId)> {
    batch.iter().flat_map(|submission| &submission.tasks)
}

/// Who gets each task of a batch at once; without end.
fn sessions_of(direct: Direct<'_>) -> impl Iterator<Item = Option<SessionId>> {
    let slots = direct.map_or(&[][..], |(_, direct)| &direct.slots);
    slots.iter().copied().chain(std::iter::repeat(None))
}

/// The lane of each task that does not wait for a time.
fn startable(batch: &[Submission]) -> Vec<Option<LaneId>> {
    tasks_of(batch)
        .map(|(task, lane)| (task.start == Start::Now).then_some(*lane))
        .collect()
}

fn columns<'a>(batch: &'a [Submission], direct: Direct<'_>) -> SubmitBatch<'a> {
    let mut columns = direct.map_or_else(SubmitBatch::default, |(grant, _)| SubmitBatch::granting(*grant));
    for ((task, lane), session) in tasks_of(batch).zip(sessions_of(direct)) {
        match session {
            Some(session) => columns.push_leased(task, *lane, session),
            None => columns.push(task, *lane),
        }
    }
    columns
}

/// The tasks that were leased as they were stored.
fn leased(
    batch: &[Submission],
    grant: GrantId,
    direct: &DirectReservation,
    commit: Timestamp,
) -> Vec<ClaimedTask> {
    tasks_of(batch)
        .zip(direct.slots.iter().copied())
        .filter_map(|((task, lane), session)| {
            Some(ClaimedTask {
                session: session?,
                lease: Lease {
                    key: LeaseKey {
                        task: task.id,
                        token: LeaseToken(1),
                    },
                    grant,
                    lane: *lane,
                    attempt: 1,
                    max_attempts: task.spec.max_attempts,
                    backoff: task.spec.options.backoff.unwrap_or_default(),
                    run_timeout: task.spec.options.run_timeout,
                    started_at: commit,
                },
                payload: task.payload.clone(),
                traceparent: task.spec.options.traceparent.clone(),
            })
        })
        .collect()
}
