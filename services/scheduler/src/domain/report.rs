//! What a worker reports of a task it holds.

use std::time::Duration;

use jiff::Timestamp;

use super::ids::LeaseKey;

/// Why a run did not succeed, bounded and free of control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskError {
    /// A word for programs.
    pub kind: String,
    /// A sentence for people.
    pub message: String,
    /// Trace or other detail.
    pub detail: String,
}

impl TaskError {
    /// An error without detail.
    pub fn new(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            message: message.into(),
            detail: String::new(),
        }
    }
}

/// How a worker says a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportedOutcome {
    /// With a result, JSON text of one object.
    Succeeded {
        /// The result.
        result: String,
    },
    /// With an error.
    Failed {
        /// The error.
        error: TaskError,
        /// True if no further attempt would help.
        non_retryable: bool,
        /// When to try again instead of after the back-off.
        retry_after: Option<Duration>,
    },
    /// Because it was cancelled.
    Cancelled {
        /// A sentence for people.
        message: String,
    },
    /// The worker hands the task back.
    Released {
        /// A sentence for people.
        message: String,
    },
}

/// Progress or a log line, numbered by the worker within its lease.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskEvent {
    /// The lease it belongs to.
    pub lease: LeaseKey,
    /// Its number within the lease.
    pub number: i64,
    /// What it says.
    pub kind: EventKind,
}

/// The two kinds of events.
#[derive(Debug, Clone, PartialEq)]
pub enum EventKind {
    /// How far the code has come.
    Progress {
        /// 0 to 100, or unknown.
        percent: Option<f64>,
        /// One line.
        message: String,
        /// Heading, body, image and detail as JSON text of one object, if any is set.
        card: Option<String>,
        /// When the code reported it, by the worker's clock.
        worker_time: Option<Timestamp>,
    },
    /// A logged line.
    Log {
        /// `trace`, `debug`, `info`, `warn` or `error`.
        level: String,
        /// The line.
        message: String,
        /// When the code logged it, by the worker's clock.
        worker_time: Option<Timestamp>,
    },
}
