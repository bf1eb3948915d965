//! Room for one task.

use std::sync::Arc;

use crate::{protocol::Event, run::Host};

/// Taken while any code of a run is on a thread; it is free once the last handle is dropped.
///
/// The future of a run and each of its blocking closures hold it, so a run that was dropped while
/// a closure still computes keeps its slot until the closure returns.
#[derive(Debug)]
pub(crate) struct Slot(Option<Arc<Host>>);

impl Slot {
    pub(crate) fn new(host: Arc<Host>) -> Self {
        Self(Some(host))
    }

    /// Frees the slot without telling the protocol: the caller does.
    pub(crate) fn free_silently(mut self) {
        self.0 = None;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(host) = &self.0 {
            host.tell(Event::SlotFreed);
        }
    }
}
