//! SIGKILL of a scheduler under load: leases live on, and outcomes are delivered late, once.

use serde_json::json;
use tasklease_proto::v1::Outcome;
use tasklease_tests::{
    Answer, Database, Hello, RawWorker, Scheduler, Stage, WorkerProcess, attempts, ended, outcomes,
    result_of, spec, succeeded, with_payload,
};

#[tokio::test]
async fn with_two_replicas_work_goes_on_on_the_other() {
    let database = Database::create().await;
    let mut one = Scheduler::start(&database.url()).await;
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
    let quick = || vec![with_payload("side_effect", &stage.payload()); 300];
    let mut ids = both.submit_batch(quick()).await.unwrap();
    stage.reached("done", 10).await;

    one.kill();

    ids.extend(both.submit_batch(quick()).await.unwrap());
    stage.open_gate();
    for id in &held {
        assert_eq!(outcomes(&ended(&both, id).await), [Outcome::Succeeded]);
    }
    for id in &ids {
        let answer = ended(&both, id).await;
        assert_eq!(outcomes(&answer).last(), Some(&Outcome::Succeeded), "{answer:?}");
        assert!(
            attempts(&answer).iter().all(|attempt| *attempt == 1),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn what_ends_while_the_only_replica_is_away_is_delivered_once_after_its_restart() {
    let database = Database::create().await;
    let mut scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let stage = Stage::new();
    let _worker = WorkerProcess::start(&[&scheduler], "w", &["--slots", "8"]).await;
    let ids = client
        .submit_batch(vec![with_payload("gate", &stage.payload()); 8])
        .await
        .unwrap();
    stage.reached("started", 8).await;

    scheduler.kill();
    stage.open_gate();
    stage.reached("done", 8).await;
    scheduler.start_again().await;

    for id in &ids {
        let answer = ended(&client, id).await;
        assert_eq!(outcomes(&answer), [Outcome::Succeeded]);
        assert_eq!(result_of(&answer), json!({ "token": 1 }));
    }
    assert_eq!(stage.events("started").len(), 8);
    let next = client
        .submit(with_payload("side_effect", &stage.payload()))
        .await
        .unwrap();
    ended(&client, &next.id).await;
}

#[tokio::test]
async fn an_outcome_whose_acknowledgement_was_lost_is_acknowledged_again_and_changes_nothing() {
    let database = Database::create().await;
    let mut scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let hello = Hello::new("raw", &["t"]);
    let mut worker = RawWorker::connect(&scheduler, hello.clone()).await;
    worker.credit(1).await;
    let id = client.submit(spec("t")).await.unwrap().id;
    let lease = worker.next_accepted().await;
    let session = worker.session().session_id.clone();
    assert_eq!(
        worker.report(&lease, succeeded(&json!({ "first": true }))).await,
        Ok(Answer::Stored)
    );
    let before = client.get(&id).await.unwrap();

    scheduler.kill();
    drop(worker);
    scheduler.start_again().await;

    // As if the acknowledgement had not come: the worker still holds the outcome, and sends it again.
    let mut worker = RawWorker::connect(&scheduler, hello.resuming(&session, &[&lease])).await;
    assert!(worker.session().resumed);
    let again = worker.report(&lease, succeeded(&json!({ "first": true }))).await;
    assert!(matches!(again, Ok(Answer::Stored | Answer::Stale)), "{again:?}");
    assert_eq!(client.get(&id).await.unwrap(), before);
}
