//! Progress and log lines: each once, in order, and none after the end.

use std::time::Duration;

use jiff::Timestamp;
use tasklease_scheduler::domain::{
    ids::LeaseKey,
    limits,
    report::{EventKind, TaskEvent},
    task::EventCursor,
};

use crate::world::{World, failed, latest_progress, now, released, succeeded};

fn progress(lease: LeaseKey, number: i64, percent: f64) -> TaskEvent {
    TaskEvent {
        lease,
        number,
        kind: EventKind::Progress {
            percent: Some(percent),
            message: format!("at {percent}"),
            card: Some(r#"{"heading":"h"}"#.into()),
            worker_time: None,
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
            worker_time: None,
        },
    }
}

async fn read(world: &World, lease: LeaseKey, cursor: EventCursor, most: i64) -> Vec<TaskEvent> {
    let page = world
        .db
        .read_events(lease.task, cursor, most, i64::MAX)
        .await
        .unwrap();
    page.events.into_iter().map(|stored| stored.event).collect()
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
        lease_token: 1,
        number: 1,
    };
    assert_eq!(read(&world, lease.key, cursor, 10).await, events[1..]);
    assert_eq!(read(&world, lease.key, cursor, 1).await, events[1..2]);
    let task = world.read(lease.key.task).await;
    let latest = latest_progress(&task).unwrap();
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
        latest_progress(&world.read(lease.key.task).await).is_some(),
        "of the last run"
    );
    world.claim(session, 1).await;
    assert_eq!(latest_progress(&world.read(lease.key.task).await), None);
    world.end().await;
}

#[tokio::test]
async fn a_page_of_events_ends_at_its_number_and_at_its_bytes() {
    let world = World::new().await;
    let (_, lease) = world.running_task().await;
    let text = "x".repeat(100);
    let events: Vec<TaskEvent> = (1..=5).map(|number| log(lease.key, number, &text)).collect();
    world.db.append_events(&events).await.unwrap();
    for (most, bytes, read, more) in [
        (10, i64::MAX, 5, false),
        (5, i64::MAX, 5, true),
        (4, i64::MAX, 4, true),
        (10, 250, 3, true),
        (10, 1, 1, true),
    ] {
        let page = world
            .db
            .read_events(lease.key.task, EventCursor::default(), most, bytes)
            .await
            .unwrap();
        assert_eq!((page.events.len(), page.more), (read, more), "{most} {bytes}");
    }
    world.end().await;
}

#[tokio::test]
async fn an_event_says_which_attempt_it_belongs_to() {
    let world = World::new().await;
    let (session, first) = world.running_task().await;
    let task = first.key.task;
    let attempts = async || {
        let page = world
            .db
            .read_events(task, EventCursor::default(), 10, i64::MAX)
            .await;
        let events = page.unwrap().events;
        events
            .iter()
            .map(|stored| (stored.event.lease.token.0, stored.attempt))
            .collect::<Vec<_>>()
    };
    world.db.append_events(&[log(first.key, 1, "m")]).await.unwrap();
    assert_eq!(attempts().await, [(1, 1)], "while it runs");
    world.settle(released(&first)).await;
    let second = world.claim(session, 1).await.remove(0);
    world.db.append_events(&[log(second.key, 1, "m")]).await.unwrap();
    assert_eq!(
        attempts().await,
        [(1, 1), (2, 1)],
        "a run handed back is not counted"
    );
    world.settle(failed(&second)).await;
    world.let_be_due(task).await;
    world.db.promote(1).await.unwrap();
    let third = world.claim(session, 1).await.remove(0);
    world.db.append_events(&[log(third.key, 1, "m")]).await.unwrap();
    assert_eq!(attempts().await, [(1, 1), (2, 1), (3, 2)]);
    world.settle(succeeded(&third)).await;
    assert_eq!(
        attempts().await,
        [(1, 1), (2, 1), (3, 2)],
        "the end changes no number"
    );
    world.end().await;
}

#[tokio::test]
async fn the_workers_time_is_kept_unless_it_is_absurd() {
    let world = World::new().await;
    let (_, lease) = world.running_task().await;
    let now = now();
    let hour = Duration::from_secs(3_600);
    let times = [
        now - hour,
        now,
        now - hour * 25,
        now + hour * 2,
        Timestamp::MAX,
        Timestamp::MIN,
        Timestamp::UNIX_EPOCH,
    ];
    let events: Vec<TaskEvent> = (1..)
        .zip(times)
        .map(|(number, time)| TaskEvent {
            lease: lease.key,
            number,
            kind: EventKind::Log {
                level: "info".into(),
                message: String::new(),
                worker_time: Some(time),
            },
        })
        .collect();
    world.db.append_events(&events).await.unwrap();
    let kept: Vec<Option<Timestamp>> = read(&world, lease.key, EventCursor::default(), 10)
        .await
        .into_iter()
        .map(|event| match event.kind {
            EventKind::Log { worker_time, .. } | EventKind::Progress { worker_time, .. } => worker_time,
        })
        .collect();
    assert_eq!(kept, [Some(now - hour), Some(now), None, None, None, None, None]);
    world.end().await;
}

#[tokio::test]
async fn of_a_run_that_says_too_much_the_newest_events_and_the_latest_progress_stay() {
    let world = World::new().await;
    let (_, lease) = world.running_task().await;
    let (_, other) = world.running_task().await;
    let append = async |events: &[TaskEvent]| world.db.append_events(events).await.unwrap();
    let numbers = async |lease: LeaseKey| -> Vec<i64> {
        let events = read(&world, lease, EventCursor::default(), i64::MAX).await;
        events.iter().map(|event| event.number).collect()
    };
    let most = limits::RUN_EVENTS;
    append(&[
        progress(lease.key, 1, 1.0),
        progress(lease.key, 2, 2.0),
        log(lease.key, 3, "old"),
    ])
    .await;
    append(&[log(other.key, 1, "of another task")]).await;
    let newest: Vec<TaskEvent> = (4..=most + 3)
        .map(|number| log(lease.key, number, "new"))
        .collect();
    for events in newest.chunks(4_000) {
        append(events).await;
    }
    let kept: Vec<i64> = std::iter::once(2).chain(4..=most + 3).collect();
    assert!(
        numbers(lease.key).await == kept,
        "the latest progress, and the newest events"
    );
    append(&[log(lease.key, 3, "late")]).await;
    assert!(numbers(lease.key).await == kept, "what is too old is not stored");
    append(&[
        log(lease.key, 1_000_000, "a jump"),
        log(lease.key, 500_000, "and back"),
    ])
    .await;
    append(&[log(lease.key, 600_000, "and back again")]).await;
    while numbers(lease.key).await.len() > 2 {
        append(&[log(lease.key, 1_000_000, "again")]).await;
    }
    assert_eq!(numbers(lease.key).await, [2, 1_000_000]);
    assert_eq!(numbers(other.key).await, [1]);
    world.end().await;
}

#[tokio::test]
async fn a_late_event_of_an_ended_run_removes_nothing() {
    let world = World::new().await;
    let (_, lease) = world.running_task().await;
    world
        .db
        .append_events(&[log(lease.key, 1, "a line")])
        .await
        .unwrap();
    world.settle(succeeded(&lease)).await;
    world
        .db
        .append_events(&[log(lease.key, 1_000_000, "late")])
        .await
        .unwrap();
    assert_eq!(read(&world, lease.key, EventCursor::default(), 10).await.len(), 1);
    world.end().await;
}
