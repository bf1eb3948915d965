//! The next claims, and what their answers change.

use std::collections::HashSet;

use foldhash::HashMap;
use indexmap::IndexMap;
use jiff::Timestamp;

use super::{Planner, PoolId, Share, lane::Lane};
use crate::{
    domain::ids::{LaneId, SessionId},
    store::{Claim, Found},
};

/// Credit set aside for one claim.
#[derive(Debug)]
pub(in crate::engine) struct Reservation {
    /// What to ask for.
    pub claim: Claim,
    shares: Vec<Share>,
}

impl Reservation {
    pub(in crate::engine::dispatch) fn shares(&self) -> &[Share] {
        &self.shares
    }
}

impl Planner {
    /// The claims to make now, each of at most `most` tasks; their credit is set aside. A lane has one claim under way
    /// at a time.
    pub(in crate::engine::dispatch) fn plan(&mut self, most: usize, now: Timestamp) -> Vec<Reservation> {
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
    pub(super) fn set_aside(
        &mut self,
        pools: impl Iterator<Item = (PoolId, usize)>,
    ) -> (Vec<SessionId>, Vec<Share>) {
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

    /// A claim returned `tasks` tasks; `dealt` says how many each session got. Credit that was not used
    /// goes back.
    pub(in crate::engine::dispatch) fn claimed(
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
    pub(in crate::engine::dispatch) fn claim_failed(&mut self, reservation: &Reservation) {
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
