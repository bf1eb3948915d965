//! The name of a lease.

use std::fmt;

use tasklease_proto::v1::LeaseRef;
use uuid::Uuid;

/// A task and the token that fences one lease of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LeaseKey {
    pub(crate) task: Uuid,
    pub(crate) token: i64,
}

impl LeaseKey {
    /// Reads a lease from the wire; `None` if the task's id is no UUID.
    pub(crate) fn parse(task_id: &str, token: i64) -> Option<Self> {
        let task = Uuid::try_parse(task_id).ok()?;
        Some(Self { task, token })
    }

    pub(crate) fn from_wire(wire: &LeaseRef) -> Option<Self> {
        Self::parse(&wire.task_id, wire.lease_token)
    }

    pub(crate) fn to_wire(self) -> LeaseRef {
        LeaseRef {
            task_id: self.task.to_string(),
            lease_token: self.token,
        }
    }
}

impl fmt::Display for LeaseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.task, self.token)
    }
}

#[cfg(test)]
impl LeaseKey {
    /// The key of a task that a test calls by a short name.
    pub(crate) fn named(name: &str) -> Self {
        let task = name.bytes().fold(0, |id: u128, byte| id << 8 | u128::from(byte));
        Self {
            task: Uuid::from_u128(task),
            token: 1,
        }
    }

    /// The short name of a task's id.
    pub(crate) fn name_of(task_id: &str) -> String {
        let id = Uuid::try_parse(task_id).expect("a UUID");
        let letters = id.into_bytes().into_iter().filter(|byte| *byte > 0);
        letters.map(char::from).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_from_the_wire_and_nonsense_is_no_key() {
        let key = LeaseKey::parse("0192D5A0-7c3e-7b1a-8000-1a2b3c4d5e6f", 7).expect("a key");
        assert_eq!(key.to_wire().task_id, "0192d5a0-7c3e-7b1a-8000-1a2b3c4d5e6f");
        assert_eq!(LeaseKey::from_wire(&key.to_wire()), Some(key));
        assert_eq!(LeaseKey::parse("t1", 7), None);
    }
}
