//! The view that defines a state, walked through every state a task can have.

use tasklease_scheduler::domain::{
    ids::TaskId,
    lease::Lease,
    state::TaskState::{self, Cancelled, Failed, Pending, Running, Scheduled, Succeeded},
    verdict::Verdict,
};

use crate::world::{
    World, cancelled, decide, failed, failed_for_good, released, started_at, succeeded, worker,
};

/// State, attempt and lease token, and whether the view shows a start and an end.
type Shown = (TaskState, i32, i32, bool, bool);

type Ending = fn(&Lease) -> Verdict;

async fn standing(world: &World, task: TaskId) -> Shown {
    let read = world.read(task).await;
    assert_eq!(
        read.standing.finished_at().is_some(),
        read.standing.state().is_final()
    );
    assert_eq!(
        read.standing.due_at().is_some(),
        read.standing.state() == Scheduled
    );
    (
        read.standing.state(),
        read.attempt(),
        read.lease_token().0,
        started_at(&read).is_some(),
        read.standing.is_cancel_requested(),
    )
}

#[tokio::test]
async fn a_task_shows_where_it_stands_all_its_life_long() {
    let world = World::new().await;
    let task = world.scheduled_task().await;
    let session = world.session("w").await;
    assert_eq!(standing(&world, task).await, (Scheduled, 0, 0, false, false));

    world.let_be_due(task).await;
    world.db.promote(1).await.unwrap();
    assert_eq!(standing(&world, task).await, (Pending, 0, 0, false, false));

    let first = world.claim(session, 1).await.remove(0);
    assert_eq!(standing(&world, task).await, (Running, 1, 1, true, false));

    world.settle(released(&first)).await;
    assert_eq!(standing(&world, task).await, (Pending, 0, 1, true, false));

    let second = world.claim(session, 1).await.remove(0);
    assert_eq!(standing(&world, task).await, (Running, 1, 2, true, false));

    world.settle(failed(&second)).await;
    assert_eq!(standing(&world, task).await, (Scheduled, 1, 2, true, false));

    world.let_be_due(task).await;
    world.db.promote(1).await.unwrap();
    assert_eq!(standing(&world, task).await, (Pending, 1, 2, true, false));

    let third = world.claim(session, 1).await.remove(0);
    assert_eq!(standing(&world, task).await, (Running, 2, 3, true, false));

    world.let_expire(session).await;
    world.db.expire_sessions(1, decide).await.unwrap();
    assert_eq!(standing(&world, task).await, (Pending, 2, 3, true, false));

    let session = world.session("next").await;
    let fourth = world.claim(session, 1).await.remove(0);
    assert_eq!(standing(&world, task).await, (Running, 3, 4, true, false));
    assert_eq!(worker(&world.read(task).await), Some("next"));

    world.cancel(task).await;
    assert_eq!(standing(&world, task).await, (Running, 3, 4, true, true));

    world.settle(cancelled(&fourth)).await;
    assert_eq!(standing(&world, task).await, (Cancelled, 3, 4, true, false));
    assert_ne!(third.key, fourth.key);
    world.end().await;
}

#[tokio::test]
async fn each_ending_shows_its_state() {
    let world = World::new().await;
    let endings: [(Ending, TaskState); 3] = [
        (succeeded, Succeeded),
        (failed_for_good, Failed),
        (cancelled, Cancelled),
    ];
    for (ending, state) in endings {
        let (_, lease) = world.running_task().await;
        world.settle(ending(&lease)).await;
        assert_eq!(standing(&world, lease.key.task).await, (state, 1, 1, true, false));
    }
    world.end().await;
}

#[tokio::test]
async fn a_task_cancelled_while_it_waits_shows_no_lease_that_was_never_made() {
    let world = World::new().await;
    for task in [world.ready_task().await, world.scheduled_task().await] {
        world.cancel(task).await;
        assert_eq!(standing(&world, task).await, (Cancelled, 0, 0, false, false));
    }
    let (_, lease) = world.running_task().await;
    world.settle(failed(&lease)).await;
    world.cancel(lease.key.task).await;
    let (state, attempt, lease_token, ..) = standing(&world, lease.key.task).await;
    assert_eq!((state, attempt, lease_token), (Cancelled, 1, 1));
    world.end().await;
}

#[tokio::test]
async fn a_grant_left_behind_does_not_make_an_ended_task_run() {
    let world = World::new().await;
    let (session, lease) = world.running_task().await;
    world.settle(released(&lease)).await;
    assert_eq!(
        world.count("SELECT count(*) FROM tasklease.grant", &[]).await,
        1,
        "nobody removed it"
    );
    assert_eq!(world.state(lease.key.task).await, Pending);
    let again = world.claim(session, 1).await.remove(0);
    let read = world.read(lease.key.task).await;
    assert_eq!(
        (read.standing.state(), read.lease_token()),
        (Running, again.key.token)
    );
    world.settle(succeeded(&again)).await;
    assert_eq!(world.state(lease.key.task).await, Succeeded);
    world.end().await;
}
