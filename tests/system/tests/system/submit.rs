//! Submitting: safe to repeat, all or nothing, and possible at any time.

use serde_json::json;
use tasklease_proto::v1::{ListTasksRequest, SubmitTaskRequest, TaskSpec};
use tasklease_tests::{Database, Scheduler, Stage, WorkerProcess, ended, new_task_id, spec, with_payload};
use tonic::Code;
use tonic_types::StatusExt as _;

fn request(task: TaskSpec) -> SubmitTaskRequest {
    SubmitTaskRequest { task: Some(task) }
}

#[tokio::test]
async fn a_submit_repeated_with_the_same_id_answers_with_the_first_task() {
    let database = Database::create().await;
    let one = Scheduler::start(&database.url()).await;
    let two = Scheduler::start(&database.url()).await;
    let task = TaskSpec {
        task_id: new_task_id(),
        ..with_payload("t", &json!({ "a": 1, "b": [1, 2] }))
    };

    let first = one.tasks().submit_task(request(task.clone())).await.unwrap();
    let second = two.tasks().submit_task(request(task.clone())).await.unwrap();

    let (first, second) = (
        first.into_inner().task.unwrap(),
        second.into_inner().task.unwrap(),
    );
    assert_eq!(first.id, task.task_id);
    assert_eq!((second.id, second.create_time), (first.id, first.create_time));
    let all = one.client().list(ListTasksRequest::default()).await.unwrap();
    assert_eq!(all.tasks.len(), 1);
}

#[tokio::test]
async fn concurrent_submits_of_one_id_store_one_task() {
    let database = Database::create().await;
    let one = Scheduler::start(&database.url()).await;
    let two = Scheduler::start(&database.url()).await;
    let task = TaskSpec {
        task_id: new_task_id(),
        ..spec("t")
    };

    let mut submits = tokio::task::JoinSet::new();
    for turn in 0..20 {
        let mut client = if turn % 2 == 0 { one.tasks() } else { two.tasks() };
        let request = request(task.clone());
        submits.spawn(async move { client.submit_task(request).await });
    }

    for answer in submits.join_all().await {
        assert_eq!(answer.unwrap().into_inner().task.unwrap().id, task.task_id);
    }
    let all = one.client().list(ListTasksRequest::default()).await.unwrap();
    assert_eq!(all.tasks.len(), 1);
}

#[tokio::test]
async fn the_same_id_with_another_payload_type_or_queue_is_refused() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let mut client = scheduler.tasks();
    let task = TaskSpec {
        task_id: new_task_id(),
        ..with_payload("t", &json!({ "a": 1 }))
    };
    client.submit_task(request(task.clone())).await.unwrap();

    let others = [
        TaskSpec {
            task_id: task.task_id.clone(),
            ..with_payload("t", &json!({ "a": 2 }))
        },
        TaskSpec {
            task_type: "other".to_owned(),
            ..task.clone()
        },
        TaskSpec {
            queue: "other".to_owned(),
            ..task.clone()
        },
    ];
    for other in others {
        let refusal = client.submit_task(request(other)).await.unwrap_err();
        assert_eq!(refusal.code(), Code::AlreadyExists, "{refusal}");
        let info = refusal.get_details_error_info().unwrap();
        assert_eq!(
            (&*info.reason, &info.metadata["task_id"]),
            ("TASK_EXISTS", &task.task_id)
        );
    }
}

#[tokio::test]
async fn after_the_first_task_has_finished_more_can_be_submitted_and_run() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let stage = Stage::new();
    let _worker = WorkerProcess::start(&[&scheduler], "w", &["--slots", "1"]).await;
    for turn in 1..=3 {
        let task = client
            .submit(with_payload("side_effect", &stage.payload()))
            .await
            .unwrap();
        ended(&client, &task.id).await;
        assert_eq!(stage.events("done").len(), turn);
    }
}

#[tokio::test]
async fn a_task_of_a_type_that_nobody_runs_waits_and_stats_say_so() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();

    client.submit(spec("nobody.runs.it")).await.unwrap();

    let stats = client.stats("default").await.unwrap().stats;
    assert_eq!(stats.len(), 1);
    assert_eq!(
        (&*stats[0].task_type, stats[0].workers, stats[0].pending),
        ("nobody.runs.it", 0, 1)
    );
}
