//! Claims: order, slots, marks, and two claimers at once.

use std::collections::HashSet;

use tasklease_scheduler::{
    domain::{ids::TaskId, new_task::NewTask, state::TaskState},
    store::{Claimed, Found, Mark},
};

use crate::world::{World, new_task, queue, task_type, tasks_of, with_priority};

#[tokio::test]
async fn higher_priorities_run_first_and_equal_ones_in_submit_order() {
    let world = World::new().await;
    let early = [with_priority(0), with_priority(-5), with_priority(100)];
    let late = [with_priority(0), with_priority(100), with_priority(-100)];
    world.submit(&early).await;
    world.submit(&late).await;
    let session = world.session("w").await;
    let expected: Vec<TaskId> = [
        &early[2], &late[1], // 100
        &early[0], &late[0],  // 0
        &early[1], // -5
        &late[2],  // -100
    ]
    .iter()
    .map(|task| task.id)
    .collect();
    assert_eq!(tasks_of(&world.claim(session, 10).await), expected);
    world.end().await;
}

#[tokio::test]
async fn a_claim_takes_no_more_tasks_than_there_are_slots_and_deals_them_in_order() {
    let world = World::new().await;
    let tasks: Vec<NewTask> = std::iter::repeat_with(new_task).take(5).collect();
    world.submit(&tasks).await;
    let (one, two) = (world.session("one").await, world.session("two").await);
    let Claimed {
        tasks: claimed,
        found,
    } = world
        .claim_with(world.lane, Mark::START, vec![one, two, one])
        .await;
    let mut dealt: Vec<_> = claimed.iter().map(|c| (c.lease.key.task, c.session)).collect();
    dealt.sort();
    assert_eq!(
        dealt,
        [(tasks[0].id, one), (tasks[1].id, two), (tasks[2].id, one)]
    );
    assert_eq!(
        (found.bundles, found.waiting),
        (1, 5),
        "the five became ready together"
    );
    assert!(
        claimed
            .iter()
            .all(|c| c.lease.key.token.0 == 1 && c.lease.attempt == 1)
    );
    assert!(
        claimed
            .iter()
            .all(|c| c.lease.grant == claimed[0].lease.grant && c.payload == tasks[0].payload)
    );
    assert_eq!(world.leases(one).await.len(), 2);
    assert_eq!(world.leases(two).await.len(), 1);
    assert_eq!(world.state(tasks[3].id).await, TaskState::Pending);
    world.end().await;
}

#[tokio::test]
async fn a_claim_takes_nothing_from_another_lane() {
    let world = World::new().await;
    world.ready_task().await;
    let other = world.lane_of(&queue("default"), &task_type("other")).await;
    let session = world.session("w").await;
    let claimed = world.claim_with(other, Mark::START, vec![session]).await;
    assert!(claimed.tasks.is_empty());
    assert_eq!(claimed.found, Found::default());
    world.end().await;
}

#[tokio::test]
async fn a_claim_passes_over_tasks_that_another_claim_is_taking() {
    let world = World::new().await;
    let tasks: Vec<NewTask> = std::iter::repeat_with(new_task).take(5).collect();
    world.submit(&tasks[..2]).await;
    world.submit(&tasks[2..]).await;
    let ids: Vec<TaskId> = tasks.iter().map(|task| task.id).collect();
    let session = world.session("w").await;
    let mut other = world.connect().await;
    let open = other.transaction().await.unwrap();
    open.query(
        "SELECT FROM tasklease.ready WHERE first_task = $1 FOR UPDATE",
        &[&ids[0].0],
    )
    .await
    .unwrap();
    assert_eq!(
        tasks_of(&world.claim(session, 5).await),
        ids[2..],
        "it does not wait"
    );
    open.rollback().await.unwrap();
    assert_eq!(tasks_of(&world.claim(session, 5).await), ids[..2]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claimers_that_run_together_share_the_tasks_without_overlap() {
    let world = World::new().await;
    let tasks: Vec<NewTask> = std::iter::repeat_with(new_task).take(300).collect();
    world.submit(&tasks).await;
    let session = world.session("w").await;
    let claimer = || async {
        let mut mine = Vec::new();
        loop {
            let leases = world.claim(session, 7).await;
            if leases.is_empty() {
                return mine;
            }
            mine.extend(tasks_of(&leases));
        }
    };
    let (one, two, three) = tokio::join!(claimer(), claimer(), claimer());
    let all: Vec<TaskId> = [one, two, three].concat();
    assert_eq!(all.len(), 300);
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), 300);
    world.end().await;
}

#[tokio::test]
async fn what_lies_below_the_mark_is_found_from_the_start_only() {
    let world = World::new().await;
    let session = world.session("w").await;
    let low = world.ready_task().await;
    let (leases, last) = world.claim_from(Mark::START, session, 1).await;
    let mark = last.unwrap();
    assert_eq!(tasks_of(&leases), [low]);
    let above = with_priority(1);
    let behind = new_task();
    world.submit(&[above.clone(), behind.clone()]).await;
    assert_eq!(
        tasks_of(&world.claim_from(mark, session, 10).await.0),
        [behind.id]
    );
    assert_eq!(world.claim_from(mark, session, 10).await.1, None);
    assert_eq!(tasks_of(&world.claim(session, 10).await), [above.id]);
    world.end().await;
}

#[tokio::test]
async fn a_mark_before_a_position_still_finds_it() {
    let world = World::new().await;
    let session = world.session("w").await;
    let task = with_priority(3);
    let commit = world.submit(std::slice::from_ref(&task)).await;
    let (leases, _) = world
        .claim_from(Mark::before(-3, commit.as_microsecond()), session, 1)
        .await;
    assert_eq!(tasks_of(&leases), [task.id]);
    world.end().await;
}

#[tokio::test]
async fn a_claim_that_is_rolled_back_leaves_the_task_where_it_was() {
    let world = World::new().await;
    let task = world.ready_task().await;
    let session = world.session("w").await;
    let mut other = world.connect().await;
    let open = other.transaction().await.unwrap();
    open.query(
        include_str!("../../src/store/sql/grants/claim.sql"),
        &[
            &world.lane.0,
            &i16::MIN,
            &i64::MIN,
            &uuid::Uuid::nil(),
            &vec![session.0],
            &1_i64,
            &2_i64,
            &i16::MAX,
        ],
    )
    .await
    .unwrap();
    open.rollback().await.unwrap();
    assert_eq!(world.state(task).await, TaskState::Pending);
    assert_eq!(tasks_of(&world.claim(session, 1).await), [task]);
    world.end().await;
}
