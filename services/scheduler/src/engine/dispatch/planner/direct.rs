//! Tasks that go to a worker as they are stored, because none waits before them.

use foldhash::HashMap;

use super::{Planner, PoolId, Share};
use crate::domain::ids::{LaneId, SessionId};

/// Credit set aside for tasks that are leased by the statement that stores them.
#[derive(Debug)]
pub(in crate::engine) struct DirectReservation {
    /// The session of each task, in order; `None` for a task that has to wait.
    pub slots: Vec<Option<SessionId>>,
    shares: Vec<Share>,
}

impl DirectReservation {
    pub(in crate::engine::dispatch) fn shares(&self) -> &[Share] {
        &self.shares
    }
}

impl Planner {
    /// Reserves credit for new tasks that could start at once; `lanes` has `None` for tasks that could not.
    ///
    /// A lane takes part only if nothing waits in it, and only through sessions for which nothing waits elsewhere; and
    /// there must be room for all of its tasks. Otherwise they wait in line, where priorities and turns decide.
    pub(in crate::engine::dispatch) fn reserve_direct(
        &mut self,
        lanes: &[Option<LaneId>],
    ) -> Option<DirectReservation> {
        let mut wanted: HashMap<LaneId, usize> = HashMap::default();
        for lane in lanes.iter().flatten() {
            *wanted.entry(*lane).or_default() += 1;
        }
        let mut shares = Vec::new();
        let mut dealt = HashMap::default();
        for (id, tasks) in wanted {
            let Some(lane) = self.lanes.get(&id) else { continue };
            if !lane.is_drained() || self.paused.contains(&id) {
                continue;
            }
            let mut given: Vec<(PoolId, usize)> = Vec::new();
            let mut missing = tasks;
            for pool_id in &lane.pools {
                let Some(pool) = self.pools.get(pool_id) else {
                    continue;
                };
                let waits_elsewhere = pool.waiting.iter().any(|waiting| !self.paused.contains(waiting));
                let part = pool.credit.min(missing);
                if part > 0 && !waits_elsewhere {
                    given.push((*pool_id, part));
                    missing -= part;
                }
            }
            if missing == 0 {
                let (slots, parts) = self.set_aside(given.into_iter());
                shares.extend(parts);
                dealt.insert(id, slots.into_iter());
            }
        }
        if dealt.is_empty() {
            return None;
        }
        let slots = lanes
            .iter()
            .map(|lane| dealt.get_mut(lane.as_ref()?)?.next())
            .collect();
        Some(DirectReservation { slots, shares })
    }

    /// Gives credit back: nothing was stored.
    pub(in crate::engine::dispatch) fn release_direct(&mut self, reservation: &DirectReservation) {
        for share in &reservation.shares {
            self.add_credit(share.session, share.generation, share.slots);
        }
    }
}
