//! What this replica knows of a lane: who takes from it, whether tasks may wait in it, and where to begin to look.

use super::{Generation, Sessions};
use crate::{
    domain::ids::{GrantId, LaneId, SessionId},
    store::{BUNDLE, Claim, Found, Mark},
};

/// A lane that some session here takes from.
pub(super) struct Lane {
    members: Vec<SessionId>,
    mark: Mark,
    waiting: bool,
    claiming: bool,
    rings: u64,
    turn: usize,
    /// How many tasks a bundle of it held when it was last looked at.
    bundle_size: usize,
}

/// Credit set aside for one claim.
pub struct Reservation {
    /// What to ask for.
    pub claim: Claim,
    pub(super) shares: Vec<Share>,
    rings: u64,
}

/// One session's part of a reservation.
pub(super) struct Share {
    pub(super) session: SessionId,
    pub(super) generation: Generation,
    pub(super) slots: u32,
}

impl Default for Lane {
    /// A lane nobody looked into yet may hold tasks from its start on.
    fn default() -> Self {
        Self {
            members: Vec::new(),
            mark: Mark::START,
            waiting: true,
            claiming: false,
            rings: 0,
            turn: 0,
            // If they are smaller, the first claim finds too little; if they were larger, it would lock too much.
            bundle_size: BUNDLE,
        }
    }
}

impl Lane {
    pub(super) fn join(&mut self, session: SessionId) {
        if !self.members.contains(&session) {
            self.members.push(session);
        }
    }

    pub(super) fn leave(&mut self, session: SessionId) {
        self.members.retain(|member| *member != session);
    }

    /// True if it can be forgotten. A claim that is under way must find its lane again, or a lane
    /// that is joined meanwhile would be claimed twice at once.
    pub(super) fn is_unused(&self) -> bool {
        self.members.is_empty() && !self.claiming
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &SessionId> {
        self.members.iter()
    }

    pub(super) fn mark(&self) -> Mark {
        self.mark
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.waiting
    }

    pub(super) fn wants_claim(&self) -> bool {
        self.waiting && !self.claiming
    }

    /// True if nothing waits in it as far as this replica knows, so that a new task overtakes no other.
    pub(super) fn is_drained(&self) -> bool {
        !self.waiting && !self.claiming
    }

    /// Tasks may wait from `mark` on.
    pub(super) fn ring(&mut self, mark: Mark) {
        self.mark = self.mark.min(mark);
        self.waiting = true;
        self.rings += 1;
    }

    /// Tasks may have come that a claim under way does not see: it must not find the lane empty.
    pub(super) fn doubt(&mut self) {
        self.rings += 1;
    }

    /// Sets credit aside for one claim.
    pub(super) fn reserve(
        &mut self,
        id: LaneId,
        grant: GrantId,
        sessions: &mut Sessions,
        most: usize,
    ) -> Option<Reservation> {
        let (slots, shares) = self.set_aside(sessions, most);
        if slots.is_empty() {
            return None;
        }
        self.claiming = true;
        Some(Reservation {
            claim: Claim {
                lane: id,
                mark: self.mark,
                // One more than is needed, so that a claim that finds few notices that these are all.
                bundles: slots.len().div_ceil(self.bundle_size) + 1,
                slots,
                grant,
            },
            shares,
            rings: self.rings,
        })
    }

    /// Sets credit aside for so many tasks, or none if there is not enough.
    pub(super) fn reserve_all(
        &mut self,
        sessions: &mut Sessions,
        tasks: usize,
    ) -> Option<(Vec<SessionId>, Vec<Share>)> {
        let credit = |member| sessions.get(member).map_or(0, |session| session.credit as usize);
        let credit: usize = self.members.iter().map(credit).sum();
        (credit >= tasks).then(|| self.set_aside(sessions, tasks))
    }

    /// Deals slots out to members with credit, one each in turn, so that a few tasks spread over many workers.
    fn set_aside(&mut self, sessions: &mut Sessions, most: usize) -> (Vec<SessionId>, Vec<Share>) {
        let first = self.turn;
        self.turn = self.turn.wrapping_add(1);
        let count = self.members.len();
        let mut open: Vec<(usize, u32)> = (0..count)
            .map(|n| (first.wrapping_add(n)) % count)
            .filter_map(|n| Some((n, sessions.get(&self.members[n])?.credit)))
            .filter(|(_, credit)| *credit > 0)
            .collect();
        let mut slots = Vec::new();
        let mut taken = vec![0_u32; count];
        while !open.is_empty() && slots.len() < most {
            for (member, credit) in &mut open {
                if slots.len() == most {
                    break;
                }
                slots.push(self.members[*member]);
                taken[*member] += 1;
                *credit -= 1;
            }
            open.retain(|(_, credit)| *credit > 0);
        }
        let mut shares = Vec::new();
        for (member, slots) in taken.into_iter().enumerate().filter(|(_, slots)| *slots > 0) {
            let session = self.members[member];
            if let Some(entry) = sessions.get_mut(&session)
                && let Some(claim) = &entry.claim
            {
                entry.credit -= slots;
                shares.push(Share {
                    session,
                    generation: claim.generation,
                    slots,
                });
            }
        }
        (slots, shares)
    }

    /// A claim came back. If it looked at fewer bundles than it could have, and has credit left, the lane is empty,
    /// unless somebody rang meanwhile.
    pub(super) fn claimed(&mut self, reservation: &Reservation, tasks: usize, found: &Found) {
        self.claiming = false;
        if let Some(size) = found.waiting.checked_div(found.bundles) {
            self.bundle_size = size.max(1);
        }
        if self.rings == reservation.rings {
            if let Some(last) = found.last {
                self.mark = last;
            }
            let Claim { slots, bundles, .. } = &reservation.claim;
            if tasks < slots.len() && found.bundles < *bundles {
                self.waiting = false;
            }
        }
    }
}
