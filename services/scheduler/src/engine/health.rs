//! Whether the database answers in time.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Ticks that must fail in a row before the replica counts as unhealthy.
const FAILURES: u32 = 3;

/// How long a tick may take before the replica counts as unhealthy.
const SLOWEST_TICK: Duration = Duration::from_secs(5);

/// What the last ticks say about the database.
#[derive(Default)]
pub(super) struct Health {
    failures: AtomicU32,
    last_tick: Mutex<Option<Instant>>,
}

impl Health {
    /// True while ticks succeed, and in time.
    pub(super) fn is_good(&self, every: Duration) -> bool {
        let last = *self.last_tick.lock();
        let in_time = last.is_none_or(|last| last.elapsed() < every + SLOWEST_TICK);
        in_time && self.failures.load(Ordering::Relaxed) < FAILURES
    }

    /// The database answered a tick.
    pub(super) fn tick_succeeded(&self) {
        self.failures.store(0, Ordering::Relaxed);
        *self.last_tick.lock() = Some(Instant::now());
    }

    /// The database did not answer a tick. Returns how many failed in a row.
    pub(super) fn tick_failed(&self) -> u32 {
        self.failures.fetch_add(1, Ordering::Relaxed) + 1
    }
}
