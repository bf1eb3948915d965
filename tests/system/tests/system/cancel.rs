//! Cancel wins over everything that comes later, in every window of a task's life.

use std::time::Duration;

use serde_json::json;
use tasklease_proto::v1::{Outcome, RetryPolicy, TaskSpec, TaskState, task_spec::Start};
use tasklease_tests::{
    Answer, Database, RawWorker, Scheduler, Stage, WorkerProcess, cancel_request, cancelled, ended, failed,
    millis, outcomes, spec, state_of, succeeded, with_payload,
};

/// Longer than any test: code that must not be revoked has this much time.
const AMPLE: Duration = Duration::from_secs(600);

#[tokio::test]
async fn a_waiting_task_ends_cancelled_at_once_and_never_runs() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let doomed = client.submit(spec("t")).await.unwrap();
    let next = client.submit(spec("t")).await.unwrap();

    let task = client.cancel(cancel_request(&doomed.id, AMPLE)).await.unwrap();

    assert_eq!(task.state(), TaskState::Cancelled);
    assert!(task.finish_time.is_some());
    // The worker gets the task behind it instead.
    let mut worker = RawWorker::with_credit(&scheduler, "t", 2).await;
    assert_eq!(worker.next_lease().await.task_id, next.id);
    // Once more changes nothing.
    let again = client.cancel(cancel_request(&doomed.id, AMPLE)).await.unwrap();
    assert_eq!(again.finish_time, task.finish_time);
}

#[tokio::test]
async fn a_scheduled_task_ends_cancelled_at_once() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let later = TaskSpec {
        start: millis(3_600_000).map(Start::Delay),
        ..spec("t")
    };
    let task = client.submit(later).await.unwrap();
    assert_eq!(task.state(), TaskState::Scheduled);

    let task = client.cancel(cancel_request(&task.id, AMPLE)).await.unwrap();

    assert_eq!(task.state(), TaskState::Cancelled);
}

#[tokio::test]
async fn a_task_that_was_leased_but_not_accepted_ends_cancelled() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let mut worker = RawWorker::with_credit(&scheduler, "t", 1).await;
    let id = client.submit(spec("t")).await.unwrap().id;
    let lease = worker.next_lease().await;

    let task = client.cancel(cancel_request(&id, AMPLE)).await.unwrap();

    assert_eq!((task.state(), task.cancel_requested), (TaskState::Running, true));
    let notice = worker.next_cancel().await;
    assert_eq!(
        (notice.lease.unwrap().task_id, &*notice.reason),
        (id.clone(), "enough")
    );
    assert_eq!(worker.report(&lease, cancelled()).await, Ok(Answer::Stored));
    let answer = ended(&client, &id).await;
    assert_eq!(answer.task.as_ref().unwrap().state(), TaskState::Cancelled);
    assert_eq!(outcomes(&answer), [Outcome::Cancelled]);
}

#[tokio::test]
async fn a_success_reported_after_the_cancel_was_acknowledged_ends_cancelled() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let mut worker = RawWorker::with_credit(&scheduler, "t", 1).await;
    let id = client.submit(spec("t")).await.unwrap().id;
    let lease = worker.next_accepted().await;
    client.cancel(cancel_request(&id, AMPLE)).await.unwrap();

    // The code did not look any more, and returned.
    let answer = worker.report(&lease, succeeded(&json!({ "done": true }))).await;

    assert_eq!(answer, Ok(Answer::Stored));
    let answer = ended(&client, &id).await;
    let task = answer.task.as_ref().unwrap();
    assert_eq!(task.state(), TaskState::Cancelled);
    assert_eq!(task.result, None);
    assert_eq!(outcomes(&answer), [Outcome::Cancelled]);
}

#[tokio::test]
async fn a_failure_reported_after_the_cancel_is_not_tried_again() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let mut worker = RawWorker::with_credit(&scheduler, "t", 1).await;
    let id = client.submit(spec("t")).await.unwrap().id;
    let lease = worker.next_accepted().await;
    client.cancel(cancel_request(&id, AMPLE)).await.unwrap();

    let answer = worker.report(&lease, failed("BROKEN")).await;

    assert_eq!(answer, Ok(Answer::Stored));
    let answer = ended(&client, &id).await;
    assert_eq!(answer.task.unwrap().state(), TaskState::Cancelled);
}

#[tokio::test]
async fn a_cancel_after_the_success_is_refused_and_changes_nothing() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let mut worker = RawWorker::with_credit(&scheduler, "t", 1).await;
    let id = client.submit(spec("t")).await.unwrap().id;
    let lease = worker.next_accepted().await;
    worker.report(&lease, succeeded(&json!({}))).await.unwrap();

    let refusal = client.cancel(cancel_request(&id, AMPLE)).await.unwrap_err();

    assert_eq!(refusal.code(), tonic::Code::FailedPrecondition);
    assert_eq!(state_of(&client, &id).await, TaskState::Succeeded);
}

#[tokio::test]
async fn code_that_listens_stops_and_its_task_ends_cancelled() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let stage = Stage::new();
    let _worker = WorkerProcess::start(&[&scheduler], "w", &[]).await;
    let id = client
        .submit(with_payload("gate", &stage.payload()))
        .await
        .unwrap()
        .id;
    stage.reached_by("started", &id, 1).await;

    client.cancel(cancel_request(&id, AMPLE)).await.unwrap();

    stage.reached_by("cancelled", &id, 1).await;
    let answer = ended(&client, &id).await;
    assert_eq!(answer.task.as_ref().unwrap().state(), TaskState::Cancelled);
    assert_eq!(outcomes(&answer), [Outcome::Cancelled]);
}

#[tokio::test]
async fn code_that_does_not_listen_is_revoked_after_the_grace_and_what_it_returns_is_lost() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let stage = Stage::new();
    let _worker = WorkerProcess::start(&[&scheduler], "w", &["--slots", "1"]).await;
    let id = client
        .submit(with_payload("stubborn", &stage.payload()))
        .await
        .unwrap()
        .id;
    stage.reached_by("started", &id, 1).await;

    client
        .cancel(cancel_request(&id, Duration::from_millis(100)))
        .await
        .unwrap();

    let answer = ended(&client, &id).await;
    let task = answer.task.as_ref().unwrap();
    assert_eq!(task.state(), TaskState::Cancelled);
    assert_eq!(stage.events("done"), [], "the code still runs");
    // Its slot is free again only when the code has returned; the next task proves that it did.
    stage.open_gate();
    stage.reached_by("done", &id, 1).await;
    let next = client
        .submit(with_payload("side_effect", &stage.payload()))
        .await
        .unwrap();
    ended(&client, &next.id).await;
    assert_eq!(client.get(&id).await.unwrap(), answer);
}

#[tokio::test]
async fn a_worker_that_does_not_answer_loses_the_lease_after_the_grace() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let mut worker = RawWorker::with_credit(&scheduler, "t", 1).await;
    let id = client.submit(spec("t")).await.unwrap().id;
    let lease = worker.next_accepted().await;

    let grace = Duration::from_millis(100);
    client.cancel(cancel_request(&id, grace)).await.unwrap();

    worker.hears_of_loss(&lease).await;
    let answer = ended(&client, &id).await;
    let task = answer.task.as_ref().unwrap();
    assert_eq!(task.state(), TaskState::Cancelled);
    assert_eq!(task.error.as_ref().unwrap().kind, "REVOKED");
    let late = worker.report(&lease, succeeded(&json!({}))).await;
    assert_eq!(late, Ok(Answer::Stale));
    assert_eq!(client.get(&id).await.unwrap(), answer);
}

#[tokio::test]
async fn a_cancelled_task_whose_worker_dies_does_not_run_again() {
    let database = Database::create().await;
    let scheduler = Scheduler::start_with(&database.url(), &["--lease", "3s"]).await;
    let client = scheduler.client();
    let mut worker = RawWorker::with_credit(&scheduler, "t", 1).await;
    let id = client.submit(spec("t")).await.unwrap().id;
    worker.next_accepted().await;

    client.cancel(cancel_request(&id, AMPLE)).await.unwrap();
    drop(worker);

    let answer = ended(&client, &id).await;
    assert_eq!(answer.task.as_ref().unwrap().state(), TaskState::Cancelled);
    assert_eq!(outcomes(&answer), [Outcome::Cancelled]);
}

#[tokio::test]
async fn a_task_that_waits_for_its_retry_ends_cancelled_at_once() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let mut worker = RawWorker::with_credit(&scheduler, "t", 1).await;
    let patient = TaskSpec {
        retry_policy: Some(RetryPolicy {
            initial_backoff: millis(3_600_000),
            max_backoff: millis(3_600_000),
        }),
        ..spec("t")
    };
    let id = client.submit(patient).await.unwrap().id;
    let lease = worker.next_accepted().await;
    worker.report(&lease, failed("BROKEN")).await.unwrap();

    let task = client.cancel(cancel_request(&id, AMPLE)).await.unwrap();

    assert_eq!(task.state(), TaskState::Cancelled);
    let answer = client.get(&id).await.unwrap();
    assert_eq!(outcomes(&answer)[0], Outcome::Failed);
}
