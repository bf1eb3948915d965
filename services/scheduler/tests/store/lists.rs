//! Where lists look for tasks.

use tasklease_scheduler::{
    domain::{
        ids::TaskId,
        name::{QueueName, TaskType},
        state::TaskState,
    },
    store::{Detail, ListFilter, ListSource},
};
use uuid::Uuid;

use crate::world::{World, failed, failed_for_good, new_task, queue, succeeded, task_type};

fn from(source: ListSource) -> ListFilter {
    ListFilter {
        source,
        below: TaskId(Uuid::max()),
        lanes: None,
    }
}

async fn ids(world: &World, filter: &ListFilter, look_at: i64) -> Vec<TaskId> {
    let found = world.db.list_ids(filter, look_at).await.unwrap();
    found
        .into_iter()
        .filter(|(_, wanted)| *wanted)
        .map(|(id, _)| id)
        .collect()
}

#[tokio::test]
async fn all_tasks_come_newest_first_and_below_a_point() {
    let world = World::new().await;
    let mut tasks = Vec::new();
    for _ in 0..4 {
        tasks.push(world.ready_task().await);
    }
    tasks.reverse();
    let all = from(ListSource::Newest);
    assert_eq!(ids(&world, &all, 10).await, tasks);
    assert_eq!(ids(&world, &all, 2).await, tasks[..2]);
    let rest = ListFilter {
        below: tasks[1],
        ..all
    };
    assert_eq!(ids(&world, &rest, 10).await, tasks[2..]);
    world.end().await;
}

#[tokio::test]
async fn failed_tasks_are_those_that_ended_failed() {
    let world = World::new().await;
    let (_, good) = world.running_task().await;
    world.settle(succeeded(&good)).await;
    let (_, again) = world.running_task().await;
    world.settle(failed(&again)).await;
    let (_, bad) = world.running_task().await;
    world.settle(failed_for_good(&bad)).await;
    let cancelled = world.ready_task().await;
    world.cancel(cancelled).await;
    assert_eq!(ids(&world, &from(ListSource::Failed), 10).await, [bad.key.task]);
    world.end().await;
}

#[tokio::test]
async fn leased_tasks_hold_all_that_run() {
    let world = World::new().await;
    let (_, one) = world.running_task().await;
    let (_, two) = world.running_task().await;
    world.ready_task().await;
    assert_eq!(
        ids(&world, &from(ListSource::Leased), 10).await,
        [two.key.task, one.key.task]
    );
    world.settle(succeeded(&two)).await;
    let found = ids(&world, &from(ListSource::Leased), 10).await;
    let read = world.db.read_tasks(&found, Detail::Summary).await.unwrap();
    let running: Vec<TaskId> = read
        .iter()
        .filter(|task| task.state == TaskState::Running)
        .map(|task| task.id)
        .collect();
    assert_eq!(running, [one.key.task]);
    world.end().await;
}

#[tokio::test]
async fn lanes_narrow_every_source() {
    let world = World::new().await;
    let other = world
        .db
        .ensure_lane(&queue("q2"), &task_type("t2"))
        .await
        .unwrap()
        .id;
    let find = async |queue: Option<QueueName>, task_type: Option<TaskType>| {
        let found = world.db.find_lanes(queue.as_ref(), task_type.as_ref()).await;
        let mut lanes = found.unwrap();
        lanes.sort();
        lanes
    };
    assert_eq!(find(None, None).await, [world.lane, other]);
    assert_eq!(find(Some(queue("q2")), None).await, [other]);
    assert_eq!(find(None, Some(task_type("t"))).await, [world.lane]);
    assert!(find(Some(queue("q2")), Some(task_type("t"))).await.is_empty());

    let (_, bad) = world.running_task().await;
    world.settle(failed_for_good(&bad)).await;
    world.running_task().await;
    let elsewhere = new_task();
    let mut batch = tasklease_scheduler::store::SubmitBatch::default();
    batch.push(&elsewhere, other);
    world.db.submit(&batch).await.unwrap();
    for source in [ListSource::Newest, ListSource::Failed, ListSource::Leased] {
        let in_lanes = |lanes| ListFilter {
            lanes: Some(lanes),
            ..from(source)
        };
        let expected: &[TaskId] = match source {
            ListSource::Newest => &[elsewhere.id],
            _ => &[],
        };
        assert_eq!(
            ids(&world, &in_lanes(vec![other]), 10).await,
            expected,
            "{source:?}"
        );
        assert!(
            !ids(&world, &in_lanes(vec![world.lane]), 10).await.is_empty(),
            "{source:?}"
        );
        assert!(ids(&world, &in_lanes(vec![]), 10).await.is_empty(), "{source:?}");
    }
    world.end().await;
}

#[tokio::test]
async fn reading_many_leaves_unknown_ids_out() {
    let world = World::new().await;
    let (one, two) = (world.ready_task().await, world.ready_task().await);
    let read = world
        .db
        .read_tasks(&[one, TaskId(Uuid::now_v7()), two], Detail::Summary)
        .await
        .unwrap();
    let found: Vec<TaskId> = read.iter().map(|task| task.id).collect();
    assert_eq!(found, [two, one]);
    world.end().await;
}
