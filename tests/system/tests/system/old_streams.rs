//! Streams that have grown old are opened again, and nobody notices.

use futures_util::StreamExt as _;
use tasklease_proto::v1::{Outcome, WatchTaskRequest, watch_task_response::Update};
use tasklease_tests::{
    Database, Scheduler, Stage, WorkerProcess, ended, in_time, outcomes, reached, with_payload,
};

#[tokio::test]
async fn work_and_watches_go_on_while_their_streams_are_renewed() {
    let database = Database::create().await;
    // Streams that live longer than the acceptance timeout, also with their jitter: with shorter ones a lease that is
    // lost on its way may be judged anew at every turn.
    let scheduler = Scheduler::start_with(&database.url(), &["--stream-age", "13s"]).await;
    let client = scheduler.client();
    let stage = Stage::new();
    let _worker = WorkerProcess::start(&[&scheduler], "w", &[]).await;
    let id = client
        .submit(with_payload("gate", &stage.payload()))
        .await
        .unwrap()
        .id;
    stage.reached_by("started", &id, 1).await;
    let following = tokio::spawn({
        let (client, id) = (client.clone(), id.clone());
        async move { reached(&client, &id, |task| task.finish_time.is_some()).await }
    });

    // Each watch that is asked to leave is a life of a stream; the worker's streams live as long.
    for _ in 0..2 {
        let request = WatchTaskRequest {
            task_id: id.clone(),
            ..Default::default()
        };
        let mut updates = scheduler.tasks().watch_task(request).await.unwrap().into_inner();
        let mut last = None;
        while let Some(update) = in_time("the end of a stream", updates.next()).await {
            last = update.unwrap().update;
        }
        assert!(matches!(last, Some(Update::Reconnect(_))), "{last:?}");
    }
    stage.open_gate();

    let answer = ended(&client, &id).await;
    assert_eq!(outcomes(&answer), [Outcome::Succeeded]);
    assert_eq!(stage.events("started").len(), 1);
    assert_eq!(following.await.unwrap().id, id);
}
