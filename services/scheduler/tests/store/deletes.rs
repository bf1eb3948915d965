//! Removing a finished task with all it left behind.

use tasklease_scheduler::{
    domain::{
        ids::{SessionId, TaskId},
        new_task::NewTask,
        report::{EventKind, TaskEvent},
    },
    store::{Detail, StoreError},
};
use uuid::Uuid;

use crate::world::{World, decide, failed, new_task, succeeded};

#[tokio::test]
async fn a_task_that_has_not_ended_cannot_be_deleted() {
    let world = World::new().await;
    let (_, running) = world.running_task().await;
    let (_, asked) = world.running_task().await;
    world.cancel(asked.key.task).await;
    let (_, waiting) = world.running_task().await;
    world.settle(failed(&waiting)).await;
    let tasks = [
        running.key.task,
        asked.key.task,
        waiting.key.task,
        world.ready_task().await,
        world.scheduled_task().await,
    ];
    for task in tasks {
        let before = world.read(task).await;
        assert!(!world.db.delete_task(task).await.unwrap());
        assert_eq!(world.read(task).await, before);
    }
    assert!(!world.db.delete_task(TaskId(Uuid::now_v7())).await.unwrap());
    world.end().await;
}

#[tokio::test]
async fn a_finished_task_goes_with_its_runs_and_events_and_no_other() {
    let world = World::new().await;
    let (_, kept) = world.running_task().await;
    let (session, lease) = world.running_task().await;
    for key in [kept.key, lease.key] {
        let event = TaskEvent {
            lease: key,
            number: 1,
            kind: EventKind::Log {
                level: "info".into(),
                message: "m".into(),
                worker_time: None,
            },
        };
        world.db.append_events(&[event]).await.unwrap();
    }
    world.settle(failed(&lease)).await;
    world.let_be_due(lease.key.task).await;
    world.db.promote(1).await.unwrap();
    let again = world.claim(session, 1).await.remove(0);
    world.settle(succeeded(&again)).await;
    world.settle(succeeded(&kept)).await;
    assert!(world.db.delete_task(lease.key.task).await.unwrap());
    assert_eq!(
        world.db.read_task(lease.key.task, Detail::Full).await.unwrap(),
        None
    );
    assert_eq!(
        world
            .count("SELECT count(*) FROM tasklease.task_event", &[])
            .await,
        1
    );
    let left = "SELECT count(*) FROM tasklease.run WHERE error_message IS NOT NULL OR result IS NOT NULL";
    assert_eq!(world.count(left, &[]).await, 1, "of the task that is kept");
    assert!(!world.db.delete_task(lease.key.task).await.unwrap());
    world.end().await;
}

#[tokio::test]
async fn the_id_of_a_deleted_task_is_not_used_again_while_a_grant_names_it() {
    let world = World::new().await;
    let (session, lease) = world.running_task().await;
    world.settle(succeeded(&lease)).await;
    assert!(world.db.delete_task(lease.key.task).await.unwrap());
    let again = NewTask {
        id: lease.key.task,
        ..new_task()
    };
    let stored = world.db.submit(&world.batch(&[again])).await;
    assert!(matches!(stored, Err(StoreError::Exists)), "{stored:?}");
    assert_eq!(world.settle(succeeded(&lease)).await, [], "the fence stays");
    world.let_expire(session).await;
    let ended = world.db.expire_sessions(10, decide).await.unwrap();
    assert!(ended.verdicts.is_empty(), "it ended before");
    world.end().await;
}

#[tokio::test]
async fn a_worker_does_not_run_what_was_deleted() {
    let world = World::new().await;
    let session = world.session("w").await;
    for _ in 0..2 {
        world.ready_task().await;
    }
    let leases = world.claim(session, 2).await;
    world.settle(succeeded(&leases[0])).await;
    world.db.delete_task(leases[0].key.task).await.unwrap();
    assert_eq!(world.leases(session).await.len(), 1);
    let workers = world.db.list_workers(SessionId(Uuid::nil()), 10).await.unwrap();
    assert_eq!(workers[0].running, 1);
    world.end().await;
}
