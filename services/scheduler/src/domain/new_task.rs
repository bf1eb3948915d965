//! A task that passed every check and waits to be stored.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    error::Error,
    ids::TaskId,
    task::{Standing, TaskRecord},
    task_spec::{TaskOptions, TaskSpec},
};

/// When a task may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At once.
    Now,
    /// This long after its commit; never zero.
    After(Duration),
    At(Timestamp),
}

/// A valid task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    pub id: TaskId,
    pub spec: TaskSpec,
    /// The input, JSON text of one object.
    pub payload: String,
    pub start: Start,
}

impl NewTask {
    /// Bytes that a batch counts for it, an estimate of what crosses to the database.
    pub fn weight(&self) -> usize {
        let description = self.spec.options.description.as_ref();
        self.payload.len() + description.map_or(0, String::len) + 256
    }

    /// The same work, under its own id, as a task that ended without success and was read with its payload.
    ///
    /// # Errors
    /// A task that goes on, or has succeeded.
    pub fn repeating(old: TaskRecord, id: TaskId) -> Result<Self, Error> {
        if !matches!(old.standing, Standing::Failed { .. } | Standing::Cancelled { .. }) {
            return Err(Error::WrongState {
                task: old.id,
                state: old.standing.state(),
                needs: "only a failed or cancelled task can be retried",
            });
        }
        let options = TaskOptions {
            retry_of: Some(old.id),
            ..old.spec.options
        };
        Ok(Self {
            id,
            spec: TaskSpec { options, ..old.spec },
            payload: old.payload.ok_or(Error::Internal)?,
            start: Start::Now,
        })
    }
}
