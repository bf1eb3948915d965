//! One run of a task, as its code and the protocol share it.

use std::sync::{Arc, Weak};

use tasklease_proto::v1::LeasedTask;
use tokio::{runtime::Handle, sync::mpsc::UnboundedSender};

use crate::{
    lease_key::LeaseKey,
    news::{Mailbox, NewsItem},
    protocol::Event,
    slot::Slot,
    stop::StopSignal,
};

/// Where the code of all runs lives.
#[derive(Debug)]
pub(crate) struct Host {
    /// The runtime of the worker's author.
    pub(crate) runtime: Handle,
    pub(crate) events: UnboundedSender<Event>,
}

impl Host {
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
    pub(crate) stop: StopSignal,
    pub(crate) mailbox: Mailbox,
    /// Weak, so that a forgotten clone of the context does not hold the slot.
    pub(crate) slot: Weak<Slot>,
    pub(crate) host: Arc<Host>,
}

impl Run {
    pub(crate) fn new(key: LeaseKey, lease: LeasedTask, slot: &Arc<Slot>, host: Arc<Host>) -> Self {
        Self {
            key,
            lease,
            stop: StopSignal::default(),
            mailbox: Mailbox::default(),
            slot: Arc::downgrade(slot),
            host,
        }
    }

    /// Leaves what the code has reported for the protocol to fetch.
    pub(crate) fn report(&self, item: NewsItem) {
        if self.mailbox.leave(item) {
            self.host.tell(Event::News(self.key));
        }
    }
}
