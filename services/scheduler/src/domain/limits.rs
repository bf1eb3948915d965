//! How large an input may be: the bounds of the contract, and those that are the scheduler's own business.

pub use tasklease_proto::limits::*;

/// Deaths of workers that held nothing but a task after which the task is quarantined.
pub const LOSSES: i32 = 3;
/// Combinations of a queue and a task type that tasks were ever submitted to.
pub const LANES: i64 = 20_000;
