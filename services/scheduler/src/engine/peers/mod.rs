//! Who else must hear of a change: watchers here, and the other replicas.

pub(super) mod announcer;
pub(super) mod listener;
pub(super) mod notifier;
pub(super) mod watchers;
