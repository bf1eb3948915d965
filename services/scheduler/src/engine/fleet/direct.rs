//! Tasks that go to a worker as they are stored, because none waits before them.

use foldhash::HashMap;

use super::{Fleet, State, by_session, lane::Share, next_grant};
use crate::{
    domain::ids::{GrantId, LaneId, SessionId},
    store::ClaimedTask,
};

/// Credit set aside for tasks that are leased by the statement that stores them.
pub struct DirectReservation {
    /// Names what each session gets of it.
    pub grant: GrantId,
    /// The session of each task, in order; `None` for a task that has to wait.
    pub slots: Vec<Option<SessionId>>,
    shares: Vec<Share>,
}

impl Fleet {
    /// Reserves credit for new tasks that could start at once; `lanes` has `None` for tasks that could not.
    ///
    /// A lane takes part only if nothing waits in it and there is room for all of its tasks. Otherwise they must wait
    /// in line, where their priorities decide.
    pub(in crate::engine) fn reserve_direct(&self, lanes: &[Option<LaneId>]) -> Option<DirectReservation> {
        let mut wanted: HashMap<LaneId, usize> = HashMap::default();
        for lane in lanes.iter().flatten() {
            *wanted.entry(*lane).or_default() += 1;
        }
        let mut state = self.state();
        let State {
            sessions,
            lanes: known,
            paused,
            last_grant,
            ..
        } = &mut *state;
        let mut shares = Vec::new();
        let mut dealt = HashMap::default();
        for (id, tasks) in wanted {
            if let Some(lane) = known.get_mut(&id)
                && lane.is_drained()
                && !paused.contains(&id)
                && let Some((slots, parts)) = lane.reserve_all(sessions, tasks)
            {
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
        Some(DirectReservation {
            grant: next_grant(last_grant),
            slots,
            shares,
        })
    }

    /// Hands tasks that were stored to their sessions. Returns those whose session left, or attached another stream,
    /// meanwhile.
    pub(in crate::engine) fn deal_direct(
        &self,
        reservation: &DirectReservation,
        tasks: Vec<ClaimedTask>,
    ) -> Vec<ClaimedTask> {
        let mut by_session = by_session(tasks);
        let mut state = self.state();
        let mut homeless = Vec::new();
        for share in &reservation.shares {
            // A session with shares in several lanes gets everything with the first.
            let Some(dealt) = by_session.remove(&share.session) else {
                continue;
            };
            match state.claiming(share) {
                Some(session) => homeless.extend(session.hand_out(dealt, tokio::time::Instant::now())),
                None => homeless.extend(dealt),
            }
        }
        homeless
    }

    /// Gives credit back: nothing was stored.
    pub(in crate::engine) fn release_direct(&self, reservation: &DirectReservation) {
        let mut state = self.state();
        for share in &reservation.shares {
            if let Some(session) = state.claiming(share) {
                session.credit += share.slots;
            }
        }
        // Tasks may have been waiting for this very credit.
        self.wake.notify_one();
    }

    /// Gives credit back although the tasks may have been stored and leased: nobody was told of those leases.
    pub(in crate::engine) fn direct_failed(&self, reservation: &DirectReservation) {
        self.release_direct(reservation);
        self.state().suspect(&reservation.shares);
    }
}
