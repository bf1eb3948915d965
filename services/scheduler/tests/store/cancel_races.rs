//! Cancels that meet another move of the same task, with the order forced by an open transaction.

use tasklease_scheduler::{
    domain::{
        ids::{LeaseKey, TaskId},
        outcome::Outcome,
        state::TaskState,
        task::Standing,
    },
    store::CancelStep,
};
use tokio_postgres::Transaction;
use uuid::Uuid;

use crate::{
    blocked::until_somebody_waits,
    world::{Minutes, World, decide, succeeded, tasks_of},
};

const CLAIM: &str = include_str!("../../src/store/sql/grants/claim.sql");
const CANCEL_WAITING: &str = include_str!("../../src/store/sql/cancels/cancel_waiting.sql");
const CANCEL_RUNNING: &str = include_str!("../../src/store/sql/cancels/cancel_running.sql");
const SUCCEED: &str = "INSERT INTO tasklease.run
    (task_id, lease_token, outcome, final, attempt, started_at, finished_at, worker, result)
    VALUES ($1, $2, 1, true, 1, now(), now(), 'w', '{}')";

async fn claim_in(open: &Transaction<'_>, world: &World, session: Uuid) {
    let rows = open
        .query(
            CLAIM,
            &[
                &world.lane.0,
                &i16::MIN,
                &i64::MIN,
                &Uuid::nil(),
                &vec![session],
                &1_i64,
                &2_i64,
                &i16::MAX,
            ],
        )
        .await
        .unwrap();
    assert_eq!(rows.len(), 2, "a bundle and its task");
}

async fn succeed_in(open: &Transaction<'_>, key: LeaseKey) {
    assert_eq!(
        open.execute(SUCCEED, &[&key.task.0, &key.token.0]).await.unwrap(),
        1
    );
}

async fn request_in(open: &Transaction<'_>, task: TaskId) {
    let rows = open
        .query(CANCEL_RUNNING, &[&task.0, &"", &Minutes(1)])
        .await
        .unwrap();
    assert_eq!(rows.len(), 1);
}

#[tokio::test]
async fn a_cancel_that_waits_for_a_claim_finds_the_task_running() {
    let world = World::new().await;
    let task = world.ready_task().await;
    let session = world.session("w").await;
    let mut other = world.connect().await;
    let open = other.transaction().await.unwrap();
    claim_in(&open, &world, session.0).await;
    let (step, ()) = tokio::join!(world.cancel(task), async {
        until_somebody_waits(&world.raw).await;
        open.commit().await.unwrap();
    });
    assert_eq!(step, CancelStep::Requested);
    let read = world.read(task).await;
    assert_eq!(
        (read.standing.state(), read.standing.is_cancel_requested()),
        (TaskState::Running, true)
    );
    world.end().await;
}

#[tokio::test]
async fn a_cancel_that_waits_for_a_claim_that_fails_ends_the_task() {
    let world = World::new().await;
    let task = world.ready_task().await;
    let session = world.session("w").await;
    let mut other = world.connect().await;
    let open = other.transaction().await.unwrap();
    claim_in(&open, &world, session.0).await;
    let (step, ()) = tokio::join!(world.cancel(task), async {
        until_somebody_waits(&world.raw).await;
        open.rollback().await.unwrap();
    });
    assert_eq!(step, world.ended_alone());
    assert_eq!(world.state(task).await, TaskState::Cancelled);
    world.end().await;
}

#[tokio::test]
async fn a_claim_passes_over_a_task_that_is_being_cancelled() {
    let world = World::new().await;
    let task = world.ready_task().await;
    let next = world.ready_task().await;
    let session = world.session("w").await;
    let mut other = world.connect().await;
    let open = other.transaction().await.unwrap();
    assert_eq!(
        open.query(CANCEL_WAITING, &[&task.0, &""]).await.unwrap().len(),
        1
    );
    assert_eq!(tasks_of(&world.claim(session, 2).await), [next]);
    open.commit().await.unwrap();
    assert!(world.claim(session, 2).await.is_empty());
    assert_eq!(world.state(task).await, TaskState::Cancelled);
    world.end().await;
}

#[tokio::test]
async fn a_cancel_that_waits_for_a_success_learns_that_the_task_ended() {
    let world = World::new().await;
    let (_, lease) = world.running_task().await;
    let mut other = world.connect().await;
    let open = other.transaction().await.unwrap();
    succeed_in(&open, lease.key).await;
    let (step, ()) = tokio::join!(world.cancel(lease.key.task), async {
        until_somebody_waits(&world.raw).await;
        open.commit().await.unwrap();
    });
    assert_eq!(step, CancelStep::Neither);
    assert_eq!(world.state(lease.key.task).await, TaskState::Succeeded);
    assert_eq!(world.outcomes(lease.key.task).await, [Outcome::Succeeded]);
    world.end().await;
}

#[tokio::test]
async fn a_cancel_that_waits_for_a_success_that_fails_is_a_request() {
    let world = World::new().await;
    let (_, lease) = world.running_task().await;
    let mut other = world.connect().await;
    let open = other.transaction().await.unwrap();
    succeed_in(&open, lease.key).await;
    let (step, ()) = tokio::join!(world.cancel(lease.key.task), async {
        until_somebody_waits(&world.raw).await;
        open.rollback().await.unwrap();
    });
    assert_eq!(step, CancelStep::Requested);
    let won = world.settle(succeeded(&lease)).await;
    assert_eq!(won[0].outcome, Outcome::Cancelled);
    world.end().await;
}

#[tokio::test]
async fn a_success_that_waits_for_a_cancel_ends_cancelled() {
    let world = World::new().await;
    let (_, lease) = world.running_task().await;
    let mut other = world.connect().await;
    let open = other.transaction().await.unwrap();
    request_in(&open, lease.key.task).await;
    let (won, ()) = tokio::join!(world.settle(succeeded(&lease)), async {
        until_somebody_waits(&world.raw).await;
        open.commit().await.unwrap();
    });
    assert_eq!(won[0].outcome, Outcome::Cancelled);
    let read = world.read(lease.key.task).await;
    assert!(matches!(read.standing, Standing::Cancelled { .. }));
    world.end().await;
}

#[tokio::test]
async fn a_success_that_waits_for_a_cancel_that_fails_stays_a_success() {
    let world = World::new().await;
    let (_, lease) = world.running_task().await;
    let mut other = world.connect().await;
    let open = other.transaction().await.unwrap();
    request_in(&open, lease.key.task).await;
    let (won, ()) = tokio::join!(world.settle(succeeded(&lease)), async {
        until_somebody_waits(&world.raw).await;
        open.rollback().await.unwrap();
    });
    assert_eq!(won[0].outcome, Outcome::Succeeded);
    assert_eq!(world.state(lease.key.task).await, TaskState::Succeeded);
    world.end().await;
}

#[tokio::test]
async fn an_expiry_that_waits_for_a_cancel_ends_the_task_cancelled() {
    let world = World::new().await;
    let (session, lease) = world.running_task().await;
    world.let_expire(session).await;
    let mut other = world.connect().await;
    let open = other.transaction().await.unwrap();
    request_in(&open, lease.key.task).await;
    let (ended, ()) = tokio::join!(world.db.expire_sessions(10, decide), async {
        until_somebody_waits(&world.raw).await;
        open.commit().await.unwrap();
    });
    assert_eq!(ended.unwrap().committed[0].outcome, Outcome::Cancelled);
    assert_eq!(world.state(lease.key.task).await, TaskState::Cancelled);
    world.end().await;
}

#[tokio::test]
async fn a_cancel_that_waits_for_a_promotion_says_that_the_task_moved() {
    let world = World::new().await;
    let task = world.scheduled_task().await;
    world.let_be_due(task).await;
    let mut other = world.connect().await;
    let open = other.transaction().await.unwrap();
    open.query(
        include_str!("../../src/store/sql/tasks/promote.sql"),
        &[&10_i64, &50_i64],
    )
    .await
    .unwrap();
    let (step, ()) = tokio::join!(world.cancel(task), async {
        until_somebody_waits(&world.raw).await;
        open.commit().await.unwrap();
    });
    assert_eq!(step, CancelStep::Neither, "the caller looks again");
    assert_eq!(world.cancel(task).await, world.ended_alone());
    world.end().await;
}
