//! Tasks that are in no place, which only a defect or a hand in the database can make.

use std::time::Duration;

use tasklease_scheduler::{
    domain::{ids::TaskId, outcome::Outcome, state::TaskState},
    store::StrayPage,
};
use uuid::Uuid;

use crate::world::{World, failed, key, succeeded};

async fn rescue(world: &World) -> StrayPage {
    world
        .db
        .rescue_strays(TaskId(Uuid::max()), 1_000, Duration::ZERO)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_stray_waits_again_under_a_new_lease_token_and_whoever_has_the_old_one_is_refused() {
    let world = World::new().await;
    let (_, lost) = world.running_task().await;
    world.execute("DELETE FROM tasklease.grant", &[]).await;
    let rescued = rescue(&world).await.rescued;
    assert_eq!(rescued.len(), 1);
    assert_eq!((rescued[0].task, rescued[0].lane), (lost.key.task, world.lane));
    assert_eq!(world.settle(succeeded(&lost)).await, []);
    assert_eq!(
        world.outcomes(lost.key.task).await,
        [] as [Outcome; 0],
        "no run began that anybody knows of"
    );
    let session = world.session("next").await;
    let again = world.claim(session, 1).await.remove(0);
    assert_eq!((again.key, again.attempt), (key(lost.key.task, 2), 1));
    assert_eq!(rescue(&world).await.rescued, []);
    world.end().await;
}

#[tokio::test]
async fn a_stray_that_was_to_be_cancelled_is_cancelled() {
    let world = World::new().await;
    let (_, lost) = world.running_task().await;
    world.cancel(lost.key.task).await;
    world.execute("DELETE FROM tasklease.grant", &[]).await;
    rescue(&world).await;
    assert_eq!(world.state(lost.key.task).await, TaskState::Cancelled);
    world.end().await;
}

#[tokio::test]
async fn tasks_in_their_places_are_left_there() {
    let world = World::new().await;
    let (_, running) = world.running_task().await;
    let (_, retried) = world.running_task().await;
    world.settle(failed(&retried)).await;
    let (_, ended) = world.running_task().await;
    world.settle(succeeded(&ended)).await;
    let (ready, scheduled) = (world.ready_task().await, world.scheduled_task().await);
    let page = rescue(&world).await;
    assert_eq!(page.rescued, []);
    let least = [
        running.key.task,
        retried.key.task,
        ended.key.task,
        ready,
        scheduled,
    ];
    assert_eq!(page.next, least.into_iter().min());
    let next = world
        .db
        .rescue_strays(page.next.unwrap(), 10, Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(next, StrayPage::default());
    world.end().await;
}
