//! Drives the background loops: one query a second says which of them have work.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Engine, acceptance, cancels, expiry};
use crate::{domain::error::Error, store::Mark};

/// Scheduled tasks moved in one statement.
const PROMOTED_AT_ONCE: i64 = 1_000;

/// Longest time for which a due task is remembered; the pulse finds those of later.
const REMEMBERED: Duration = Duration::from_secs(5);

/// How often grants that a moved session left behind are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// What looks from the start of lanes may take of the time. While an old snapshot keeps dead rows, such a look reads
/// all that ever waited.
const FULL_LOOK_SHARE: u32 = 20;

/// How long tasks that lie below the mark may go unseen, if looks from the start are that slow.
const FULL_LOOK_WITHIN: Duration = Duration::from_secs(30);

/// Pulses that must fail in a row before the replica counts as unhealthy.
const FAILURES: u32 = 3;

/// Reasons to look before the next pulse.
#[derive(Default)]
pub(super) struct DueHint {
    next_due: Mutex<Option<Instant>>,
    cancels: AtomicBool,
    pulse: AtomicBool,
    open_cancels: AtomicBool,
    failures: AtomicU32,
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

    /// Something changed elsewhere that only the pulse tells.
    pub(super) fn pulse_now(&self) {
        self.pulse.store(true, Ordering::Release);
        self.hint.notify_one();
    }

    /// A lease became known: it may be one that was cancelled meanwhile.
    pub(super) fn look_again_at_cancels(&self) {
        if self.open_cancels.load(Ordering::Acquire) {
            self.look_now();
        }
    }

    /// True while the pulse succeeds.
    pub(super) fn is_healthy(&self) -> bool {
        self.failures.load(Ordering::Relaxed) < FAILURES
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

/// Runs the loops until `stop`.
pub(super) async fn run(engine: Engine, stop: CancellationToken) {
    let parts = &engine.parts;
    let mut next_pulse = Instant::now();
    let mut next_sweep = next_pulse + SWEEP_EVERY;
    let mut next_full_look = next_pulse;
    loop {
        let wake_at = parts.due.next_due().map_or(next_pulse, |due| due.min(next_pulse));
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep_until(wake_at) => {}
            () = parts.due.hint.notified() => {}
        }
        let now = Instant::now();
        if parts.due.cancels.swap(false, Ordering::AcqRel) {
            look_at_cancels(&engine).await;
        }
        if parts.due.take_if_due(now) {
            promote(&engine).await;
        }
        if !parts.due.pulse.swap(false, Ordering::AcqRel) && now < next_pulse {
            continue;
        }
        // Jitter keeps replicas from beating in step.
        next_pulse = now + parts.timing.pulse.mul_f64(1.0 + 0.1 * rand::random::<f64>());
        let sweep = now >= next_sweep;
        if sweep {
            next_sweep = now + SWEEP_EVERY;
        }
        let look = if now >= next_full_look {
            Look::FromStart
        } else {
            Look::FromMarks
        };
        beat(&engine, look, sweep).await;
        if look == Look::FromStart {
            next_full_look = Instant::now() + until_next_full_look(now.elapsed());
        }
    }
    if let Err(error) = parts.db.replica_leaves(parts.replica).await {
        tracing::debug!(%error, "could not say that this replica leaves");
    }
}

/// Where a pulse looks for waiting tasks.
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

/// One pulse and what it asks for.
async fn beat(engine: &Engine, look: Look, sweep: bool) {
    let parts = &engine.parts;
    let mut lanes = parts.fleet.lanes_with_room();
    if look == Look::FromStart {
        lanes.iter_mut().for_each(|(_, mark)| *mark = Mark::START);
    }
    let pauses = parts.fleet.pauses();
    let pulse = match parts.db.pulse(parts.replica, &parts.name, &lanes).await {
        Ok(pulse) => pulse,
        Err(error) => {
            let failures = parts.due.failures.fetch_add(1, Ordering::Relaxed) + 1;
            if failures.is_power_of_two() {
                tracing::warn!(%error, failures, "the database does not answer");
            }
            return;
        }
    };
    parts.due.failures.store(0, Ordering::Relaxed);
    parts.doorman.set_company(pulse.other_replicas > 0);
    parts.fleet.set_paused(pulse.paused_lanes, pauses);
    parts.fleet.wake_lanes(pulse.ready_lanes);
    if let Some(delay) = pulse.next_due {
        parts.due.due_in(delay);
        if delay.is_zero() {
            parts.due.set_next_due(None);
            promote(engine).await;
        }
    }
    log_failure(
        "expiring sessions",
        if pulse.expired {
            expiry::run_once(engine).await
        } else {
            Ok(())
        },
    );
    log_failure(
        "sending orphans on",
        if pulse.orphaned {
            expiry::run_orphans(engine).await
        } else {
            Ok(())
        },
    );
    if pulse.cancelling {
        look_at_cancels(engine).await;
    } else {
        parts.due.open_cancels.store(false, Ordering::Release);
    }
    log_failure(
        "taking leases back",
        acceptance::run_once(engine, Instant::now()).await,
    );
    if sweep {
        log_failure("sweeping grants", parts.db.sweep_grants().await.map(|_| ()));
    }
}

async fn look_at_cancels(engine: &Engine) {
    let due = &engine.parts.due;
    // Set first: a lease that becomes known while this looks must ask for another look.
    due.open_cancels.store(true, Ordering::Release);
    match cancels::run_once(engine).await {
        Ok(open) => due.open_cancels.store(open, Ordering::Release),
        Err(error) => tracing::warn!(%error, "cancel requests wait for the database"),
    }
}

/// Moves due tasks to ready until none is left.
async fn promote(engine: &Engine) {
    let parts = &engine.parts;
    loop {
        match parts.db.promote(PROMOTED_AT_ONCE).await {
            Ok((0, _)) => return,
            Ok((_, lanes)) => {
                parts.fleet.wake_lanes(
                    lanes
                        .into_iter()
                        .map(|(lane, mark)| (lane, Mark::before(mark.rank, mark.order_key))),
                );
                parts.hub.wake_all();
                parts.doorman.ring(crate::store::doorbell::Ring {
                    ready: true,
                    watch: true,
                    ..Default::default()
                });
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
        tracing::warn!(%error, what, "a background loop will try again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_full_looks_come_with_every_pulse_and_slow_ones_seldom_but_within_bounds() {
        let until = |ms| until_next_full_look(Duration::from_millis(ms));
        assert!(until(5) < Duration::from_secs(1));
        assert_eq!(until(200), Duration::from_secs(4));
        assert_eq!(until(60_000), FULL_LOOK_WITHIN);
    }
}
