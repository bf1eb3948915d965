//! Ids as types, so that no two can be mixed up.

use std::fmt;

use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    };
}

uuid_id! {
    /// A task, a UUID of version 7.
    TaskId
}
uuid_id! {
    /// One connected life of a worker.
    SessionId
}
uuid_id! {
    /// One process start of a scheduler.
    ReplicaId
}

/// A (queue, task type) pair, what a claim reads from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId(pub i32);

/// Tasks that were leased to one session together; unique within the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GrantId(pub i64);

/// Names a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GrantKey {
    /// The session that holds it.
    pub session: SessionId,
    /// Its id within the session.
    pub grant: GrantId,
}

/// Number of a lease of a task, from 1; what the wire calls the lease token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseToken(pub i32);

/// Names one lease: whoever writes its run first decides how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseKey {
    /// The task.
    pub task: TaskId,
    /// Which of its leases.
    pub token: LeaseToken,
}

impl fmt::Display for LeaseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lease {}", self.task, self.token.0)
    }
}
