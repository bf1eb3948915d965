//! A lease: the right of a session to run a task.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    backoff::Backoff,
    ids::{GrantId, LaneId, LeaseKey},
    loss::Loss,
};

/// What the scheduler knows of a lease without asking the database.
///
/// Only a session that holds one can report on its task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub key: LeaseKey,
    /// The grant that it came in.
    pub grant: GrantId,
    pub lane: LaneId,
    /// Number of this run if it is counted, from 1.
    pub attempt: i16,
    /// The last attempt.
    pub max_attempts: i16,
    pub backoff: Backoff,
    /// Longest time the run may take.
    pub run_timeout: Option<Duration>,
    /// When it was leased, by the database's clock.
    pub started_at: Timestamp,
}

/// A lease whose session is over. Its worker says nothing any more, so it needs no rules for what a worker may say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLease {
    pub key: LeaseKey,
    /// The grant that it came in.
    pub grant: GrantId,
    pub lane: LaneId,
    /// Number of this run if it is counted, from 1.
    pub attempt: i16,
    /// The last attempt.
    pub max_attempts: i16,
    /// When it was leased, by the database's clock.
    pub started_at: Timestamp,
    /// The worker's name; `None` if its session was gone before it could know of the lease.
    pub worker: Option<String>,
    /// True if nobody could hear the worker, because no scheduler was at work.
    pub was_spared: bool,
    /// Who may be to blame.
    pub loss: Loss,
}
