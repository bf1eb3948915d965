//! A task as it stands, read from the database.

use jiff::Timestamp;

use super::{
    ids::{LeaseToken, TaskId},
    outcome::Outcome,
    report::TaskError,
    state::TaskState,
    task_spec::TaskSpec,
};

/// A task as it stands. Times are those of the database's clock.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskRecord {
    pub id: TaskId,
    pub spec: TaskSpec,
    /// The input, JSON text, if it was asked for.
    pub payload: Option<String>,
    pub created_at: Timestamp,
    pub standing: Standing,
    /// The current run, or the last one; `None` before the first.
    pub last_run: Option<LastRun>,
}

impl TaskRecord {
    /// The current or last lease; zero before the first, as on the wire.
    pub fn lease_token(&self) -> LeaseToken {
        self.last_run
            .as_ref()
            .map_or(LeaseToken(0), |run| run.lease_token)
    }

    /// Number of the current or last counted run; zero before the first, as on the wire.
    pub fn attempt(&self) -> i32 {
        self.last_run.as_ref().map_or(0, |run| run.attempt)
    }
}

/// Where a task is in its life, with what exists only there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    Scheduled {
        due_at: Timestamp,
    },
    Pending,
    Running {
        /// The request to cancel it, after which it can only end CANCELLED.
        cancel: Option<CancelRequest>,
    },
    Succeeded {
        finished_at: Timestamp,
        /// JSON text of one object, if it was asked for.
        result: Option<String>,
    },
    Failed {
        finished_at: Timestamp,
    },
    Cancelled {
        finished_at: Timestamp,
        /// As the caller said.
        reason: Option<String>,
    },
}

/// A request to cancel a running task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelRequest {
    /// As the caller said.
    pub reason: Option<String>,
}

impl Standing {
    pub fn state(&self) -> TaskState {
        match self {
            Self::Scheduled { .. } => TaskState::Scheduled,
            Self::Pending => TaskState::Pending,
            Self::Running { .. } => TaskState::Running,
            Self::Succeeded { .. } => TaskState::Succeeded,
            Self::Failed { .. } => TaskState::Failed,
            Self::Cancelled { .. } => TaskState::Cancelled,
        }
    }

    pub fn due_at(&self) -> Option<Timestamp> {
        match self {
            Self::Scheduled { due_at } => Some(*due_at),
            _ => None,
        }
    }

    pub fn finished_at(&self) -> Option<Timestamp> {
        match self {
            Self::Succeeded { finished_at, .. }
            | Self::Failed { finished_at }
            | Self::Cancelled { finished_at, .. } => Some(*finished_at),
            Self::Scheduled { .. } | Self::Pending | Self::Running { .. } => None,
        }
    }

    /// True while the task runs and can only end CANCELLED.
    pub fn is_cancel_requested(&self) -> bool {
        matches!(self, Self::Running { cancel: Some(_) })
    }

    /// Why the task was cancelled, or is asked to stop.
    pub fn cancel_reason(&self) -> Option<&str> {
        match self {
            Self::Running {
                cancel: Some(CancelRequest { reason }),
            }
            | Self::Cancelled { reason, .. } => reason.as_deref(),
            _ => None,
        }
    }
}

/// The current run of a task, or the last one.
#[derive(Debug, Clone, PartialEq)]
pub struct LastRun {
    /// Number of the current or last counted run.
    pub attempt: i32,
    pub lease_token: LeaseToken,
    /// Name of the worker.
    pub worker: Option<String>,
    pub started_at: Option<Timestamp>,
    /// Why the last ended run did not succeed.
    pub error: Option<TaskError>,
    /// Latest progress.
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
    pub stored_at: Timestamp,
    /// When the code reported it, by the worker's clock.
    pub worker_time: Option<Timestamp>,
}

/// An ended run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRecord {
    pub lease_token: LeaseToken,
    /// Its number among the counted runs.
    pub attempt: i32,
    pub outcome: Outcome,
    /// Name of the worker.
    pub worker: Option<String>,
    /// When it was leased.
    pub started_at: Option<Timestamp>,
    /// When its outcome was committed.
    pub finished_at: Option<Timestamp>,
    /// Why it did not succeed.
    pub error: Option<TaskError>,
    /// Why it was asked to stop, if it was.
    pub cancel_reason: Option<String>,
}

/// Tells whether a task has changed since somebody looked: two looks that see the same version saw the same task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskVersion {
    pub state: TaskState,
    /// The current or last lease.
    pub lease_token: LeaseToken,
    /// True while it can only end CANCELLED.
    pub cancel_requested: bool,
    /// While SCHEDULED, when it may run.
    pub due_at: Option<Timestamp>,
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
