//! Removing a finished task with all it left behind.

use tasklease_scheduler::domain::{
    ids::{SessionId, TaskId},
    report::{EventKind, TaskEvent},
};
use uuid::Uuid;

use crate::world::{World, failed, succeeded};

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
                worker_us: None,
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
    for table in ["task", "run", "task_event"] {
        let left = world
            .count(&format!("SELECT count(*) FROM tasklease.{table}"), &[])
            .await;
        assert_eq!(left, 1, "{table}");
    }
    assert!(!world.db.delete_task(lease.key.task).await.unwrap());
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
