//! The rules of credit, acceptance and grants, without a database.

use tokio::time::Instant;
use uuid::Uuid;

use super::*;
use crate::{
    domain::{
        backoff::Backoff,
        ids::{GrantId, LeaseNo, TaskId},
        verdict::TimedOut,
    },
    store::Found,
};

const LANE: LaneId = LaneId(1);
const ACCEPT: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_secs(5);

fn session(n: u128) -> SessionId {
    SessionId(Uuid::from_u128(n))
}

fn lease(n: u128, grant: i64) -> Lease {
    Lease {
        key: LeaseKey {
            task: TaskId(Uuid::from_u128(n)),
            no: LeaseNo(1),
        },
        grant: GrantId(grant),
        lane: LANE,
        attempt: 1,
        max_attempts: 3,
        backoff: Backoff::default(),
        run_timeout: None,
        started_us: 0,
    }
}

fn claimed(n: u128, to: SessionId) -> ClaimedTask {
    ClaimedTask {
        session: to,
        lease: lease(n, 1),
        payload: "{}".into(),
        traceparent: None,
    }
}

struct Connected {
    claim: Generation,
    tasks: mpsc::UnboundedReceiver<ClaimPush>,
    reports: mpsc::Receiver<ReportPush>,
}

fn connect(fleet: &Fleet, id: SessionId, credit: u32) -> Connected {
    let (claim, tasks) = fleet.attach_claim(id, "w", vec![LANE], Vec::new(), &HashSet::new());
    let (_, reports) = fleet.attach_report(id, "w", Vec::new());
    fleet.add_credit(id, claim, credit);
    Connected {
        claim,
        tasks,
        reports,
    }
}

fn only(mut reservations: Vec<Reservation>) -> Reservation {
    assert_eq!(reservations.len(), 1);
    reservations.remove(0)
}

/// What a claim finds if every task lies in a bundle of its own.
fn found(tasks: Vec<ClaimedTask>) -> Claimed {
    let found = Found {
        bundles: tasks.len(),
        waiting: tasks.len(),
        last: Some(Mark::before(0, 1)),
    };
    Claimed { tasks, found }
}

#[test]
fn slots_are_dealt_in_turn_and_never_beyond_credit() {
    let fleet = Fleet::default();
    let _one = connect(&fleet, session(1), 3);
    let _two = connect(&fleet, session(2), 1);
    let reservation = only(fleet.reserve(100));
    assert_eq!(reservation.claim.slots.len(), 4);
    assert_ne!(
        reservation.claim.slots[0], reservation.claim.slots[1],
        "the first two tasks go to two workers"
    );
    assert!(fleet.lanes_with_room().is_empty(), "all credit is set aside");
}

#[test]
fn unused_credit_comes_back_and_a_short_claim_drains_the_lane() {
    let fleet = Fleet::default();
    let mut worker = connect(&fleet, session(1), 5);
    let reservation = only(fleet.reserve(100));
    assert!(
        fleet
            .deal(&reservation, found(vec![claimed(1, session(1))]))
            .is_empty()
    );
    assert_eq!(worker.tasks.try_recv().map(|push| push.len()), Ok(1));
    assert!(fleet.reserve(100).is_empty(), "nothing waits");
    fleet.wake_lanes([(LANE, Mark::START)]);
    assert_eq!(only(fleet.reserve(100)).claim.slots.len(), 4);
}

#[test]
fn a_claim_looks_at_as_many_bundles_as_its_tasks_may_fill_and_one_more() {
    let fleet = Fleet::default();
    let _worker = connect(&fleet, session(1), 100);
    let bundles_and_back = |bundles, waiting| {
        let reservation = only(fleet.reserve(20));
        let asked = reservation.claim.bundles;
        let found = Found {
            bundles,
            waiting,
            last: None,
        };
        let tasks = Vec::new();
        fleet.deal(&reservation, Claimed { tasks, found });
        fleet.wake_lanes([(LANE, Mark::START)]);
        asked
    };
    assert_eq!(bundles_and_back(2, 2), 2, "nothing is known: they may be full");
    assert_eq!(bundles_and_back(4, 30), 21, "each holds one");
    assert_eq!(bundles_and_back(0, 0), 4, "each holds seven");
    assert_eq!(bundles_and_back(0, 0), 4, "who finds none learns nothing");
}

#[test]
fn a_lane_is_drained_only_if_the_claim_could_have_looked_further() {
    let fleet = Fleet::default();
    let _worker = connect(&fleet, session(1), 5);
    let reservation = only(fleet.reserve(100));
    let found = Found {
        bundles: reservation.claim.bundles,
        waiting: 2,
        last: None,
    };
    let tasks = vec![claimed(1, session(1)), claimed(2, session(1))];
    fleet.deal(&reservation, Claimed { tasks, found });
    let again = only(fleet.reserve(100));
    assert_eq!(again.claim.slots.len(), 3);
    fleet.deal(&again, self::found(vec![claimed(3, session(1))]));
    assert!(fleet.reserve(100).is_empty(), "drained");
}

#[test]
fn a_doorbell_during_a_claim_keeps_it_from_finding_the_lane_empty() {
    let fleet = Fleet::default();
    let _worker = connect(&fleet, session(1), 5);
    let reservation = only(fleet.reserve(100));
    fleet.wake_drained_lanes();
    fleet.deal(&reservation, Claimed::default());
    assert_eq!(fleet.reserve(100).len(), 1, "it looks again");
}

#[test]
fn there_is_room_in_a_lane_while_somebody_has_credit_for_it() {
    let fleet = Fleet::default();
    let _worker = connect(&fleet, session(1), 2);
    assert!(fleet.has_room(LANE) && !fleet.has_room(LaneId(9)));
    let reservation = only(fleet.reserve(100));
    assert!(!fleet.has_room(LANE), "all credit is set aside");
    fleet.deal(&reservation, Claimed::default());
    assert!(fleet.has_room(LANE));
}

#[test]
fn a_ring_during_a_claim_is_not_lost() {
    let fleet = Fleet::default();
    let _worker = connect(&fleet, session(1), 5);
    let reservation = only(fleet.reserve(100));
    fleet.wake_lanes([(LANE, Mark::before(-7, 3))]);
    assert!(fleet.deal(&reservation, Claimed::default()).is_empty());
    let again = only(fleet.reserve(100));
    assert_eq!(again.claim.slots.len(), 5);
}

#[test]
fn a_new_stream_starts_without_credit_and_gets_nothing_claimed_for_the_old_one() {
    let fleet = Fleet::default();
    let old = connect(&fleet, session(1), 5);
    let reservation = only(fleet.reserve(100));
    let (new, mut tasks) = fleet.attach_claim(session(1), "w", vec![LANE], Vec::new(), &HashSet::new());
    assert_eq!(
        fleet
            .deal(&reservation, found(vec![claimed(1, session(1))]))
            .len(),
        1,
        "handed back"
    );
    assert!(tasks.try_recv().is_err());
    fleet.wake_lanes([(LANE, Mark::START)]);
    assert!(fleet.reserve(100).is_empty());
    fleet.add_credit(session(1), old.claim, 5);
    assert!(
        fleet.reserve(100).is_empty(),
        "credit of the old stream does not count"
    );
    fleet.add_credit(session(1), new, 2);
    assert_eq!(only(fleet.reserve(100)).claim.slots.len(), 2);
}

#[test]
fn a_lease_that_nobody_accepts_is_taken_back_and_an_accepted_one_is_not() {
    let fleet = Fleet::default();
    let mut worker = connect(&fleet, session(1), 2);
    let reservation = only(fleet.reserve(100));
    fleet.deal(
        &reservation,
        found(vec![claimed(1, session(1)), claimed(2, session(1))]),
    );
    fleet.accept(session(1), &[lease(1, 1).key]);
    assert!(
        fleet.take_overdue(Instant::now(), ACCEPT, GRACE).is_empty(),
        "not yet"
    );
    let overdue = fleet.take_overdue(Instant::now() + ACCEPT, ACCEPT, GRACE);
    assert!(matches!(&overdue[..], [(_, Overdue::NotAccepted(ended))] if ended.lease.key == lease(2, 1).key));
    assert!(matches!(worker.reports.try_recv(), Ok(ReportPush::Stale(keys)) if keys == [lease(2, 1).key]));
}

#[test]
fn leases_of_a_session_that_comes_back_are_judged_by_what_it_says() {
    let fleet = Fleet::default();
    let held = HashSet::from([lease(1, 1).key]);
    let (_, _tasks) = fleet.attach_claim(session(1), "w", vec![LANE], vec![lease(1, 1), lease(2, 1)], &held);
    let overdue = fleet.take_overdue(Instant::now() + ACCEPT, ACCEPT, GRACE);
    assert!(matches!(&overdue[..], [(_, Overdue::NotAccepted(ended))] if ended.lease.key == lease(2, 1).key));
}

#[test]
fn a_lease_learned_without_its_claim_stream_is_never_taken_back_here() {
    let fleet = Fleet::default();
    let (_, _reports) = fleet.attach_report(session(1), "w", vec![lease(1, 1)]);
    assert!(
        fleet
            .take_overdue(Instant::now() + ACCEPT, ACCEPT, GRACE)
            .is_empty()
    );
}

#[test]
fn a_lease_learned_before_its_claim_stream_came_is_judged_by_what_the_worker_says_then() {
    let fleet = Fleet::default();
    let id = session(1);
    let leases = || vec![lease(1, 1), lease(2, 1)];
    let (_, _reports) = fleet.attach_report(id, "w", leases());
    let held = HashSet::from([lease(1, 1).key]);
    // The database was read before one of the leases was committed: what is known here counts as well.
    let read_early = vec![lease(1, 1)];
    let (_, _tasks) = fleet.attach_claim(id, "w", vec![LANE], read_early, &held);

    assert!(fleet.take_overdue(Instant::now(), ACCEPT, GRACE).is_empty());
    let overdue = fleet.take_overdue(Instant::now() + ACCEPT, ACCEPT, GRACE);

    assert!(matches!(&overdue[..], [(_, Overdue::NotAccepted(ended))] if ended.lease.key == lease(2, 1).key));
    assert_eq!(fleet.holds(id, [lease(1, 1).key].into_iter()), [true]);
}

#[test]
fn a_grant_is_empty_with_the_last_of_its_leases() {
    let fleet = Fleet::default();
    let (_, _reports) = fleet.attach_report(session(1), "w", vec![lease(1, 7), lease(2, 7), lease(3, 8)]);
    let end = |n, grant| {
        fleet
            .end_leases(session(1), [lease(n, grant).key].into_iter())
            .remove(0)
            .expect("held")
            .emptied
    };
    assert_eq!(end(1, 7), None);
    assert_eq!(
        end(3, 8),
        Some(GrantKey {
            session: session(1),
            grant: GrantId(8)
        })
    );
    assert_eq!(
        end(2, 7),
        Some(GrantKey {
            session: session(1),
            grant: GrantId(7)
        })
    );
    assert!(
        fleet.end_leases(session(1), [lease(1, 7).key].into_iter())[0].is_none(),
        "it ends once"
    );
}

#[test]
fn a_run_out_of_time_is_told_to_stop_then_ended() {
    let fleet = Fleet::default();
    let mut timed = lease(1, 1);
    timed.run_timeout = Some(Duration::from_secs(60));
    let (_, mut reports) = fleet.attach_report(session(1), "w", vec![timed]);
    let start = Instant::now();
    fleet.stop_timed_out(start, GRACE);
    assert!(reports.try_recv().is_err(), "not yet");
    let late = start + Duration::from_secs(61);
    fleet.stop_timed_out(late, GRACE);
    assert!(matches!(reports.try_recv(), Ok(ReportPush::Cancel(orders)) if orders[0].reason == "timed out"));
    assert!(
        fleet.take_overdue(late, ACCEPT, GRACE).is_empty(),
        "it has its grace"
    );
    let overdue = fleet.take_overdue(late + GRACE, ACCEPT, GRACE);
    assert!(matches!(&overdue[..], [(_, Overdue::TimedOut(ended))] if ended.timed_out == TimedOut::Yes));
}

#[test]
fn a_worker_hears_of_a_cancel_once() {
    let fleet = Fleet::default();
    let (_, mut reports) = fleet.attach_report(session(1), "w", vec![lease(1, 1)]);
    let cancels = [OpenCancel {
        key: lease(1, 1).key,
        reason: "enough".into(),
        grace: GRACE,
    }];
    fleet.push_cancels(&cancels);
    fleet.push_cancels(&cancels);
    assert!(matches!(reports.try_recv(), Ok(ReportPush::Cancel(orders)) if orders == cancels));
    assert!(reports.try_recv().is_err());
}

#[test]
fn a_paused_lane_is_left_alone() {
    let fleet = Fleet::default();
    let _worker = connect(&fleet, session(1), 2);
    fleet.pause(&[LANE]);
    assert!(fleet.reserve(100).is_empty() && fleet.lanes_with_room().is_empty());
    fleet.resume(&[LANE]);
    assert_eq!(only(fleet.reserve(100)).claim.slots.len(), 2);
}

#[test]
fn what_the_database_says_of_pauses_counts_unless_it_was_asked_before_one() {
    let fleet = Fleet::default();
    let _worker = connect(&fleet, session(1), 2);
    let before = fleet.pauses();
    fleet.pause(&[LANE]);
    fleet.set_paused(Vec::new(), before);
    assert!(fleet.reserve(100).is_empty(), "an old look undid the pause");
    let before = fleet.pauses();
    fleet.resume(&[LANE]);
    fleet.set_paused(vec![LANE], before);
    assert!(
        !fleet.lanes_with_room().is_empty(),
        "an old look undid the resuming"
    );
    fleet.set_paused(vec![LANE], fleet.pauses());
    assert!(fleet.reserve(100).is_empty(), "another replica paused it");
}

#[test]
fn a_session_that_comes_back_with_other_types_gets_no_more_of_the_old_ones() {
    let fleet = Fleet::default();
    let _before = connect(&fleet, session(1), 2);
    let other = LaneId(2);
    let (claim, _tasks) = fleet.attach_claim(session(1), "w", vec![other], Vec::new(), &HashSet::new());
    fleet.add_credit(session(1), claim, 2);
    assert_eq!(fleet.lanes_with_room(), [(other, Mark::START)]);
    assert_eq!(only(fleet.reserve(100)).claim.lane, other);
}

/// A fleet that looked into its lane and found it empty.
fn drained(credits: &[u32]) -> (Fleet, Vec<Connected>) {
    let fleet = Fleet::default();
    let workers = (1..)
        .zip(credits)
        .map(|(n, credit)| connect(&fleet, session(n), *credit))
        .collect();
    for reservation in fleet.reserve(100) {
        fleet.deal(&reservation, Claimed::default());
    }
    (fleet, workers)
}

#[test]
fn new_tasks_go_to_workers_in_turn_and_those_that_must_wait_do_not() {
    let (fleet, _workers) = drained(&[2, 2]);
    let direct = fleet
        .reserve_direct(&[Some(LANE), None, Some(LANE), Some(LaneId(9))])
        .expect("there is room");
    let [Some(first), None, Some(second), None] = direct.slots[..] else {
        panic!("{:?}", direct.slots);
    };
    assert_ne!(first, second, "two tasks go to two workers");
    fleet.wake_lanes([(LANE, Mark::START)]);
    assert_eq!(
        only(fleet.reserve(100)).claim.slots.len(),
        2,
        "the credit left over"
    );
}

#[test]
fn a_new_task_overtakes_none_that_may_wait_in_its_lane() {
    let (fleet, _workers) = drained(&[5]);
    fleet.wake_lanes([(LANE, Mark::START)]);
    assert!(fleet.reserve_direct(&[Some(LANE)]).is_none(), "rung");
    let reservation = only(fleet.reserve(2));
    assert!(
        fleet.reserve_direct(&[Some(LANE)]).is_none(),
        "a claim is under way"
    );
    let claimed_all = vec![claimed(1, session(1)), claimed(2, session(1))];
    fleet.deal(&reservation, found(claimed_all));
    assert!(
        fleet.reserve_direct(&[Some(LANE)]).is_none(),
        "the claim left some"
    );
    fleet.deal(&only(fleet.reserve(2)), Claimed::default());
    assert!(fleet.reserve_direct(&[Some(LANE)]).is_some(), "nothing waits");
}

#[test]
fn new_tasks_wait_in_line_unless_there_is_room_for_all_of_their_lane() {
    let (fleet, _workers) = drained(&[1, 1]);
    assert!(fleet.reserve_direct(&[Some(LANE); 3]).is_none());
    assert!(fleet.reserve_direct(&[Some(LANE); 2]).is_some());
    assert!(
        fleet.reserve_direct(&[Some(LANE)]).is_none(),
        "the credit is used"
    );
}

#[test]
fn new_tasks_of_a_paused_lane_wait() {
    let (fleet, _workers) = drained(&[1]);
    fleet.pause(&[LANE]);
    assert!(fleet.reserve_direct(&[Some(LANE)]).is_none());
}

#[test]
fn stored_tasks_reach_their_worker_or_come_back_if_its_stream_was_replaced() {
    let (fleet, mut workers) = drained(&[2]);
    let stays = fleet.reserve_direct(&[Some(LANE)]).expect("there is room");
    assert!(fleet.deal_direct(&stays, vec![claimed(1, session(1))]).is_empty());
    assert_eq!(workers[0].tasks.try_recv().map(|push| push.len()), Ok(1));
    assert_eq!(fleet.holds(session(1), [lease(1, 1).key].into_iter()), [true]);

    let leaves = fleet.reserve_direct(&[Some(LANE)]).expect("there is room");
    let _new = fleet.attach_claim(session(1), "w", vec![LANE], Vec::new(), &HashSet::new());
    assert_eq!(fleet.deal_direct(&leaves, vec![claimed(2, session(1))]).len(), 1);
}

#[test]
fn credit_comes_back_when_nothing_was_stored_and_doubt_is_looked_into() {
    let (fleet, _workers) = drained(&[1]);
    let refused = fleet.reserve_direct(&[Some(LANE)]).expect("there is room");
    fleet.release_direct(&refused);
    assert!(fleet.take_suspects().is_empty());
    let unanswered = fleet.reserve_direct(&[Some(LANE)]).expect("the credit is back");
    fleet.direct_failed(&unanswered);
    assert_eq!(fleet.take_suspects(), HashSet::from([session(1)]));
    let again = fleet.reserve_direct(&[Some(LANE)]).expect("the credit is back");
    assert!(again.grant > unanswered.grant && unanswered.grant > refused.grant);
}
