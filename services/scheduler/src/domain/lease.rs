//! A lease: the right of a session to run a task.

use std::time::Duration;

use super::{
    backoff::Backoff,
    ids::{GrantId, LaneId, LeaseKey},
};

/// What the scheduler knows of a lease without asking the database.
///
/// Only a session that holds one can report on its task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Which lease.
    pub key: LeaseKey,
    /// The grant it came in.
    pub grant: GrantId,
    /// The lane of its task.
    pub lane: LaneId,
    /// Number of this run if it is counted.
    pub attempt: i16,
    /// The last attempt.
    pub max_attempts: i16,
    /// What waits between attempts.
    pub backoff: Backoff,
    /// Longest time the run may take.
    pub run_timeout: Option<Duration>,
    /// When it was leased, database clock, microseconds since 1970.
    pub started_us: i64,
}
