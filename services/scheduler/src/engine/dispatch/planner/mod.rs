//! Which claim to make next: a state machine over sessions, their credit and the lanes that they serve.
//!
//! It does no input or output and reads no clock: it is told what happened and says what to claim. It promises:
//!
//! - No credit idles while a task waits for it in a lane that may be claimed. Credit that comes back, by whatever path,
//!   is planned with again.
//! - Among the lanes that a session serves, the highest priority goes first. A claim never takes a task of a rank
//!   while another lane of the same session may hold a better one: it is bounded by the best rank elsewhere.
//! - Between lanes of the same rank, sessions take turns, so none of them starves.
//! - Marks and standings err towards looking again.
//!
//! Limits on lanes (gates), weights and labels belong here later: a gate bounds what [`Planner::plan`] gives to a lane,
//! a weight what a turn is worth, labels tell pools apart.

mod direct;
mod lane;
mod plan;
mod pool;
#[cfg(test)]
mod tests;

use std::collections::{HashSet, hash_map::Entry};

use foldhash::HashMap;
use jiff::Timestamp;

pub(in crate::engine) use self::{direct::DirectReservation, plan::Reservation};
use self::{lane::Lane, pool::Pool};
use crate::{
    domain::{
        ids::{GrantId, LaneId, SessionId},
        limits,
    },
    store::Mark,
};

/// Distinguishes the streams that a session has one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation(pub(super) u64);

/// Names sessions that serve the same lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PoolId(u64);

/// A session as the machine sees it.
struct Seat {
    pool: PoolId,
    generation: Generation,
    credit: u32,
    /// True while it stands in its pool's turns.
    has_turn: bool,
}

/// One session's part of a reservation.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) session: SessionId,
    pub(super) generation: Generation,
    pub(super) slots: u32,
    pool: PoolId,
}

/// Sessions, pools and lanes of this replica.
#[derive(Default)]
pub(super) struct Planner {
    seats: HashMap<SessionId, Seat>,
    pools: HashMap<PoolId, Pool>,
    pool_of: HashMap<Vec<LaneId>, PoolId>,
    lanes: HashMap<LaneId, Lane>,
    paused: HashSet<LaneId>,
    last_pool: u64,
    turn: usize,
    last_grant: i64,
}

impl Planner {
    /// A session serves these lanes from now on, in place of those before; its credit starts at zero.
    pub(super) fn join(&mut self, session: SessionId, generation: Generation, mut lanes: Vec<LaneId>) {
        self.leave(session);
        lanes.sort_unstable();
        lanes.dedup();
        let pool = self.pool_with(lanes);
        if let Some(pool) = self.pools.get_mut(&pool) {
            pool.members += 1;
        }
        self.seats.insert(
            session,
            Seat {
                pool,
                generation,
                credit: 0,
                has_turn: false,
            },
        );
    }

    /// A session that serves more lanes than before keeps its credit.
    pub(super) fn serves_also(&mut self, session: SessionId, lane: LaneId) {
        let Some(seat) = self.seats.get(&session) else {
            return;
        };
        let (generation, credit) = (seat.generation, seat.credit);
        let mut lanes = self
            .pools
            .get(&seat.pool)
            .map(|pool| pool.lanes.clone())
            .unwrap_or_default();
        if lanes.contains(&lane) {
            return;
        }
        lanes.push(lane);
        self.join(session, generation, lanes);
        self.add_credit(session, generation, credit);
    }

    /// A session takes nothing any more.
    pub(super) fn leave(&mut self, session: SessionId) {
        let Some(seat) = self.seats.remove(&session) else {
            return;
        };
        let Some(pool) = self.pools.get_mut(&seat.pool) else {
            return;
        };
        pool.credit -= seat.credit as usize;
        if seat.has_turn {
            pool.turns.retain(|member| *member != session);
        }
        pool.members -= 1;
        if pool.members == 0
            && let Some(pool) = self.pools.remove(&seat.pool)
        {
            for lane in &pool.lanes {
                if let Entry::Occupied(mut entry) = self.lanes.entry(*lane) {
                    entry.get_mut().pools.retain(|id| *id != seat.pool);
                    if entry.get().is_unused() {
                        entry.remove();
                    }
                }
            }
            self.pool_of.remove(&pool.lanes);
        }
    }

    fn pool_with(&mut self, lanes: Vec<LaneId>) -> PoolId {
        if let Some(pool) = self.pool_of.get(&lanes) {
            return *pool;
        }
        self.last_pool += 1;
        let id = PoolId(self.last_pool);
        let mut pool = Pool::new(lanes.clone());
        for lane in &lanes {
            let entry = self.lanes.entry(*lane).or_insert_with(Lane::new);
            entry.pools.push(id);
            if entry.may_hold_tasks() {
                pool.begins_to_wait(*lane);
            }
        }
        self.pools.insert(id, pool);
        self.pool_of.insert(lanes, id);
        id
    }

    /// Adds credit to the stream that gave it; what a newer stream does not know of is dropped.
    pub(super) fn add_credit(&mut self, session: SessionId, generation: Generation, tasks: u32) {
        let Some(seat) = self
            .seats
            .get_mut(&session)
            .filter(|seat| seat.generation == generation)
        else {
            return;
        };
        let Some(pool) = self.pools.get_mut(&seat.pool) else {
            return;
        };
        let credit = seat.credit.saturating_add(tasks).min(limits::CREDIT);
        pool.credit += (credit - seat.credit) as usize;
        seat.credit = credit;
        if credit > 0 && !seat.has_turn {
            seat.has_turn = true;
            pool.turns.push_back(session);
        }
    }

    /// Tasks may wait in a lane from a place on. False if nobody here serves it.
    pub(super) fn wake(&mut self, id: LaneId, place: Mark) -> bool {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return false;
        };
        lane.wake(place);
        self.tell_pools(id);
        true
    }

    /// Every lane may hold tasks anywhere: something may have been missed.
    pub(super) fn recheck_all(&mut self) {
        let ids: Vec<LaneId> = self.lanes.keys().copied().collect();
        for id in ids {
            if let Some(lane) = self.lanes.get_mut(&id) {
                lane.recheck();
            }
            self.tell_pools(id);
        }
    }

    /// Lets the pools of a lane know whether it may hold tasks; forgets it if nobody needs it any more.
    fn tell_pools(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get(&id) else {
            return;
        };
        if lane.is_unused() {
            self.lanes.remove(&id);
            return;
        }
        for pool in &lane.pools {
            if let Some(pool) = self.pools.get_mut(pool) {
                if lane.may_hold_tasks() {
                    pool.begins_to_wait(id);
                } else {
                    pool.has_drained(id);
                }
            }
        }
    }

    /// Nothing is claimed from a lane any more.
    pub(super) fn pause(&mut self, lane: LaneId) {
        self.paused.insert(lane);
    }

    /// A lane is claimed from again.
    pub(super) fn resume(&mut self, lane: LaneId) {
        self.paused.remove(&lane);
    }

    /// Replaces the set of lanes from which nothing is claimed.
    pub(super) fn set_paused(&mut self, lanes: impl IntoIterator<Item = LaneId>) {
        self.paused = lanes.into_iter().collect();
    }

    /// The lanes that somebody here serves, busy or not.
    pub(super) fn served_lanes(&self) -> impl Iterator<Item = (LaneId, Mark)> {
        self.lanes
            .iter()
            .filter(|(_, lane)| !lane.pools.is_empty())
            .map(|(id, lane)| (*id, lane.mark))
    }

    /// Lanes to look into now, and from where: sessions with credit serve them, and nobody knows whether tasks wait
    /// there. Each look is answered by [`Planner::looked`] or [`Planner::look_failed`].
    pub(super) fn begin_looks(&mut self) -> Vec<(LaneId, Mark)> {
        let mut ids: Vec<LaneId> = self
            .pools
            .values()
            .filter(|pool| pool.credit > 0)
            .flat_map(|pool| pool.waiting.iter().copied())
            .filter(|id| !self.paused.contains(id))
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter()
            .filter_map(|id| {
                let lane = self.lanes.get_mut(&id).filter(|lane| lane.wants_look())?;
                lane.begin_look();
                Some((id, lane.mark))
            })
            .collect()
    }

    /// Where the first task of a lane waits, from the place on that [`Planner::begin_looks`] named; or that none does.
    pub(super) fn looked(&mut self, id: LaneId, first: Option<Mark>) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.looked(first);
            self.tell_pools(id);
        }
    }

    /// A look was not answered.
    pub(super) fn look_failed(&mut self, id: LaneId) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.failed();
            self.tell_pools(id);
        }
    }

    /// True if somebody here would take a task of a lane now.
    pub(super) fn has_room(&self, lane: LaneId) -> bool {
        self.lanes.get(&lane).is_some_and(|lane| {
            lane.pools
                .iter()
                .any(|pool| self.pools.get(pool).is_some_and(|pool| pool.credit > 0))
        })
    }

    /// Ids of grants are microseconds since 1970, made strictly increasing, so that a session that comes from another
    /// replica does not meet the ids that were used there.
    pub(super) fn next_grant(&mut self, now: Timestamp) -> GrantId {
        self.last_grant = now.as_microsecond().max(self.last_grant + 1);
        GrantId(self.last_grant)
    }
}
