//! The name of a lease.

use std::{fmt, sync::Arc};

use tasklease_proto::v1::LeaseRef;

/// A task and the token that fences one lease of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LeaseKey {
    pub(crate) task_id: Arc<str>,
    pub(crate) token: i64,
}

impl LeaseKey {
    pub(crate) fn new(task_id: &str, token: i64) -> Self {
        Self {
            task_id: task_id.into(),
            token,
        }
    }

    pub(crate) fn to_wire(&self) -> LeaseRef {
        LeaseRef {
            task_id: self.task_id.to_string(),
            lease_token: self.token,
        }
    }
}

impl From<&LeaseRef> for LeaseKey {
    fn from(wire: &LeaseRef) -> Self {
        Self::new(&wire.task_id, wire.lease_token)
    }
}

impl fmt::Display for LeaseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.task_id, self.token)
    }
}
