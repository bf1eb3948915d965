//! A waiting task is found by its key, wherever its bundle is.

use tasklease_scheduler::domain::{
    ids::TaskId,
    state::TaskState::{Cancelled, Pending, Running},
};
use uuid::Uuid;

use crate::world::{World, failed, new_task, worker};

/// Puts tasks that were just submitted into these bundles, all under the key of the first of them.
async fn rebundle(world: &World, bundles: &[&[TaskId]]) {
    let first = bundles[0][0].0;
    world
        .execute(
            "UPDATE tasklease.task SET order_key = (SELECT order_key FROM tasklease.task WHERE id = $1)",
            &[&first],
        )
        .await;
    world.execute("DELETE FROM tasklease.ready", &[]).await;
    for bundle in bundles {
        let ids: Vec<Uuid> = bundle.iter().map(|task| task.0).collect();
        world
            .execute(
                "INSERT INTO tasklease.ready (lane, rank, order_key, first_task, lease_token, attempt, task_ids)
                 SELECT lane, rank, order_key, id, 1, 1, $1::uuid[] FROM tasklease.task WHERE id = ($1::uuid[])[1]",
                &[&ids],
            )
            .await;
    }
}

async fn ready_tasks(world: &World, count: usize) -> Vec<TaskId> {
    let mut tasks = Vec::new();
    for _ in 0..count {
        let task = new_task();
        world.submit(std::slice::from_ref(&task)).await;
        tasks.push(task.id);
    }
    tasks
}

#[tokio::test]
async fn a_task_is_found_although_bundles_of_its_key_overlap() {
    let world = World::new().await;
    let t = ready_tasks(&world, 7).await;
    // As two replicas leave them that submit in the same microsecond: one inside the gaps of the other.
    rebundle(&world, &[&[t[0], t[3], t[6]], &[t[1], t[5]], &[t[2]], &[t[4]]]).await;
    for task in &t {
        assert_eq!(world.state(*task).await, Pending);
    }
    for task in [t[6], t[0], t[5], t[4], t[3], t[1], t[2]] {
        world.cancel(task).await;
        assert_eq!(world.state(task).await, Cancelled);
    }
    assert_eq!(world.count("SELECT count(*) FROM tasklease.ready", &[]).await, 0);
    world.end().await;
}

#[tokio::test]
async fn a_running_task_is_not_taken_for_a_waiting_one_of_a_bundle_around_it() {
    let world = World::new().await;
    let t = ready_tasks(&world, 3).await;
    rebundle(&world, &[&[t[1]], &[t[0], t[2]]]).await;
    world
        .execute("DELETE FROM tasklease.ready WHERE first_task = $1", &[&t[1].0])
        .await;
    let session = world.session("w").await;
    world
        .execute(
            "INSERT INTO tasklease.grant (session_id, grant_id, lease_token, attempt, task_ids) VALUES ($1, 1, 1, 1, ARRAY[$2::uuid])",
            &[&session.0, &t[1].0],
        )
        .await;
    let read = world.read(t[1]).await;
    assert_eq!((read.standing.state(), worker(&read)), (Running, Some("w")));
    world.end().await;
}

#[tokio::test]
async fn a_retried_task_is_found_under_the_key_that_the_end_of_its_run_wrote() {
    let world = World::new().await;
    let (_, lease) = world.running_task().await;
    world.settle(failed(&lease)).await;
    let task = lease.key.task;
    let due = 4_000_000_000_000_000_i64;
    world
        .execute(
            "UPDATE tasklease.run SET next_order_key = $1 WHERE task_id = $2",
            &[&due, &task.0],
        )
        .await;
    world.execute("DELETE FROM tasklease.scheduled", &[]).await;
    world
        .execute(
            "INSERT INTO tasklease.ready (lane, rank, order_key, first_task, lease_token, attempt, task_ids)
             VALUES ($1, 0, $2, $3, 2, 2, ARRAY[$3::uuid])",
            &[&world.lane.0, &due, &task.0],
        )
        .await;
    assert_eq!(world.state(task).await, Pending);
    world.cancel(task).await;
    assert_eq!(world.state(task).await, Cancelled);
    assert_eq!(world.count("SELECT count(*) FROM tasklease.ready", &[]).await, 0);
    world.end().await;
}
