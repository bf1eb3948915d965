//! Cancelling a task in each of its places.

use std::time::Duration;

use tasklease_scheduler::{
    domain::{ids::TaskId, outcome::Outcome, state::TaskState, verdict::Verdict},
    store::CancelStep,
};
use uuid::Uuid;

use crate::world::{World, cancelled, error_kind, failed, failed_for_good, started_at, succeeded, worker};

#[tokio::test]
async fn a_waiting_task_ends_at_once_and_is_never_handed_out() {
    let world = World::new().await;
    let session = world.session("w").await;
    for task in [world.ready_task().await, world.scheduled_task().await] {
        assert_eq!(world.cancel(task).await, world.ended_alone());
        let read = world.read(task).await;
        assert_eq!(read.standing.state(), TaskState::Cancelled);
        assert_eq!((read.attempt(), read.lease_token().0), (0, 0), "it never ran");
        assert_eq!((worker(&read), started_at(&read)), (None, None));
        assert!(read.standing.finished_at().is_some());
        assert_eq!(world.outcomes(task).await, [], "no run ended");
        world.db.promote(10).await.unwrap();
        assert!(world.claim(session, 10).await.is_empty());
    }
    world.end().await;
}

#[tokio::test]
async fn a_cancelled_back_off_keeps_the_numbers_of_the_last_run() {
    let world = World::new().await;
    let (_, lease) = world.running_task().await;
    world.settle(failed(&lease)).await;
    let task = lease.key.task;
    assert_eq!(world.cancel(task).await, world.ended_alone());
    let read = world.read(task).await;
    assert_eq!((read.attempt(), read.lease_token().0), (1, 1));
    assert_eq!(world.outcomes(task).await, [Outcome::Failed]);
    world.end().await;
}

#[tokio::test]
async fn a_running_task_is_asked_to_stop_and_goes_on_until_it_does() {
    let world = World::new().await;
    let (_, lease) = world.running_task().await;
    let task = lease.key.task;
    let before = world.read(task).await;
    let step = world
        .db
        .cancel(task, "too slow", Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(step, CancelStep::Requested);
    let read = world.read(task).await;
    assert_eq!(
        (read.standing.state(), read.standing.is_cancel_requested()),
        (TaskState::Running, true)
    );
    assert_eq!(
        (read.attempt(), read.lease_token()),
        (before.attempt(), before.lease_token())
    );
    assert_eq!(
        (worker(&read), started_at(&read)),
        (worker(&before), started_at(&before))
    );
    let open = world.db.stop_orders(10).await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!((open[0].key, open[0].reason.as_str()), (lease.key, "too slow"));
    assert!(open[0].grace > Duration::ZERO && open[0].grace <= Duration::from_secs(60));
    assert_eq!(
        world.cancel(task).await,
        CancelStep::Neither,
        "a second request changes nothing"
    );
    assert_eq!(world.db.stop_orders(10).await.unwrap()[0].reason, "too slow");
    world.settle(cancelled(&lease)).await;
    assert_eq!(world.state(task).await, TaskState::Cancelled);
    assert!(world.db.stop_orders(10).await.unwrap().is_empty());
    world.end().await;
}

#[tokio::test]
async fn a_task_that_ended_or_never_was_cannot_be_cancelled() {
    let world = World::new().await;
    for ending in [succeeded, failed_for_good, cancelled] as [fn(&_) -> Verdict; 3] {
        let (_, lease) = world.running_task().await;
        world.settle(ending(&lease)).await;
        let before = world.read(lease.key.task).await;
        assert_eq!(world.cancel(lease.key.task).await, CancelStep::Neither);
        assert_eq!(world.read(lease.key.task).await, before);
    }
    let unknown = TaskId(Uuid::now_v7());
    assert_eq!(world.cancel(unknown).await, CancelStep::Neither);
    world.end().await;
}

#[tokio::test]
async fn a_run_that_ignores_its_cancel_is_revoked_after_the_grace() {
    let world = World::new().await;
    let (_, patient) = world.running_task().await;
    let (_, lease) = world.running_task().await;
    let task = lease.key.task;
    let running = world.read(task).await;
    world.cancel(patient.key.task).await;
    world.db.cancel(task, "", Duration::ZERO).await.unwrap();
    assert_eq!(
        world.db.revoke_overdue().await.unwrap(),
        [(lease.key, world.lane)]
    );
    let read = world.read(task).await;
    assert_eq!(read.standing.state(), TaskState::Cancelled);
    assert_eq!(error_kind(&read), "REVOKED");
    let run = world.db.read_runs(task, 10).await.unwrap().remove(0);
    assert_eq!(run.outcome, Outcome::Cancelled);
    assert_eq!(
        (run.worker.as_deref(), run.started_at),
        (worker(&running), started_at(&running)),
        "a revoked run shows who ran it and since when"
    );
    assert_eq!(
        world.settle(succeeded(&lease)).await,
        [],
        "what the code does later counts for nothing"
    );
    assert_eq!(world.state(patient.key.task).await, TaskState::Running);
    world.end().await;
}

#[tokio::test]
async fn a_cancelled_task_whose_worker_dies_ends_cancelled() {
    let world = World::new().await;
    let (session, lease) = world.running_task().await;
    world.cancel(lease.key.task).await;
    world.let_expire(session).await;
    let ended = world.db.expire_sessions(10, crate::world::decide).await.unwrap();
    assert_eq!(ended.committed.len(), 1);
    assert_eq!(ended.committed[0].outcome, Outcome::Cancelled);
    assert_eq!(world.state(lease.key.task).await, TaskState::Cancelled);
    world.end().await;
}
