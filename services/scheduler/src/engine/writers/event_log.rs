//! Appends progress and log lines, many workers' in one statement.
//!
//! They are worth less than anything else that workers report: heartbeats, outcomes and cancels never wait for them
//! for long, and when the database cannot take them, the newest are dropped.

use std::{
    collections::HashSet,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    batcher::{self, BatchLimit},
    budget::{ByteBudget, Spent},
};
use crate::{
    domain::{
        error::Error,
        report::{EventKind, TaskEvent},
    },
    engine::{Background, peers::announcer::Announcer},
    store::Database,
};

const LIMIT: BatchLimit = BatchLimit {
    queue: 4_096,
    weight: 2 << 20,
    in_flight: 1,
    beside: 0,
};

const RETRY: Duration = Duration::from_millis(200);

/// Bytes of events that may wait to be stored on this replica.
const WAITING_BYTES: usize = 32 << 20;

/// Messages with events of one stream that may wait to be stored.
const WAITING_MESSAGES: usize = 128;

/// How long an outcome waits for the events before it, so that watchers see them before the end.
const HEAD_START: Duration = Duration::from_millis(500);

struct Append {
    events: Vec<TaskEvent>,
    number: u64,
    _spent: Spent,
}

/// The way in for events.
pub(in crate::engine) struct EventLog {
    queue: mpsc::Sender<Append>,
    budget: ByteBudget,
    /// Number of the append that was queued last; held while one is queued, so that the queue has their order.
    last: Mutex<u64>,
    stored: watch::Receiver<u64>,
    is_stuck: Arc<AtomicBool>,
}

/// The events of one stream.
#[derive(Debug, Default)]
pub struct EventFlow {
    last: AtomicU64,
    waiting: AtomicUsize,
}

/// An append that is under way; events are stored in the order of these numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) struct AppendNo(u64);

impl EventLog {
    pub(in crate::engine) fn start(db: Database, announcer: Announcer, background: &Background) -> Self {
        let (durable, stored) = watch::channel(0);
        let durable = Arc::new(durable);
        let stop = background.stopping().clone();
        let is_stuck = Arc::new(AtomicBool::new(false));
        let gets_unstuck = is_stuck.clone();
        let flush = move |mut batch: Vec<Append>| {
            let (db, announcer, stop) = (db.clone(), announcer.clone(), stop.clone());
            let (durable, is_stuck) = (durable.clone(), gets_unstuck.clone());
            async move {
                let last = batch.last().map_or(0, |append| append.number);
                let events: Vec<TaskEvent> = batch
                    .iter_mut()
                    .flat_map(|append| append.events.drain(..))
                    .collect();
                if !store(&db, &events, &stop).await {
                    return ControlFlow::Break(());
                }
                is_stuck.store(false, Ordering::Relaxed);
                let tasks: HashSet<_> = events.iter().map(|event| event.lease.task).collect();
                announcer.tasks_changed(tasks.iter().copied());
                durable.send_replace(last);
                ControlFlow::Continue(())
            }
        };
        let weigh = |append: &Append| append.events.iter().map(weight).sum();
        Self {
            queue: batcher::start(LIMIT, weigh, flush, "events", background),
            budget: ByteBudget::new(WAITING_BYTES),
            last: Mutex::new(0),
            stored,
            is_stuck,
        }
    }

    /// Queues events; `None` if too many wait already, and these are dropped.
    pub(in crate::engine) fn append(&self, events: Vec<TaskEvent>, flow: &EventFlow) -> Option<AppendNo> {
        let dropped = events.len();
        let append = || {
            if flow.waiting.load(Ordering::Relaxed) >= WAITING_MESSAGES {
                return None;
            }
            let spent = self.budget.spend(events.iter().map(weight).sum())?;
            let mut last = self.last.lock();
            let place = self.queue.try_reserve().ok()?;
            *last += 1;
            let number = *last;
            place.send(Append {
                events,
                number,
                _spent: spent,
            });
            drop(last);
            flow.waiting.fetch_add(1, Ordering::Relaxed);
            flow.last.fetch_max(number, Ordering::Relaxed);
            Some(AppendNo(number))
        };
        let appended = append();
        if appended.is_none() {
            tracing::warn!(
                dropped,
                "progress and log lines are dropped: too many wait for the database"
            );
        }
        appended
    }

    /// Waits until an append of this stream is durable.
    pub(in crate::engine) async fn durable(&self, append: AppendNo, flow: &EventFlow) -> Result<(), Error> {
        let stored = self.reached(append.0).await;
        flow.waiting.fetch_sub(1, Ordering::Relaxed);
        stored
    }

    /// Lets the events go first that a stream has sent, but not for long.
    pub(in crate::engine) async fn head_start(&self, flow: &EventFlow) {
        let last = flow.last.load(Ordering::Relaxed);
        if *self.stored.borrow() >= last || self.is_stuck.load(Ordering::Relaxed) {
            return;
        }
        if tokio::time::timeout(HEAD_START, self.reached(last))
            .await
            .is_err()
        {
            tracing::warn!("outcomes go before progress and log lines, which the database does not take");
            self.is_stuck.store(true, Ordering::Relaxed);
        }
    }

    async fn reached(&self, number: u64) -> Result<(), Error> {
        let mut stored = self.stored.clone();
        stored
            .wait_for(|stored| *stored >= number)
            .await
            .map(drop)
            .map_err(|_| Error::Unavailable("the scheduler is shutting down"))
    }
}

fn weight(event: &TaskEvent) -> usize {
    128 + match &event.kind {
        EventKind::Progress { message, card, .. } => message.len() + card.as_ref().map_or(0, String::len),
        EventKind::Log { message, .. } => message.len(),
    }
}

/// True once the events are stored, or were dropped because they cannot be.
async fn store(db: &Database, events: &[TaskEvent], stop: &CancellationToken) -> bool {
    loop {
        match db.append_events(events).await {
            Ok(()) => return true,
            Err(error) if !error.blames_a_value() => {
                tracing::warn!(%error, "progress waits for the database");
                if stop
                    .run_until_cancelled(tokio::time::sleep(RETRY))
                    .await
                    .is_none()
                {
                    return false;
                }
            }
            Err(error) => {
                tracing::error!(%error, events = events.len(), "progress cannot be stored and is dropped");
                return true;
            }
        }
    }
}
