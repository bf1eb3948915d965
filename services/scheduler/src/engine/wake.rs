//! What makes the tick look before its time.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

/// Longest time for which a due task is remembered; ticks find those of later.
const REMEMBERED: Duration = Duration::from_secs(5);

/// Reasons to look before the next tick.
#[derive(Default)]
pub(super) struct Wake {
    next_due: Mutex<Option<Instant>>,
    cancels: AtomicBool,
    tick: AtomicBool,
    stop_orders: AtomicBool,
    woken: Notify,
}

impl Wake {
    /// A scheduled task will be due then.
    pub(super) fn due_in(&self, delay: Duration) {
        let at = Instant::now() + delay.min(REMEMBERED);
        let mut next = self.next_due.lock();
        if next.is_none_or(|next| at < next) {
            *next = Some(at);
            self.woken.notify_one();
        }
    }

    /// A running task was cancelled.
    pub(super) fn check_cancels_now(&self) {
        self.cancels.store(true, Ordering::Release);
        self.woken.notify_one();
    }

    /// A lease became known: its task may have been cancelled before.
    pub(super) fn recheck_cancels(&self) {
        if self.stop_orders.load(Ordering::Acquire) {
            self.check_cancels_now();
        }
    }

    /// Something changed elsewhere that only a tick tells.
    pub(super) fn tick_now(&self) {
        self.tick.store(true, Ordering::Release);
        self.woken.notify_one();
    }

    /// Waits until one of the reasons comes up.
    pub(super) async fn woken(&self) {
        self.woken.notified().await;
    }

    /// When the next scheduled task that is known will be due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        *self.next_due.lock()
    }

    /// Forgets the next due task.
    pub(super) fn forget_due(&self) {
        *self.next_due.lock() = None;
    }

    /// True if a scheduled task is due, which is forgotten then.
    pub(super) fn take_if_due(&self, now: Instant) -> bool {
        let mut next = self.next_due.lock();
        let due = next.is_some_and(|at| at <= now);
        if due {
            *next = None;
        }
        due
    }

    /// True once for each call, or several, of [`Wake::check_cancels_now`].
    pub(super) fn take_cancels(&self) -> bool {
        self.cancels.swap(false, Ordering::AcqRel)
    }

    /// True once for each call, or several, of [`Wake::tick_now`].
    pub(super) fn take_tick(&self) -> bool {
        self.tick.swap(false, Ordering::AcqRel)
    }

    /// Says whether some running task is cancelled, so that new leases must be checked.
    pub(super) fn set_stop_orders(&self, open: bool) {
        self.stop_orders.store(open, Ordering::Release);
    }
}
