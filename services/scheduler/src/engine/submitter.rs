//! Stores new tasks, many callers' in one statement.

use std::sync::Arc;

use foldhash::HashMap;
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Engine,
    batcher::{self, BatchLimit},
    doorman::Doorman,
    fleet::{DirectReservation, Fleet},
    handover::Handover,
    pulse::DueHint,
};
use crate::{
    domain::{
        error::Error,
        ids::{GrantId, LaneId, LeaseKey, LeaseNo, SessionId},
        lease::Lease,
        new_task::{NewTask, Start},
    },
    store::{ClaimedTask, Database, Mark, StoreError, SubmitBatch, doorbell::Ring},
};

/// Bytes of payload and overhead after which a statement is closed.
const LIMIT: BatchLimit = BatchLimit {
    queue: 4_096,
    weight: 4 << 20,
    in_flight: 2,
};

/// Tasks of one caller.
struct Submission {
    tasks: Vec<(NewTask, LaneId)>,
    reply: oneshot::Sender<Result<Stored, Error>>,
}

/// What became of a submit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// The tasks are new; the time of the commit, microseconds since 1970.
    Now(i64),
    /// The same submit came before.
    Before,
}

/// The way in for new tasks.
pub(super) struct Submitter {
    queue: mpsc::Sender<Submission>,
}

#[derive(Clone)]
pub(super) struct Flusher {
    pub(super) db: Database,
    pub(super) fleet: Arc<Fleet>,
    pub(super) doorman: Arc<Doorman>,
    pub(super) due: Arc<DueHint>,
    pub(super) handover: Handover,
}

impl Submitter {
    pub(super) fn start(flusher: Flusher, tasks: &TaskTracker, stop: CancellationToken) -> Self {
        let flush = move |batch| {
            let flusher = flusher.clone();
            async move { flusher.flush(batch).await }
        };
        let weigh = |s: &Submission| s.tasks.iter().map(|(task, _)| task.weight()).sum();
        Self {
            queue: batcher::start(LIMIT, weigh, flush, tasks, stop),
        }
    }

    async fn submit(&self, tasks: Vec<(NewTask, LaneId)>) -> Result<Stored, Error> {
        let (reply, answer) = oneshot::channel();
        let gone = |_| Error::Unavailable("the scheduler is shutting down");
        self.queue
            .send(Submission { tasks, reply })
            .await
            .map_err(|_| gone(()))?;
        answer.await.map_err(|_| gone(()))?
    }
}

impl Engine {
    /// Stores tasks, all or none, and answers once that is durable.
    ///
    /// # Errors
    /// An id that another task has, or a database that cannot be reached.
    pub async fn submit(&self, tasks: Vec<NewTask>) -> Result<Stored, Error> {
        let mut placed = Vec::with_capacity(tasks.len());
        for task in tasks {
            let lane = match placed.last() {
                // Most batches are of one lane.
                Some((before, lane)) if is_same_lane(before, &task) => *lane,
                _ => self
                    .parts
                    .lanes
                    .lane(&task.queue, &task.task_type)
                    .await
                    .map_err(Error::from)?,
            };
            placed.push((task, lane));
        }
        self.parts.submitter.submit(placed).await
    }
}

impl Flusher {
    async fn flush(&self, batch: Vec<Submission>) {
        let direct = self.fleet.reserve_direct(&startable(&batch));
        let stored = self.db.submit(&columns(&batch, direct.as_ref())).await;
        if let (Err(error), Some(direct)) = (&stored, &direct) {
            match error {
                StoreError::Exists | StoreError::Data(_) => self.fleet.release_direct(direct),
                _ => self.fleet.direct_failed(direct),
            }
        }
        match stored {
            Ok(us) => {
                self.announce(&batch, direct.as_ref(), us);
                if let Some(direct) = direct {
                    let tasks = leased(&batch, &direct, us);
                    let homeless = self.fleet.deal_direct(&direct, tasks);
                    self.handover.finish(homeless).await;
                }
                for submission in batch {
                    // A caller that went away has its tasks stored all the same.
                    let _ = submission.reply.send(Ok(Stored::Now(us)));
                }
            }
            // One caller's tasks are in the way of the others': find out whose.
            Err(StoreError::Exists | StoreError::Data(_)) => {
                for submission in batch {
                    let answer = self.submit_alone(&submission).await;
                    let _ = submission.reply.send(answer);
                }
            }
            Err(error) => {
                let error = Error::from(error);
                for submission in batch {
                    let _ = submission.reply.send(Err(error.clone()));
                }
            }
        }
    }

    async fn submit_alone(&self, submission: &Submission) -> Result<Stored, Error> {
        let submission = std::slice::from_ref(submission);
        let columns = columns(submission, None);
        match self.db.submit(&columns).await {
            Ok(us) => {
                self.announce(submission, None, us);
                Ok(Stored::Now(us))
            }
            Err(StoreError::Exists) => {
                let existing = self.db.submit_existing(&columns).await?;
                if let Some(other) = existing.iter().find(|existing| !existing.same) {
                    return Err(Error::TaskExists(other.id));
                }
                match existing.first() {
                    // The same submit came before, perhaps from a caller that did not get the answer.
                    Some(_) if existing.len() == columns.len() => Ok(Stored::Before),
                    Some(first) => Err(Error::TaskExists(first.id)),
                    None => Err(Error::Unavailable("the task was deleted meanwhile")),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Wakes whoever can run the tasks that were not leased, or waits for their time.
    fn announce(&self, batch: &[Submission], direct: Option<&DirectReservation>, us: i64) {
        let mut lowest: HashMap<LaneId, Mark> = HashMap::default();
        for ((task, lane), session) in tasks_of(batch).zip(sessions_of(direct)) {
            match task.start {
                _ if session.is_some() => {}
                Start::After(delay) if delay.as_micros() > 0 => self.due.due_in(delay),
                Start::At(at) if at > us => {
                    self.due.due_in(std::time::Duration::from_micros(
                        u64::try_from(at - us).unwrap_or(0),
                    ));
                }
                Start::Now | Start::After(_) | Start::At(_) => {
                    let mark = Mark::before(-task.priority, us);
                    lowest
                        .entry(*lane)
                        .and_modify(|low| *low = mark.min(*low))
                        .or_insert(mark);
                }
            }
        }
        self.doorman.ring(Ring {
            ready: !lowest.is_empty(),
            ..Ring::default()
        });
        self.fleet.wake_lanes(lowest);
    }
}

fn is_same_lane(one: &NewTask, other: &NewTask) -> bool {
    one.queue == other.queue && one.task_type == other.task_type
}

fn tasks_of(batch: &[Submission]) -> impl Iterator<Item = &(NewTask, LaneId)> {
    batch.iter().flat_map(|submission| &submission.tasks)
}

/// Who gets each task of a batch at once; without end.
fn sessions_of(direct: Option<&DirectReservation>) -> impl Iterator<Item = Option<SessionId>> {
    let slots = direct.map_or(&[][..], |direct| &direct.slots);
    slots.iter().copied().chain(std::iter::repeat(None))
}

/// The lane of each task that does not wait for a time.
fn startable(batch: &[Submission]) -> Vec<Option<LaneId>> {
    tasks_of(batch)
        .map(|(task, lane)| (task.start == Start::Now).then_some(*lane))
        .collect()
}

fn columns<'a>(batch: &'a [Submission], direct: Option<&DirectReservation>) -> SubmitBatch<'a> {
    let mut columns = SubmitBatch::granting(direct.map_or(GrantId(0), |direct| direct.grant));
    for ((task, lane), session) in tasks_of(batch).zip(sessions_of(direct)) {
        match session {
            Some(session) => columns.push_leased(task, *lane, session),
            None => columns.push(task, *lane),
        }
    }
    columns
}

/// The tasks that were leased as they were stored, at `us`.
fn leased(batch: &[Submission], direct: &DirectReservation, us: i64) -> Vec<ClaimedTask> {
    tasks_of(batch)
        .zip(sessions_of(Some(direct)))
        .filter_map(|((task, lane), session)| {
            Some(ClaimedTask {
                session: session?,
                lease: Lease {
                    key: LeaseKey {
                        task: task.id,
                        no: LeaseNo(1),
                    },
                    grant: direct.grant,
                    lane: *lane,
                    attempt: 1,
                    max_attempts: task.max_attempts,
                    backoff: task.options.backoff.unwrap_or_default(),
                    run_timeout: task.options.run_timeout,
                    started_us: us,
                },
                payload: task.payload.clone(),
                traceparent: task.options.traceparent.clone(),
            })
        })
        .collect()
}
