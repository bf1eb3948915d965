//! Stores new tasks, many callers' in one statement.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Engine,
    batcher::{self, BatchLimit},
    doorman::Doorman,
    fleet::Fleet,
    pulse::DueHint,
};
use crate::{
    domain::{
        error::Error,
        ids::LaneId,
        new_task::{NewTask, Start},
    },
    store::{Database, Mark, StoreError, SubmitBatch, doorbell::Ring},
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
struct Flusher {
    db: Database,
    fleet: Arc<Fleet>,
    doorman: Arc<Doorman>,
    due: Arc<DueHint>,
}

impl Submitter {
    pub(super) fn start(
        db: Database,
        fleet: Arc<Fleet>,
        doorman: Arc<Doorman>,
        due: Arc<DueHint>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let flusher = Flusher {
            db,
            fleet,
            doorman,
            due,
        };
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
            let lane = self
                .parts
                .lanes
                .lane(&task.queue, &task.task_type)
                .await
                .map_err(Error::from)?;
            placed.push((task, lane));
        }
        self.parts.submitter.submit(placed).await
    }
}

impl Flusher {
    async fn flush(&self, batch: Vec<Submission>) {
        let mut columns = SubmitBatch::default();
        for (task, lane) in batch.iter().flat_map(|submission| &submission.tasks) {
            columns.push(task, *lane);
        }
        match self.db.submit(&columns).await {
            Ok(us) => {
                self.announce(&batch, us);
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
        let mut columns = SubmitBatch::default();
        for (task, lane) in &submission.tasks {
            columns.push(task, *lane);
        }
        match self.db.submit(&columns).await {
            Ok(us) => {
                self.announce(std::slice::from_ref(submission), us);
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

    /// Wakes whoever can run the tasks, or waits for their time.
    fn announce(&self, batch: &[Submission], us: i64) {
        let mut lowest: HashMap<LaneId, Mark> = HashMap::new();
        for (task, lane) in batch.iter().flat_map(|submission| &submission.tasks) {
            match task.start {
                Start::After(delay) if !delay.is_zero() => self.due.due_in(delay),
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
