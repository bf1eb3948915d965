//! The sessions connected to this replica: their streams, and the leases they report on.
//!
//! Everything here is memory, and may be forgotten: leases are rows, and a session whose streams move to another
//! replica is loaded there again. What to claim for whom is decided by [`super::planner`], which this owns. One lock
//! guards it all; no call holds it across an await.

mod session;

use std::{collections::HashSet, time::Duration};

use foldhash::HashMap;
use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

use self::session::{Attachment, Session};
pub(in crate::engine) use self::session::{Overdue, Settling};
pub use super::planner::Generation;
pub(in crate::engine) use super::planner::{DirectReservation, Reservation};
use super::planner::{Planner, Share};
use crate::{
    domain::{
        ids::{GrantId, GrantKey, LaneId, LeaseKey, SessionId},
        name::{Namespace, QueueName, TaskType},
        queue::QueueKey,
    },
    store::{Claimed, ClaimedTask, KnownLease, Mark, StopOrder},
};

/// What is pushed onto a worker's ClaimTask stream.
#[derive(Debug)]
pub enum ClaimPush {
    /// Tasks that were leased to the session.
    Tasks(Vec<ClaimedTask>),
    /// The session is over.
    Ended(&'static str),
}

/// What is pushed onto a worker's ReportProgress stream.
#[derive(Debug)]
pub enum ReportPush {
    /// Leases whose code must stop.
    Cancel(Vec<StopOrder>),
    /// Leases that are the session's no more.
    Stale(Vec<LeaseKey>),
    /// The session is over.
    Ended(&'static str),
}

/// A point in the order in which lanes are paused and resumed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) struct Pauses(u64);

/// The queues and task types that a session takes tasks of.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::engine) struct Serves {
    pub namespace: Namespace,
    pub queues: HashSet<QueueName>,
    pub task_types: HashSet<TaskType>,
}

impl Serves {
    pub(in crate::engine) fn includes(&self, queue: &QueueKey, task_type: &TaskType) -> bool {
        queue.namespace == self.namespace
            && self.queues.contains(&queue.name)
            && self.task_types.contains(task_type)
    }
}

/// Pushes that may wait for a slow ReportProgress stream; those that do not fit are made again later.
const REPORT_PUSHES: usize = 256;

/// The sessions of this replica.
#[derive(Default)]
pub(in crate::engine) struct LocalSessions {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    sessions: HashMap<SessionId, Session>,
    planner: Planner,
    pauses: u64,
    to_reconcile: HashSet<SessionId>,
    generations: u64,
}

impl LocalSessions {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Waits until there may be something to claim.
    pub(in crate::engine) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Attaches a ClaimTask stream, in place of the one before; its credit starts at zero.
    ///
    /// `leases` are those that the database knows. What of them the worker does not hold was lost on its way, or the
    /// worker forgot it: it is taken back unless the worker reports on it in time.
    pub(in crate::engine) fn attach_claim(
        &self,
        id: SessionId,
        worker: &str,
        serves: Serves,
        lanes: Vec<LaneId>,
        leases: Vec<KnownLease>,
        held: &HashSet<LeaseKey>,
    ) -> (Generation, mpsc::UnboundedReceiver<ClaimPush>) {
        let mut state = self.state();
        let generation = state.next_generation();
        state.planner.join(id, generation, lanes);
        let session = state.sessions.entry(id).or_insert_with(|| Session::new(worker));
        // Open credit is bounded, and so is what can wait here.
        let (sender, receiver) = mpsc::unbounded_channel();
        session.claim = Some(Attachment { generation, sender });
        session.serves = serves;
        session.compare(leases, Some(held), Instant::now());
        (generation, receiver)
    }

    /// Attaches a ReportProgress stream, in place of the one before. `leases` are those that the database knows, `held`
    /// those that the worker holds, if it said so.
    pub(in crate::engine) fn attach_report(
        &self,
        id: SessionId,
        worker: &str,
        leases: Vec<KnownLease>,
        held: Option<&HashSet<LeaseKey>>,
    ) -> (Generation, mpsc::Receiver<ReportPush>) {
        let mut state = self.state();
        let generation = state.next_generation();
        let session = state.sessions.entry(id).or_insert_with(|| Session::new(worker));
        let (sender, receiver) = mpsc::channel(REPORT_PUSHES);
        session.report = Some(Attachment { generation, sender });
        session.compare(leases, held, Instant::now());
        (generation, receiver)
    }

    /// Detaches a stream unless a newer one took its place. A session without streams is forgotten here.
    pub(in crate::engine) fn detach(&self, id: SessionId, generation: Generation) {
        let mut state = self.state();
        let state = &mut *state;
        let Some(session) = state.sessions.get_mut(&id) else {
            return;
        };
        if session.detach_claim(generation) {
            state.planner.leave(id);
        }
        session.detach_report(generation);
        if session.claim.is_none() && session.report.is_none() {
            state.forget(id);
        }
    }

    /// Forgets a session that is over and tells its worker.
    pub(in crate::engine) fn end_session(&self, id: SessionId, reason: &'static str) {
        let mut state = self.state();
        if let Some(session) = state.forget(id) {
            session.push(ReportPush::Ended(reason));
            if let Some(claim) = session.claim {
                let _ = claim.sender.send(ClaimPush::Ended(reason));
            }
        }
    }

    /// The sessions that are connected here.
    pub(in crate::engine) fn connected(&self) -> Vec<SessionId> {
        self.state().sessions.keys().copied().collect()
    }

    /// Adds credit to the stream that gave it.
    pub(in crate::engine) fn add_credit(&self, id: SessionId, generation: Generation, tasks: u32) {
        self.state().planner.add_credit(id, generation, tasks);
        self.wake.notify_one();
    }

    /// A lane became known: sessions that serve its queue and type take from it.
    pub(in crate::engine) fn add_lane(&self, lane: LaneId, queue: &QueueKey, task_type: &TaskType) {
        let mut state = self.state();
        let State {
            sessions, planner, ..
        } = &mut *state;
        for (id, session) in sessions.iter() {
            if session.claim.is_some() && session.serves.includes(queue, task_type) {
                planner.serves_also(*id, lane);
            }
        }
        self.wake.notify_one();
    }

    /// A session serves a lane, too.
    pub(in crate::engine) fn serve_also(&self, session: SessionId, lane: LaneId) {
        self.state().planner.serves_also(session, lane);
        self.wake.notify_one();
    }

    /// Says that tasks may wait in lanes, from these places on. Returns the lanes that nobody here serves.
    pub(in crate::engine) fn wake_lanes(
        &self,
        lanes: impl IntoIterator<Item = (LaneId, Mark)>,
    ) -> Vec<LaneId> {
        let mut state = self.state();
        let mut others = Vec::new();
        for (id, place) in lanes {
            if !state.planner.wake(id, place) {
                others.push(id);
            }
        }
        self.wake.notify_one();
        others
    }

    /// Says that tasks may have come anywhere, for instance while nobody listened to other replicas.
    pub(in crate::engine) fn recheck_lanes(&self) {
        self.state().planner.recheck_all();
        self.wake.notify_one();
    }

    /// Claims nothing from lanes any more.
    pub(in crate::engine) fn pause(&self, lanes: &[LaneId]) {
        let mut state = self.state();
        state.pauses += 1;
        for lane in lanes {
            state.planner.pause(*lane);
        }
    }

    /// Claims from lanes again.
    pub(in crate::engine) fn resume(&self, lanes: &[LaneId]) {
        let mut state = self.state();
        state.pauses += 1;
        for lane in lanes {
            state.planner.resume(*lane);
        }
        self.wake.notify_one();
    }

    /// The point up to which lanes were paused and resumed here.
    pub(in crate::engine) fn pauses(&self) -> Pauses {
        Pauses(self.state().pauses)
    }

    /// Replaces the set of lanes from which nothing is claimed by what the database says, unless some were paused or
    /// resumed here since it was asked: it may not have known of that.
    pub(in crate::engine) fn set_paused(&self, lanes: Vec<LaneId>, asked_at: Pauses) {
        let mut state = self.state();
        if state.pauses == asked_at.0 {
            state.planner.set_paused(lanes);
            self.wake.notify_one();
        }
    }

    /// The lanes that sessions here serve, busy or not, and where their claims begin.
    pub(in crate::engine) fn served_lanes(&self) -> Vec<(LaneId, Mark)> {
        self.state().planner.served_lanes().collect()
    }

    /// True if somebody here would take a task of a lane now.
    pub(in crate::engine) fn has_room(&self, lane: LaneId) -> bool {
        self.state().planner.has_room(lane)
    }

    /// Lanes to look into now, and from where.
    pub(in crate::engine) fn begin_looks(&self) -> Vec<(LaneId, Mark)> {
        self.state().planner.begin_looks()
    }

    /// Ends looks: where the first task of each lane waits, if one does.
    pub(in crate::engine) fn looked(&self, found: impl IntoIterator<Item = (LaneId, Option<Mark>)>) {
        let mut state = self.state();
        for (lane, first) in found {
            state.planner.looked(lane, first);
        }
        self.wake.notify_one();
    }

    /// Ends looks that were not answered.
    pub(in crate::engine) fn looks_failed(&self, lanes: impl IntoIterator<Item = LaneId>) {
        let mut state = self.state();
        for lane in lanes {
            state.planner.look_failed(lane);
        }
        self.wake.notify_one();
    }

    /// The claims to make now, at most `most` tasks each; their credit is set aside.
    pub(in crate::engine) fn plan(&self, most: usize, now: Timestamp) -> Vec<Reservation> {
        self.state().planner.plan(most, now)
    }

    /// Hands claimed tasks to their sessions and gives unused credit back. Returns the tasks whose session left, or
    /// attached another stream, while the claim was under way.
    pub(in crate::engine) fn deal(&self, reservation: &Reservation, claimed: Claimed) -> Vec<ClaimedTask> {
        let mut state = self.state();
        let tasks = claimed.tasks.len();
        let mut by_session = by_session(claimed.tasks);
        let counts: HashMap<SessionId, u32> = by_session
            .iter()
            .map(|(session, tasks)| (*session, u32::try_from(tasks.len()).unwrap_or(u32::MAX)))
            .collect();
        state
            .planner
            .claimed(reservation, tasks, &claimed.found, |session| {
                counts.get(&session).copied().unwrap_or(0)
            });
        let undelivered = state.hand_out(reservation.shares(), &mut by_session);
        self.wake.notify_one();
        undelivered
    }

    /// Ends a claim that failed: gives its credit back. The claim may have been committed although its answer was lost:
    /// nobody was told of those leases.
    pub(in crate::engine) fn claim_failed(&self, reservation: &Reservation) {
        let mut state = self.state();
        state.planner.claim_failed(reservation);
        state.reconcile(reservation.shares());
        self.wake.notify_one();
    }

    /// Reserves credit for new tasks that could start at once; `lanes` has `None` for tasks that could not.
    pub(in crate::engine) fn reserve_direct(
        &self,
        lanes: &[Option<LaneId>],
        now: Timestamp,
    ) -> Option<(GrantId, DirectReservation)> {
        let mut state = self.state();
        let reservation = state.planner.reserve_direct(lanes)?;
        Some((state.planner.next_grant(now), reservation))
    }

    /// Hands tasks that were stored to their sessions. Returns those whose session left, or attached another stream,
    /// meanwhile.
    pub(in crate::engine) fn deal_direct(
        &self,
        reservation: &DirectReservation,
        tasks: Vec<ClaimedTask>,
    ) -> Vec<ClaimedTask> {
        self.state()
            .hand_out(reservation.shares(), &mut by_session(tasks))
    }

    /// Gives credit back: nothing was stored.
    pub(in crate::engine) fn release_direct(&self, reservation: &DirectReservation) {
        self.state().planner.release_direct(reservation);
        // Tasks may have been waiting for this very credit.
        self.wake.notify_one();
    }

    /// Gives credit back although the tasks may have been stored and leased: nobody was told of those leases.
    pub(in crate::engine) fn direct_failed(&self, reservation: &DirectReservation) {
        self.release_direct(reservation);
        self.state().reconcile(reservation.shares());
    }

    /// Asks for a look, with the next tick, at what leases the database knows of a session.
    pub(in crate::engine) fn reconcile_later(&self, session: SessionId) {
        self.state().to_reconcile.insert(session);
    }

    /// Sessions whose leases may not all be known here: those that [`LocalSessions::reconcile_later`] named, and those that
    /// claim through another replica but report here.
    pub(in crate::engine) fn take_sessions_to_reconcile(&self) -> Vec<SessionId> {
        let mut state = self.state();
        let mut sessions = std::mem::take(&mut state.to_reconcile);
        sessions.retain(|id| state.sessions.contains_key(id));
        let elsewhere = state
            .sessions
            .iter()
            .filter(|(_, session)| session.report.is_some() && session.claim.is_none());
        sessions.extend(elsewhere.map(|(id, _)| *id));
        sessions.into_iter().collect()
    }

    /// For each lease, whether the session holds it, as far as this replica knows.
    pub(in crate::engine) fn holds(&self, id: SessionId, keys: impl Iterator<Item = LeaseKey>) -> Vec<bool> {
        let state = self.state();
        let session = state.sessions.get(&id);
        keys.map(|key| session.is_some_and(|session| session.holds(key)))
            .collect()
    }

    /// Compares the leases of a session with what its worker says it holds; returns those that are not known here.
    pub(in crate::engine) fn compare(&self, id: SessionId, held: &HashSet<LeaseKey>) -> Vec<LeaseKey> {
        let mut state = self.state();
        let Some(session) = state.sessions.get_mut(&id) else {
            return Vec::new();
        };
        session.compare(Vec::new(), Some(held), Instant::now());
        held.iter().copied().filter(|key| !session.holds(*key)).collect()
    }

    /// Tells a worker that leases are not its session's.
    pub(in crate::engine) fn push_stale(&self, id: SessionId, keys: Vec<LeaseKey>) {
        if let Some(session) = self.state().sessions.get(&id)
            && !keys.is_empty()
        {
            session.push(ReportPush::Stale(keys));
        }
    }

    /// Adds leases that the database knows but this replica did not.
    pub(in crate::engine) fn learn(&self, leases: impl IntoIterator<Item = (SessionId, KnownLease)>) {
        let mut state = self.state();
        let now = Instant::now();
        for (id, lease) in leases {
            if let Some(session) = state.sessions.get_mut(&id) {
                session.learn(lease, now);
            }
        }
    }

    /// Marks leases as accepted.
    pub(in crate::engine) fn accept(&self, id: SessionId, keys: &[LeaseKey]) {
        if let Some(session) = self.state().sessions.get_mut(&id) {
            for key in keys {
                session.accept(*key);
            }
        }
    }

    /// Begins to end leases: the database decides how, and [`LocalSessions::settled`] hears of it. `None` for those that the
    /// session does not hold.
    pub(in crate::engine) fn begin_to_settle(
        &self,
        id: SessionId,
        keys: impl Iterator<Item = LeaseKey>,
    ) -> Vec<Option<Settling>> {
        let mut state = self.state();
        let mut session = state.sessions.get_mut(&id);
        let now = Instant::now();
        keys.map(|key| session.as_mut()?.begin_to_settle(key, now))
            .collect()
    }

    /// The grants of which these are all the leases that go on, as far as this replica knows, which may know of more
    /// than the database but never of fewer.
    pub(in crate::engine) fn grants_that_end_with(
        &self,
        leases: &HashMap<SessionId, Vec<(GrantId, LeaseKey)>>,
    ) -> Vec<GrantKey> {
        let state = self.state();
        let ends = leases.iter().filter_map(|(id, leases)| {
            let grants = state.sessions.get(id)?.grants_that_end_with(leases);
            Some(grants.into_iter().map(|grant| GrantKey { session: *id, grant }))
        });
        ends.flatten().collect()
    }

    /// The database has the ends of these leases.
    pub(in crate::engine) fn settled(&self, leases: &HashMap<SessionId, Vec<(GrantId, LeaseKey)>>) {
        let mut state = self.state();
        for (id, leases) in leases {
            if let Some(session) = state.sessions.get_mut(id) {
                for (_, key) in leases {
                    session.remove(*key);
                }
            }
        }
    }

    /// The database has no word of these leases; they go on.
    pub(in crate::engine) fn not_settled(&self, leases: &HashMap<SessionId, Vec<(GrantId, LeaseKey)>>) {
        let mut state = self.state();
        for (id, leases) in leases {
            if let Some(session) = state.sessions.get_mut(id) {
                for (_, key) in leases {
                    session.goes_on(*key);
                }
            }
        }
    }

    /// Leases that were not accepted in time, or ran out of time and of grace; they begin to settle.
    pub(in crate::engine) fn take_overdue(
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
                    .take_overdue(now, accept, grace)
                    .into_iter()
                    .map(|overdue| (*id, overdue))
            })
            .collect()
    }

    /// Tells workers whose runs are out of time to stop.
    pub(in crate::engine) fn stop_timed_out(&self, now: Instant, grace: Duration) {
        for session in self.state().sessions.values_mut() {
            session.stop_timed_out(now, grace);
        }
    }

    /// Tells workers about cancel requests on their leases, once each.
    pub(in crate::engine) fn push_cancels(&self, cancels: &[StopOrder]) {
        for session in self.state().sessions.values_mut() {
            session.push_cancels(cancels);
        }
    }

    /// Takes leases that were revoked out of the sessions that hold them and tells the workers. Grants that this
    /// empties are left to the sweep.
    pub(in crate::engine) fn revoke(&self, keys: &[LeaseKey]) {
        let mut state = self.state();
        for session in state.sessions.values_mut() {
            let mine: Vec<LeaseKey> = keys.iter().copied().filter(|key| session.holds(*key)).collect();
            if mine.is_empty() {
                continue;
            }
            for key in &mine {
                session.remove(*key);
            }
            session.push(ReportPush::Stale(mine));
        }
    }
}

fn by_session(tasks: Vec<ClaimedTask>) -> HashMap<SessionId, Vec<ClaimedTask>> {
    let mut by_session: HashMap<SessionId, Vec<ClaimedTask>> = HashMap::default();
    for task in tasks {
        by_session.entry(task.session).or_default().push(task);
    }
    by_session
}

impl State {
    /// Hands tasks to their sessions; returns those of sessions whose stream is not the one whose credit was set aside.
    fn hand_out(
        &mut self,
        shares: &[Share],
        by_session: &mut HashMap<SessionId, Vec<ClaimedTask>>,
    ) -> Vec<ClaimedTask> {
        let mut undelivered = Vec::new();
        for share in shares {
            // A session with shares in several lanes gets everything with the first.
            let Some(dealt) = by_session.remove(&share.session) else {
                continue;
            };
            match self.sessions.get_mut(&share.session) {
                Some(session) if session.claims_with(share.generation) => {
                    undelivered.extend(session.hand_out(dealt, Instant::now()));
                }
                _ => undelivered.extend(dealt),
            }
        }
        undelivered
    }

    fn reconcile(&mut self, shares: &[Share]) {
        self.to_reconcile.extend(shares.iter().map(|share| share.session));
    }

    fn next_generation(&mut self) -> Generation {
        self.generations += 1;
        Generation(self.generations)
    }

    fn forget(&mut self, id: SessionId) -> Option<Session> {
        self.planner.leave(id);
        self.sessions.remove(&id)
    }
}

#[cfg(test)]
mod tests;
