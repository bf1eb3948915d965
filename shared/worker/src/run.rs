//! One run of a task, as its code and the protocol share it.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tasklease_proto::{convert::duration_from_wire, v1::LeasedTask};
use tokio::{runtime::Handle, sync::mpsc::UnboundedSender};
use tokio_util::sync::CancellationToken;

#[cfg(feature = "testing")]
use crate::testing::Recorder;
use crate::{
    lease_key::LeaseKey,
    protocol::Event,
    run_events::{Mailbox, RunEvent},
    slot::Slot,
    stop::StopSignal,
};

/// What the code of all runs shares.
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
        // If the protocol has ended, the process is about to end.
        let _ = self.events.send(event);
    }
}

/// One run of a task.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) key: LeaseKey,
    /// The lease as the scheduler sent it, without the payload, which the code has taken.
    pub(crate) lease: LeasedTask,
    /// When the run timeout is over.
    pub(crate) deadline: Option<Instant>,
    pub(crate) stop: StopSignal,
    pub(crate) mailbox: Mailbox,
    /// Weak, so that a forgotten clone of the context does not hold the slot.
    pub(crate) slot: Weak<Slot>,
    pub(crate) host: Arc<Host>,
    /// Takes all reports in place of the mailbox, and decides when a test tells the code to stop.
    #[cfg(feature = "testing")]
    pub(crate) recorder: Option<Arc<Recorder>>,
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

    /// Stores a report of the code until the protocol fetches it.
    pub(crate) fn report(&self, item: RunEvent) {
        #[cfg(feature = "testing")]
        if let Some(recorder) = &self.recorder {
            return recorder.record(item, &self.stop);
        }
        if self.mailbox.leave(item) {
            self.host.tell(Event::RunEvents(self.key));
        }
    }
}

#[cfg(feature = "testing")]
impl Run {
    /// The code asks whether it must stop.
    pub(crate) fn count_check(&self) {
        if let Some(recorder) = &self.recorder {
            recorder.count_check(&self.stop);
        }
    }

    /// True if a test wants sleeps to end at once.
    pub(crate) fn skips_sleep(&self, time: Duration) -> bool {
        self.recorder
            .as_ref()
            .is_some_and(|recorder| recorder.skips_sleep(time))
    }
}

/// The longest time that a run of this lease may take.
pub(crate) fn run_timeout(lease: &LeasedTask) -> Option<Duration> {
    let timeout = lease.run_timeout.as_ref().and_then(duration_from_wire)?;
    (!timeout.is_zero()).then_some(timeout)
}
