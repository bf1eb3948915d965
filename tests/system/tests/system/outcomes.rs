//! Code that returns is done; code that fails says why, and that survives.

use serde_json::json;
use tasklease_proto::v1::{Outcome, TaskSpec, TaskState};
use tasklease_tests::{Database, Scheduler, Stage, WorkerProcess, ended, outcomes, result_of, with_payload};

#[tokio::test]
async fn code_that_fails_has_an_end_time_a_type_a_message_and_a_detail() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let stage = Stage::new();
    let _worker = WorkerProcess::start(&[&scheduler], "w", &[]).await;

    let id = client
        .submit(with_payload("fail", &stage.payload()))
        .await
        .unwrap()
        .id;

    let answer = ended(&client, &id).await;
    let task = answer.task.as_ref().unwrap();
    assert_eq!(task.state(), TaskState::Failed);
    assert!(task.finish_time.is_some());
    let error = task.error.as_ref().unwrap();
    assert_eq!(
        (&*error.kind, &*error.message),
        ("OUT_OF_PAPER", "the printer has no paper")
    );
    assert!(error.detail.contains("tray 2"), "{}", error.detail);
    assert_eq!(outcomes(&answer), [Outcome::Failed]);
    assert_eq!(answer.runs[0].error, task.error);
}

#[tokio::test]
async fn a_panic_fails_the_task_and_not_the_worker() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let stage = Stage::new();
    let _worker = WorkerProcess::start(&[&scheduler], "w", &[]).await;
    let once = TaskSpec {
        max_attempts: 1,
        ..with_payload("panics", &stage.payload())
    };

    let id = client.submit(once).await.unwrap().id;

    let answer = ended(&client, &id).await;
    let error = answer.task.as_ref().unwrap().error.as_ref().unwrap();
    assert_eq!(error.kind, "PANIC");
    assert!(error.message.contains("the roof is on fire"), "{}", error.message);
    let next = client
        .submit(with_payload("side_effect", &stage.payload()))
        .await
        .unwrap();
    assert_eq!(result_of(&ended(&client, &next.id).await), json!({ "token": 1 }));
}

#[tokio::test]
async fn parameters_that_do_not_fit_fail_the_task_and_name_the_field() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let _worker = WorkerProcess::start(&[&scheduler], "w", &[]).await;

    let id = client
        .submit(with_payload("gate", &json!({ "stage": "/", "stairs": 1 })))
        .await
        .unwrap()
        .id;

    let answer = ended(&client, &id).await;
    let task = answer.task.as_ref().unwrap();
    assert_eq!(task.state(), TaskState::Failed);
    assert!(
        task.error.as_ref().unwrap().message.contains("stairs"),
        "{task:?}"
    );
    assert_eq!(outcomes(&answer).len(), 1, "no retry mends it");
}
