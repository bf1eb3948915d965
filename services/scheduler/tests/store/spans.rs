//! Which lanes have tasks, and of when.

use std::time::Duration;

use jiff::Timestamp;
use tasklease_scheduler::{
    domain::{
        ids::{LaneId, TaskId},
        name::Namespace,
        new_task::NewTask,
        span::Span,
    },
    engine::run_retention_once as run_once,
    store::{IdRanges, LaneSet, ListQuery, ListSource, RetentionPolicy, SpanCursor, SubmitBatch},
};
use uuid::Uuid;

use crate::world::{World, in_default, new_task, succeeded, task_type};

const DAY: Duration = Duration::from_secs(86_400);

const POLICY: RetentionPolicy = RetentionPolicy {
    ended: DAY,
    failed: DAY,
    events: DAY,
};

fn highest() -> TaskId {
    TaskId(Uuid::max())
}

/// An id that was made at a time before now.
fn id_before(before: Duration) -> TaskId {
    let at = Timestamp::now() - before;
    let millis = u128::try_from(at.as_millisecond()).unwrap();
    let random = Uuid::new_v4().as_u128() & ((1 << 76) - 1);
    TaskId(Uuid::from_u128(millis << 80 | 7 << 76 | random))
}

async fn lane(world: &World, name: &str) -> LaneId {
    let lane = world
        .db
        .ensure_lane(&in_default("default"), &task_type(name))
        .await
        .unwrap();
    lane.expect("there is room").id
}

/// Stores a task of a lane, with its span.
async fn submit(world: &World, lane: LaneId, id: TaskId) -> TaskId {
    let gone = world.db.ensure_spans(&[(lane, Span::of(id))]).await.unwrap();
    assert_eq!(gone, []);
    let task = NewTask { id, ..new_task() };
    let mut batch = SubmitBatch::default();
    batch.push(&task, lane);
    world.db.submit(&batch).await.unwrap();
    id
}

async fn lanes(world: &World) -> Vec<LaneId> {
    let mut lanes: Vec<LaneId> = world
        .db
        .lanes(None)
        .await
        .unwrap()
        .iter()
        .map(|lane| lane.id)
        .collect();
    lanes.sort();
    lanes
}

#[tokio::test]
async fn a_rare_task_is_found_without_looking_at_the_others() {
    let world = World::new().await;
    let rare = lane(&world, "rare").await;
    let old = submit(&world, rare, id_before(2 * DAY)).await;
    let new = submit(&world, rare, id_before(DAY)).await;
    for _ in 0..30 {
        submit(&world, world.lane, id_before(Duration::ZERO)).await;
    }
    let query = |ids: IdRanges| ListQuery {
        ids,
        lanes: Some(vec![rare]),
        look_at: 10,
        at_most: 10,
    };
    for source in [ListSource::Newest, ListSource::Ready] {
        let ids = world.db.ids_of_lanes(&[rare], highest()).await.unwrap();
        let step = world.db.list_ids(source, &query(ids)).await.unwrap();
        assert_eq!((step.ids, step.looked_to), (vec![new, old], None), "{source:?}");
    }
    let below_new = world.db.ids_of_lanes(&[rare], new).await.unwrap();
    let step = world
        .db
        .list_ids(ListSource::Newest, &query(below_new))
        .await
        .unwrap();
    assert_eq!(step.ids, [old]);
    let below_all = world
        .db
        .ids_of_lanes(&[rare], Span::of(old).ids().start)
        .await
        .unwrap();
    assert!(below_all.is_empty());
    world.end().await;
}

#[tokio::test]
async fn every_place_is_read_range_by_range_and_newest_first() {
    let world = World::new().await;
    let mut tasks: Vec<TaskId> = Vec::new();
    for days in [3, 2, 1, 0] {
        for _ in 0..3 {
            tasks.push(submit(&world, world.lane, id_before(days * DAY)).await);
        }
    }
    tasks.sort_by(|one, other| other.cmp(one));
    let session = world.session("w").await;
    for lease in world.claim(session, 12).await {
        world.settle(succeeded(&lease)).await;
    }
    for source in [ListSource::Newest, ListSource::Succeeded] {
        let (mut below, mut found) = (highest(), Vec::new());
        loop {
            let query = ListQuery {
                ids: world.db.ids_of_lanes(&[world.lane], below).await.unwrap(),
                lanes: Some(vec![world.lane]),
                look_at: 2,
                at_most: 10,
            };
            let step = world.db.list_ids(source, &query).await.unwrap();
            found.extend(step.ids);
            match step.looked_to {
                Some(looked_to) => below = looked_to,
                None => break,
            }
        }
        assert_eq!(found, tasks, "{source:?}");
    }
    world.end().await;
}

#[tokio::test]
async fn a_lane_goes_once_its_last_task_and_the_days_of_its_submits_are_gone() {
    let world = World::new().await;
    let (emptied, kept, fresh) = (
        lane(&world, "emptied").await,
        lane(&world, "kept").await,
        lane(&world, "fresh").await,
    );
    let gone = submit(&world, emptied, id_before(3 * DAY)).await;
    submit(&world, kept, id_before(3 * DAY)).await;
    world
        .db
        .ensure_spans(&[(fresh, Span::of(id_before(DAY)))])
        .await
        .unwrap();
    world
        .db
        .ensure_spans(&[(world.lane, Span::of(id_before(DAY)))])
        .await
        .unwrap();
    use_and_pause_a_queue(&world).await;
    for sql in [
        "DELETE FROM tasklease.task WHERE id = $1",
        "DELETE FROM tasklease.ready WHERE first_task = $1",
    ] {
        world.execute(sql, &[&gone.0]).await;
    }
    let age = "UPDATE tasklease.lane_span SET noted_at = now() - interval '25 hours' WHERE lane = ANY ($1)";
    world.execute(age, &[&vec![emptied.0, kept.0]]).await;
    // However far a scheduler's clock is off, only the database's counts.
    let far_off = Timestamp::now() + DAY * 30;
    run_once(&world.db, &POLICY, far_off).await.unwrap();
    assert_eq!(lanes(&world).await, [world.lane, kept, fresh]);
    let queues = world.db.list_queues(&Namespace::default(), "", 10).await.unwrap();
    let names: Vec<&str> = queues.iter().map(|queue| queue.key.name.as_str()).collect();
    assert_eq!(names, ["default", "paused"], "what somebody set stays");
    let now = id_before(Duration::ZERO);
    let gone = world
        .db
        .ensure_spans(&[(emptied, Span::of(now)), (kept, Span::of(now))])
        .await
        .unwrap();
    assert_eq!(
        gone,
        [emptied],
        "whoever still knows the lane hears that it is gone"
    );
    world.end().await;
}

async fn use_and_pause_a_queue(world: &World) {
    world
        .db
        .ensure_lane(&in_default("paused"), &task_type("t"))
        .await
        .unwrap();
    world
        .execute(
            "UPDATE tasklease.queue SET paused = true WHERE name = 'paused'",
            &[],
        )
        .await;
}

#[tokio::test]
async fn a_lane_that_is_about_to_be_used_is_not_deleted() {
    let world = World::new().await;
    let mut other = world.connect().await;
    let submit = other.transaction().await.unwrap();
    submit
        .execute(
            "SELECT FROM tasklease.lane WHERE id = $1 FOR KEY SHARE",
            &[&world.lane.0],
        )
        .await
        .unwrap();
    assert_eq!(
        world.db.delete_unused_lanes(10).await.unwrap(),
        0,
        "somebody holds it"
    );
    submit.rollback().await.unwrap();
    assert_eq!(world.db.delete_unused_lanes(10).await.unwrap(), 1);
    world.end().await;
}

#[tokio::test]
async fn a_lane_stays_while_something_is_left_of_a_deleted_task() {
    let world = World::new().await;
    let (_, lease) = world.running_task().await;
    world.settle(succeeded(&lease)).await;
    world
        .db
        .ensure_spans(&[(world.lane, Span::of(lease.key.task))])
        .await
        .unwrap();
    assert!(world.db.delete_task(lease.key.task).await.unwrap());
    world
        .execute(
            "UPDATE tasklease.lane_span SET noted_at = now() - interval '9 days'",
            &[],
        )
        .await;
    let page = world
        .db
        .delete_empty_spans(SpanCursor::START, DAY, 10)
        .await
        .unwrap();
    assert_eq!(page.removed, 0);
    world.execute("DELETE FROM tasklease.lane_span", &[]).await;
    assert_eq!(
        world.db.delete_unused_lanes(10).await.unwrap(),
        0,
        "the same submit is told apart by it"
    );
    world.end().await;
}

#[test]
fn sets_of_as_many_lanes_are_told_apart() {
    let set = |ids: &[i32]| LaneSet::of(ids.iter().map(|id| LaneId(*id)));
    assert_eq!(set(&[1, 2, 3]), set(&[3, 1, 2]));
    assert_ne!(set(&[1, 2, 3]), set(&[1, 2, 4]));
    assert_ne!(set(&[1, 4]), set(&[2, 3]), "their sums are the same");
}

#[tokio::test]
async fn a_lane_whose_task_was_stored_without_its_span_stays_and_gets_it() {
    let world = World::new().await;
    let task = world.ready_task().await;
    assert_eq!(world.db.delete_unused_lanes(10).await.unwrap(), 0);
    assert_eq!(lanes(&world).await, [world.lane]);
    assert!(
        !world
            .db
            .ids_of_lanes(&[world.lane], highest())
            .await
            .unwrap()
            .is_empty()
    );
    world.read(task).await;
    world.end().await;
}
