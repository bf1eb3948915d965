//! Which run of a task writes a file.

use tasklease_worker::Context;

/// Names one run of a task: the task, and the lease under which it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunName {
    /// The task's id as text.
    pub task_id: String,
    /// The lease token; a later run of the same task has a greater one.
    pub lease_token: u64,
}

impl From<&Context> for RunName {
    fn from(ctx: &Context) -> Self {
        Self {
            task_id: ctx.task_id().to_owned(),
            lease_token: ctx.lease_token(),
        }
    }
}
