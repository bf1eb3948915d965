//! Whether the session is alive, judged on this side.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Share of the lease duration after which the worker stops its own tasks.
const FENCE: f64 = 0.8;
/// Share of the heartbeat interval after which an answer is overdue and another replica is tried.
const OVERDUE: f64 = 0.6;
/// An answer is never overdue sooner than this.
const LEAST_OVERDUE: Duration = Duration::from_millis(500);

/// The heartbeats of one session.
#[derive(Debug)]
pub(crate) struct Heartbeats {
    interval: Duration,
    lease: Duration,
    /// When the latest heartbeat that was acknowledged had been sent. The scheduler extended the
    /// lease after that moment, so the lease lasts at least until this plus its duration.
    /// `None` once that time was over: the session may be alive or not.
    proof: Option<Instant>,
    next: Option<Instant>,
    /// Sequences under way on the current stream, and when they were sent.
    under_way: BTreeMap<u64, Instant>,
    /// Heartbeats until one names the leases again.
    until_named: u32,
}

/// Every twelfth heartbeat names the leases that the worker holds; the opening of a stream does, too.
const NAMED: u32 = 12;

impl Heartbeats {
    /// The heartbeats of a session that began with a hello sent at this time.
    pub(crate) fn new(interval: Duration, lease: Duration, hello_at: Instant) -> Self {
        Self {
            interval,
            lease,
            proof: Some(hello_at),
            next: None,
            under_way: BTreeMap::new(),
            until_named: NAMED,
        }
    }

    /// True if the next heartbeat should name the leases that the worker holds.
    pub(crate) fn names_leases(&mut self) -> bool {
        self.until_named = self.until_named.checked_sub(1).unwrap_or(NAMED);
        self.until_named == 0
    }

    /// A report stream is open: a heartbeat is due at once.
    pub(crate) fn stream_opened(&mut self, now: Instant) {
        self.under_way.clear();
        self.next = Some(now);
    }

    /// The report stream is gone: nothing is due.
    pub(crate) fn stream_lost(&mut self) {
        self.under_way.clear();
        self.next = None;
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next.is_some_and(|next| next <= now)
    }

    pub(crate) fn sent(&mut self, sequence: u64, now: Instant) {
        self.under_way.insert(sequence, now);
        self.next = Some(now + self.interval);
    }

    /// An acknowledgement, perhaps of a heartbeat.
    pub(crate) fn acknowledged(&mut self, sequence: u64) {
        if let Some(sent) = self.under_way.remove(&sequence) {
            self.proof = self.proof.max(Some(sent));
            // A heartbeat that is acknowledged says as much as all earlier ones.
            self.under_way = self.under_way.split_off(&sequence);
        }
    }

    /// When the worker must have stopped its tasks unless another acknowledgement comes; `None` if it has stopped them.
    pub(crate) fn fence_at(&self) -> Option<Instant> {
        self.proof.map(|proof| proof + self.lease.mul_f64(FENCE))
    }

    /// No acknowledgement came in time: whether the session is alive is unknown until a scheduler goes on with it.
    pub(crate) fn lose_proof(&mut self) {
        self.proof = None;
        self.stream_lost();
    }

    /// A scheduler went on with the session after a hello that was sent then.
    pub(crate) fn resumed(&mut self, hello_at: Instant) {
        self.proof = self.proof.max(Some(hello_at));
    }

    /// True until the fence.
    pub(crate) fn is_trusted(&self) -> bool {
        self.proof.is_some()
    }

    /// When the oldest heartbeat under way is overdue.
    pub(crate) fn overdue_at(&self) -> Option<Instant> {
        let patience = self.interval.mul_f64(OVERDUE).max(LEAST_OVERDUE);
        self.under_way.values().next().map(|sent| *sent + patience)
    }

    /// When the next heartbeat is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn session(start: Instant) -> Heartbeats {
        Heartbeats::new(5 * SECOND, 15 * SECOND, start)
    }

    #[test]
    fn the_fence_counts_from_the_sending_of_the_last_acknowledged_heartbeat() {
        let start = Instant::now();
        let mut heartbeats = session(start);
        assert_eq!(
            heartbeats.fence_at(),
            Some(start + 12 * SECOND),
            "the hello counts first"
        );
        heartbeats.stream_opened(start + SECOND);
        heartbeats.sent(7, start + SECOND);
        heartbeats.sent(8, start + 6 * SECOND);
        assert_eq!(
            heartbeats.fence_at(),
            Some(start + 12 * SECOND),
            "sending alone proves nothing"
        );
        heartbeats.acknowledged(7);
        assert_eq!(heartbeats.fence_at(), Some(start + 13 * SECOND));
        heartbeats.acknowledged(8);
        assert_eq!(heartbeats.fence_at(), Some(start + 18 * SECOND));
        heartbeats.acknowledged(7);
        assert_eq!(
            heartbeats.fence_at(),
            Some(start + 18 * SECOND),
            "the proof never goes back"
        );
    }

    #[test]
    fn heartbeats_are_due_at_once_on_a_new_stream_and_then_at_the_interval() {
        let start = Instant::now();
        let mut heartbeats = session(start);
        assert!(!heartbeats.is_due(start));
        heartbeats.stream_opened(start);
        assert!(heartbeats.is_due(start));
        heartbeats.sent(1, start);
        assert!(!heartbeats.is_due(start + 4 * SECOND) && heartbeats.is_due(start + 5 * SECOND));
        assert_eq!(heartbeats.overdue_at(), Some(start + 3 * SECOND));
        heartbeats.stream_lost();
        assert_eq!((heartbeats.next(), heartbeats.overdue_at()), (None, None));
    }
}
