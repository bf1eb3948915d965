//! The clock of a run, and the list of what happened by it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use parking_lot::Mutex;

use crate::history::{Answer, Entry, Event, Micros, Request};

/// Takes down events; cheap to clone.
#[derive(Debug, Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    start: Instant,
    calls: AtomicU64,
    entries: Mutex<Vec<Entry>>,
}

impl Recorder {
    /// A recorder whose clock starts now.
    pub fn start() -> Self {
        Self {
            shared: Arc::new(Shared {
                start: Instant::now(),
                calls: AtomicU64::new(0),
                entries: Mutex::default(),
            }),
        }
    }

    /// The time of the run.
    pub fn now(&self) -> Micros {
        Micros::try_from(self.shared.start.elapsed().as_micros()).unwrap_or(Micros::MAX)
    }

    /// When the clock started.
    pub fn start_time(&self) -> Instant {
        self.shared.start
    }

    /// Takes down an event.
    pub fn note(&self, event: Event) {
        let mut entries = self.entries();
        // The time is taken under the lock, so that the list is in the order of its times.
        let at = self.now();
        entries.push(Entry { at, event });
    }

    /// Takes down a call, and gives it a number.
    pub fn call(&self, request: Request) -> u64 {
        let call = self.shared.calls.fetch_add(1, Ordering::Relaxed);
        self.note(Event::Called { call, request });
        call
    }

    /// Takes down the answer to a call.
    pub fn answer(&self, call: u64, answer: Answer) {
        self.note(Event::Answered { call, answer });
    }

    /// All that happened so far; what comes later is a history of its own.
    pub fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut *self.entries())
    }

    fn entries(&self) -> parking_lot::MutexGuard<'_, Vec<Entry>> {
        // A panic elsewhere leaves the list as good as it was.
        self.shared.entries.lock()
    }
}
