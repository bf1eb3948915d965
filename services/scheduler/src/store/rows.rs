//! How rows become values of the domain. Columns are found by their names; one that is missing, or holds what it may
//! not, is an error and never a panic.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use tokio_postgres::Row;

use super::{
    columns::{Interval, Millis},
    error::StoreError,
    events::{LOG, PROGRESS, StoredEvent},
    lanes::EnsuredLane,
    mark::Mark,
    queues::{LaneStats, QueueRecord, WorkerRecord},
    sessions::KnownLease,
};
use crate::domain::{
    backoff::Backoff,
    error::Violation,
    ids::{LeaseKey, LeaseToken, SessionId, TaskId},
    lease::{DeadLease, Lease},
    loss::{Company, Loss},
    name::{Namespace, QueueName, TaskType},
    queue::QueueKey,
    report::{EventKind, TaskError, TaskEvent},
    state::TaskState,
    task::{
        CancelRequest, EventCursor, LastRun, ProgressRecord, RunRecord, Standing, TaskRecord, TaskVersion,
    },
    task_spec::{TaskOptions, TaskSpec},
};

/// The lease that the columns `task_id` and `lease_token` name.
pub(super) fn lease_key(row: &Row) -> Result<LeaseKey, StoreError> {
    Ok(LeaseKey {
        task: row.try_get("task_id")?,
        token: row.try_get("lease_token")?,
    })
}

/// The place before all bundles of the row's `rank` and `order_key`.
pub(super) fn mark(row: &Row) -> Result<Mark, StoreError> {
    Ok(Mark::before(row.try_get("rank")?, row.try_get("order_key")?))
}

/// The same, of columns that may both be null.
pub(super) fn optional_mark(row: &Row) -> Result<Option<Mark>, StoreError> {
    let rank: Option<i16> = row.try_get("rank")?;
    let order_key: Option<i64> = row.try_get("order_key")?;
    Ok(rank
        .zip(order_key)
        .map(|(rank, order_key)| Mark::before(rank, order_key)))
}

/// A lease that goes on, and its session.
pub(super) fn known_lease(row: &Row) -> Result<(SessionId, KnownLease), StoreError> {
    let lease = Lease {
        key: lease_key(row)?,
        grant: row.try_get("grant_id")?,
        lane: row.try_get("lane")?,
        attempt: row.try_get("attempt")?,
        max_attempts: row.try_get("max_attempts")?,
        backoff: backoff(row)?.unwrap_or_default(),
        run_timeout: millis(row, "run_timeout_ms")?,
        started_at: row.try_get("started_at")?,
    };
    let Interval(age) = row.try_get("age")?;
    Ok((row.try_get("session_id")?, KnownLease { lease, age }))
}

/// A lease whose session is over, and that session.
pub(super) fn dead_lease(row: &Row) -> Result<(SessionId, DeadLease), StoreError> {
    let dead = DeadLease {
        key: lease_key(row)?,
        grant: row.try_get("grant_id")?,
        lane: row.try_get("lane")?,
        attempt: row.try_get("attempt")?,
        max_attempts: row.try_get("max_attempts")?,
        started_at: row.try_get("started_at")?,
        worker: row.try_get("worker")?,
        was_spared: row.try_get::<_, Option<bool>>("was_spared")?.unwrap_or(false),
        loss: Loss {
            before: row.try_get("before")?,
            points_before: row.try_get("points_before")?,
            company: Company::Nobody,
        },
    };
    Ok((row.try_get("session_id")?, dead))
}

/// A task as it stands.
pub(super) fn task_record(row: &Row) -> Result<TaskRecord, StoreError> {
    Ok(TaskRecord {
        id: row.try_get("id")?,
        spec: task_spec(row)?,
        payload: row.try_get("payload")?,
        created_at: row.try_get("created_at")?,
        standing: standing(row)?,
        last_run: last_run(row)?,
    })
}

fn task_spec(row: &Row) -> Result<TaskSpec, StoreError> {
    let rank: i16 = row.try_get("rank")?;
    Ok(TaskSpec {
        task_type: task_type(row)?,
        queue: queue_key(row)?,
        priority: -rank,
        max_attempts: row.try_get("max_attempts")?,
        options: TaskOptions {
            title: row.try_get("title")?,
            description: row.try_get("description")?,
            owner: row.try_get("owner")?,
            labels: labels(row)?,
            parent: row.try_get("parent_id")?,
            retry_of: row.try_get("retry_of")?,
            backoff: backoff(row)?,
            run_timeout: millis(row, "run_timeout_ms")?,
            traceparent: row.try_get("traceparent")?,
        },
    })
}

fn standing(row: &Row) -> Result<Standing, StoreError> {
    let state: TaskState = row.try_get("state")?;
    let cancel_reason = || row.try_get("cancel_reason");
    let finished_at = || row.try_get("finished_at");
    Ok(match state {
        TaskState::Scheduled => Standing::Scheduled {
            due_at: row.try_get("due_at")?,
        },
        TaskState::Blocked => return Err(StoreError::Defect("a task is blocked, by nothing known".into())),
        TaskState::Pending => Standing::Pending,
        TaskState::Running => {
            let is_cancelled: bool = row.try_get("cancel_requested")?;
            let reason = cancel_reason()?;
            Standing::Running {
                cancel: is_cancelled.then_some(CancelRequest { reason }),
            }
        }
        TaskState::Succeeded => Standing::Succeeded {
            finished_at: finished_at()?,
            result: row.try_get("result")?,
        },
        TaskState::Failed => Standing::Failed {
            finished_at: finished_at()?,
        },
        TaskState::Cancelled => Standing::Cancelled {
            finished_at: finished_at()?,
            reason: cancel_reason()?,
        },
    })
}

fn last_run(row: &Row) -> Result<Option<LastRun>, StoreError> {
    let lease_token = row.try_get("lease_token")?;
    if lease_token == NO_LEASE {
        return Ok(None);
    }
    Ok(Some(LastRun {
        attempt: row.try_get("attempt")?,
        lease_token,
        worker: row.try_get("worker")?,
        started_at: row.try_get("started_at")?,
        error: task_error(row)?,
        progress: progress(row)?,
    }))
}

/// What the view says in place of the token of a task that was never leased.
const NO_LEASE: LeaseToken = LeaseToken(0);

fn progress(row: &Row) -> Result<Option<ProgressRecord>, StoreError> {
    let Some(stored_at) = row.try_get("progress_at")? else {
        return Ok(None);
    };
    Ok(Some(ProgressRecord {
        percent: row.try_get("percent")?,
        message: row.try_get("progress_message")?,
        card: row.try_get("progress_card")?,
        stored_at,
        worker_time: row.try_get("progress_worker_at")?,
    }))
}

/// What tells whether a task has changed, and the task.
pub(super) fn task_version(row: &Row) -> Result<(TaskId, TaskVersion), StoreError> {
    let version = TaskVersion {
        state: row.try_get("state")?,
        lease_token: row.try_get("lease_token")?,
        cancel_requested: row.try_get("cancel_requested")?,
        due_at: row.try_get("due_at")?,
        last_event: EventCursor {
            lease_token: row.try_get("event_lease_token")?,
            number: row.try_get("event_no")?,
        },
    };
    Ok((row.try_get("id")?, version))
}

/// An ended run.
pub(super) fn run_record(row: &Row) -> Result<RunRecord, StoreError> {
    let attempt: i16 = row.try_get("attempt")?;
    Ok(RunRecord {
        lease_token: row.try_get("lease_token")?,
        attempt: i32::from(attempt),
        outcome: row.try_get("outcome")?,
        worker: row.try_get("worker")?,
        started_at: row.try_get("started_at")?,
        finished_at: row.try_get("finished_at")?,
        error: task_error(row)?,
        cancel_reason: row.try_get("cancel_reason")?,
    })
}

/// An event of a task that the row does not name.
pub(super) fn stored_event(task: TaskId, row: &Row) -> Result<StoredEvent, StoreError> {
    let message = row.try_get("message")?;
    let worker_time: Option<Timestamp> = row.try_get("worker_at")?;
    let kind = match row.try_get("kind")? {
        PROGRESS => EventKind::Progress {
            percent: row.try_get("percent")?,
            message,
            card: row.try_get("card")?,
            worker_time,
        },
        LOG => EventKind::Log {
            level: row.try_get("level")?,
            message,
            worker_time,
        },
        other => return Err(StoreError::Defect(format!("{other} is no kind of event"))),
    };
    let attempt: i16 = row.try_get("attempt")?;
    Ok(StoredEvent {
        event: TaskEvent {
            lease: LeaseKey {
                task,
                token: row.try_get("lease_token")?,
            },
            number: row.try_get("event_no")?,
            kind,
        },
        stored_at: row.try_get("at")?,
        attempt: i32::from(attempt),
    })
}

/// A lane.
pub(super) fn lane(row: &Row) -> Result<EnsuredLane, StoreError> {
    Ok(EnsuredLane {
        id: row.try_get("id")?,
        queue: queue_key(row)?,
        task_type: task_type(row)?,
        paused: row.try_get("paused")?,
    })
}

/// A queue as it stands.
pub(super) fn queue_record(row: &Row) -> Result<QueueRecord, StoreError> {
    Ok(QueueRecord {
        key: queue_key(row)?,
        paused: row.try_get("paused")?,
        created_at: row.try_get("created_at")?,
    })
}

/// The counts of a lane. A count of waiting tasks that has reached `limit` may have stopped there.
pub(super) fn lane_stats(row: &Row, limit: i64) -> Result<LaneStats, StoreError> {
    let pending: i64 = row.try_get("pending")?;
    let all_scheduled: bool = row.try_get("all_scheduled")?;
    Ok(LaneStats {
        queue: queue_key(row)?,
        task_type: task_type(row)?,
        paused: row.try_get("paused")?,
        workers: row.try_get("workers")?,
        scheduled: row.try_get("scheduled")?,
        pending,
        running: row.try_get("running")?,
        succeeded: row.try_get("succeeded")?,
        failed: row.try_get("failed")?,
        cancelled: row.try_get("cancelled")?,
        exact: all_scheduled && pending < limit,
    })
}

/// A live session.
pub(super) fn worker_record(row: &Row) -> Result<WorkerRecord, StoreError> {
    Ok(WorkerRecord {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        incarnation: row.try_get("incarnation")?,
        task_types: row.try_get("task_types")?,
        queues: row.try_get("queues")?,
        labels: labels(row)?,
        slots: row.try_get("slots")?,
        scheduler: row.try_get("scheduler")?,
        created_at: row.try_get("created_at")?,
        heartbeat_at: row.try_get("heartbeat_at")?,
        running: row.try_get("running")?,
    })
}

/// The back-off of a task that has one of its own.
pub(super) fn backoff(row: &Row) -> Result<Option<Backoff>, StoreError> {
    let initial = millis(row, "initial_backoff_ms")?;
    let longest = millis(row, "max_backoff_ms")?;
    Ok(initial
        .zip(longest)
        .map(|(initial, longest)| Backoff { initial, longest }))
}

/// A duration in a column of milliseconds that may be null.
pub(super) fn millis(row: &Row, column: &str) -> Result<Option<Duration>, StoreError> {
    let millis: Option<Millis> = row.try_get(column)?;
    Ok(millis.map(|Millis(duration)| duration))
}

fn queue_key(row: &Row) -> Result<QueueKey, StoreError> {
    Ok(QueueKey {
        namespace: Namespace::parse(row.try_get::<_, String>("namespace")?, "namespace").map_err(bad_name)?,
        name: QueueName::parse(row.try_get::<_, String>("queue")?, "queue").map_err(bad_name)?,
    })
}

fn task_type(row: &Row) -> Result<TaskType, StoreError> {
    TaskType::parse(row.try_get::<_, String>("task_type")?, "task_type").map_err(bad_name)
}

fn bad_name(violation: Violation) -> StoreError {
    StoreError::Defect(format!("a stored name breaks a rule: {violation:?}"))
}

fn labels(row: &Row) -> Result<BTreeMap<String, String>, StoreError> {
    let Some(text) = row.try_get::<_, Option<&str>>("labels")? else {
        return Ok(BTreeMap::new());
    };
    serde_json::from_str(text).map_err(|error| StoreError::Defect(format!("stored labels: {error}")))
}

fn task_error(row: &Row) -> Result<Option<TaskError>, StoreError> {
    let Some(kind) = row.try_get("error_type")? else {
        return Ok(None);
    };
    let text = |column| Ok::<_, StoreError>(row.try_get::<_, Option<String>>(column)?.unwrap_or_default());
    Ok(Some(TaskError {
        kind,
        message: text("error_message")?,
        detail: text("error_detail")?,
    }))
}
