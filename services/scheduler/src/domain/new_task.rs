//! A task that passed every check and waits to be stored.

use std::{collections::BTreeMap, time::Duration};

use super::{
    backoff::Backoff,
    ids::TaskId,
    name::{QueueName, TaskType},
};

/// When a task may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At once.
    Now,
    /// So long after its commit.
    After(Duration),
    /// At a point in time, microseconds since 1970.
    At(i64),
}

/// A valid task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    /// Its id.
    pub id: TaskId,
    /// Selects the code.
    pub task_type: TaskType,
    /// Where it waits.
    pub queue: QueueName,
    /// The input, JSON text of one object.
    pub payload: String,
    /// -100 to 100, higher first.
    pub priority: i16,
    /// When it may start.
    pub start: Start,
    /// Most counted runs.
    pub max_attempts: i16,
    /// What most tasks do not use.
    pub options: TaskOptions,
}

/// What most tasks do not use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskOptions {
    /// A line for people.
    pub title: Option<String>,
    /// A text for people.
    pub description: Option<String>,
    /// Who it belongs to.
    pub owner: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The task that submitted it.
    pub parent: Option<TaskId>,
    /// The finished task that it repeats.
    pub retry_of: Option<TaskId>,
    /// What waits between attempts, if not the default.
    pub backoff: Option<Backoff>,
    /// Longest time a run may take.
    pub run_timeout: Option<Duration>,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

impl NewTask {
    /// Bytes that a batch counts for it, an estimate of what crosses to the database.
    pub fn weight(&self) -> usize {
        self.payload.len() + self.options.description.as_ref().map_or(0, String::len) + 256
    }
}
