//! The tick: one query a second says which background jobs have work.

use std::{
    future::Future,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{
    Engine,
    background::{Background, Job},
    cancels, expiry, lease_timeouts, strays,
};
use crate::{
    domain::error::Error,
    store::{Mark, TickQuestion, notify::Hints},
};

/// Scheduled tasks moved in one statement.
const PROMOTED_AT_ONCE: i64 = 1_000;

/// Longest time for which a due task is remembered; ticks find those of later.
const REMEMBERED: Duration = Duration::from_secs(5);

/// How often grants that a moved session left behind are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// What looks from the start of lanes may take of the time. While an old snapshot keeps dead rows, such a look reads
/// all that ever waited.
const FULL_LOOK_SHARE: u32 = 20;

/// How long tasks that lie below the mark may go unseen, if looks from the start are that slow.
const FULL_LOOK_WITHIN: Duration = Duration::from_secs(30);

/// Ticks that must fail in a row before the replica counts as unhealthy.
const FAILURES: u32 = 3;

/// How long a tick may take before the replica counts as unhealthy.
const SLOWEST_TICK: Duration = Duration::from_secs(5);

/// Reasons to look before the next tick.
#[derive(Default)]
pub(super) struct DueHint {
    next_due: Mutex<Option<Instant>>,
    cancels: AtomicBool,
    tick: AtomicBool,
    stop_orders: AtomicBool,
    failures: AtomicU32,
    last_tick: Mutex<Option<Instant>>,
    hint: Notify,
}

impl DueHint {
    /// A scheduled task will be due then.
    pub(super) fn due_in(&self, delay: Duration) {
        let at = Instant::now() + delay.min(REMEMBERED);
        let mut next = self.next_due.lock().unwrap_or_else(PoisonError::into_inner);
        if next.is_none_or(|next| at < next) {
            *next = Some(at);
            self.hint.notify_one();
        }
    }

    /// A running task was cancelled.
    pub(super) fn look_now(&self) {
        self.cancels.store(true, Ordering::Release);
        self.hint.notify_one();
    }

    /// Something changed elsewhere that only a tick tells.
    pub(super) fn tick_now(&self) {
        self.tick.store(true, Ordering::Release);
        self.hint.notify_one();
    }

    /// A lease became known: it may be one that was cancelled meanwhile.
    pub(super) fn look_again_at_cancels(&self) {
        if self.stop_orders.load(Ordering::Acquire) {
            self.look_now();
        }
    }

    /// True while ticks succeed, and in time.
    pub(super) fn is_healthy(&self, every: Duration) -> bool {
        let last = *self.last_tick.lock().unwrap_or_else(PoisonError::into_inner);
        let in_time = last.is_none_or(|last| last.elapsed() < every + SLOWEST_TICK);
        in_time && self.failures.load(Ordering::Relaxed) < FAILURES
    }

    fn tick_succeeded(&self) {
        self.failures.store(0, Ordering::Relaxed);
        *self.last_tick.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn next_due(&self) -> Option<Instant> {
        *self.next_due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_next_due(&self, at: Option<Instant>) {
        *self.next_due.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    fn take_if_due(&self, now: Instant) -> bool {
        let mut next = self.next_due.lock().unwrap_or_else(PoisonError::into_inner);
        let due = next.is_some_and(|at| at <= now);
        if due {
            *next = None;
        }
        due
    }
}

/// The jobs that ticks start. None of them holds up a tick, or another job.
#[derive(Default)]
struct Jobs {
    promote: Job,
    cancels: Job,
    expire: Job,
    orphans: Job,
    overdue: Job,
    sweep: Job,
    strays: Job,
}

/// Ticks until the engine stops.
pub(super) async fn run(engine: Engine, background: Background) {
    let parts = &engine.parts;
    let jobs = Jobs::default();
    let mut next_tick = Instant::now();
    let mut next_sweep = next_tick + SWEEP_EVERY;
    let mut next_full_look = next_tick;
    loop {
        let wake_at = parts.due.next_due().map_or(next_tick, |due| due.min(next_tick));
        tokio::select! {
            () = background.stopping().cancelled() => break,
            () = tokio::time::sleep_until(wake_at) => {}
            () = parts.due.hint.notified() => {}
        }
        let now = Instant::now();
        if parts.due.cancels.swap(false, Ordering::AcqRel) {
            jobs.start(&jobs.cancels, &engine, &background, "cancels", look_at_cancels);
        }
        if parts.due.take_if_due(now) {
            jobs.start(&jobs.promote, &engine, &background, "promotion", promote);
        }
        if !parts.due.tick.swap(false, Ordering::AcqRel) && now < next_tick {
            continue;
        }
        // Jitter keeps replicas from ticking in step.
        next_tick = now + parts.timing.tick.mul_f64(1.0 + 0.1 * rand::random::<f64>());
        let look = if now >= next_full_look {
            Look::FromStart
        } else {
            Look::FromMarks
        };
        tick(&engine, &background, &jobs, look).await;
        if look == Look::FromStart {
            next_full_look = Instant::now() + until_next_full_look(now.elapsed());
        }
        if now >= next_sweep {
            next_sweep = now + SWEEP_EVERY;
            jobs.start(&jobs.sweep, &engine, &background, "the sweep of grants", sweep);
            jobs.start(
                &jobs.strays,
                &engine,
                &background,
                "the search for strays",
                strays::run_once,
            );
        }
    }
    if let Err(error) = parts.db.replica_leaves(parts.replica).await {
        tracing::debug!(%error, "could not say that this replica leaves");
    }
}

impl Jobs {
    fn start<Fut>(
        &self,
        job: &Job,
        engine: &Engine,
        background: &Background,
        name: &'static str,
        work: fn(Engine) -> Fut,
    ) where
        Fut: Future<Output = ()> + Send + 'static,
    {
        let engine = engine.clone();
        job.start(background, name, move || work(engine.clone()));
    }
}

/// Where a tick looks for waiting tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Everywhere: finds what lies below the marks.
    FromStart,
    /// Where the next claims would begin.
    FromMarks,
}

fn until_next_full_look(last_took: Duration) -> Duration {
    (last_took * FULL_LOOK_SHARE).min(FULL_LOOK_WITHIN)
}

/// One tick and what it asks for.
async fn tick(engine: &Engine, background: &Background, jobs: &Jobs, look: Look) {
    let parts = &engine.parts;
    // Busy lanes, too: what lies below their marks must not wait until they are drained.
    let mut lanes = parts.local_sessions.served_lanes();
    if look == Look::FromStart {
        lanes.iter_mut().for_each(|(_, mark)| *mark = Mark::START);
    }
    let pauses = parts.local_sessions.pauses();
    let tick = match parts
        .db
        .tick(&TickQuestion {
            replica: parts.replica,
            name: &parts.name,
            lease: parts.timing.lease,
            lanes: &lanes,
            sessions: &parts.local_sessions.connected(),
        })
        .await
    {
        Ok(tick) => tick,
        Err(error) => {
            let failures = parts.due.failures.fetch_add(1, Ordering::Relaxed) + 1;
            if failures.is_power_of_two() {
                tracing::warn!(%error, failures, "the database does not answer");
            }
            return;
        }
    };
    parts.due.tick_succeeded();
    if tick.spared > 0 {
        tracing::warn!(
            sessions = tick.spared,
            "no scheduler was at work for a while; workers get time to be heard again"
        );
    }
    // Another replica ended them: nothing more is leased to them here.
    for session in tick.gone_sessions {
        parts
            .local_sessions
            .end_session(session, "it was ended by another scheduler");
    }
    parts.notifier.set_peers(tick.other_replicas > 0);
    parts.local_sessions.set_paused(tick.paused_lanes, pauses);
    parts.local_sessions.wake_lanes(tick.ready_lanes);
    if let Err(error) = parts.lanes.load_if_not(tick.lanes).await {
        tracing::warn!(%error, "new lanes wait for the next tick");
    }
    if let Some(delay) = tick.next_due {
        parts.due.due_in(delay);
        if delay.is_zero() {
            parts.due.set_next_due(None);
            jobs.start(&jobs.promote, engine, background, "promotion", promote);
        }
    }
    if tick.expired {
        jobs.start(&jobs.expire, engine, background, "expiry", expire);
    }
    if tick.orphaned {
        jobs.start(&jobs.orphans, engine, background, "orphans", send_orphans_on);
    }
    if tick.cancelling {
        jobs.start(&jobs.cancels, engine, background, "cancels", look_at_cancels);
    } else {
        parts.due.stop_orders.store(false, Ordering::Release);
    }
    jobs.start(&jobs.overdue, engine, background, "overdue leases", take_overdue);
}

async fn expire(engine: Engine) {
    log_failure("expiring sessions", expiry::run_once(&engine).await);
}

async fn send_orphans_on(engine: Engine) {
    log_failure("sending orphans on", expiry::run_orphans(&engine).await);
}

async fn take_overdue(engine: Engine) {
    log_failure(
        "taking leases back",
        lease_timeouts::run_once(&engine, Instant::now()).await,
    );
}

async fn sweep(engine: Engine) {
    log_failure("sweeping grants", engine.parts.db.sweep_grants().await.map(drop));
}

async fn look_at_cancels(engine: Engine) {
    let due = &engine.parts.due;
    // Set first: a lease that becomes known while this looks must ask for another look.
    due.stop_orders.store(true, Ordering::Release);
    match cancels::run_once(&engine).await {
        Ok(open) => due.stop_orders.store(open, Ordering::Release),
        Err(error) => tracing::warn!(%error, "cancel requests wait for the database"),
    }
}

/// Moves due tasks to ready until none is left.
async fn promote(engine: Engine) {
    let parts = &engine.parts;
    loop {
        match parts.db.promote(PROMOTED_AT_ONCE).await {
            Ok(promoted) if promoted.tasks.is_empty() => return,
            Ok(promoted) => {
                parts.hub.wake(promoted.tasks.iter().copied());
                let mut hints = Hints::lanes(promoted.lanes.iter().copied());
                hints.add(Hints::tasks(promoted.tasks));
                parts.notifier.notify(hints);
                parts.local_sessions.wake_lanes(promoted.lanes);
            }
            Err(error) => {
                tracing::warn!(%error, "scheduled tasks wait for the database");
                return;
            }
        }
    }
}

fn log_failure(what: &'static str, result: Result<(), impl Into<Error>>) {
    if let Err(error) = result {
        let error: Error = error.into();
        tracing::warn!(%error, what, "a background job will try again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_full_looks_come_with_every_tick_and_slow_ones_seldom_but_within_bounds() {
        let until = |ms| until_next_full_look(Duration::from_millis(ms));
        assert!(until(5) < Duration::from_secs(1));
        assert_eq!(until(200), Duration::from_secs(4));
        assert_eq!(until(60_000), FULL_LOOK_WITHIN);
    }
}
