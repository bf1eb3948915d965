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
//! Limits on lanes (gates), weights and labels belong here later: a gate bounds what [`Dispatch::plan`] gives to a lane,
//! a weight what a turn is worth, labels tell pools apart.

mod lane;
mod pool;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashSet, hash_map::Entry},
    time::SystemTime,
};

use foldhash::HashMap;
use indexmap::IndexMap;

use self::{lane::Lane, pool::Pool};
use crate::{
    domain::{
        ids::{GrantId, LaneId, SessionId},
        limits,
    },
    store::{Claim, Found, Mark},
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

/// Credit set aside for one claim.
#[derive(Debug)]
pub struct Reservation {
    /// What to ask for.
    pub claim: Claim,
    shares: Vec<Share>,
}

/// Credit set aside for tasks that are leased by the statement that stores them.
#[derive(Debug)]
pub struct DirectReservation {
    /// The session of each task, in order; `None` for a task that has to wait.
    pub slots: Vec<Option<SessionId>>,
    shares: Vec<Share>,
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
pub(super) struct Dispatch {
    seats: HashMap<SessionId, Seat>,
    pools: HashMap<PoolId, Pool>,
    pool_of: HashMap<Vec<LaneId>, PoolId>,
    lanes: HashMap<LaneId, Lane>,
    paused: HashSet<LaneId>,
    last_pool: u64,
    turn: usize,
    last_grant: i64,
}

impl Reservation {
    pub(super) fn shares(&self) -> &[Share] {
        &self.shares
    }
}

impl DirectReservation {
    pub(super) fn shares(&self) -> &[Share] {
        &self.shares
    }
}

impl Dispatch {
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
    pub(super) fn doubt_all(&mut self) {
        let ids: Vec<LaneId> = self.lanes.keys().copied().collect();
        for id in ids {
            if let Some(lane) = self.lanes.get_mut(&id) {
                lane.doubt();
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
    /// there. Each look is answered by [`Dispatch::looked`] or [`Dispatch::look_failed`].
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

    /// Where the first task of a lane waits, from the place on that [`Dispatch::begin_looks`] named; or that none does.
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

    /// The claims to make now, each of at most `most` tasks; their credit is set aside. A lane has one claim under way
    /// at a time.
    pub(super) fn plan(&mut self, most: usize, now: SystemTime) -> Vec<Reservation> {
        /// What one pool gives to a lane.
        struct Offer {
            pool: PoolId,
            tasks: usize,
            up_to: i16,
        }
        let mut offers: IndexMap<LaneId, Vec<Offer>> = IndexMap::new();
        let mut ids: Vec<PoolId> = self
            .pools
            .iter()
            .filter(|(_, pool)| pool.credit > 0 && !pool.waiting.is_empty())
            .map(|(id, _)| *id)
            .collect();
        ids.sort_unstable();
        // No pool is always the first to be given what there is.
        self.turn = self.turn.wrapping_add(1);
        let first = self.turn % ids.len().max(1);
        ids.rotate_left(first);
        for id in ids {
            let Some(pool) = self.pools.get_mut(&id) else {
                continue;
            };
            let Some(best) = best_lanes(&self.lanes, &self.paused, &pool.waiting) else {
                continue;
            };
            if best.free.is_empty() {
                continue;
            }
            let room = |lane: &LaneId| {
                most - offers
                    .get(lane)
                    .map_or(0, |given| given.iter().map(|offer| offer.tasks).sum())
            };
            let open: Vec<LaneId> = best.free.iter().copied().filter(|lane| room(lane) > 0).collect();
            let least_room = open.iter().map(room).min().unwrap_or(0);
            if least_room == 0 {
                continue;
            }
            for (lane, tasks) in pool.divide(pool.credit, &open, least_room) {
                let up_to = if best.peers > 1 { best.rank } else { best.next_rank };
                offers.entry(lane).or_default().push(Offer {
                    pool: id,
                    tasks,
                    up_to,
                });
            }
        }
        let mut reservations = Vec::with_capacity(offers.len());
        for (lane, offers) in offers {
            let up_to = offers.iter().map(|offer| offer.up_to).min().unwrap_or(i16::MAX);
            let given = offers.iter().map(|offer| (offer.pool, offer.tasks));
            let (slots, shares) = self.set_aside(given);
            if slots.is_empty() {
                continue;
            }
            let grant = self.next_grant(now);
            let Some(entry) = self.lanes.get_mut(&lane) else {
                continue;
            };
            entry.begin_claim();
            reservations.push(Reservation {
                claim: Claim {
                    lane,
                    mark: entry.mark,
                    up_to,
                    bundles: entry.bundles_for(slots.len()),
                    slots,
                    grant,
                },
                shares,
            });
        }
        reservations
    }

    /// Sets credit of pools aside; the slots are in the order in which tasks are dealt: one to each session in turn, so
    /// that a few tasks spread over many workers.
    fn set_aside(&mut self, pools: impl Iterator<Item = (PoolId, usize)>) -> (Vec<SessionId>, Vec<Share>) {
        let mut by_pool: Vec<Vec<SessionId>> = Vec::new();
        let mut shares: IndexMap<SessionId, Share, foldhash::fast::RandomState> = IndexMap::default();
        for (id, tasks) in pools {
            let Some(pool) = self.pools.get_mut(&id) else {
                continue;
            };
            let mut slots = Vec::with_capacity(tasks);
            while slots.len() < tasks {
                let Some(session) = pool.turns.pop_front() else {
                    break;
                };
                let Some(seat) = self.seats.get_mut(&session) else {
                    continue;
                };
                // Alone, a session takes all at once; beside others, one at a time.
                let take = if pool.turns.is_empty() {
                    seat.credit
                        .min(u32::try_from(tasks - slots.len()).unwrap_or(u32::MAX))
                } else {
                    seat.credit.min(1)
                };
                seat.credit -= take;
                pool.credit -= take as usize;
                slots.extend(std::iter::repeat_n(session, take as usize));
                shares
                    .entry(session)
                    .or_insert(Share {
                        session,
                        generation: seat.generation,
                        slots: 0,
                        pool: id,
                    })
                    .slots += take;
                seat.has_turn = seat.credit > 0;
                if seat.has_turn {
                    pool.turns.push_back(session);
                }
            }
            by_pool.push(slots);
        }
        (in_turns(by_pool), shares.into_values().collect())
    }

    /// A claim came back with so many tasks; `dealt` says how many of them each session got. Credit that was not used
    /// goes back.
    pub(super) fn claimed(
        &mut self,
        reservation: &Reservation,
        tasks: usize,
        found: &Found,
        dealt: impl Fn(SessionId) -> u32,
    ) {
        let lane = reservation.claim.lane;
        // Who got nothing is the next to get something.
        let (served, idle): (Vec<&Share>, Vec<&Share>) = reservation
            .shares
            .iter()
            .partition(|share| dealt(share.session) > 0);
        for share in idle.into_iter().chain(served) {
            let unused = share.slots.saturating_sub(dealt(share.session));
            self.give_back(share, lane, unused);
        }
        if let Some(entry) = self.lanes.get_mut(&lane) {
            let Claim {
                slots,
                bundles,
                up_to,
                ..
            } = &reservation.claim;
            let took_all = tasks < slots.len() && found.bundles < *bundles;
            entry.claimed(*up_to, took_all, found);
            self.tell_pools(lane);
        }
    }

    /// A claim failed: its credit goes back, and its lane is looked into from the start.
    pub(super) fn claim_failed(&mut self, reservation: &Reservation) {
        let lane = reservation.claim.lane;
        for share in &reservation.shares {
            self.give_back(share, lane, share.slots);
        }
        self.look_failed(lane);
    }

    fn give_back(&mut self, share: &Share, lane: LaneId, slots: u32) {
        self.add_credit(share.session, share.generation, slots);
        if let Some(pool) = self.pools.get_mut(&share.pool) {
            pool.refund(lane, slots as usize);
        }
    }

    /// Reserves credit for new tasks that could start at once; `lanes` has `None` for tasks that could not.
    ///
    /// A lane takes part only if nothing waits in it, and only through sessions for which nothing waits elsewhere; and
    /// there must be room for all of its tasks. Otherwise they wait in line, where priorities and turns decide.
    pub(super) fn reserve_direct(&mut self, lanes: &[Option<LaneId>]) -> Option<DirectReservation> {
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
    pub(super) fn release_direct(&mut self, reservation: &DirectReservation) {
        for share in &reservation.shares {
            self.add_credit(share.session, share.generation, share.slots);
        }
    }

    /// Ids of grants are microseconds since 1970, made strictly increasing, so that a session that comes from another
    /// replica does not meet the ids that were used there.
    pub(super) fn next_grant(&mut self, now: SystemTime) -> GrantId {
        let now = tasklease_proto::convert::micros_from_system(now);
        self.last_grant = now.max(self.last_grant + 1);
        GrantId(self.last_grant)
    }
}

/// The lanes from which a pool should take next.
struct Best {
    /// Those of them that can be claimed now. The others are asked about already: their answer is waited for, because
    /// they may hold more of that rank.
    free: Vec<LaneId>,
    /// Their rank, which is a lower bound: what they hold may come later.
    rank: i16,
    /// How many lanes may hold tasks of that rank.
    peers: usize,
    /// The best rank that any other lane may hold.
    next_rank: i16,
}

fn best_lanes(lanes: &HashMap<LaneId, Lane>, paused: &HashSet<LaneId>, waiting: &[LaneId]) -> Option<Best> {
    let open = || {
        waiting
            .iter()
            .filter(|id| !paused.contains(id))
            .filter_map(|id| Some((*id, lanes.get(id)?)))
    };
    let rank = open().map(|(_, lane)| lane.mark.rank).min()?;
    let mut best = Best {
        free: Vec::new(),
        rank,
        peers: 0,
        next_rank: i16::MAX,
    };
    for (id, lane) in open() {
        if lane.mark.rank > rank {
            best.next_rank = best.next_rank.min(lane.mark.rank);
            continue;
        }
        best.peers += 1;
        if lane.can_be_claimed() {
            best.free.push(id);
        }
    }
    Some(best)
}

/// Takes one of each list in turn until all are used up.
fn in_turns<T: Copy>(mut lists: Vec<Vec<T>>) -> Vec<T> {
    if lists.len() == 1 {
        return lists.swap_remove(0);
    }
    let longest = lists.iter().map(Vec::len).max().unwrap_or(0);
    (0..longest)
        .flat_map(|n| lists.iter().filter_map(move |list| list.get(n).copied()))
        .collect()
}
