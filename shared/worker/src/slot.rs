//! Room for one task.

use tokio::sync::mpsc::UnboundedSender;

use crate::protocol::Event;

/// Taken while any code of a run is on a thread; dropping the last holder frees it.
///
/// The future of a run and each of its blocking closures hold it, so a run that was dropped while
/// a closure still computes keeps its slot until the closure returns.
#[derive(Debug)]
pub(crate) struct Slot(UnboundedSender<Event>);

impl Slot {
    pub(crate) fn new(events: UnboundedSender<Event>) -> Self {
        Self(events)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Without a protocol to tell, nobody counts slots any more.
        let _ = self.0.send(Event::SlotFreed);
    }
}
