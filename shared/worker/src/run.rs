//! One run of a task, as its code and the protocol share it.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tasklease_proto::{convert::duration_from_wire, v1::LeasedTask};
use tokio::{runtime::Handle, sync::mpsc::UnboundedSender};
use tokio_util::sync::CancellationToken;

use crate::{
    lease_key::LeaseKey,
    protocol::Event,
    run_events::{Mailbox, RunEvent},
    slot::Slot,
    stop::StopSignal,
};

/// Where the code of all runs lives.
#[derive(Debug)]
pub(crate) struct Host {
    /// The runtime of the worker's author.
    pub(crate) runtime: Handle,
    pub(crate) events: UnboundedSender<Event>,
    /// Cancelled when the worker begins to drain.
    pub(crate) draining: CancellationToken,
}

impl Host {
    pub(crate) fn new(runtime: Handle, events: UnboundedSender<Event>) -> Self {
        Self {
            runtime,
            events,
            draining: CancellationToken::new(),
        }
    }

    /// Tells the protocol what happened.
    pub(crate) fn tell(&self, event: Event) {
        // Without a protocol to tell, the process is about to end.
        let _ = self.events.send(event);
    }
}

/// One run of a task.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) key: LeaseKey,
    /// What the scheduler said about it; its payload has gone to the code.
    pub(crate) lease: LeasedTask,
    /// When its run timeout is over.
    pub(crate) deadline: Option<Instant>,
    pub(crate) stop: StopSignal,
    pub(crate) mailbox: Mailbox,
    /// Weak, so that a forgotten clone of the context does not hold the slot.
    pub(crate) slot: Weak<Slot>,
    pub(crate) host: Arc<Host>,
    /// Takes all reports in place of the mailbox.
    #[cfg(feature = "testing")]
    pub(crate) recorder: Option<Arc<crate::testing::Recorder>>,
}

impl Run {
    /// A run whose lease was received at this time.
    pub(crate) fn new(
        key: LeaseKey,
        lease: LeasedTask,
        received: Instant,
        slot: &Arc<Slot>,
        host: Arc<Host>,
    ) -> Self {
        Self {
            key,
            deadline: run_timeout(&lease).and_then(|timeout| received.checked_add(timeout)),
            lease,
            stop: StopSignal::default(),
            mailbox: Mailbox::default(),
            slot: Arc::downgrade(slot),
            host,
            #[cfg(feature = "testing")]
            recorder: None,
        }
    }

    /// Leaves what the code has reported for the protocol to fetch.
    pub(crate) fn report(&self, item: RunEvent) {
        #[cfg(feature = "testing")]
        if let Some(recorder) = &self.recorder {
            return recorder.record(item);
        }
        if self.mailbox.leave(item) {
            self.host.tell(Event::RunEvents(self.key));
        }
    }
}

/// The longest time that a run of this lease may take.
pub(crate) fn run_timeout(lease: &LeasedTask) -> Option<Duration> {
    let timeout = lease.run_timeout.as_ref().and_then(duration_from_wire)?;
    (!timeout.is_zero()).then_some(timeout)
}
