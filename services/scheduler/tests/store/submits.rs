//! Storing tasks: all or none, each in its first place.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use tasklease_scheduler::{
    domain::{
        backoff::Backoff,
        ids::TaskId,
        new_task::{NewTask, Start},
        state::TaskState,
        task_spec::{TaskOptions, TaskSpec},
    },
    store::{Detail, StoreError, StoredPayload, SubmitBatch},
};
use uuid::Uuid;

use crate::world::{World, key, new_grant, new_task, now, tasks_of};

#[tokio::test]
async fn a_batch_with_a_taken_id_stores_nothing() {
    let world = World::new().await;
    let taken = new_task();
    world.submit(std::slice::from_ref(&taken)).await;
    let batch = [new_task(), taken, new_task()];
    let error = world.db.submit(&world.batch(&batch)).await.unwrap_err();
    assert!(matches!(error, StoreError::Exists), "{error}");
    assert_eq!(world.count("SELECT count(*) FROM tasklease.task", &[]).await, 1);
    assert_eq!(world.count("SELECT count(*) FROM tasklease.ready", &[]).await, 1);
    world.end().await;
}

#[tokio::test]
async fn a_batch_with_a_value_that_cannot_be_stored_stores_nothing() {
    let world = World::new().await;
    let broken = NewTask {
        payload: "{".into(),
        ..new_task()
    };
    let error = world
        .db
        .submit(&world.batch(&[new_task(), broken]))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Data(_)), "{error}");
    assert_eq!(world.count("SELECT count(*) FROM tasklease.task", &[]).await, 0);
    world.end().await;
}

#[tokio::test]
async fn tasks_of_one_batch_run_in_the_order_of_their_ids() {
    let world = World::new().await;
    let tasks: Vec<NewTask> = std::iter::repeat_with(new_task).take(20).collect();
    world.submit(&tasks).await;
    let session = world.session("w").await;
    let ids: Vec<TaskId> = tasks.iter().map(|task| task.id).collect();
    assert_eq!(tasks_of(&world.claim(session, 20).await), ids);
    world.end().await;
}

#[tokio::test]
async fn a_start_in_the_future_waits_and_one_in_the_past_does_not() {
    let world = World::new().await;
    let with_start = |start| NewTask { start, ..new_task() };
    let in_an_hour = now() + Duration::from_secs(3_600);
    let tasks = [
        with_start(Start::Now),
        with_start(Start::At(Timestamp::from_second(5).unwrap())),
        with_start(Start::After(Duration::ZERO)),
        with_start(Start::After(Duration::from_nanos(1))),
        with_start(Start::At(in_an_hour)),
        with_start(Start::After(Duration::from_secs(60))),
    ];
    let committed = world.submit(&tasks).await;
    let mut records = Vec::new();
    for task in &tasks {
        records.push(world.read(task.id).await);
    }
    let states: Vec<TaskState> = records.iter().map(|record| record.standing.state()).collect();
    assert_eq!(states[..4], [TaskState::Pending; 4]);
    assert_eq!(states[4..], [TaskState::Scheduled; 2]);
    assert_eq!(records[4].standing.due_at(), Some(in_an_hour));
    assert_eq!(
        records[5].standing.due_at(),
        Some(committed + Duration::from_secs(60))
    );
    assert!(records.iter().all(|record| record.created_at == committed));
    world.end().await;
}

#[tokio::test]
async fn every_option_is_read_back_as_it_was_stored() {
    let world = World::new().await;
    let options = TaskOptions {
        title: Some("a title".into()),
        description: Some("line one\nline \"two\" ä \\u0041".into()),
        owner: Some("somebody".into()),
        labels: BTreeMap::from([("k".to_owned(), "v \"quoted\"".to_owned())]),
        parent: Some(TaskId(Uuid::now_v7())),
        retry_of: Some(TaskId(Uuid::now_v7())),
        backoff: Some(Backoff {
            initial: Duration::from_millis(1_500),
            longest: Duration::from_secs(90),
        }),
        run_timeout: Some(Duration::from_secs(7)),
        traceparent: Some("00-abc-def-01".into()),
    };
    let task = NewTask {
        payload: r#"{ "b":1,  "a": 1.10, "a": "\u0000" }"#.into(),
        spec: TaskSpec {
            priority: -7,
            max_attempts: 9,
            options,
            ..new_task().spec
        },
        ..new_task()
    };
    world.submit(std::slice::from_ref(&task)).await;
    let read = world.read(task.id).await;
    assert_eq!(
        read.payload.as_deref(),
        Some(task.payload.as_str()),
        "payload text is kept to the byte"
    );
    assert_eq!(read.spec, task.spec);
    let summary = world
        .db
        .read_task(task.id, Detail::Summary)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(summary.payload, None);
    world.end().await;
}

#[tokio::test]
async fn ids_that_are_taken_are_named_with_whether_the_task_is_the_same() {
    let world = World::new().await;
    let (same, other) = (new_task(), new_task());
    world.submit(&[same.clone(), other.clone()]).await;
    let ids = [same.id, other.id, new_task().id];
    let is_same = |id, lane, payload: StoredPayload<'_>| {
        (id, lane, payload) == (same.id, world.lane, StoredPayload::Text(&same.payload))
    };
    let mut existing = world.db.existing_tasks(&ids, is_same).await.unwrap();
    existing.sort();
    let found: Vec<_> = existing.into_iter().map(|e| (e.id, e.same)).collect();
    assert_eq!(found, [(same.id, true), (other.id, false)]);
    world.end().await;
}

#[tokio::test]
async fn tasks_of_one_batch_can_be_leased_wait_in_line_or_wait_for_their_time() {
    let world = World::new().await;
    let (one, two) = (world.session("one").await, world.session("two").await);
    let later = NewTask {
        start: Start::After(Duration::from_secs(3_600)),
        ..new_task()
    };
    let tasks = [new_task(), new_task(), new_task(), new_task()];
    let mut batch = SubmitBatch::granting(new_grant());
    batch.push(&tasks[0], world.lane);
    batch.push_leased(&tasks[1], world.lane, one);
    batch.push(&later, world.lane);
    batch.push_leased(&tasks[2], world.lane, two);
    batch.push_leased(&tasks[3], world.lane, one);
    world.db.submit(&batch).await.unwrap();

    assert_eq!(world.state(tasks[0].id).await, TaskState::Pending);
    assert_eq!(world.state(later.id).await, TaskState::Scheduled);
    for (session, expected) in [(one, vec![1, 3]), (two, vec![2])] {
        let leases = world.leases(session).await;
        let keys: Vec<_> = leases.iter().map(|lease| lease.key).collect();
        let expected: Vec<_> = expected.into_iter().map(|n| key(tasks[n].id, 1)).collect();
        assert_eq!(keys, expected);
        assert!(
            leases
                .iter()
                .all(|lease| lease.attempt == 1 && lease.max_attempts == 3)
        );
    }
    assert_eq!(world.state(tasks[1].id).await, TaskState::Running);
    assert_eq!(
        world.claim(one, 10).await.len(),
        1,
        "only the one in line is left"
    );
    world.end().await;
}
