//! Everything that can go wrong for a caller, once. `api/status.rs` gives each its gRPC code.

use super::{ids::TaskId, state::TaskState};

/// A rule that an input breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field in the request, such as `tasks[3].priority`.
    pub field: String,
    /// What is wrong with it and what would be right.
    pub problem: String,
}

impl Violation {
    /// A violation of `field`.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
        }
    }

    /// The same violation, of a field inside `parent`.
    #[must_use]
    pub fn within(mut self, parent: &str) -> Self {
        self.field = format!("{parent}.{}", self.field);
        self
    }
}

/// Why a call was refused or could not be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The input breaks rules; nothing was stored.
    #[error("invalid request: {}", spell_out(.0))]
    Invalid(Vec<Violation>),
    /// No task has this id.
    #[error("no task has the id {0}")]
    TaskNotFound(TaskId),
    /// The task is in a state in which the call makes no sense.
    #[error("task {task} is {state}; {needs}")]
    WrongState {
        /// The task.
        task: TaskId,
        /// Its state.
        state: TaskState,
        /// What the call needs.
        needs: &'static str,
    },
    /// Task ids that a client chose are taken by other tasks.
    #[error("task ids are already used by different tasks: {}", ids(.0))]
    TasksExist(Vec<TaskId>),
    /// The client's own task id belonged to a task that was deleted.
    #[error("task id {0} belonged to a task that was deleted; choose another")]
    TaskDeleted(TaskId),
    /// The session that a stream speaks for is over.
    #[error("the session is over or unknown; send a new hello")]
    SessionOver,
    /// A message came out of order, or was empty.
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    /// Too much is under way.
    #[error("{0}; try again later")]
    Overloaded(&'static str),
    /// The database cannot be reached, or the scheduler is shutting down.
    #[error("{0}; try again, perhaps on another replica")]
    Unavailable(&'static str),
    /// Something that should not happen; the log has the detail.
    #[error("internal error; the scheduler's log has the detail")]
    Internal,
}

impl Error {
    /// One broken rule.
    pub fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation::new(field, problem)])
    }
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Self::Invalid(vec![violation])
    }
}

fn ids(ids: &[TaskId]) -> String {
    let mut text = ids
        .iter()
        .take(SPELLED_OUT)
        .map(TaskId::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    if ids.len() > SPELLED_OUT {
        text.push_str(&format!(" and {} more", ids.len() - SPELLED_OUT));
    }
    text
}

/// Violations that a message spells out; the details carry all of them.
const SPELLED_OUT: usize = 5;

/// The first few violations, as one text.
pub(crate) fn spell_out(violations: &[Violation]) -> String {
    let mut text = violations
        .iter()
        .take(SPELLED_OUT)
        .map(|v| format!("{}: {}", v.field, v.problem))
        .collect::<Vec<_>>()
        .join("; ");
    if violations.len() > SPELLED_OUT {
        text.push_str(&format!("; and {} more", violations.len() - SPELLED_OUT));
    }
    text
}
