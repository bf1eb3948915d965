//! Cancelling tasks: ending those that wait, asking those that run, revoking those that do not listen.

use std::time::Duration;

use super::Engine;
use crate::{
    domain::{
        error::Error,
        ids::{LeaseKey, TaskId},
        state::TaskState,
        task::TaskRecord,
    },
    store::{CancelStep, StoreError, notify::Hints},
};

/// How often to look for a task that moves while it is being cancelled. Each round loses to a different move.
const ROUNDS: usize = 50;

/// Most open requests that one look pushes.
const OPEN: i64 = 10_000;

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
        let parts = &self.parts;
        for _ in 0..ROUNDS {
            match parts.db.cancel(task, reason, grace).await? {
                CancelStep::Ended { lane, others } => {
                    parts.counters.add(lane, TaskState::Cancelled, 1);
                    if let Some(mark) = others {
                        parts.local_sessions.wake_lanes([(lane, mark)]);
                        parts.notifier.notify(Hints::lane(lane, mark));
                    }
                    self.announce_change(&[task]);
                }
                CancelStep::Requested => {
                    parts.wake.check_cancels_now();
                    parts.notifier.notify(Hints {
                        cancels: true,
                        ..Hints::tasks([task])
                    });
                    parts.hub.wake([task]);
                }
                CancelStep::Neither => {}
            }
            let record = parts
                .db
                .read_changed_task(task)
                .await?
                .ok_or(Error::TaskNotFound(task))?;
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
            "the task kept changing state while it was being cancelled",
        ))
    }

    /// Tells watchers here and elsewhere that tasks changed.
    pub(super) fn announce_change(&self, tasks: &[TaskId]) {
        self.parts.hub.wake(tasks.iter().copied());
        self.parts.notifier.notify(Hints::tasks(tasks.iter().copied()));
    }
}

/// Revokes leases whose grace is over and pushes the open requests to the workers here; returns whether any is open.
pub(super) async fn run_once(engine: &Engine) -> Result<bool, StoreError> {
    let parts = &engine.parts;
    let revoked = parts.db.revoke_overdue().await?;
    if !revoked.is_empty() {
        let keys: Vec<LeaseKey> = revoked.iter().map(|(key, _)| *key).collect();
        tracing::info!(
            leases = keys.len(),
            "revoked leases whose code did not stop after a cancel"
        );
        for (_, lane) in &revoked {
            parts.counters.add(*lane, TaskState::Cancelled, 1);
        }
        parts.local_sessions.revoke(&keys);
        engine.announce_change(&keys.iter().map(|key| key.task).collect::<Vec<_>>());
    }
    let open = parts.db.stop_orders(OPEN).await?;
    parts.local_sessions.push_cancels(&open);
    Ok(!open.is_empty())
}
