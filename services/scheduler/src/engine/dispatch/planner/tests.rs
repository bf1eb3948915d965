//! The promises of the planner, in random sequences of everything that can happen to it, without a database.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::store::Found;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn session(n: usize) -> SessionId {
    SessionId(Uuid::from_u128(n as u128 + 1))
}

fn lane(n: usize) -> LaneId {
    LaneId(n as i32 + 1)
}

/// Lanes as a database would hold them: one task to a bundle, in the order of rank and age.
#[derive(Default)]
struct Model {
    planner: Planner,
    waiting: BTreeMap<LaneId, BTreeSet<(i16, i64)>>,
    /// Tasks that were stored here, or whose notification arrived.
    announced: BTreeSet<(LaneId, i16, i64)>,
    /// Tasks stored by another replica whose notification is on its way, or lost.
    unannounced: Vec<(LaneId, i16, i64)>,
    claims: Vec<Reservation>,
    looks: Vec<(LaneId, Mark)>,
    serves: BTreeMap<SessionId, BTreeSet<LaneId>>,
    generations: BTreeMap<SessionId, Generation>,
    paused: BTreeSet<LaneId>,
    given: BTreeMap<SessionId, u64>,
    dealt: BTreeMap<SessionId, u64>,
    clock: i64,
    generation: u64,
    /// The lanes that tasks were taken from, in order.
    taken: Vec<(SessionId, LaneId, i16)>,
}

#[derive(Debug, Clone)]
enum Step {
    Join(usize, Vec<usize>),
    Leave(usize),
    Credit(usize, u32),
    Submit(usize, i16),
    SubmitElsewhere(usize, i16),
    Notify,
    LoseNotification,
    Poll,
    Doubt,
    Pause(usize),
    Resume(usize),
    Plan,
    FinishClaim(usize),
    FailClaim(usize),
    FinishLook(usize),
    FailLook(usize),
    CancelFirst(usize),
    AnotherReplicaTakes(usize),
}

impl Model {
    fn step(&mut self, step: Step) {
        match step {
            Step::Join(s, lanes) => self.join(session(s), lanes.into_iter().map(lane).collect()),
            Step::Leave(s) => {
                self.planner.leave(session(s));
                self.forget(session(s));
            }
            Step::Credit(s, credit) => self.credit(session(s), credit),
            Step::Submit(l, rank) => {
                let place = self.store(lane(l), rank);
                self.announced.insert(place);
                self.planner.wake(place.0, Mark::before(place.1, place.2));
            }
            Step::SubmitElsewhere(l, rank) => {
                let place = self.store(lane(l), rank);
                self.unannounced.push(place);
            }
            Step::Notify => {
                if let Some(place) = self.unannounced.pop() {
                    self.announced.insert(place);
                    self.planner.wake(place.0, Mark::before(place.1, place.2));
                }
            }
            Step::LoseNotification => {
                self.unannounced.pop();
            }
            Step::Poll => self.poll(),
            Step::Doubt => {
                self.planner.recheck_all();
                self.announce_all();
            }
            Step::Pause(l) => {
                self.planner.pause(lane(l));
                self.paused.insert(lane(l));
            }
            Step::Resume(l) => {
                self.planner.resume(lane(l));
                self.paused.remove(&lane(l));
            }
            Step::Plan => self.plan(),
            Step::FinishClaim(n) => {
                if let Some(reservation) = pick(&mut self.claims, n) {
                    self.finish(&reservation);
                }
            }
            Step::FailClaim(n) => {
                if let Some(reservation) = pick(&mut self.claims, n) {
                    self.planner.claim_failed(&reservation);
                }
            }
            Step::FinishLook(n) => {
                if let Some((lane, mark)) = pick(&mut self.looks, n) {
                    let first = self.first(lane, mark);
                    self.planner.looked(lane, first);
                }
            }
            Step::FailLook(n) => {
                if let Some((lane, _)) = pick(&mut self.looks, n) {
                    self.planner.look_failed(lane);
                }
            }
            Step::CancelFirst(l) | Step::AnotherReplicaTakes(l) => {
                if let Some(waiting) = self.waiting.get_mut(&lane(l)) {
                    waiting.pop_first();
                }
            }
        }
        self.check_credit();
    }

    fn join(&mut self, session: SessionId, lanes: BTreeSet<LaneId>) {
        self.forget(session);
        self.generation += 1;
        let generation = Generation(self.generation);
        self.planner
            .join(session, generation, lanes.iter().copied().collect());
        self.generations.insert(session, generation);
        self.serves.insert(session, lanes);
    }

    fn forget(&mut self, session: SessionId) {
        self.serves.remove(&session);
        self.generations.remove(&session);
        self.given.remove(&session);
        self.dealt.remove(&session);
    }

    fn credit(&mut self, session: SessionId, credit: u32) {
        if let Some(generation) = self.generations.get(&session) {
            self.planner.add_credit(session, *generation, credit);
            *self.given.entry(session).or_default() += u64::from(credit);
        }
    }

    fn store(&mut self, lane: LaneId, rank: i16) -> (LaneId, i16, i64) {
        self.clock += 1;
        self.waiting.entry(lane).or_default().insert((rank, self.clock));
        (lane, rank, self.clock)
    }

    fn announce_all(&mut self) {
        self.unannounced.clear();
        for (lane, waiting) in &self.waiting {
            self.announced
                .extend(waiting.iter().map(|(rank, key)| (*lane, *rank, *key)));
        }
    }

    /// What a tick does: it finds the first place of every lane, from the start.
    fn poll(&mut self) {
        let lanes: Vec<LaneId> = self.planner.served_lanes().map(|(lane, _)| lane).collect();
        for lane in lanes {
            if let Some(first) = self.first(lane, Mark::START) {
                self.planner.wake(lane, first);
            }
        }
    }

    fn first(&self, lane: LaneId, mark: Mark) -> Option<Mark> {
        let waiting = self.waiting.get(&lane)?;
        let after = |(rank, key): &&(i16, i64)| place(*rank, *key) > mark;
        let (rank, key) = waiting.iter().find(after)?;
        Some(Mark::before(*rank, *key))
    }

    /// Plans, and checks that nothing planned overtakes a task that is known to wait for the same session.
    fn plan(&mut self) {
        self.looks.extend(self.planner.begin_looks());
        let known: Vec<(LaneId, i16)> = self
            .announced
            .iter()
            .filter(|(lane, rank, key)| self.waiting.get(lane).is_some_and(|w| w.contains(&(*rank, *key))))
            .map(|(lane, rank, _)| (*lane, *rank))
            .collect();
        for reservation in self.planner.plan(10, NOW) {
            let claim = &reservation.claim;
            assert!(!self.paused.contains(&claim.lane), "a paused lane is claimed");
            for session in &claim.slots {
                let serves = self.serves.get(session).expect("slots belong to sessions");
                assert!(
                    serves.contains(&claim.lane),
                    "a session is given what it does not serve"
                );
                for (lane, rank) in &known {
                    assert!(
                        *lane == claim.lane
                            || !serves.contains(lane)
                            || self.paused.contains(lane)
                            || claim.up_to <= *rank,
                        "a claim of {claim:?} may overtake a task of rank {rank} in {lane:?}"
                    );
                }
            }
            self.claims.push(reservation);
        }
    }

    fn finish(&mut self, reservation: &Reservation) {
        let claim = &reservation.claim;
        let waiting = self.waiting.entry(claim.lane).or_default();
        let taken: Vec<(i16, i64)> = waiting
            .iter()
            .filter(|(rank, key)| place(*rank, *key) > claim.mark && *rank <= claim.up_to)
            .take(claim.slots.len().min(claim.bundles))
            .copied()
            .collect();
        for task in &taken {
            waiting.remove(task);
        }
        let found = Found {
            bundles: taken.len(),
            waiting: taken.len(),
            last: taken.last().map(|(rank, key)| place(*rank, *key)),
        };
        let mut counts: BTreeMap<SessionId, u32> = BTreeMap::new();
        for (session, (rank, _)) in claim.slots.iter().zip(&taken) {
            *counts.entry(*session).or_default() += 1;
            self.taken.push((*session, claim.lane, *rank));
        }
        self.planner.claimed(reservation, taken.len(), &found, |session| {
            counts.get(&session).copied().unwrap_or(0)
        });
        for share in reservation.shares() {
            if self.generations.get(&share.session) == Some(&share.generation) {
                *self.dealt.entry(share.session).or_default() +=
                    u64::from(counts.get(&share.session).copied().unwrap_or(0));
            }
        }
    }

    /// No credit is lost, and none comes from nowhere.
    fn check_credit(&self) {
        for (session, generation) in &self.generations {
            let open = u64::from(self.planner.seats[session].credit);
            let aside: u64 = self
                .claims
                .iter()
                .flat_map(Reservation::shares)
                .filter(|share| share.session == *session && share.generation == *generation)
                .map(|share| u64::from(share.slots))
                .sum();
            let given = self.given.get(session).copied().unwrap_or(0);
            let dealt = self.dealt.get(session).copied().unwrap_or(0);
            assert_eq!(open + aside + dealt, given);
        }
        for pool in self.planner.pools.values() {
            let seats = self.planner.seats.iter();
            let credit: usize = seats
                .filter(|(_, seat)| self.planner.pools[&seat.pool].lanes == pool.lanes)
                .map(|(_, seat)| seat.credit as usize)
                .sum();
            assert_eq!(pool.credit, credit);
        }
    }

    /// Answers everything that is under way until nothing is.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            self.plan();
            if self.claims.is_empty() && self.looks.is_empty() {
                return;
            }
            while !self.looks.is_empty() {
                self.step(Step::FinishLook(0));
            }
            while !self.claims.is_empty() {
                self.step(Step::FinishClaim(0));
            }
        }
        panic!("it never comes to rest");
    }

    fn check_nothing_idles(&self) {
        for (session, lanes) in &self.serves {
            if self.planner.seats[session].credit == 0 {
                continue;
            }
            for lane in lanes.iter().filter(|lane| !self.paused.contains(lane)) {
                let waiting = self.waiting.get(lane).into_iter().flatten();
                let known = waiting
                    .filter(|(rank, key)| self.announced.contains(&(*lane, *rank, *key)))
                    .count();
                assert_eq!(known, 0, "{session} has credit and serves {lane:?}");
            }
        }
    }
}

fn place(rank: i16, order_key: i64) -> Mark {
    Mark {
        rank,
        order_key,
        first_task: Uuid::from_u128(1),
    }
}

fn pick<T>(list: &mut Vec<T>, n: usize) -> Option<T> {
    (!list.is_empty()).then(|| list.remove(n % list.len()))
}

fn steps() -> impl Strategy<Value = Step> {
    let (s, l) = (0..4_usize, 0..5_usize);
    let rank = prop_oneof![Just(-100_i16), -2..3_i16, Just(100_i16)];
    prop_oneof![
        3 => (s.clone(), proptest::collection::vec(l.clone(), 1..5)).prop_map(|(s, l)| Step::Join(s, l)),
        1 => s.clone().prop_map(Step::Leave),
        8 => (s, 1..15_u32).prop_map(|(s, credit)| Step::Credit(s, credit)),
        12 => (l.clone(), rank.clone()).prop_map(|(l, rank)| Step::Submit(l, rank)),
        4 => (l.clone(), rank).prop_map(|(l, rank)| Step::SubmitElsewhere(l, rank)),
        3 => Just(Step::Notify),
        1 => Just(Step::LoseNotification),
        1 => Just(Step::Poll),
        1 => Just(Step::Doubt),
        1 => l.clone().prop_map(Step::Pause),
        2 => l.clone().prop_map(Step::Resume),
        12 => Just(Step::Plan),
        12 => (0..9_usize).prop_map(Step::FinishClaim),
        1 => (0..9_usize).prop_map(Step::FailClaim),
        8 => (0..9_usize).prop_map(Step::FinishLook),
        1 => (0..9_usize).prop_map(Step::FailLook),
        2 => l.clone().prop_map(Step::CancelFirst),
        2 => l.prop_map(Step::AnotherReplicaTakes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_credit_idles_and_no_better_task_is_overtaken(steps in proptest::collection::vec(steps(), 1..120)) {
        let mut model = Model::default();
        for step in steps {
            model.step(step);
        }
        // Every notification arrives in the end, by itself or by the tick that makes up for it.
        while !model.unannounced.is_empty() {
            model.step(Step::Notify);
        }
        model.settle();
        model.check_nothing_idles();
        // A tick finds what no notification named.
        for _ in 0..50 {
            model.poll();
            model.settle();
        }
        model.announce_all();
        model.check_nothing_idles();
    }

    #[test]
    fn lanes_of_the_same_rank_take_turns(lanes in 2..6_usize, slots in 1..4_u32, tasks in 5..30_usize) {
        let mut model = Model::default();
        model.join(session(0), (0..lanes).map(lane).collect());
        for l in 0..lanes {
            for _ in 0..tasks {
                model.step(Step::Submit(l, 0));
            }
        }
        // A slot is free again as soon as its task is done.
        for _ in 0..lanes * tasks {
            model.credit(session(0), slots);
            model.settle();
        }
        let mut counts: BTreeMap<LaneId, i32> = (0..lanes).map(|l| (lane(l), 0)).collect();
        for (_, from, _) in &model.taken {
            *counts.get_mut(from).expect("a lane of the session") += 1;
            let (least, most) = (counts.values().min(), counts.values().max());
            let apart = most.unwrap_or(&0) - least.unwrap_or(&0);
            prop_assert!(apart <= 1 + slots as i32, "{counts:?}");
        }
        prop_assert_eq!(model.taken.len(), lanes * tasks);
    }
}

fn connected(lanes: usize, credit: u32) -> Model {
    let mut model = Model::default();
    model.join(session(0), (0..lanes).map(lane).collect());
    model.settle();
    model.credit(session(0), credit);
    model.settle();
    model
}

#[test]
fn one_slot_serves_the_highest_priority_of_all_lanes_first() {
    let mut model = connected(3, 0);
    for rank in [0, -5, 3] {
        for l in 0..3 {
            model.step(Step::Submit(l, rank));
        }
    }
    for _ in 0..9 {
        model.credit(session(0), 1);
        model.settle();
    }
    let ranks: Vec<i16> = model.taken.iter().map(|(_, _, rank)| *rank).collect();
    assert_eq!(ranks, [-5, -5, -5, 0, 0, 0, 3, 3, 3]);
}

#[test]
fn many_idle_lanes_start_in_one_round() {
    let mut model = connected(60, 60);
    for l in 0..60 {
        model.step(Step::Submit(l, 0));
    }
    model.plan();
    assert_eq!(model.claims.len(), 60);
}

#[test]
fn credit_that_a_claim_gives_back_goes_to_the_lane_that_waits_for_it() {
    let mut model = connected(2, 5);
    model.step(Step::Submit(0, 0));
    model.plan();
    assert_eq!(model.claims[0].claim.slots.len(), 5, "all of it is set aside");
    model.step(Step::Submit(1, 0));
    model.plan();
    assert_eq!(model.claims.len(), 1);
    model.step(Step::FinishClaim(0));
    model.settle();
    assert_eq!(model.taken.len(), 2);
}

#[test]
fn what_lies_below_the_mark_of_a_busy_lane_is_found_by_the_tick() {
    let mut model = connected(1, 1);
    for _ in 0..5 {
        model.step(Step::Submit(0, 0));
    }
    model.settle();
    model.step(Step::SubmitElsewhere(0, -100));
    model.step(Step::LoseNotification);
    model.poll();
    model.credit(session(0), 1);
    model.settle();
    assert_eq!(model.taken.last(), Some(&(session(0), lane(0), -100)));
}

#[test]
fn a_few_tasks_spread_over_many_sessions() {
    let mut model = Model::default();
    for s in 0..4 {
        model.join(session(s), [lane(0)].into());
    }
    model.join(session(4), [lane(0), lane(1)].into());
    for s in 0..5 {
        model.credit(session(s), 2);
    }
    model.settle();
    for _ in 0..8 {
        model.step(Step::Submit(0, 0));
        model.settle();
    }
    let sessions: BTreeSet<SessionId> = model.taken.iter().map(|(session, _, _)| *session).collect();
    assert_eq!(sessions.len(), 5, "{:?}", model.taken);
}

#[test]
fn a_new_task_goes_directly_only_if_nothing_waits_for_its_session() {
    let mut model = connected(2, 3);
    let direct = |model: &mut Model| model.planner.reserve_direct(&[Some(lane(0))]);
    let reservation = direct(&mut model).expect("there is room, and nothing waits");
    assert_eq!(reservation.slots, [Some(session(0))]);
    model.planner.release_direct(&reservation);
    model.step(Step::Submit(1, 0));
    assert!(direct(&mut model).is_none(), "a task waits in the other lane");
    model.step(Step::Pause(1));
    let reservation = direct(&mut model).expect("nobody may take that one");
    model.planner.release_direct(&reservation);
    model.step(Step::Resume(1));
    model.plan();
    assert!(direct(&mut model).is_none(), "a claim is under way");
}

#[test]
fn new_tasks_wait_in_line_unless_there_is_room_for_all_of_their_lane() {
    let mut model = connected(1, 2);
    assert!(model.planner.reserve_direct(&[Some(lane(0)); 3]).is_none());
    let reservation = model
        .planner
        .reserve_direct(&[Some(lane(0)), None, Some(lane(9)), Some(lane(0))]);
    let slots = reservation.expect("there is room for two").slots;
    assert_eq!(slots, [Some(session(0)), None, None, Some(session(0))]);
    assert!(
        model.planner.reserve_direct(&[Some(lane(0))]).is_none(),
        "the credit is used"
    );
}
