//! One of the worker's two streams, kept open: the stream in use, its successor if one is being
//! opened, and when to open the next.

use std::time::{Duration, Instant};

use tasklease_client::{Backoff, ReplicaConnection};

use super::stream::{Stream, StreamId};

/// Which replica to open a stream at.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// Any.
    Any,
    /// Another than this, if there is one.
    Other(ReplicaConnection),
    /// The one behind this connection.
    Same(ReplicaConnection),
}

/// The role of a stream among those that were opened one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// In use.
    Current,
    /// Being opened.
    Next,
    /// Replaced; its messages are ignored.
    Old,
}

/// The stream in use and its successor.
#[derive(Debug)]
pub(crate) struct KeptStream<Req> {
    current: Option<Stream<Req>>,
    next: Option<Stream<Req>>,
    due: Option<(Instant, Target)>,
    failures: u32,
}

impl<Req> Default for KeptStream<Req> {
    fn default() -> Self {
        Self {
            current: None,
            next: None,
            due: None,
            failures: 0,
        }
    }
}

/// A worker must reconnect well within the lease duration, so the delays are short.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(2),
};

impl<Req> KeptStream<Req> {
    pub(crate) fn role(&self, id: StreamId) -> Role {
        let is = |stream: &Option<Stream<Req>>| stream.as_ref().is_some_and(|stream| stream.id == id);
        if is(&self.current) {
            Role::Current
        } else if is(&self.next) {
            Role::Next
        } else {
            Role::Old
        }
    }

    /// Asks for a new stream, which replaces the current one once it has been answered. A stream
    /// that is being opened already is that new stream.
    pub(crate) fn renew(&mut self, at: Instant, target: Target) {
        if self.next.is_none() && self.due.as_ref().is_none_or(|(due, _)| at < *due) {
            self.due = Some((at, target));
        }
    }

    /// When to open the next stream.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due.as_ref().map(|(at, _)| *at)
    }

    /// Where to open a stream, if it is time.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Target> {
        self.due.take_if(|(at, _)| *at <= now).map(|(_, target)| target)
    }

    pub(crate) fn opening(&mut self, stream: Stream<Req>) {
        self.next = Some(stream);
    }

    /// Notes where the stream that is being opened leads.
    pub(crate) fn connected(&mut self, picked: ReplicaConnection) -> Option<&Stream<Req>> {
        let next = self.next.as_mut()?;
        next.picked = Some(picked);
        Some(next)
    }

    /// The stream that was being opened has been answered and replaces the current one, whose
    /// connection is handed back.
    pub(crate) fn answered(&mut self) -> Option<ReplicaConnection> {
        self.failures = 0;
        let old = std::mem::replace(&mut self.current, self.next.take());
        old.and_then(|old| old.picked.clone())
    }

    /// A stream is over: forgets it and plans the next, `random` (0 to 1) spreading the delay.
    pub(crate) fn closed(&mut self, id: StreamId, now: Instant, random: f64) -> Role {
        let role = self.role(id);
        let gone = match role {
            Role::Current => self.current.take(),
            Role::Next => self.next.take(),
            Role::Old => return role,
        };
        if role == Role::Next {
            self.failures = self.failures.saturating_add(1);
        }
        let target = gone
            .and_then(|gone| gone.picked.clone())
            .map_or(Target::Any, Target::Other);
        self.renew(now + BACKOFF.delay(self.failures.max(1), random), target);
        role
    }

    /// Where the current stream leads.
    pub(crate) fn picked(&self) -> Option<&ReplicaConnection> {
        self.current.as_ref()?.picked.as_ref()
    }

    pub(crate) fn is_up(&self) -> bool {
        self.current.is_some()
    }

    pub(crate) fn is_renewing(&self) -> bool {
        self.next.is_some() || self.due.is_some()
    }

    pub(crate) fn send(&self, message: Req) {
        if let Some(current) = &self.current {
            current.send(message);
        }
    }

    /// Ends both streams and plans none.
    pub(crate) fn shut(&mut self) {
        (self.current, self.next, self.due) = (None, None, None);
    }

    /// Closes the worker's side and opens no further stream, but still receives.
    pub(crate) fn finish_sending(&mut self) {
        (self.next, self.due) = (None, None);
        if let Some(current) = &mut self.current {
            current.finish_sending();
        }
    }

    /// Forgets a plan to open a stream.
    pub(crate) fn plan_nothing(&mut self) {
        self.due = None;
    }
}
