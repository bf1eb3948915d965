//! A worker that is frozen past its lease and thawed: what it does then does not count.

use serde_json::json;
use tasklease_proto::v1::{Outcome, TaskState};
use tasklease_tests::{
    Database, Scheduler, Signal, Stage, WorkerProcess, ended, outcomes, reached, result_of, with_payload,
};

#[tokio::test]
async fn the_code_of_a_thawed_worker_is_cancelled() {
    let database = Database::create().await;
    let scheduler = Scheduler::start_with(&database.url(), &["--lease", "3s"]).await;
    let client = scheduler.client();
    let stage = Stage::new();
    let worker = WorkerProcess::start(&[&scheduler], "w", &[]).await;
    let id = client
        .submit(with_payload("gate", &stage.payload()))
        .await
        .unwrap()
        .id;
    stage.reached_by("started", &id, 1).await;

    worker.signal(Signal::STOP);
    reached(&client, &id, |task| task.state() == TaskState::Pending).await;
    worker.signal(Signal::CONT);

    stage.reached_by("cancelled", &id, 1).await;
    // It takes the task again, as a new worker would.
    stage.reached_by("started", &id, 2).await;
    stage.open_gate();
    let answer = ended(&client, &id).await;
    assert_eq!(outcomes(&answer), [Outcome::Lost, Outcome::Succeeded]);
}

#[tokio::test]
async fn what_a_thawed_worker_returns_is_refused() {
    let database = Database::create().await;
    let scheduler = Scheduler::start_with(&database.url(), &["--lease", "3s"]).await;
    let client = scheduler.client();
    let stage = Stage::new();
    let frozen = WorkerProcess::start(&[&scheduler], "frozen", &["--slots", "1"]).await;
    let id = client
        .submit(with_payload("stubborn", &stage.payload()))
        .await
        .unwrap()
        .id;
    stage.reached_by("started", &id, 1).await;
    frozen.signal(Signal::STOP);
    let _other = WorkerProcess::start(&[&scheduler], "other", &[]).await;
    stage.reached_by("started", &id, 2).await;

    // The code goes on and returns under a lease that is lost.
    stage.open_gate_for(1);
    frozen.signal(Signal::CONT);
    stage.reached_by("done", &id, 1).await;

    assert_eq!(stage.events("done").len(), 1);
    stage.open_gate_for(2);
    let answer = ended(&client, &id).await;
    assert_eq!(answer.task.as_ref().unwrap().worker, "other");
    assert_eq!(outcomes(&answer), [Outcome::Lost, Outcome::Succeeded]);
    assert_eq!(result_of(&answer), json!({ "token": 2 }));
}
