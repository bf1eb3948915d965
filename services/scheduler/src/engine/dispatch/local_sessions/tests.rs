//! The rules of streams, acceptance and grants, without a database.

use tokio::time::Instant;
use uuid::Uuid;

use super::*;
use crate::{
    domain::{
        backoff::Backoff,
        ids::{GrantId, LeaseToken, TaskId},
        lease::Lease,
        verdict::TimedOut,
    },
    store::Found,
};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
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
            token: LeaseToken(1),
        },
        grant: GrantId(grant),
        lane: LANE,
        attempt: 1,
        max_attempts: 3,
        backoff: Backoff::default(),
        run_timeout: None,
        started_at: NOW,
    }
}

fn known(n: u128, grant: i64) -> KnownLease {
    aged(n, grant, Duration::ZERO)
}

fn aged(n: u128, grant: i64, age: Duration) -> KnownLease {
    KnownLease {
        lease: lease(n, grant),
        age,
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

fn connect(local_sessions: &LocalSessions, id: SessionId, credit: u32) -> Connected {
    let (claim, tasks) = attach_claim(local_sessions, id, Vec::new(), &[]);
    let (_, reports) = local_sessions.attach_report(id, "w", Vec::new(), None);
    local_sessions.add_credit(id, claim, credit);
    Connected {
        claim,
        tasks,
        reports,
    }
}

fn attach_claim(
    local_sessions: &LocalSessions,
    id: SessionId,
    leases: Vec<KnownLease>,
    held: &[LeaseKey],
) -> (Generation, mpsc::UnboundedReceiver<ClaimPush>) {
    let held = held.iter().copied().collect();
    local_sessions.attach_claim(id, "w", Serves::default(), vec![LANE], leases, &held)
}

fn attach_report(
    local_sessions: &LocalSessions,
    id: SessionId,
    leases: Vec<KnownLease>,
) -> mpsc::Receiver<ReportPush> {
    local_sessions.attach_report(id, "w", leases, None).1
}

/// Plans after a look found the lane to hold tasks.
fn plan_one(local_sessions: &LocalSessions) -> Reservation {
    for (lane, _) in local_sessions.begin_looks() {
        local_sessions.looked([(lane, Some(Mark::before(0, 0)))]);
    }
    let mut plan = local_sessions.plan(100, NOW);
    assert_eq!(plan.len(), 1);
    plan.remove(0)
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

fn overdue(local_sessions: &LocalSessions, at: Instant) -> Vec<LeaseKey> {
    local_sessions
        .take_overdue(at, ACCEPT, GRACE)
        .into_iter()
        .map(|(_, overdue)| match overdue {
            Overdue::NotAccepted(settling) | Overdue::TimedOut(settling) => settling.lease.key,
        })
        .collect()
}

fn of_session(n: u128, leases: &[(u128, i64)]) -> HashMap<SessionId, Vec<(GrantId, LeaseKey)>> {
    let leases = leases
        .iter()
        .map(|(n, grant)| (GrantId(*grant), lease(*n, *grant).key));
    HashMap::from_iter([(session(n), leases.collect())])
}

fn grant_key(n: u128, grant: i64) -> GrantKey {
    GrantKey {
        session: session(n),
        grant: GrantId(grant),
    }
}

#[test]
fn a_new_stream_gets_nothing_that_was_claimed_for_the_old_one() {
    let local_sessions = LocalSessions::default();
    let old = connect(&local_sessions, session(1), 5);
    let reservation = plan_one(&local_sessions);
    let (new, mut tasks) = attach_claim(&local_sessions, session(1), Vec::new(), &[]);
    let undelivered = local_sessions.deal(&reservation, found(vec![claimed(1, session(1))]));
    assert_eq!(undelivered.len(), 1, "handed back");
    assert!(tasks.try_recv().is_err());
    local_sessions.add_credit(session(1), old.claim, 5);
    local_sessions.wake_lanes([(LANE, Mark::START)]);
    assert!(
        local_sessions.plan(100, NOW).is_empty(),
        "credit of the old stream does not count"
    );
    local_sessions.add_credit(session(1), new, 2);
    assert_eq!(plan_one(&local_sessions).claim.slots.len(), 2);
}

#[test]
fn a_lease_that_nobody_accepts_is_taken_back_once_and_an_accepted_one_is_not() {
    let local_sessions = LocalSessions::default();
    let mut worker = connect(&local_sessions, session(1), 2);
    let tasks = vec![claimed(1, session(1)), claimed(2, session(1))];
    local_sessions.deal(&plan_one(&local_sessions), found(tasks));
    local_sessions.accept(session(1), &[lease(1, 1).key]);
    assert_eq!(overdue(&local_sessions, Instant::now()), [], "not yet");
    assert_eq!(
        overdue(&local_sessions, Instant::now() + ACCEPT),
        [lease(2, 1).key]
    );
    assert!(matches!(worker.reports.try_recv(), Ok(ReportPush::Stale(keys)) if keys == [lease(2, 1).key]));
    assert_eq!(
        overdue(&local_sessions, Instant::now() + ACCEPT),
        [],
        "its end is on its way"
    );
    local_sessions.not_settled(&of_session(1, &[(2, 1)]));
    assert_eq!(
        overdue(&local_sessions, Instant::now() + ACCEPT),
        [lease(2, 1).key],
        "it was not stored"
    );
}

#[test]
fn leases_that_a_worker_does_not_hold_when_it_comes_back_are_taken_back_however_they_stood() {
    for held_before in [false, true] {
        let local_sessions = LocalSessions::default();
        let id = session(1);
        if held_before {
            let _reports = attach_report(&local_sessions, id, vec![known(1, 1), known(2, 1)]);
            local_sessions.accept(id, &[lease(1, 1).key, lease(2, 1).key]);
        }
        let (_, _tasks) = attach_claim(
            &local_sessions,
            id,
            vec![known(1, 1), known(2, 1)],
            &[lease(1, 1).key],
        );
        assert_eq!(
            overdue(&local_sessions, Instant::now()),
            [],
            "a report on it may be on its way"
        );
        assert_eq!(
            overdue(&local_sessions, Instant::now() + ACCEPT),
            [lease(2, 1).key]
        );
    }
}

#[test]
fn what_a_worker_says_with_its_report_stream_counts_the_same() {
    let local_sessions = LocalSessions::default();
    let held = HashSet::from([lease(1, 1).key]);
    let leases = vec![known(1, 1), aged(2, 1, ACCEPT)];
    let (_, _reports) = local_sessions.attach_report(session(1), "w", leases, Some(&held));
    assert_eq!(
        overdue(&local_sessions, Instant::now()),
        [lease(2, 1).key],
        "its time had begun elsewhere"
    );
}

#[test]
fn a_lease_that_another_replica_gives_to_a_session_that_reports_here_is_judged_here() {
    let local_sessions = LocalSessions::default();
    let _reports = attach_report(&local_sessions, session(1), Vec::new());
    assert_eq!(local_sessions.take_sessions_to_reconcile(), [session(1)]);
    local_sessions.learn([(session(1), known(1, 1))]);
    assert_eq!(
        overdue(&local_sessions, Instant::now() + ACCEPT),
        [lease(1, 1).key]
    );
    let (_, _tasks) = attach_claim(&local_sessions, session(1), Vec::new(), &[]);
    assert_eq!(
        local_sessions.take_sessions_to_reconcile(),
        [],
        "its claims are made here"
    );
}

#[test]
fn a_lease_that_may_have_been_accepted_elsewhere_is_not_taken_back() {
    let local_sessions = LocalSessions::default();
    let _reports = attach_report(&local_sessions, session(1), vec![known(1, 1)]);
    assert_eq!(overdue(&local_sessions, Instant::now() + ACCEPT), []);
}

#[test]
fn a_grant_ends_with_the_last_of_its_leases_whose_ends_are_stored() {
    let local_sessions = LocalSessions::default();
    let _reports = attach_report(
        &local_sessions,
        session(1),
        vec![known(1, 7), known(2, 7), known(3, 8)],
    );
    let keys = [1, 2, 3].map(|n| lease(n, 7).key);
    assert!(
        local_sessions
            .begin_to_settle(session(1), keys.into_iter())
            .iter()
            .all(Option::is_some)
    );
    let ends = |leases: &[(u128, i64)]| local_sessions.grants_that_end_with(&of_session(1, leases));
    assert_eq!(ends(&[(1, 7)]), []);
    assert_eq!(ends(&[(1, 7), (3, 8)]), [grant_key(1, 8)]);
    assert_eq!(ends(&[(1, 7), (2, 7)]), [grant_key(1, 7)]);
    local_sessions.settled(&of_session(1, &[(1, 7)]));
    assert_eq!(ends(&[(2, 7)]), [grant_key(1, 7)]);
}

#[test]
fn a_report_that_comes_again_does_not_count_for_another_lease_of_its_grant() {
    let local_sessions = LocalSessions::default();
    let _reports = attach_report(&local_sessions, session(1), vec![known(1, 7), known(2, 7)]);
    local_sessions.settled(&of_session(1, &[(1, 7)]));
    let again = local_sessions.grants_that_end_with(&of_session(1, &[(1, 7)]));
    assert_eq!(again, [], "the other lease goes on");
}

#[test]
fn a_lease_whose_end_is_not_stored_keeps_its_grant() {
    let local_sessions = LocalSessions::default();
    let _reports = attach_report(&local_sessions, session(1), vec![known(1, 7), known(2, 7)]);
    let first = local_sessions.begin_to_settle(session(1), [lease(1, 7).key].into_iter());
    assert!(first[0].is_some());
    local_sessions.not_settled(&of_session(1, &[(1, 7)]));
    assert_eq!(local_sessions.grants_that_end_with(&of_session(1, &[(2, 7)])), []);
    assert_eq!(
        local_sessions.holds(session(1), [lease(1, 7).key].into_iter()),
        [true]
    );
}

#[test]
fn a_run_out_of_time_is_told_to_stop_then_ended_wherever_its_time_began() {
    for age in [Duration::ZERO, Duration::from_secs(50)] {
        let local_sessions = LocalSessions::default();
        let mut timed = aged(1, 1, age);
        timed.lease.run_timeout = Some(Duration::from_secs(60));
        let mut reports = attach_report(&local_sessions, session(1), vec![timed]);
        let start = Instant::now();
        local_sessions.stop_timed_out(start, GRACE);
        assert!(reports.try_recv().is_err(), "not yet");
        let late = start + Duration::from_secs(61) - age;
        local_sessions.stop_timed_out(late, GRACE);
        assert!(
            matches!(reports.try_recv(), Ok(ReportPush::Cancel(orders)) if orders[0].reason == "timed out")
        );
        assert_eq!(overdue(&local_sessions, late), [], "it has its grace");
        let overdue = local_sessions.take_overdue(late + GRACE, ACCEPT, GRACE);
        assert!(matches!(&overdue[..], [(_, Overdue::TimedOut(ended))] if ended.timed_out == TimedOut::Yes));
    }
}

#[test]
fn a_worker_is_told_of_a_cancel_once() {
    let local_sessions = LocalSessions::default();
    let mut reports = attach_report(&local_sessions, session(1), vec![known(1, 1)]);
    let cancels = [StopOrder {
        key: lease(1, 1).key,
        reason: "enough".into(),
        grace: GRACE,
    }];
    local_sessions.push_cancels(&cancels);
    local_sessions.push_cancels(&cancels);
    assert!(matches!(reports.try_recv(), Ok(ReportPush::Cancel(orders)) if orders == cancels));
    assert!(reports.try_recv().is_err());
}

#[test]
fn what_the_database_says_of_pauses_counts_unless_it_was_asked_before_one() {
    let local_sessions = LocalSessions::default();
    let _worker = connect(&local_sessions, session(1), 2);
    local_sessions.looked(
        local_sessions
            .begin_looks()
            .into_iter()
            .map(|(lane, _)| (lane, Some(Mark::before(0, 0)))),
    );
    let before = local_sessions.pauses();
    local_sessions.pause(&[LANE]);
    local_sessions.set_paused(Vec::new(), before);
    assert!(
        local_sessions.plan(100, NOW).is_empty(),
        "an old look undid the pause"
    );
    let before = local_sessions.pauses();
    local_sessions.resume(&[LANE]);
    local_sessions.set_paused(vec![LANE], before);
    let reservation = plan_one(&local_sessions);
    local_sessions.claim_failed(&reservation);
    local_sessions.set_paused(vec![LANE], local_sessions.pauses());
    assert!(
        local_sessions.begin_looks().is_empty() && local_sessions.plan(100, NOW).is_empty(),
        "another replica paused it"
    );
}

#[test]
fn a_session_serves_lanes_that_are_made_later() {
    let local_sessions = LocalSessions::default();
    let (queue, task_type) = (
        QueueName::parse("q", "queue").expect("a name"),
        TaskType::parse("t", "task_type").expect("a name"),
    );
    let serves = Serves {
        namespace: Namespace::default(),
        queues: HashSet::from([queue.clone()]),
        task_types: HashSet::from([task_type.clone()]),
    };
    let (claim, _tasks) =
        local_sessions.attach_claim(session(1), "w", serves, Vec::new(), Vec::new(), &HashSet::new());
    local_sessions.add_credit(session(1), claim, 2);
    assert!(local_sessions.begin_looks().is_empty());
    let other = TaskType::parse("other", "task_type").expect("a name");
    local_sessions.add_lane(LaneId(8), &QueueKey::in_default(queue.clone()), &other);
    local_sessions.add_lane(LaneId(9), &QueueKey::in_default(queue), &task_type);
    let looks: Vec<LaneId> = local_sessions
        .begin_looks()
        .into_iter()
        .map(|(lane, _)| lane)
        .collect();
    assert_eq!(looks, [LaneId(9)]);
    local_sessions.looked([(LaneId(9), Some(Mark::before(0, 0)))]);
    assert_eq!(
        local_sessions.plan(100, NOW)[0].claim.slots.len(),
        2,
        "it kept its credit"
    );
}

#[test]
fn stored_tasks_reach_their_worker_or_come_back_if_its_stream_was_replaced() {
    let local_sessions = LocalSessions::default();
    let mut worker = connect(&local_sessions, session(1), 2);
    local_sessions.looked(
        local_sessions
            .begin_looks()
            .into_iter()
            .map(|(lane, _)| (lane, None)),
    );
    let (_, stays) = local_sessions
        .reserve_direct(&[Some(LANE)], NOW)
        .expect("there is room");
    assert!(
        local_sessions
            .deal_direct(&stays, vec![claimed(1, session(1))])
            .is_empty()
    );
    assert!(matches!(worker.tasks.try_recv(), Ok(ClaimPush::Tasks(tasks)) if tasks.len() == 1));
    assert_eq!(
        local_sessions.holds(session(1), [lease(1, 1).key].into_iter()),
        [true]
    );

    let (_, leaves) = local_sessions
        .reserve_direct(&[Some(LANE)], NOW)
        .expect("there is room");
    let _new = attach_claim(&local_sessions, session(1), Vec::new(), &[lease(1, 1).key]);
    assert_eq!(
        local_sessions
            .deal_direct(&leaves, vec![claimed(2, session(1))])
            .len(),
        1
    );
}

#[test]
fn credit_comes_back_when_nothing_was_stored_and_a_doubtful_end_is_looked_into() {
    let local_sessions = LocalSessions::default();
    let _worker = connect(&local_sessions, session(1), 1);
    local_sessions.looked(
        local_sessions
            .begin_looks()
            .into_iter()
            .map(|(lane, _)| (lane, None)),
    );
    let (one, refused) = local_sessions
        .reserve_direct(&[Some(LANE)], NOW)
        .expect("there is room");
    local_sessions.release_direct(&refused);
    assert_eq!(local_sessions.take_sessions_to_reconcile(), []);
    let (two, unanswered) = local_sessions
        .reserve_direct(&[Some(LANE)], NOW)
        .expect("the credit is back");
    local_sessions.direct_failed(&unanswered);
    assert_eq!(local_sessions.take_sessions_to_reconcile(), [session(1)]);
    assert!(two > one && local_sessions.reserve_direct(&[Some(LANE)], NOW).is_some());
}

#[test]
fn a_run_whose_time_is_up_has_timed_out_although_another_replica_told_its_worker() {
    let local_sessions = LocalSessions::default();
    let limit = Duration::from_secs(60);
    for (n, age, expected) in [(1, limit / 2, TimedOut::No), (2, limit * 2, TimedOut::Yes)] {
        let mut timed = aged(n, 1, age);
        timed.lease.run_timeout = Some(limit);
        let key = timed.lease.key;
        let _reports = attach_report(&local_sessions, session(n), vec![timed]);
        let settling = local_sessions
            .begin_to_settle(session(n), [key].into_iter())
            .remove(0);
        assert_eq!(settling.expect("the session holds it").timed_out, expected);
    }
}
