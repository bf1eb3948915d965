//! A worker's session as the worker described itself.

use std::collections::BTreeMap;

use super::name::{QueueName, TaskType};

/// Who a worker is and what it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerProfile {
    /// Its name, for people.
    pub name: String,
    /// Random per process start.
    pub incarnation: String,
    /// The types it runs.
    pub task_types: Vec<TaskType>,
    /// The queues it serves.
    pub queues: Vec<QueueName>,
    /// Facts about it.
    pub labels: BTreeMap<String, String>,
    /// How many tasks it runs at once.
    pub slots: i32,
}
