//! SIGTERM of a scheduler under load: it ends cleanly in time, and nobody loses anything.

use futures_util::StreamExt as _;
use tasklease_proto::v1::{Outcome, watch_task_response::Update};
use tasklease_tests::{
    Database, Scheduler, Signal, Stage, WorkerProcess, attempts, ended, in_time, outcomes, with_payload,
};

/// So long that only a stop which ends by itself ends in time for the test.
const NO_HURRY: [&str; 2] = ["--grace", "600s"];

#[tokio::test]
async fn with_two_replicas_everybody_goes_on_on_the_other() {
    let database = Database::create().await;
    let mut one = Scheduler::start_with(&database.url(), &NO_HURRY).await;
    let two = Scheduler::start(&database.url()).await;
    let both = Scheduler::client_of(&[&one, &two]);
    let stage = Stage::new();
    let _workers = [
        WorkerProcess::start(&[&one, &two], "a", &["--slots", "4"]).await,
        WorkerProcess::start(&[&one, &two], "b", &["--slots", "4"]).await,
    ];
    let held = both
        .submit_batch(vec![with_payload("gate", &stage.payload()); 4])
        .await
        .unwrap();
    stage.reached("started", 4).await;
    let mut watch = both.watch(&*held[0]);
    let first = in_time("a snapshot", watch.next()).await.unwrap().unwrap();
    assert!(matches!(first.update, Some(Update::Snapshot(_))));
    let quick = || vec![with_payload("side_effect", &stage.payload()); 300];
    let mut ids = both.submit_batch(quick()).await.unwrap();
    stage.reached("done", 10).await;

    one.signal(Signal::TERM);
    ids.extend(both.submit_batch(quick()).await.unwrap());
    let status = one.ended().await;

    assert_eq!(status.code(), Some(0), "{status}");
    stage.open_gate();
    let mut last = None;
    while let Some(update) = in_time("the end of the watch", watch.next()).await {
        last = update.unwrap().update;
    }
    assert!(matches!(last, Some(Update::Ended(_))), "{last:?}");
    for id in held.iter().chain(&ids) {
        let answer = ended(&both, id).await;
        assert_eq!(answer.task.as_ref().unwrap().attempt, 1);
        assert_eq!(outcomes(&answer).last(), Some(&Outcome::Succeeded));
    }
    // What ran through the stop ran once.
    for id in &held {
        assert_eq!(outcomes(&ended(&both, id).await), [Outcome::Succeeded]);
    }
    assert_eq!(stage.events("started").len(), held.len());
    assert_eq!(stage.events("done").len(), held.len() + ids.len());
}

#[tokio::test]
async fn with_one_replica_everybody_goes_on_after_its_restart() {
    let database = Database::create().await;
    let mut scheduler = Scheduler::start_with(&database.url(), &NO_HURRY).await;
    let client = scheduler.client();
    let stage = Stage::new();
    let _worker = WorkerProcess::start(&[&scheduler], "w", &["--slots", "8"]).await;
    let held = client
        .submit_batch(vec![with_payload("gate", &stage.payload()); 4])
        .await
        .unwrap();
    stage.reached("started", 4).await;
    let quick = vec![with_payload("side_effect", &stage.payload()); 300];
    let ids = client.submit_batch(quick).await.unwrap();
    stage.reached("done", 10).await;

    let status = scheduler.terminate().await;
    assert_eq!(status.code(), Some(0), "{status}");
    scheduler.start_again().await;

    stage.open_gate();
    for id in held.iter().chain(&ids) {
        let answer = ended(&client, id).await;
        assert_eq!(outcomes(&answer).last(), Some(&Outcome::Succeeded));
        assert!(
            attempts(&answer).iter().all(|attempt| *attempt == 1),
            "{answer:?}"
        );
    }
    assert_eq!(stage.events("started").len(), held.len(), "a lease was lost");
}

#[tokio::test]
async fn an_idle_scheduler_ends_at_once() {
    let database = Database::create().await;
    let mut scheduler = Scheduler::start_with(&database.url(), &NO_HURRY).await;

    let status = scheduler.terminate().await;

    assert_eq!(status.code(), Some(0), "{status}");
}
