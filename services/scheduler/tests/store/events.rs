//! Progress and log lines: each once, in order, and none after the end.

use tasklease_scheduler::domain::{
    ids::LeaseKey,
    report::{EventKind, TaskEvent},
    task::EventCursor,
};

use crate::world::{World, failed, released, succeeded};

fn progress(lease: LeaseKey, number: i64, percent: f64) -> TaskEvent {
    TaskEvent {
        lease,
        number,
        kind: EventKind::Progress {
            percent: Some(percent),
            message: format!("at {percent}"),
            card: Some(r#"{"heading":"h"}"#.into()),
        },
    }
}

fn log(lease: LeaseKey, number: i64, message: &str) -> TaskEvent {
    TaskEvent {
        lease,
        number,
        kind: EventKind::Log {
            level: "warn".into(),
            message: message.into(),
        },
    }
}

async fn read(world: &World, lease: LeaseKey, cursor: EventCursor, most: i64) -> Vec<TaskEvent> {
    let stored = world.db.read_events(lease.task, cursor, most).await.unwrap();
    stored.into_iter().map(|stored| stored.event).collect()
}

#[tokio::test]
async fn events_are_read_back_in_order_and_from_any_cursor() {
    let world = World::new().await;
    let (_, lease) = world.running_task().await;
    let (_, other) = world.running_task().await;
    let events = [
        progress(lease.key, 1, 10.0),
        log(lease.key, 2, "a line"),
        progress(lease.key, 3, 55.5),
    ];
    world
        .db
        .append_events(&[
            events[2].clone(),
            log(other.key, 1, "another task's"),
            events[0].clone(),
            events[1].clone(),
        ])
        .await
        .unwrap();
    let all = read(&world, lease.key, EventCursor::default(), 10).await;
    assert_eq!(all, events);
    let cursor = EventCursor {
        lease_no: 1,
        number: 1,
    };
    assert_eq!(read(&world, lease.key, cursor, 10).await, events[1..]);
    assert_eq!(read(&world, lease.key, cursor, 1).await, events[1..2]);
    let latest = world.read(lease.key.task).await.progress.unwrap();
    assert_eq!((latest.percent, latest.message.as_str()), (Some(55.5), "at 55.5"));
    assert_eq!(latest.card.as_deref(), Some(r#"{"heading":"h"}"#));
    world.end().await;
}

#[tokio::test]
async fn an_event_that_comes_again_is_dropped_and_the_first_one_stays() {
    let world = World::new().await;
    let (_, lease) = world.running_task().await;
    let first = progress(lease.key, 1, 10.0);
    world
        .db
        .append_events(std::slice::from_ref(&first))
        .await
        .unwrap();
    let again = [
        progress(lease.key, 1, 99.0),
        log(lease.key, 2, "new"),
        log(lease.key, 2, "twice in one batch"),
    ];
    world.db.append_events(&again).await.unwrap();
    assert_eq!(
        read(&world, lease.key, EventCursor::default(), 10).await,
        [first, again[1].clone()]
    );
    world.end().await;
}

#[tokio::test]
async fn no_event_follows_the_end_of_its_run() {
    for ending in [succeeded, failed, released] {
        let world = World::new().await;
        let (_, lease) = world.running_task().await;
        world.settle(ending(&lease)).await;
        world
            .db
            .append_events(&[progress(lease.key, 1, 10.0)])
            .await
            .unwrap();
        assert!(
            read(&world, lease.key, EventCursor::default(), 10)
                .await
                .is_empty()
        );
        world.end().await;
    }
}

#[tokio::test]
async fn a_run_that_was_asked_to_stop_may_still_report() {
    let world = World::new().await;
    let (_, lease) = world.running_task().await;
    world.cancel(lease.key.task).await;
    world
        .db
        .append_events(&[log(lease.key, 1, "cleaning up")])
        .await
        .unwrap();
    assert_eq!(read(&world, lease.key, EventCursor::default(), 10).await.len(), 1);
    world.end().await;
}

#[tokio::test]
async fn progress_of_a_run_is_not_shown_as_that_of_the_next() {
    let world = World::new().await;
    let (session, lease) = world.running_task().await;
    world
        .db
        .append_events(&[progress(lease.key, 1, 80.0)])
        .await
        .unwrap();
    world.settle(released(&lease)).await;
    assert!(
        world.read(lease.key.task).await.progress.is_some(),
        "of the last run"
    );
    world.claim(session, 1).await;
    assert_eq!(world.read(lease.key.task).await.progress, None);
    world.end().await;
}
