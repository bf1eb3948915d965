//! Cancelling a task: ends it if it waits, and asks its worker to stop if it runs.

use std::time::Duration;

use super::Engine;
use crate::{
    domain::{error::Error, ids::TaskId, state::TaskState, task::TaskRecord},
    store::CancelStep,
};

/// How often to look for a task that moves while it is being cancelled. Each round loses to a different move.
const ROUNDS: usize = 50;

impl Engine {
    /// Cancels a task wherever it is, and returns it: CANCELLED, or RUNNING and asked to stop.
    ///
    /// # Errors
    /// An unknown id, or a task that ended otherwise before.
    pub async fn cancel(&self, task: TaskId, reason: &str, grace: Duration) -> Result<TaskRecord, Error> {
        let (engine, reason) = (self.clone(), reason.to_owned());
        let cancel = async move { engine.cancel_now(task, &reason, grace).await };
        self.parts.background.complete(cancel).await?
    }

    async fn cancel_now(&self, task: TaskId, reason: &str, grace: Duration) -> Result<TaskRecord, Error> {
        for _ in 0..ROUNDS {
            let step = self.parts.db.cancel(task, reason, grace).await?;
            self.tell(task, step);
            let record = self.parts.db.read_changed_task(task).await?;
            let record = record.ok_or(Error::TaskNotFound(task))?;
            match record.standing.state() {
                TaskState::Cancelled => return Ok(record),
                TaskState::Running if record.standing.is_cancel_requested() => return Ok(record),
                state if state.is_final() => {
                    return Err(Error::WrongState {
                        task,
                        state,
                        needs: "only an unfinished task can be cancelled",
                    });
                }
                _ => {}
            }
        }
        Err(Error::Unavailable(
            "the task kept changing state while it was being cancelled; try again",
        ))
    }

    fn tell(&self, task: TaskId, step: CancelStep) {
        let parts = &self.parts;
        match step {
            CancelStep::Ended { lane, others } => {
                parts.counters.add(lane, TaskState::Cancelled, 1);
                if let Some(mark) = others {
                    parts.announcer.tasks_wait([(lane, mark)].into_iter());
                }
                parts.announcer.tasks_changed([task].into_iter());
            }
            CancelStep::Requested => {
                parts.wake.check_cancels_now();
                parts.announcer.cancel_requested(task);
            }
            CancelStep::Neither => {}
        }
    }
}
