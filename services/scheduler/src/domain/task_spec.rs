//! What a submitter asked for: the same for a new task, a stored one, and one that repeats another.

use std::{collections::BTreeMap, time::Duration};

use super::{backoff::Backoff, ids::TaskId, name::TaskType, queue::QueueKey};

/// Everything about a task but its input and its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSpec {
    /// Selects the code.
    pub task_type: TaskType,
    pub queue: QueueKey,
    /// -100 to 100, higher first.
    pub priority: i16,
    /// Most counted runs.
    pub max_attempts: i16,
    pub options: TaskOptions,
}

/// What most tasks leave out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskOptions {
    /// A line for people.
    pub title: Option<String>,
    /// A text for people.
    pub description: Option<String>,
    /// Whom the task belongs to, for people and lists.
    pub owner: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// The task that submitted this one.
    pub parent: Option<TaskId>,
    /// The ended task that this one repeats.
    pub retry_of: Option<TaskId>,
    /// The delays between attempts, if not the default.
    pub backoff: Option<Backoff>,
    /// Longest time a run may take.
    pub run_timeout: Option<Duration>,
    /// W3C trace context of the submitter.
    pub traceparent: Option<String>,
}
