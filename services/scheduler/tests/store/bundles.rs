//! Bundles: tasks that became ready together, lie in one row, and part when they must.

use std::{collections::HashSet, time::Duration};

use tasklease_scheduler::{
    domain::{
        ids::{LaneId, TaskId},
        new_task::{NewTask, Start},
        outcome::Outcome,
        state::TaskState,
    },
    store::{BUNDLE, CancelStep, Claim, Mark, SubmitBatch},
};
use uuid::Uuid;

use crate::world::{World, new_grant, new_task, now, queue, succeeded, task_type, tasks_of};

fn new_tasks(count: usize) -> Vec<NewTask> {
    std::iter::repeat_with(new_task).take(count).collect()
}

fn ids(tasks: &[NewTask]) -> Vec<TaskId> {
    tasks.iter().map(|task| task.id).collect()
}

/// How many tasks each bundle holds, in the order of the bundles.
async fn sizes(world: &World) -> Vec<i32> {
    let rows = world
        .raw
        .query(
            "SELECT cardinality(task_ids) FROM tasklease.ready ORDER BY lane, rank, order_key, first_task",
            &[],
        )
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn tasks_of_one_submit_and_priority_share_bundles_of_bounded_size() {
    let world = World::new().await;
    let mut tasks = new_tasks(2 * BUNDLE + 3);
    for task in &mut tasks[..2] {
        task.spec.priority = 5;
    }
    world.submit(&tasks).await;
    let full = i32::try_from(BUNDLE).unwrap();
    assert_eq!(sizes(&world).await, [2, full, full, 1]);
    let session = world.session("w").await;
    assert_eq!(tasks_of(&world.claim(session, 500).await), ids(&tasks));
    world.end().await;
}

#[tokio::test]
async fn tasks_of_several_lanes_in_one_submit_stay_in_their_lanes() {
    let world = World::new().await;
    let other: LaneId = world.lane_of(&queue("default"), &task_type("other")).await;
    let tasks = new_tasks(9);
    let mut batch = SubmitBatch::default();
    for (n, task) in tasks.iter().enumerate() {
        batch.push(task, if n % 3 == 0 { other } else { world.lane });
    }
    world.db.submit(&batch).await.unwrap();
    assert_eq!(sizes(&world).await, [6, 3]);
    let session = world.session("w").await;
    let claimed = world.claim_with(other, Mark::START, vec![session; 9]).await;
    let found: Vec<TaskId> = claimed.tasks.iter().map(|task| task.lease.key.task).collect();
    assert_eq!(found, [tasks[0].id, tasks[3].id, tasks[6].id]);
    world.end().await;
}

#[tokio::test]
async fn a_bundle_that_is_too_large_for_a_claim_is_split_and_keeps_its_order() {
    let world = World::new().await;
    let session = world.session("w").await;
    let tasks = new_tasks(7);
    world.submit(&tasks).await;
    let mut found = Vec::new();
    let mut mark = Mark::START;
    for most in [3, 1, 2, 5] {
        let (leases, last) = world.claim_from(mark, session, most).await;
        found.push(tasks_of(&leases));
        mark = last.unwrap();
    }
    let ids = ids(&tasks);
    assert_eq!(found, [&ids[..3], &ids[3..4], &ids[4..6], &ids[6..]]);
    assert_eq!(sizes(&world).await, [0; 0]);
    world.end().await;
}

#[tokio::test]
async fn tasks_that_fall_due_together_share_bundles_and_retries_among_them_do_not() {
    let world = World::new().await;
    let start = Start::At(now() + Duration::from_secs(3_600));
    let mut tasks = new_tasks(BUNDLE + 2);
    tasks.iter_mut().for_each(|task| task.start = start);
    world.submit(&tasks).await;
    world
        .execute("UPDATE tasklease.scheduled SET due_at = now()", &[])
        .await;
    world
        .execute(
            "UPDATE tasklease.scheduled SET lease_token = 2 WHERE task_id = $1",
            &[&tasks[0].id.0],
        )
        .await;
    let promoted = world.db.promote(1_000).await.unwrap();
    assert_eq!(promoted.tasks.len(), tasks.len());
    let full = i32::try_from(BUNDLE).unwrap();
    assert_eq!(sizes(&world).await, [1, full, 1]);
    let session = world.session("w").await;
    let leases = world.claim(session, 500).await;
    assert_eq!(tasks_of(&leases), ids(&tasks));
    assert_eq!((leases[0].key.token.0, leases[1].key.token.0), (2, 1));
    world.end().await;
}

#[tokio::test]
async fn a_claim_takes_from_no_more_bundles_than_it_may_look_at() {
    let world = World::new().await;
    let session = world.session("w").await;
    let tasks = new_tasks(3);
    for task in &tasks {
        world.submit(std::slice::from_ref(task)).await;
    }
    let claim = Claim {
        lane: world.lane,
        mark: Mark::START,
        up_to: i16::MAX,
        slots: vec![session; 10],
        grant: new_grant(),
        bundles: 2,
    };
    let claimed = world.db.claim(&claim).await.unwrap();
    assert_eq!((claimed.tasks.len(), claimed.found.bundles), (2, 2));
    assert_eq!(tasks_of(&world.claim(session, 10).await), [tasks[2].id]);
    world.end().await;
}

#[tokio::test]
async fn tasks_that_lie_far_apart_are_found_with_what_workers_need() {
    let world = World::new().await;
    let session = world.session("w").await;
    // A client chose these ids, and hundreds of others lie between any two of them.
    let mut tasks = new_tasks(500);
    tasks.sort_by_key(|task| task.id);
    for (n, task) in tasks.iter_mut().enumerate() {
        task.payload = format!(r#"{{"n": {n}}}"#);
        task.spec.options.traceparent = Some(format!("trace {n}"));
    }
    let far: Vec<NewTask> = tasks.iter().step_by(200).cloned().collect();
    let between: Vec<NewTask> = tasks.iter().filter(|task| !far.contains(task)).cloned().collect();
    world.submit(&far).await;
    world.submit(&between).await;
    let claimed = world
        .claim_with(world.lane, Mark::START, vec![session; 500])
        .await
        .tasks;
    assert_eq!(claimed.len(), 500);
    for task in claimed {
        let submitted = tasks.iter().find(|new| new.id == task.lease.key.task).unwrap();
        assert_eq!(task.payload, submitted.payload);
        assert_eq!(task.traceparent, submitted.spec.options.traceparent);
        assert_eq!(task.lease.max_attempts, submitted.spec.max_attempts);
    }
    world.end().await;
}

#[tokio::test]
async fn cancelling_one_task_of_a_bundle_leaves_the_others_where_they_were() {
    let world = World::new().await;
    let tasks = new_tasks(4);
    world.submit(&tasks).await;
    let session = world.session("w").await;
    for cancelled in [&tasks[0], &tasks[2]] {
        let step = world.cancel(cancelled.id).await;
        assert_ne!(step, world.ended_alone(), "it says that others wait there");
        assert_eq!(world.state(cancelled.id).await, TaskState::Cancelled);
    }
    assert_eq!(world.state(tasks[1].id).await, TaskState::Pending);
    let leases = world.claim(session, 10).await;
    assert_eq!(tasks_of(&leases), [tasks[1].id, tasks[3].id]);
    for lease in &leases {
        world.settle(succeeded(lease)).await;
        assert_eq!(world.outcomes(lease.key.task).await, [Outcome::Succeeded]);
    }
    world.end().await;
}

#[tokio::test]
async fn cancels_of_all_tasks_of_a_bundle_at_once_end_each_of_them() {
    let world = World::new().await;
    let tasks = new_tasks(20);
    world.submit(&tasks).await;
    let end = async |task: TaskId| {
        // A cancel that met another in the last two of a bundle looks again, as the engine does.
        while world.state(task).await != TaskState::Cancelled {
            world.cancel(task).await;
        }
    };
    futures_util::future::join_all(tasks.iter().map(|task| end(task.id))).await;
    assert_eq!(sizes(&world).await, [0; 0]);
    assert_eq!(
        world
            .count("SELECT count(*) FROM tasklease.run WHERE outcome = 3", &[])
            .await,
        20
    );
    world.end().await;
}

#[tokio::test]
async fn a_claim_passes_over_a_bundle_while_a_cancel_is_taking_a_task_out_of_it() {
    let world = World::new().await;
    let tasks = new_tasks(3);
    world.submit(&tasks).await;
    let session = world.session("w").await;
    let mut other = world.connect().await;
    let open = other.transaction().await.unwrap();
    open.query(
        include_str!("../../src/store/sql/cancels/cancel_waiting.sql"),
        &[&tasks[0].id.0, &"a reason"],
    )
    .await
    .unwrap();
    assert!(world.claim(session, 10).await.is_empty(), "it does not wait");
    open.commit().await.unwrap();
    let leased = world.claim(session, 10).await;
    assert_eq!(tasks_of(&leased), ids(&tasks[1..]));
    world.end().await;
}

#[tokio::test]
async fn no_task_is_in_two_bundles_while_claims_and_cancels_run_together() {
    let world = World::new().await;
    let session = world.session("w").await;
    let tasks = new_tasks(120);
    world.submit(&tasks).await;
    let claimer = async {
        let mut mine = Vec::new();
        while mine.len() < 60 {
            mine.extend(tasks_of(&world.claim(session, 3).await));
        }
        mine
    };
    let canceller = async {
        let mut mine = Vec::new();
        for task in tasks.iter().rev().take(60) {
            if matches!(world.cancel(task.id).await, CancelStep::Ended { .. }) {
                mine.push(task.id);
            }
        }
        mine
    };
    let (claimed, cancelled) = tokio::join!(claimer, canceller);
    let all: HashSet<TaskId> = claimed.iter().chain(&cancelled).copied().collect();
    assert_eq!(
        all.len(),
        claimed.len() + cancelled.len(),
        "none was leased and cancelled"
    );
    let waiting: HashSet<Uuid> = world
        .raw
        .query("SELECT unnest(task_ids) FROM tasklease.ready", &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(all.iter().all(|task| !waiting.contains(&task.0)));
    assert_eq!(all.len() + waiting.len(), 120, "none was lost");
    world.end().await;
}
