//! What can be done with a task that has ended, and what cannot.

use serde_json::json;
use tasklease_proto::v1::{DeleteTaskRequest, GetTaskRequest, RetryTaskRequest, TaskState};
use tasklease_tests::{
    Database, RawWorker, Scheduler, Stage, WorkerProcess, ended, result_of, spec, succeeded, with_payload,
};
use tonic::Code;

fn retry(task_id: &str) -> RetryTaskRequest {
    RetryTaskRequest {
        task_id: task_id.to_owned(),
    }
}

fn delete(task_id: &str) -> DeleteTaskRequest {
    DeleteTaskRequest {
        task_id: task_id.to_owned(),
    }
}

#[tokio::test]
async fn a_retry_is_a_new_task_that_names_the_old_one() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let stage = Stage::new();
    let _worker = WorkerProcess::start(&[&scheduler], "w", &[]).await;
    let old = client
        .submit(with_payload("fail", &stage.payload()))
        .await
        .unwrap();
    let failed = ended(&client, &old.id).await;

    let new = scheduler.tasks().retry_task(retry(&old.id)).await.unwrap();

    let new = new.into_inner().task.unwrap();
    assert_ne!(new.id, old.id);
    assert_eq!((&new.retry_of, &new.task_type), (&old.id, &old.task_type));
    let answer = ended(&client, &new.id).await;
    assert_eq!(
        answer.task.as_ref().unwrap().payload,
        failed.task.as_ref().unwrap().payload
    );
    assert_eq!(client.get(&old.id).await.unwrap(), failed, "a final state stays");
}

#[tokio::test]
async fn only_a_task_that_failed_or_was_cancelled_can_be_retried() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let id = client.submit(spec("t")).await.unwrap().id;
    let refusal = scheduler.tasks().retry_task(retry(&id)).await.unwrap_err();
    assert_eq!(refusal.code(), Code::FailedPrecondition, "while it waits");

    let mut worker = RawWorker::with_credit(&scheduler, "t", 1).await;
    let lease = worker.next_accepted().await;
    let refusal = scheduler.tasks().retry_task(retry(&id)).await.unwrap_err();
    assert_eq!(refusal.code(), Code::FailedPrecondition, "while it runs");

    worker.report(&lease, succeeded(&json!({}))).await.unwrap();
    let refusal = scheduler.tasks().retry_task(retry(&id)).await.unwrap_err();
    assert_eq!(refusal.code(), Code::FailedPrecondition, "after its success");
    assert!(refusal.message().contains(&id), "{refusal}");
}

#[tokio::test]
async fn a_task_can_be_deleted_only_when_it_has_ended() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let mut tasks = scheduler.tasks();
    let id = client.submit(spec("t")).await.unwrap().id;
    let refusal = tasks.delete_task(delete(&id)).await.unwrap_err();
    assert_eq!(refusal.code(), Code::FailedPrecondition, "while it waits");
    let mut worker = RawWorker::with_credit(&scheduler, "t", 1).await;
    let lease = worker.next_accepted().await;
    let refusal = tasks.delete_task(delete(&id)).await.unwrap_err();
    assert_eq!(refusal.code(), Code::FailedPrecondition, "while it runs");
    worker.report(&lease, succeeded(&json!({}))).await.unwrap();

    tasks.delete_task(delete(&id)).await.unwrap();

    let gone = tasks
        .get_task(GetTaskRequest {
            task_id: id.clone(),
            ..Default::default()
        })
        .await
        .unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    let again = tasks.delete_task(delete(&id)).await.unwrap_err();
    assert_eq!(again.code(), Code::NotFound);
}

#[tokio::test]
async fn a_finished_task_survives_a_restart_of_the_scheduler_unchanged() {
    let database = Database::create().await;
    let mut scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let mut worker = RawWorker::with_credit(&scheduler, "t", 1).await;
    let payload = json!({ "text": "Grüße, 世界 🦀", "number": 0.1, "deep": { "list": [1, null, true] } });
    let id = client.submit(with_payload("t", &payload)).await.unwrap().id;
    let lease = worker.next_accepted().await;
    worker.report(&lease, succeeded(&payload)).await.unwrap();
    let before = ended(&client, &id).await;

    scheduler.kill();
    scheduler.start_again().await;

    let after = client.get(&id).await.unwrap();
    assert_eq!(after, before);
    assert_eq!(after.task.as_ref().unwrap().state(), TaskState::Succeeded);
    assert_eq!(result_of(&after), payload);
}
