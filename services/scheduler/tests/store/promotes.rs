//! Moving tasks whose time has come.

use std::time::Duration;

use tasklease_scheduler::{
    domain::{
        ids::{LaneId, ReplicaId, TaskId},
        new_task::{NewTask, Start},
        state::TaskState,
    },
    store::{LaneSet, Mark, Promoted, Tick, TickQuestion},
};
use uuid::Uuid;

use crate::world::{LEASE, World, decide, in_default, new_task, tasks_of, with_priority};

fn question<'a>(replica: ReplicaId, name: &'a str, lanes: &'a [(LaneId, Mark)]) -> TickQuestion<'a> {
    TickQuestion {
        replica,
        name,
        lease: LEASE,
        lanes,
        sessions: &[],
    }
}

#[tokio::test]
async fn only_due_tasks_move_and_the_first_position_of_their_lane_is_told() {
    let world = World::new().await;
    let start = Start::After(Duration::from_secs(3_600));
    let low = NewTask { start, ..new_task() };
    let high = NewTask {
        start,
        ..with_priority(9)
    };
    world.submit(&[low.clone(), high.clone()]).await;
    let far = world.scheduled_task().await;
    assert_eq!(world.db.promote(10).await.unwrap(), Promoted::default());
    world.let_be_due(low.id).await;
    world.let_be_due(high.id).await;
    let promoted = world.db.promote(10).await.unwrap();
    assert_eq!((promoted.tasks.len(), promoted.lanes.len()), (2, 1));
    let (lane, place) = promoted.lanes[0];
    assert_eq!((lane, place.rank), (world.lane, -9));
    assert_eq!(world.state(far).await, TaskState::Scheduled);
    let session = world.session("w").await;
    assert_eq!(tasks_of(&world.claim(session, 5).await), [high.id, low.id]);
    world.end().await;
}

#[tokio::test]
async fn a_promotion_moves_no_more_than_it_is_asked_to_earliest_first() {
    let world = World::new().await;
    let (first, second) = (world.scheduled_task().await, world.scheduled_task().await);
    world.let_be_due(second).await;
    world
        .execute(
            "UPDATE tasklease.scheduled SET due_at = now() - interval '1 h' WHERE task_id = $1",
            &[&first.0],
        )
        .await;
    assert_eq!(world.db.promote(1).await.unwrap().tasks, [first]);
    assert_eq!(world.state(first).await, TaskState::Pending);
    assert_eq!(world.state(second).await, TaskState::Scheduled);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_promote_together_move_each_task_once() {
    let world = World::new().await;
    let tasks: Vec<NewTask> = (0..200)
        .map(|_| NewTask {
            start: Start::After(Duration::from_secs(3_600)),
            ..new_task()
        })
        .collect();
    world.submit(&tasks).await;
    world
        .execute("UPDATE tasklease.scheduled SET due_at = now()", &[])
        .await;
    let promoter = || async {
        let mut moved = 0;
        loop {
            let now = world.db.promote(9).await.unwrap().tasks.len();
            if now == 0 {
                return moved;
            }
            moved += now;
        }
    };
    let (one, two) = tokio::join!(promoter(), promoter());
    assert_eq!(one + two, 200);
    assert_eq!(
        world
            .count(
                "SELECT count(DISTINCT id) FROM tasklease.ready, unnest(task_ids) AS id",
                &[]
            )
            .await,
        200
    );
    world.end().await;
}

#[tokio::test]
async fn the_tick_names_the_first_place_after_the_mark_where_a_task_waits() {
    let world = World::new().await;
    let me = ReplicaId(Uuid::new_v4());
    let ready = async |mark| {
        let lanes = [(world.lane, mark)];
        world
            .db
            .tick(&question(me, "me", &lanes))
            .await
            .unwrap()
            .ready_lanes
    };
    let (first, second) = (world.ready_task().await, world.ready_task().await);
    let found = ready(Mark::START).await;
    let place = async |task: TaskId| {
        let row = world
            .raw
            .query_one(
                "SELECT rank, order_key FROM tasklease.ready WHERE first_task = $1",
                &[&task.0],
            )
            .await
            .unwrap();
        Mark::before(row.get(0), row.get(1))
    };
    assert_eq!(found, [(world.lane, place(first).await)]);
    let after_first = Mark {
        first_task: first.0,
        ..place(first).await
    };
    assert_eq!(ready(after_first).await, [(world.lane, place(second).await)]);
    let after_second = Mark {
        first_task: second.0,
        ..place(second).await
    };
    assert_eq!(ready(after_second).await, []);
    world.end().await;
}

#[tokio::test]
async fn the_tick_tells_what_there_is_to_do_and_nothing_else() {
    let world = World::new().await;
    let me = ReplicaId(Uuid::new_v4());
    let tick = async || {
        let lanes = [(world.lane, Mark::START)];
        world.db.tick(&question(me, "me", &lanes)).await.unwrap()
    };
    let quiet = Tick {
        lanes: LaneSet { count: 1, sum: 1 },
        ..Tick::default()
    };
    assert_eq!(tick().await, quiet);

    let task = world.ready_task().await;
    let ready = tick().await.ready_lanes;
    assert_eq!(
        ready.iter().map(|(lane, _)| *lane).collect::<Vec<_>>(),
        [world.lane]
    );
    let session = world.session("w").await;
    world.claim(session, 1).await;
    assert_eq!(tick().await, quiet);

    world.cancel(task).await;
    assert!(tick().await.cancelling);
    world.let_expire(session).await;
    assert!(tick().await.expired);
    world.db.expire_sessions(10, decide).await.unwrap();
    assert_eq!(tick().await, quiet);

    world.ready_task().await;
    world
        .claim(tasklease_scheduler::domain::ids::SessionId(Uuid::new_v4()), 1)
        .await;
    assert!(tick().await.orphaned);
    world.db.end_orphans(decide).await.unwrap();
    assert!(!tick().await.orphaned);

    let scheduled: TaskId = world.scheduled_task().await;
    let next = tick().await.next_due.unwrap();
    assert!(next > Duration::from_secs(3_000) && next <= Duration::from_secs(3_600));
    world.let_be_due(scheduled).await;
    assert_eq!(tick().await.next_due, Some(Duration::ZERO));

    world.db.set_paused(&in_default("default"), true).await.unwrap();
    assert_eq!(tick().await.paused_lanes, [world.lane]);
    assert_eq!(tick().await.other_replicas, 0);
    let other = ReplicaId(Uuid::new_v4());
    world.db.tick(&question(other, "other", &[])).await.unwrap();
    assert_eq!(tick().await.other_replicas, 1);
    world.db.replica_leaves(other).await.unwrap();
    assert_eq!(tick().await.other_replicas, 0);
    world.end().await;
}
