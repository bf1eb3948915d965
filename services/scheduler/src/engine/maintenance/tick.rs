//! The tick: one query a second says which jobs have work.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{JobParts, Reason, Start, jobs};
use crate::{
    domain::ids::ReplicaId,
    engine::{Background, dispatch::lanes::LaneCache, health::Health},
    store::{Mark, StoreError, Tick, TickQuestion},
};

/// How often there is [`Reason::NowAndThen`].
const NOW_AND_THEN: Duration = Duration::from_secs(30);

/// What looks from the start of lanes may take of the time. While an old snapshot keeps dead rows, such a look reads
/// all that ever waited.
const FULL_LOOK_SHARE: u32 = 20;

/// How long tasks below the mark may go unseen, if looks from the start are that slow.
const FULL_LOOK_WITHIN: Duration = Duration::from_secs(30);

/// Ticks for one replica.
pub(in crate::engine) struct Ticker {
    parts: JobParts,
    replica: ReplicaId,
    /// Name of this replica, for people.
    name: String,
    lanes: Arc<LaneCache>,
    health: Arc<Health>,
    background: Background,
    jobs: Vec<Box<dyn Start>>,
}

/// Where a tick looks for waiting tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LookFrom {
    /// Everywhere: finds what is below the marks.
    Start,
    /// Where the next claims would begin.
    Marks,
}

impl Ticker {
    pub(in crate::engine) fn new(
        parts: JobParts,
        replica: ReplicaId,
        name: String,
        lanes: Arc<LaneCache>,
        health: Arc<Health>,
        background: Background,
    ) -> Self {
        Self {
            jobs: jobs(&parts),
            parts,
            replica,
            name,
            lanes,
            health,
            background,
        }
    }

    /// Ticks until the engine stops, and says then that this replica leaves.
    pub(in crate::engine) async fn run(self) {
        let wake = &self.parts.wake;
        let mut next_tick = Instant::now();
        let mut now_and_then = next_tick + NOW_AND_THEN;
        let mut next_full_look = next_tick;
        loop {
            let wake_at = wake.next_due().map_or(next_tick, |due| due.min(next_tick));
            tokio::select! {
                () = self.background.stopping().cancelled() => break,
                () = tokio::time::sleep_until(wake_at) => {}
                () = wake.woken() => {}
            }
            let now = Instant::now();
            if wake.take_cancels() {
                self.start_jobs(Reason::CancelRequested);
            }
            if wake.take_if_due(now) {
                self.start_jobs(Reason::Due);
            }
            if !wake.take_tick() && now < next_tick {
                continue;
            }
            // Jitter keeps replicas from ticking in step.
            next_tick = now + self.parts.timing.tick.mul_f64(1.0 + 0.1 * rand::random::<f64>());
            let look = if now >= next_full_look {
                LookFrom::Start
            } else {
                LookFrom::Marks
            };
            self.run_once(look).await;
            if look == LookFrom::Start {
                next_full_look = Instant::now() + until_next_full_look(now.elapsed());
            }
            if now >= now_and_then {
                now_and_then = now + NOW_AND_THEN;
                self.start_jobs(Reason::NowAndThen);
            }
        }
        if let Err(error) = self.parts.db.replica_leaves(self.replica).await {
            tracing::debug!(%error, "could not say that this replica leaves");
        }
    }

    async fn run_once(&self, look: LookFrom) {
        let pauses = self.parts.local_sessions.pauses();
        let tick = match self.ask(look).await {
            Ok(tick) => tick,
            Err(error) => {
                let failures = self.health.tick_failed();
                if failures.is_power_of_two() {
                    tracing::warn!(%error, failures, "the database does not answer");
                }
                return;
            }
        };
        self.health.tick_succeeded();
        if tick.spared > 0 {
            tracing::warn!(
                sessions = tick.spared,
                "no scheduler was at work for a while; workers get time to be heard again"
            );
        }
        self.start_jobs(Reason::Tick(&tick));
        let JobParts {
            local_sessions,
            announcer,
            wake,
            ..
        } = &self.parts;
        // Another replica ended them: nothing more is leased to them here.
        for session in tick.gone_sessions {
            local_sessions.end_session(session, "it was ended by another scheduler");
        }
        announcer.notifier.set_peers(tick.other_replicas > 0);
        local_sessions.set_paused(tick.paused_lanes, pauses);
        local_sessions.wake_lanes(tick.ready_lanes);
        if !tick.cancelling {
            wake.set_stop_orders(false);
        }
        match tick.next_due {
            Some(Duration::ZERO) => wake.forget_due(),
            Some(delay) => wake.due_in(delay),
            None => {}
        }
        if let Err(error) = self.lanes.load_if_not(tick.lanes).await {
            tracing::warn!(%error, "new lanes wait for the next tick");
        }
    }

    async fn ask(&self, look: LookFrom) -> Result<Tick, StoreError> {
        let local_sessions = &self.parts.local_sessions;
        // Busy lanes, too: what is below their marks must not wait until they are drained.
        let mut lanes = local_sessions.served_lanes();
        if look == LookFrom::Start {
            lanes.iter_mut().for_each(|(_, mark)| *mark = Mark::START);
        }
        let question = TickQuestion {
            replica: self.replica,
            name: &self.name,
            lease: self.parts.timing.lease,
            lanes: &lanes,
            sessions: &local_sessions.connected(),
        };
        self.parts.db.tick(&question).await
    }

    fn start_jobs(&self, reason: Reason<'_>) {
        for job in &self.jobs {
            job.start_if_wanted(reason, &self.background);
        }
    }
}

fn until_next_full_look(last_took: Duration) -> Duration {
    (last_took * FULL_LOOK_SHARE).min(FULL_LOOK_WITHIN)
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
