//! The tick: one query a second says which background jobs have work.

use std::{future::Future, time::Duration};

use tokio::time::Instant;

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

/// How often grants that a moved session left behind are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// What looks from the start of lanes may take of the time. While an old snapshot keeps dead rows, such a look reads
/// all that ever waited.
const FULL_LOOK_SHARE: u32 = 20;

/// How long tasks below the mark may go unseen, if looks from the start are that slow.
const FULL_LOOK_WITHIN: Duration = Duration::from_secs(30);

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
        let wake_at = parts.wake.next_due().map_or(next_tick, |due| due.min(next_tick));
        tokio::select! {
            () = background.stopping().cancelled() => break,
            () = tokio::time::sleep_until(wake_at) => {}
            () = parts.wake.woken() => {}
        }
        let now = Instant::now();
        if parts.wake.take_cancels() {
            jobs.start(&jobs.cancels, &engine, &background, "cancels", look_at_cancels);
        }
        if parts.wake.take_if_due(now) {
            jobs.start(&jobs.promote, &engine, &background, "promotion", promote);
        }
        if !parts.wake.take_tick() && now < next_tick {
            continue;
        }
        // Jitter keeps replicas from ticking in step.
        next_tick = now + parts.timing.tick.mul_f64(1.0 + 0.1 * rand::random::<f64>());
        let look = if now >= next_full_look {
            LookFrom::Start
        } else {
            LookFrom::Marks
        };
        tick(&engine, &background, &jobs, look).await;
        if look == LookFrom::Start {
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
enum LookFrom {
    /// Everywhere: finds what is below the marks.
    Start,
    /// Where the next claims would begin.
    Marks,
}

fn until_next_full_look(last_took: Duration) -> Duration {
    (last_took * FULL_LOOK_SHARE).min(FULL_LOOK_WITHIN)
}

/// One tick and what it asks for.
async fn tick(engine: &Engine, background: &Background, jobs: &Jobs, look: LookFrom) {
    let parts = &engine.parts;
    // Busy lanes, too: what is below their marks must not wait until they are drained.
    let mut lanes = parts.local_sessions.served_lanes();
    if look == LookFrom::Start {
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
            let failures = parts.health.tick_failed();
            if failures.is_power_of_two() {
                tracing::warn!(%error, failures, "the database does not answer");
            }
            return;
        }
    };
    parts.health.tick_succeeded();
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
        parts.wake.due_in(delay);
        if delay.is_zero() {
            parts.wake.forget_due();
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
        parts.wake.set_stop_orders(false);
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
    let wake = &engine.parts.wake;
    // Set first: a lease that becomes known while this looks must ask for another look.
    wake.set_stop_orders(true);
    match cancels::run_once(&engine).await {
        Ok(open) => wake.set_stop_orders(open),
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
