//! Where lists look for tasks.

use tasklease_scheduler::{
    domain::{
        ids::{LaneId, TaskId},
        name::{Namespace, QueueName, TaskType},
        new_task::NewTask,
        state::TaskState,
    },
    store::{Detail, IdRanges, ListQuery, ListSource, ListStep},
};
use uuid::Uuid;

use crate::world::{World, failed, failed_for_good, new_task, queue, succeeded, task_type};

fn all() -> ListQuery {
    ListQuery {
        ids: IdRanges::below(TaskId(Uuid::max())),
        lanes: None,
        look_at: 10,
        at_most: 10,
    }
}

async fn ids(world: &World, source: ListSource, query: &ListQuery) -> Vec<TaskId> {
    world.db.list_ids(source, query).await.unwrap().ids
}

#[tokio::test]
async fn all_tasks_come_newest_first_and_below_a_point() {
    let world = World::new().await;
    let mut tasks = Vec::new();
    for _ in 0..4 {
        tasks.push(world.ready_task().await);
    }
    tasks.reverse();
    for source in [ListSource::Newest, ListSource::Ready] {
        assert_eq!(ids(&world, source, &all()).await, tasks, "{source:?}");
        let two = ListQuery { at_most: 2, ..all() };
        let step = world.db.list_ids(source, &two).await.unwrap();
        let expected = ListStep {
            ids: tasks[..2].to_vec(),
            looked_to: Some(tasks[1]),
        };
        assert_eq!(step, expected, "{source:?}");
        let rest = ListQuery {
            ids: IdRanges::below(tasks[1]),
            ..all()
        };
        assert_eq!(ids(&world, source, &rest).await, tasks[2..], "{source:?}");
    }
    world.end().await;
}

#[tokio::test]
async fn a_look_that_finds_nothing_says_how_far_it_came() {
    let world = World::new().await;
    let mut tasks = Vec::new();
    for _ in 0..4 {
        tasks.push(world.ready_task().await);
    }
    let elsewhere = ListQuery {
        lanes: Some(vec![LaneId(i32::MAX)]),
        look_at: 3,
        ..all()
    };
    let step = world.db.list_ids(ListSource::Newest, &elsewhere).await.unwrap();
    let expected = ListStep {
        ids: Vec::new(),
        looked_to: Some(tasks[1]),
    };
    assert_eq!(step, expected);
    let rest = ListQuery {
        ids: IdRanges::below(tasks[1]),
        ..elsewhere
    };
    let step = world.db.list_ids(ListSource::Newest, &rest).await.unwrap();
    assert_eq!(step.looked_to, None, "nothing is left below");
    world.end().await;
}

#[tokio::test]
async fn waiting_tasks_are_found_however_many_newer_ones_have_ended() {
    let world = World::new().await;
    let scheduled = world.scheduled_task().await;
    let bundle: Vec<NewTask> = (0..5).map(|_| new_task()).collect();
    world.submit(&bundle).await;
    for _ in 0..5 {
        let ended = world.ready_task().await;
        world.cancel(ended).await;
    }
    let few = ListQuery {
        look_at: 3,
        at_most: 3,
        ..all()
    };
    let mut newest: Vec<TaskId> = bundle.iter().map(|task| task.id).collect();
    newest.sort_by(|one, other| other.cmp(one));
    assert_eq!(ids(&world, ListSource::Ready, &few).await, newest[..3]);
    let inside = ListQuery {
        ids: IdRanges::below(newest[1]),
        ..few.clone()
    };
    assert_eq!(ids(&world, ListSource::Ready, &inside).await, newest[2..5]);
    assert_eq!(ids(&world, ListSource::Scheduled, &few).await, [scheduled]);
    world.end().await;
}

#[tokio::test]
async fn each_state_has_a_place_that_holds_its_tasks_and_no_others() {
    let world = World::new().await;
    let (_, good) = world.running_task().await;
    world.settle(succeeded(&good)).await;
    let (_, again) = world.running_task().await;
    world.settle(failed(&again)).await;
    let (_, bad) = world.running_task().await;
    world.settle(failed_for_good(&bad)).await;
    let cancelled = world.ready_task().await;
    world.cancel(cancelled).await;
    assert_eq!(ids(&world, ListSource::Failed, &all()).await, [bad.key.task]);
    assert_eq!(ids(&world, ListSource::Succeeded, &all()).await, [good.key.task]);
    assert_eq!(ids(&world, ListSource::Cancelled, &all()).await, [cancelled]);
    assert_eq!(ids(&world, ListSource::Scheduled, &all()).await, [again.key.task]);
    world.end().await;
}

#[tokio::test]
async fn leased_tasks_hold_all_that_run() {
    let world = World::new().await;
    let (_, one) = world.running_task().await;
    let (_, two) = world.running_task().await;
    world.ready_task().await;
    assert_eq!(
        ids(&world, ListSource::Leased, &all()).await,
        [two.key.task, one.key.task]
    );
    world.settle(succeeded(&two)).await;
    let found = ids(&world, ListSource::Leased, &all()).await;
    let read = world.db.read_tasks(&found, Detail::Summary).await.unwrap();
    let running: Vec<TaskId> = read
        .iter()
        .filter(|task| task.standing.state() == TaskState::Running)
        .map(|task| task.id)
        .collect();
    assert_eq!(running, [one.key.task]);
    world.end().await;
}

#[tokio::test]
async fn lanes_narrow_every_source() {
    let world = World::new().await;
    let other = world.lane_of(&queue("q2"), &task_type("t2")).await;
    let find = async |queue: Option<QueueName>, task_type: Option<TaskType>| {
        let found = world
            .db
            .find_lanes(&Namespace::default(), queue.as_ref(), task_type.as_ref())
            .await;
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
    let ended = world.ready_task().await;
    world.cancel(ended).await;
    world.ready_task().await;
    world.scheduled_task().await;
    let (_, good) = {
        let id = world.ready_task().await;
        let session = world.session("w").await;
        let leases = world.claim(session, 10).await;
        (
            session,
            leases.into_iter().find(|lease| lease.key.task == id).unwrap(),
        )
    };
    world.settle(succeeded(&good)).await;
    world.ready_task().await;
    for source in [
        ListSource::Newest,
        ListSource::Scheduled,
        ListSource::Ready,
        ListSource::Leased,
        ListSource::Succeeded,
        ListSource::Failed,
        ListSource::Cancelled,
    ] {
        let in_lanes = |lanes| ListQuery {
            lanes: Some(lanes),
            ..all()
        };
        let expected: &[TaskId] = match source {
            ListSource::Newest | ListSource::Ready => &[elsewhere.id],
            _ => &[],
        };
        assert_eq!(
            ids(&world, source, &in_lanes(vec![other])).await,
            expected,
            "{source:?}"
        );
        assert!(
            !ids(&world, source, &in_lanes(vec![world.lane])).await.is_empty(),
            "{source:?}"
        );
        assert!(
            ids(&world, source, &in_lanes(vec![])).await.is_empty(),
            "{source:?}"
        );
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
