//! The decisions: what a valid task is, when it runs again, how a run ends.
//!
//! Pure. Nothing here knows the wire, the database, a clock or a source of randomness.

pub mod backoff;
pub mod error;
pub mod ids;
pub mod lease;
pub mod limits;
pub mod loss;
pub mod name;
pub mod new_task;
pub mod outcome;
pub mod queue;
pub mod report;
pub mod session;
pub mod span;
pub mod state;
pub mod task;
pub mod task_spec;
pub mod verdict;
