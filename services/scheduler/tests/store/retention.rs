//! What is removed after its time, and what stays.

use std::time::Duration;

use jiff::Timestamp;
use tasklease_scheduler::{
    domain::{
        ids::TaskId,
        report::{EventKind, TaskEvent},
    },
    engine::run_retention_once as run_once,
    store::{RetentionBite, RetentionPage, RetentionPolicy},
};
use uuid::Uuid;

use crate::world::{World, failed_for_good, succeeded};

const DAY: Duration = Duration::from_secs(86_400);

const POLICY: RetentionPolicy = RetentionPolicy {
    ended: Duration::from_secs(3 * 86_400),
    failed: Duration::from_secs(30 * 86_400),
    events: Duration::from_secs(7 * 86_400),
};

/// So late that no id is too young to be looked at.
fn much_later() -> Timestamp {
    Timestamp::now() + DAY * 365
}

fn bite(tasks: i64, events: i64) -> RetentionBite {
    RetentionBite { tasks, events }
}

async fn age(world: &World, days: i32) {
    for sql in [
        "UPDATE tasklease.run SET finished_at = now() - make_interval(days => $1)",
        "UPDATE tasklease.task_event SET at = now() - make_interval(days => $1)",
    ] {
        world.execute(sql, &[&days]).await;
    }
}

#[tokio::test]
async fn each_kind_of_end_is_kept_for_its_own_time() {
    let world = World::new().await;
    let (_, good) = world.running_task().await;
    world.settle(succeeded(&good)).await;
    let (_, bad) = world.running_task().await;
    world.settle(failed_for_good(&bad)).await;
    let cancelled = world.ready_task().await;
    world.cancel(cancelled).await;
    let (_, running) = world.running_task().await;
    let waiting = world.scheduled_task().await;
    let kept = async || {
        let mut kept = Vec::new();
        for task in [good.key.task, bad.key.task, cancelled, running.key.task, waiting] {
            let read = world
                .db
                .read_task(task, tasklease_scheduler::store::Detail::Summary)
                .await;
            kept.push(read.unwrap().is_some());
        }
        kept
    };
    age(&world, 2).await;
    assert_eq!(run_once(&world.db, &POLICY, much_later()).await.unwrap(), 0);
    age(&world, 4).await;
    assert_eq!(run_once(&world.db, &POLICY, much_later()).await.unwrap(), 2);
    assert_eq!(kept().await, [false, true, false, true, true]);
    age(&world, 31).await;
    assert_eq!(run_once(&world.db, &POLICY, much_later()).await.unwrap(), 1);
    assert_eq!(kept().await, [false, false, false, true, true]);
    assert_eq!(world.count("SELECT count(*) FROM tasklease.run", &[]).await, 0);
    world.end().await;
}

#[tokio::test]
async fn tasks_whose_ids_are_too_young_are_not_even_looked_at() {
    let world = World::new().await;
    let (_, lease) = world.running_task().await;
    world.settle(succeeded(&lease)).await;
    age(&world, 100).await;
    let page = world
        .db
        .delete_old_tasks(TaskId(Uuid::nil()), bite(10, 10), &POLICY, Timestamp::now())
        .await
        .unwrap();
    assert_eq!(
        page,
        RetentionPage {
            next: None,
            removed: 0
        }
    );
    world.end().await;
}

#[tokio::test]
async fn old_events_go_before_their_task_does() {
    let world = World::new().await;
    let (_, lease) = world.running_task().await;
    let event = TaskEvent {
        lease: lease.key,
        number: 1,
        kind: EventKind::Log {
            level: "info".into(),
            message: "m".into(),
            worker_time: None,
        },
    };
    world.db.append_events(&[event]).await.unwrap();
    age(&world, 6).await;
    assert_eq!(run_once(&world.db, &POLICY, much_later()).await.unwrap(), 0);
    age(&world, 8).await;
    assert_eq!(run_once(&world.db, &POLICY, much_later()).await.unwrap(), 1);
    assert_eq!(
        world
            .count("SELECT count(*) FROM tasklease.task_event", &[])
            .await,
        0
    );
    assert!(world.read(lease.key.task).await.standing.finished_at().is_none());
    world.end().await;
}

#[tokio::test]
async fn a_pass_goes_page_by_page_over_everything() {
    let world = World::new().await;
    for _ in 0..5 {
        let task = world.ready_task().await;
        world.cancel(task).await;
    }
    age(&world, 4).await;
    let mut above = Some(TaskId(Uuid::nil()));
    let mut pages = Vec::new();
    while let Some(start) = above {
        let page = world
            .db
            .delete_old_tasks(start, bite(2, 10), &POLICY, much_later())
            .await
            .unwrap();
        pages.push(page.removed);
        above = page.next;
    }
    assert_eq!(pages, [2, 2, 1]);
    let none = world
        .db
        .delete_old_events(TaskId(Uuid::nil()), bite(2, 10), &POLICY, much_later())
        .await
        .unwrap();
    assert_eq!((none.next, none.removed), (None, 0));
    world.end().await;
}

#[tokio::test]
async fn a_task_with_more_events_than_a_statement_removes_goes_bite_by_bite() {
    let world = World::new().await;
    let (_, lease) = world.running_task().await;
    let events: Vec<TaskEvent> = (1..=10)
        .map(|number| TaskEvent {
            lease: lease.key,
            number,
            kind: EventKind::Log {
                level: "info".into(),
                message: "m".into(),
                worker_time: None,
            },
        })
        .collect();
    world.db.append_events(&events).await.unwrap();
    world.settle(succeeded(&lease)).await;
    age(&world, 4).await;
    let start = TaskId(Uuid::nil());
    let mut looks = Vec::new();
    loop {
        let page = world
            .db
            .delete_old_tasks(start, bite(10, 4), &POLICY, much_later())
            .await
            .unwrap();
        let left = world
            .count("SELECT count(*) FROM tasklease.task_event", &[])
            .await;
        looks.push((page.removed, left));
        match page.next {
            Some(next) => assert_eq!(next, start, "the same page again"),
            None => break,
        }
    }
    assert_eq!(looks, [(0, 6), (0, 2), (1, 0)]);
    world.end().await;
}

#[tokio::test]
async fn a_task_that_cannot_be_removed_does_not_keep_the_others() {
    let world = World::new().await;
    let mut tasks = Vec::new();
    for _ in 0..5 {
        let task = world.ready_task().await;
        world.cancel(task).await;
        tasks.push(task);
    }
    age(&world, 4).await;
    let stuck = tasks[1].0;
    world
        .raw
        .batch_execute(&format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
             CREATE TRIGGER refuse BEFORE DELETE ON tasklease.task
             FOR EACH ROW WHEN (old.id = '{stuck}') EXECUTE FUNCTION refuse()"
        ))
        .await
        .unwrap();
    assert_eq!(run_once(&world.db, &POLICY, much_later()).await.unwrap(), 4);
    assert_eq!(
        world.count("SELECT count(*) FROM tasklease.task", &[]).await,
        1,
        "only the one that cannot go is left"
    );
    world.end().await;
}
