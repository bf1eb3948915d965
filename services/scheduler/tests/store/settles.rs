//! The fence: one outcome per lease, and where the task goes after it.

use std::time::Duration;

use tasklease_scheduler::{
    domain::{
        backoff::Backoff,
        ids::GrantKey,
        lease::Lease,
        outcome::Outcome,
        state::TaskState,
        task::Standing,
        verdict::{self, Verdict},
    },
    store::{CancelStep, Fenced},
};

use crate::world::{
    World, cancelled, error_kind, failed, failed_for_good, key, new_task, released, started_at, succeeded,
    tasks_of, worker,
};

#[tokio::test]
async fn a_second_outcome_of_a_lease_loses_whatever_it_says() {
    for second in [succeeded, failed, failed_for_good, released, cancelled] {
        let world = World::new().await;
        let (_, lease) = world.running_task().await;
        assert_eq!(
            world.settle(succeeded(&lease)).await,
            [Fenced {
                key: lease.key,
                outcome: Outcome::Succeeded,
                place: None,
            }]
        );
        let before = world.read(lease.key.task).await;
        assert_eq!(world.settle(second(&lease)).await, []);
        assert_eq!(
            world.read(lease.key.task).await,
            before,
            "nothing changed, not even a time"
        );
        assert_eq!(world.outcomes(lease.key.task).await, [Outcome::Succeeded]);
        world.end().await;
    }
}

#[tokio::test]
async fn a_late_success_of_a_lease_that_failed_changes_nothing() {
    let world = World::new().await;
    let (_, lease) = world.running_task().await;
    world.settle(failed(&lease)).await;
    let before = world.read(lease.key.task).await;
    assert_eq!(world.settle(succeeded(&lease)).await, []);
    assert_eq!(world.read(lease.key.task).await, before);
    world.end().await;
}

#[tokio::test]
async fn a_success_keeps_its_result_to_the_byte() {
    let world = World::new().await;
    let (_, lease) = world.running_task().await;
    world.settle(succeeded(&lease)).await;
    let task = world.read(lease.key.task).await;
    let Standing::Succeeded { result, .. } = &task.standing else {
        panic!("{:?}", task.standing);
    };
    assert_eq!(result.as_deref(), Some(r#"{"ok": true}"#));
    assert_eq!((task.attempt(), task.lease_token().0), (1, 1));
    assert_eq!(worker(&task), Some("w"));
    assert_eq!(started_at(&task), Some(lease.started_at));
    assert!(task.standing.finished_at().is_some());
    world.end().await;
}

#[tokio::test]
async fn a_success_after_a_cancel_request_ends_cancelled() {
    for ending in [succeeded, failed, failed_for_good, released, cancelled] {
        let world = World::new().await;
        let (_, lease) = world.running_task().await;
        assert_eq!(world.cancel(lease.key.task).await, CancelStep::Requested);
        let won = world.settle(ending(&lease)).await;
        assert_eq!(
            won,
            [Fenced {
                key: lease.key,
                outcome: Outcome::Cancelled,
                place: None,
            }]
        );
        let task = world.read(lease.key.task).await;
        assert!(matches!(task.standing, Standing::Cancelled { .. }));
        assert_eq!(world.outcomes(lease.key.task).await, [Outcome::Cancelled]);
        let waiting =
            "SELECT (SELECT count(*) FROM tasklease.ready) + (SELECT count(*) FROM tasklease.scheduled)";
        assert_eq!(world.count(waiting, &[]).await, 0);
        world.end().await;
    }
}

#[tokio::test]
async fn a_failure_waits_in_scheduled_with_the_next_lease_and_attempt() {
    let world = World::new().await;
    let (session, lease) = world.running_task().await;
    let task = lease.key.task;
    world.settle(failed(&lease)).await;
    let read = world.read(task).await;
    assert_eq!(read.standing.state(), TaskState::Scheduled);
    assert_eq!((read.attempt(), read.lease_token().0), (1, 1), "of the last run");
    assert_eq!(error_kind(&read), "BOOM");
    let due = read.standing.due_at().unwrap();
    let finished = world.db.read_runs(task, 1).await.unwrap()[0].finished_at.unwrap();
    assert_eq!(
        due.duration_since(finished).as_secs(),
        100,
        "the back-off counts from the commit"
    );
    world.let_be_due(task).await;
    world.db.promote(10).await.unwrap();
    let again = world.claim(session, 1).await.remove(0);
    assert_eq!((again.key, again.attempt), (key(task, 2), 2));
    world.end().await;
}

#[tokio::test]
async fn a_task_handed_back_is_ready_at_once_with_the_next_lease_and_the_same_attempt() {
    let world = World::new().await;
    let (session, lease) = world.running_task().await;
    let later = world.ready_task().await;
    world.settle(released(&lease)).await;
    assert_eq!(world.state(lease.key.task).await, TaskState::Pending);
    let again = world.claim(session, 2).await;
    assert_eq!(
        tasks_of(&again),
        [lease.key.task, later],
        "it keeps its place in the order"
    );
    assert_eq!((again[0].key.token.0, again[0].attempt), (2, 1));
    world.end().await;
}

#[tokio::test]
async fn the_last_attempt_ends_the_task_as_failed() {
    let world = World::new().await;
    let (_, lease) = world.running_task().await;
    let last = Lease {
        attempt: 3,
        ..lease.clone()
    };
    world.settle(failed(&last)).await;
    let task = world.read(lease.key.task).await;
    assert_eq!((task.standing.state(), task.attempt()), (TaskState::Failed, 3));
    assert_eq!(error_kind(&task), "BOOM");
    assert!(task.standing.finished_at().is_some());
    world.end().await;
}

#[tokio::test]
async fn a_run_out_of_time_is_recorded_as_timed_out() {
    let world = World::new().await;
    let (_, lease) = world.running_task().await;
    let lease = Lease {
        run_timeout: Some(Duration::from_secs(1)),
        backoff: Backoff::default(),
        ..lease
    };
    world.settle(verdict::overdue(&lease, "w", 1.0)).await;
    assert_eq!(world.state(lease.key.task).await, TaskState::Scheduled);
    assert_eq!(world.outcomes(lease.key.task).await, [Outcome::TimedOut]);
    world.end().await;
}

#[tokio::test]
async fn one_settlement_mixes_outcomes_and_removes_the_grants_it_empties() {
    let world = World::new().await;
    let session = world.session("w").await;
    world
        .submit(&std::iter::repeat_with(new_task).take(4).collect::<Vec<_>>())
        .await;
    let kept = world.claim(session, 1).await.remove(0);
    let leases = world.claim(session, 3).await;
    let verdicts: Vec<Verdict> = vec![succeeded(&leases[0]), failed(&leases[1]), released(&leases[2])];
    let emptied = GrantKey {
        session,
        grant: leases[0].grant,
    };
    let won = world.db.settle(&verdicts, &[emptied]).await.unwrap();
    assert_eq!(won.len(), 3);
    let states = [TaskState::Succeeded, TaskState::Scheduled, TaskState::Pending];
    for (lease, state) in leases.iter().zip(states) {
        assert_eq!(world.state(lease.key.task).await, state);
    }
    let left = world.leases(session).await;
    assert_eq!(tasks_of(&left), [kept.key.task]);
    assert_eq!(world.count("SELECT count(*) FROM tasklease.grant", &[]).await, 1);
    world.end().await;
}

#[tokio::test]
async fn ended_leases_are_read_back_and_running_ones_are_not() {
    let world = World::new().await;
    let (_, ended) = world.running_task().await;
    world.settle(failed(&ended)).await;
    let (_, running) = world.running_task().await;
    let (_, cancelling) = world.running_task().await;
    world.cancel(cancelling.key.task).await;
    let mut read = world
        .db
        .ended_runs(&[ended.key, running.key, cancelling.key])
        .await
        .unwrap();
    read.sort_by_key(|run| run.key);
    let found: Vec<_> = read.iter().map(|run| (run.key, run.outcome)).collect();
    assert_eq!(
        found,
        [(ended.key, Some(Outcome::Failed)), (cancelling.key, None)]
    );
    world.end().await;
}

#[tokio::test]
async fn a_value_that_cannot_be_stored_fails_the_whole_settlement() {
    let world = World::new().await;
    let (_, one) = world.running_task().await;
    let (_, two) = world.running_task().await;
    let broken = Verdict {
        worker: "a\0".into(),
        ..succeeded(&two)
    };
    assert!(world.db.settle(&[succeeded(&one), broken], &[]).await.is_err());
    assert_eq!(world.state(one.key.task).await, TaskState::Running);
    world.end().await;
}

#[tokio::test]
async fn a_retry_waits_behind_what_became_ready_before_it_and_a_task_handed_back_does_not() {
    let world = World::new().await;
    let (session, failing) = world.running_task().await;
    let handed_back = world.ready_task().await;
    let given = world.claim(session, 1).await.remove(0);
    let good = world.ready_task().await;
    world.settle(failed(&failing)).await;
    world.let_be_due(failing.key.task).await;
    world.db.promote(10).await.unwrap();
    world.settle(released(&given)).await;
    let order = tasks_of(&world.claim(session, 5).await);
    assert_eq!(order, [handed_back, good, failing.key.task]);
    world.end().await;
}
