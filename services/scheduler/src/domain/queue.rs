//! Which queue.

use std::fmt;

use super::name::{Namespace, QueueName};

/// Names a queue among those of all namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueKey {
    pub namespace: Namespace,
    pub name: QueueName,
}

impl QueueKey {
    /// The queue of this name in the default namespace.
    pub fn in_default(name: QueueName) -> Self {
        Self {
            namespace: Namespace::default(),
            name,
        }
    }
}

impl fmt::Display for QueueKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
