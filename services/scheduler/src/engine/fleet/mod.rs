//! The sessions whose streams end at this replica: their credit, and the leases they report on.
//!
//! Everything here is memory, and may be forgotten: leases are rows, and a session whose streams move to another
//! replica is loaded there again. One lock guards it all; no call holds it across an await.

mod direct;
mod lane;
mod session;

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use foldhash::HashMap;
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

pub use self::{
    direct::DirectReservation,
    lane::Reservation,
    session::{Ended, Inherited, Judged, Overdue},
};
use self::{
    lane::{Lane, Share},
    session::{Attachment, Session},
};
use crate::{
    domain::{
        ids::{GrantId, LaneId, LeaseKey, SessionId},
        lease::Lease,
        limits,
    },
    store::{Claimed, ClaimedTask, GrantKey, Mark, OpenCancel},
};

/// What the fleet pushes onto a worker's ClaimTask stream.
pub type ClaimPush = Vec<ClaimedTask>;

/// What the fleet pushes onto a worker's ReportProgress stream.
#[derive(Debug)]
pub enum ReportPush {
    /// Leases whose code must stop.
    Cancel(Vec<OpenCancel>),
    /// Leases that are the session's no more.
    Stale(Vec<LeaseKey>),
    /// The session is over.
    Ended(&'static str),
}

/// Distinguishes the streams that a session has one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation(u64);

/// A point in the order in which lanes are paused and resumed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pauses(u64);

/// Pushes that may wait for a slow ReportProgress stream; those that do not fit are made again later.
const REPORT_PUSHES: usize = 256;

/// The sessions of this replica.
#[derive(Default)]
pub struct Fleet {
    state: Mutex<State>,
    wake: Notify,
}

type Sessions = HashMap<SessionId, Session>;

#[derive(Default)]
struct State {
    sessions: Sessions,
    lanes: HashMap<LaneId, Lane>,
    paused: HashSet<LaneId>,
    pauses: u64,
    suspects: HashSet<SessionId>,
    generations: u64,
    last_grant: i64,
}

impl Fleet {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there may be something to claim.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Attaches a ClaimTask stream, in place of the one before; its credit starts at zero.
    ///
    /// `leases` are those that the database knows; what of them the worker does not `hold` was lost on its way.
    pub(super) fn attach_claim(
        &self,
        id: SessionId,
        worker: &str,
        lanes: Vec<LaneId>,
        leases: Vec<Lease>,
        held: &HashSet<LeaseKey>,
    ) -> (Generation, mpsc::UnboundedReceiver<ClaimPush>) {
        let mut state = self.state();
        let generation = state.next_generation();
        // It may come back with other task types or queues than before.
        if let Some(session) = state.sessions.get_mut(&id) {
            let before = std::mem::take(&mut session.lanes);
            state.leave(id, &before);
        }
        for lane in &lanes {
            state.lanes.entry(*lane).or_default().join(id);
        }
        let session = state.sessions.entry(id).or_insert_with(|| Session::new(worker));
        // Open credit is bounded, and so is what can wait here.
        let (sender, receiver) = mpsc::unbounded_channel();
        session.claim = Some(Attachment { generation, sender });
        session.credit = 0;
        session.lanes = lanes;
        session.judge_here(held, Instant::now());
        for lease in leases {
            let inherited = if held.contains(&lease.key) {
                Inherited::Held
            } else {
                Inherited::NotHeld
            };
            session.inherit(lease, inherited, Instant::now());
        }
        (generation, receiver)
    }

    /// Attaches a ReportProgress stream, in place of the one before. `leases` are those that the database knows.
    pub(super) fn attach_report(
        &self,
        id: SessionId,
        worker: &str,
        leases: Vec<Lease>,
    ) -> (Generation, mpsc::Receiver<ReportPush>) {
        let mut state = self.state();
        let generation = state.next_generation();
        let session = state.sessions.entry(id).or_insert_with(|| Session::new(worker));
        let (sender, receiver) = mpsc::channel(REPORT_PUSHES);
        session.report = Some(Attachment { generation, sender });
        session.learn(leases, Instant::now());
        (generation, receiver)
    }

    /// Detaches a stream unless a newer one took its place. A session without streams is forgotten here.
    pub(super) fn detach(&self, id: SessionId, generation: Generation) {
        let mut state = self.state();
        let Some(session) = state.sessions.get_mut(&id) else {
            return;
        };
        session.detach(generation);
        if session.claim.is_none() && session.report.is_none() {
            state.forget(id);
        }
    }

    /// Forgets a session that is over and tells its worker.
    pub(super) fn end_session(&self, id: SessionId, reason: &'static str) {
        let mut state = self.state();
        if let Some(session) = state.forget(id) {
            session.push(ReportPush::Ended(reason));
        }
    }

    /// Adds credit to the stream that gave it.
    pub(super) fn add_credit(&self, id: SessionId, generation: Generation, tasks: u32) {
        let mut state = self.state();
        let state = &mut *state;
        let Some(session) = state.sessions.get_mut(&id).filter(|s| s.claims_with(generation)) else {
            return;
        };
        session.credit = session.credit.saturating_add(tasks).min(limits::CREDIT);
        if session
            .lanes
            .iter()
            .any(|lane| state.lanes.get(lane).is_some_and(Lane::wants_claim))
        {
            self.wake.notify_one();
        }
    }

    /// Says that tasks may wait in lanes, from these positions on.
    pub(super) fn wake_lanes(&self, lanes: impl IntoIterator<Item = (LaneId, Mark)>) {
        let mut state = self.state();
        let mut any = false;
        for (id, mark) in lanes {
            if let Some(lane) = state.lanes.get_mut(&id) {
                lane.ring(mark);
                any = true;
            }
        }
        if any {
            self.wake.notify_one();
        }
    }

    /// Says that another replica made tasks ready, somewhere.
    pub(super) fn wake_drained_lanes(&self) {
        let mut state = self.state();
        for lane in state.lanes.values_mut() {
            if lane.is_waiting() {
                lane.doubt();
            } else {
                lane.ring(Mark::START);
            }
        }
        self.wake.notify_one();
    }

    /// Claims nothing from lanes any more.
    pub(super) fn pause(&self, lanes: &[LaneId]) {
        let mut state = self.state();
        state.pauses += 1;
        state.paused.extend(lanes);
    }

    /// Claims from lanes again.
    pub(super) fn resume(&self, lanes: &[LaneId]) {
        let mut state = self.state();
        state.pauses += 1;
        for lane in lanes {
            state.paused.remove(lane);
        }
        self.wake.notify_one();
    }

    /// The point up to which lanes were paused and resumed here.
    pub(super) fn pauses(&self) -> Pauses {
        Pauses(self.state().pauses)
    }

    /// Replaces the set of lanes from which nothing is claimed by what the database says, unless some were paused or
    /// resumed here since it was asked: it may not have known of that.
    pub(super) fn set_paused(&self, lanes: Vec<LaneId>, asked_at: Pauses) {
        let mut state = self.state();
        if state.pauses == asked_at.0 {
            state.paused = lanes.into_iter().collect();
            self.wake.notify_one();
        }
    }

    /// Lanes from which somebody here would take a task now, and where their claims begin.
    pub(super) fn lanes_with_room(&self) -> Vec<(LaneId, Mark)> {
        let state = self.state();
        state
            .lanes
            .iter()
            .filter(|(id, lane)| !state.paused.contains(id) && state.has_room(lane))
            .map(|(id, lane)| (*id, lane.mark()))
            .collect()
    }

    /// True if somebody here would take a task of a lane now.
    pub(super) fn has_room(&self, lane: LaneId) -> bool {
        let state = self.state();
        state.lanes.get(&lane).is_some_and(|lane| state.has_room(lane))
    }

    /// Reserves credit for the next claims, at most `most` slots each; lanes with a claim under way are left out.
    pub(super) fn reserve(&self, most: usize) -> Vec<Reservation> {
        let mut state = self.state();
        let State {
            sessions,
            lanes,
            paused,
            last_grant,
            ..
        } = &mut *state;
        lanes
            .iter_mut()
            .filter(|(id, lane)| lane.wants_claim() && !paused.contains(id))
            .filter_map(|(id, lane)| lane.reserve(*id, next_grant(last_grant), sessions, most))
            .collect()
    }

    /// Hands claimed tasks to their sessions and gives unused credit back. Returns the tasks whose session left, or
    /// attached another stream, while the claim was under way.
    pub(super) fn deal(&self, reservation: &Reservation, claimed: Claimed) -> Vec<ClaimedTask> {
        let mut state = self.state();
        let tasks = claimed.tasks.len();
        let mut by_session = by_session(claimed.tasks);
        let mut homeless = Vec::new();
        for share in &reservation.shares {
            let dealt = by_session.remove(&share.session).unwrap_or_default();
            match state.claiming(share) {
                Some(session) => {
                    let unused = share
                        .slots
                        .saturating_sub(u32::try_from(dealt.len()).unwrap_or(u32::MAX));
                    session.credit += unused;
                    homeless.extend(session.hand_out(dealt, Instant::now()));
                }
                None => homeless.extend(dealt),
            }
        }
        if let Some(lane) = state.lanes.get_mut(&reservation.claim.lane) {
            lane.claimed(reservation, tasks, &claimed.found);
            if lane.wants_claim() {
                self.wake.notify_one();
            }
        }
        homeless
    }

    /// Ends a claim that failed: gives its credit back, and lets the lane be tried again. The claim may have been
    /// committed although its answer was lost: nobody was told of those leases.
    pub(super) fn claim_failed(&self, reservation: &Reservation) {
        self.deal(reservation, Claimed::default());
        let mut state = self.state();
        if let Some(lane) = state.lanes.get_mut(&reservation.claim.lane) {
            lane.ring(Mark::START);
        }
        state.suspect(&reservation.shares);
    }

    /// Asks for a look, with the next pulse, at what leases the database knows of a session.
    pub(super) fn check_leases_later(&self, session: SessionId) {
        self.state().suspects.insert(session);
    }

    /// The sessions that [`Fleet::check_leases_later`] asked for.
    pub(super) fn take_suspects(&self) -> HashSet<SessionId> {
        std::mem::take(&mut self.state().suspects)
    }

    /// For each lease, whether the session holds it, as far as this replica knows.
    pub(super) fn holds(&self, id: SessionId, keys: impl Iterator<Item = LeaseKey>) -> Vec<bool> {
        let state = self.state();
        let session = state.sessions.get(&id);
        keys.map(|key| session.is_some_and(|session| session.holds(key)))
            .collect()
    }

    /// Adds leases that the database knows but this replica did not.
    pub(super) fn learn(&self, id: SessionId, leases: Vec<Lease>) {
        if let Some(session) = self.state().sessions.get_mut(&id) {
            session.learn(leases, Instant::now());
        }
    }

    /// Marks leases as accepted.
    pub(super) fn accept(&self, id: SessionId, keys: &[LeaseKey]) {
        if let Some(session) = self.state().sessions.get_mut(&id) {
            for key in keys {
                session.accept(*key);
            }
        }
    }

    /// Takes leases that end out of a session; `None` for those that it does not hold.
    pub(super) fn end_leases(
        &self,
        id: SessionId,
        keys: impl Iterator<Item = LeaseKey>,
    ) -> Vec<Option<Ended>> {
        let mut state = self.state();
        let mut session = state.sessions.get_mut(&id);
        keys.map(|key| session.as_mut()?.end_lease(id, key)).collect()
    }

    /// Leases that were not accepted in time, or ran out of time and of grace; they are taken out of their sessions.
    pub(super) fn take_overdue(
        &self,
        now: Instant,
        accept: Duration,
        grace: Duration,
    ) -> Vec<(SessionId, Overdue)> {
        let mut state = self.state();
        state
            .sessions
            .iter_mut()
            .flat_map(|(id, session)| {
                session
                    .take_overdue(*id, now, accept, grace)
                    .into_iter()
                    .map(|overdue| (*id, overdue))
            })
            .collect()
    }

    /// Tells workers whose runs are out of time to stop.
    pub(super) fn stop_timed_out(&self, now: Instant, grace: Duration) {
        for session in self.state().sessions.values_mut() {
            session.stop_timed_out(now, grace);
        }
    }

    /// Tells workers about cancel requests on their leases, once each.
    pub(super) fn push_cancels(&self, cancels: &[OpenCancel]) {
        for session in self.state().sessions.values_mut() {
            session.push_cancels(cancels);
        }
    }

    /// Takes leases that were revoked out of the sessions that hold them and tells the workers; returns the grants
    /// that this empties.
    pub(super) fn revoke(&self, keys: &[LeaseKey]) -> Vec<GrantKey> {
        let mut state = self.state();
        let mut emptied = Vec::new();
        for (id, session) in &mut state.sessions {
            let mine: Vec<LeaseKey> = keys.iter().copied().filter(|key| session.holds(*key)).collect();
            if mine.is_empty() {
                continue;
            }
            emptied.extend(
                mine.iter()
                    .filter_map(|key| session.end_lease(*id, *key)?.emptied),
            );
            session.push(ReportPush::Stale(mine));
        }
        emptied
    }
}

fn by_session(tasks: Vec<ClaimedTask>) -> HashMap<SessionId, Vec<ClaimedTask>> {
    let mut by_session: HashMap<SessionId, Vec<ClaimedTask>> = HashMap::default();
    for task in tasks {
        by_session.entry(task.session).or_default().push(task);
    }
    by_session
}

/// Ids of grants are microseconds since 1970, made strictly increasing, so that a session that comes from another
/// replica does not meet the ids that were used there.
fn next_grant(last: &mut i64) -> GrantId {
    let now = tasklease_proto::convert::micros_from_system(SystemTime::now());
    *last = now.max(*last + 1);
    GrantId(*last)
}

impl State {
    fn has_room(&self, lane: &Lane) -> bool {
        lane.members()
            .any(|member| self.sessions.get(member).is_some_and(|s| s.credit > 0))
    }

    fn suspect(&mut self, shares: &[Share]) {
        self.suspects.extend(shares.iter().map(|share| share.session));
    }

    /// The session of a share, if its stream is still the one whose credit was set aside.
    fn claiming(&mut self, share: &Share) -> Option<&mut Session> {
        self.sessions
            .get_mut(&share.session)
            .filter(|session| session.claims_with(share.generation))
    }

    fn next_generation(&mut self) -> Generation {
        self.generations += 1;
        Generation(self.generations)
    }

    fn forget(&mut self, id: SessionId) -> Option<Session> {
        let session = self.sessions.remove(&id)?;
        self.leave(id, &session.lanes);
        Some(session)
    }

    fn leave(&mut self, id: SessionId, lanes: &[LaneId]) {
        for lane in lanes {
            if let Some(entry) = self.lanes.get_mut(lane) {
                entry.leave(id);
                if entry.is_unused() {
                    self.lanes.remove(lane);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
