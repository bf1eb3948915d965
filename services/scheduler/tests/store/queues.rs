//! Queues, their counts, and the workers that serve them.

use tasklease_scheduler::{
    domain::{
        ids::SessionId,
        name::Namespace,
        new_task::{NewTask, Start},
        state::TaskState,
    },
    store::{LaneStats, SubmitBatch},
};
use uuid::Uuid;

use crate::world::{LEASE, World, in_default, new_task, queue, succeeded, task_type};

#[tokio::test]
async fn counts_say_how_many_tasks_stand_where() {
    let world = World::new().await;
    world
        .db
        .ensure_lane(&in_default("b"), &task_type("idle"))
        .await
        .unwrap();
    let (_, ended) = world.running_task().await;
    world.settle(succeeded(&ended)).await;
    let (_, asked) = world.running_task().await;
    world.cancel(asked.key.task).await;
    world.running_task().await;
    for _ in 0..3 {
        world.ready_task().await;
    }
    for _ in 0..2 {
        world.scheduled_task().await;
    }
    for _ in 0..2 {
        world
            .db
            .add_ended(&[
                (world.lane, TaskState::Succeeded, 2),
                (world.lane, TaskState::Failed, 1),
                (world.lane, TaskState::Cancelled, 5),
            ])
            .await
            .unwrap();
    }
    let stats = world
        .db
        .queue_stats(&Namespace::default(), None, 100)
        .await
        .unwrap();
    assert_eq!(stats.len(), 2);
    assert_eq!(stats[0].queue.name.as_str(), "b", "by name");
    assert_eq!(
        (
            stats[0].workers,
            stats[0].pending,
            stats[0].running,
            stats[0].failed
        ),
        (0, 0, 0, 0)
    );
    let LaneStats {
        workers,
        scheduled,
        pending,
        running,
        succeeded,
        failed,
        cancelled,
        paused,
        ..
    } = stats[1];
    assert_eq!((workers, paused), (3, false));
    assert_eq!((scheduled, pending, running), (2, 3, 2));
    assert_eq!((succeeded, failed, cancelled), (4, 2, 10));

    let limited = world
        .db
        .queue_stats(&Namespace::default(), Some(&queue("default")), 1)
        .await
        .unwrap();
    assert_eq!(limited.len(), 1);
    assert_eq!((limited[0].scheduled, limited[0].pending), (1, 1));
    assert!(
        world
            .db
            .queue_stats(&Namespace::default(), Some(&queue("unknown")), 1)
            .await
            .unwrap()
            .is_empty()
    );
    world.end().await;
}

#[tokio::test]
async fn a_count_that_stopped_at_its_limit_is_not_called_exact() {
    let world = World::new().await;
    world.scheduled_task().await;
    let other = world.lane_of(&queue("other"), &task_type("t")).await;
    let mut batch = SubmitBatch::default();
    let later = NewTask {
        start: Start::After(LEASE),
        ..new_task()
    };
    batch.push(&later, other);
    world.db.submit(&batch).await.unwrap();
    let exact = async |limit| -> Vec<bool> {
        let stats = world
            .db
            .queue_stats(&Namespace::default(), None, limit)
            .await
            .unwrap();
        stats.iter().map(|stats| stats.exact).collect()
    };
    assert_eq!(exact(3).await, [true, true]);
    assert_eq!(exact(2).await, [false, false], "nobody knows whose are missing");
    world.ready_task().await;
    world.ready_task().await;
    world.ready_task().await;
    assert_eq!(exact(3).await, [false, true]);
    world.end().await;
}

#[tokio::test]
async fn pausing_makes_a_queue_that_is_new_and_resuming_undoes_it() {
    let world = World::new().await;
    let paused = world.db.set_paused(&in_default("new"), true).await.unwrap().0;
    assert!(paused.paused && paused.key == in_default("new"));
    let again = world.db.set_paused(&in_default("new"), true).await.unwrap().0;
    assert_eq!(again, paused);
    let resumed = world.db.set_paused(&in_default("new"), false).await.unwrap().0;
    assert!(!resumed.paused);
    assert_eq!(resumed.created_at, paused.created_at);
    world.end().await;
}

#[tokio::test]
async fn queues_are_listed_by_name_after_a_name() {
    let world = World::new().await;
    for name in ["c", "a", "b"] {
        world.db.set_paused(&in_default(name), false).await.unwrap();
    }
    let names = async |after, most| -> Vec<String> {
        let queues = world
            .db
            .list_queues(&Namespace::default(), after, most)
            .await
            .unwrap();
        queues
            .into_iter()
            .map(|queue| queue.key.name.to_string())
            .collect()
    };
    assert_eq!(names("", 10).await, ["a", "b", "c", "default"]);
    assert_eq!(names("a", 2).await, ["b", "c"]);
    world.end().await;
}

#[tokio::test]
async fn a_lane_is_made_once_however_many_ask_for_it() {
    let world = World::new().await;
    let (queue, task_type) = (in_default("new"), task_type("new"));
    let ask = || world.db.ensure_lane(&queue, &task_type);
    let (one, two, three) = tokio::join!(ask(), ask(), ask());
    let lane = one.unwrap().unwrap();
    assert_eq!(
        (two.unwrap(), three.unwrap()),
        (Some(lane.clone()), Some(lane.clone()))
    );
    assert_ne!(lane.id, world.lane);
    assert!(!lane.paused);
    let (_, lanes) = world.db.set_paused(&queue, true).await.unwrap();
    assert_eq!(lanes, [lane.id]);
    assert!(ask().await.unwrap().unwrap().paused);
    world.end().await;
}

#[tokio::test]
async fn workers_are_listed_by_id_with_what_they_run() {
    let world = World::new().await;
    let (busy, lease) = world.running_task().await;
    let (done, ended) = world.running_task().await;
    world.settle(succeeded(&ended)).await;
    let gone = world.session("gone").await;
    world.let_expire(gone).await;
    let mut expected = [(busy, 1), (done, 0)];
    expected.sort();
    let list = async |after, most| world.db.list_workers(after, most).await.unwrap();
    let all = list(SessionId(Uuid::nil()), 10).await;
    let found: Vec<_> = all.iter().map(|worker| (worker.id, worker.running)).collect();
    assert_eq!(found, expected);
    let worker = all.iter().find(|worker| worker.id == busy).unwrap();
    assert_eq!((worker.name.as_str(), worker.slots), ("w", 4));
    assert_eq!(worker.labels.get("zone").map(String::as_str), Some("a"));
    assert_eq!(worker.task_types, ["t"]);
    assert_eq!(list(expected[0].0, 10).await.len(), 1);
    assert_eq!(list(SessionId(Uuid::nil()), 1).await.len(), 1);
    world.cancel(lease.key.task).await;
    assert_eq!(
        list(SessionId(Uuid::nil()), 10)
            .await
            .iter()
            .map(|worker| worker.running)
            .sum::<i32>(),
        1,
        "a run that was asked to stop still runs"
    );
    world.end().await;
}
