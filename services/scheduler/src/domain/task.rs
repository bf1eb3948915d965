//! A task as it stands, read from the database.

use std::time::Duration;

use super::{
    backoff::Backoff,
    ids::{LaneId, LeaseToken, TaskId},
    outcome::Outcome,
    report::TaskError,
    state::TaskState,
};

/// A task as it stands. Times are microseconds since 1970, database clock.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskRecord {
    /// Its id.
    pub id: TaskId,
    /// The tenant.
    pub namespace: String,
    /// Where it waits or waited.
    pub queue: String,
    /// Selects the code.
    pub task_type: String,
    /// Its queue and type.
    pub lane: LaneId,
    /// Where it stands.
    pub state: TaskState,
    /// Number of the current or last counted run.
    pub attempt: i32,
    /// The current or last lease.
    pub lease_token: LeaseToken,
    /// True while it can only end CANCELLED.
    pub cancel_requested: bool,
    /// Name of the current or last worker.
    pub worker: Option<String>,
    /// Start of the current or last run.
    pub started_us: Option<i64>,
    /// When it ended.
    pub finished_us: Option<i64>,
    /// While SCHEDULED, when it may run.
    pub due_us: Option<i64>,
    /// When it was submitted.
    pub created_us: i64,
    /// Higher first.
    pub priority: i32,
    /// Most counted runs.
    pub max_attempts: i32,
    /// A line for people.
    pub title: Option<String>,
    /// A text for people.
    pub description: Option<String>,
    /// Who it belongs to.
    pub owner: Option<String>,
    /// Labels, JSON text of one object.
    pub labels: Option<String>,
    /// The task that submitted it.
    pub parent: Option<TaskId>,
    /// The finished task that it repeats.
    pub retry_of: Option<TaskId>,
    /// What waits between attempts, if not the default.
    pub backoff: Option<Backoff>,
    /// Longest time a run may take.
    pub run_timeout: Option<Duration>,
    /// W3C trace context of the submitter.
    pub traceparent: Option<String>,
    /// The input, JSON text, if it was asked for.
    pub payload: Option<String>,
    /// The result, JSON text, if there is one and it was asked for.
    pub result: Option<String>,
    /// Why the last run did not succeed.
    pub error: Option<TaskError>,
    /// Why it was cancelled, or is asked to stop, as the caller said.
    pub cancel_reason: Option<String>,
    /// Latest progress of the current or last run.
    pub progress: Option<ProgressRecord>,
}

/// Progress as it was stored.
#[derive(Debug, Clone, PartialEq)]
pub struct ProgressRecord {
    /// 0 to 100, or unknown.
    pub percent: Option<f64>,
    /// One line.
    pub message: String,
    /// Heading, body, image and detail, JSON text of one object.
    pub card: Option<String>,
    /// When it was stored.
    pub at_us: i64,
    /// When the code reported it, by the worker's clock.
    pub worker_us: Option<i64>,
}

/// An ended run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRecord {
    /// Which lease it ran under.
    pub lease_token: LeaseToken,
    /// Its number among the counted runs.
    pub attempt: i32,
    /// How it ended.
    pub outcome: Outcome,
    /// Name of the worker.
    pub worker: Option<String>,
    /// When it was leased.
    pub started_us: Option<i64>,
    /// When its outcome was committed.
    pub finished_us: Option<i64>,
    /// Why it did not succeed.
    pub error: Option<TaskError>,
    /// Why it was asked to stop, if it was.
    pub cancel_reason: Option<String>,
}

/// What tells whether anything about a task is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Where it stands.
    pub state: TaskState,
    /// The current or last lease.
    pub lease_token: LeaseToken,
    /// True while it can only end CANCELLED.
    pub cancel_requested: bool,
    /// While SCHEDULED, when it may run; microseconds since 1970.
    pub due_us: Option<i64>,
    /// Its last event.
    pub last_event: EventCursor,
}

/// Where a reader of a task's events stands: everything up to it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct EventCursor {
    /// The lease of the last event seen.
    pub lease_token: i32,
    /// Its number within the lease.
    pub number: i64,
}
