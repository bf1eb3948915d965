//! TaskService, one call after the other.

use tasklease_proto::{
    json,
    v1::{
        self, TaskState,
        task_spec::{Input, Start},
    },
};
use tonic::Code;
use uuid::Uuid;

use crate::{
    calls::{cancel, get, refused, seconds, spec, state, submit, submit_one},
    raw_worker::{RawWorker, failed, succeeded},
    scheduler::Scheduler,
};

#[tokio::test]
async fn a_task_is_read_back_as_it_was_submitted() {
    let scheduler = Scheduler::start().await;
    let payload = json::struct_from_json(r#"{"n": 1.5, "list": [true, null, "ä"]}"#).unwrap();
    let spec = v1::TaskSpec {
        queue: "q".into(),
        input: Some(Input::Payload(payload.clone())),
        priority: 7,
        max_attempts: 2,
        title: "a title".into(),
        description: "a text".into(),
        owner: "somebody".into(),
        labels: [("k".to_owned(), "v".to_owned())].into(),
        parent_id: Uuid::now_v7().to_string(),
        ..spec()
    };
    let submitted = submit(&scheduler, spec.clone()).await;
    let read = get(&scheduler, &submitted.id).await;
    assert!(read.runs.is_empty());
    let task = read.task.unwrap();
    assert_eq!(task.payload, Some(payload));
    assert_eq!(
        v1::Task {
            payload: None,
            ..task.clone()
        },
        submitted,
        "the answer to the submit is the task, without its payload"
    );
    assert_eq!(task.state(), TaskState::Pending);
    assert_eq!(
        (task.task_type, task.queue, task.priority, task.max_attempts),
        (spec.task_type, spec.queue, 7, 2)
    );
    assert_eq!((task.title, task.owner), (spec.title, spec.owner));
    assert_eq!((task.labels, task.parent_id), (spec.labels, spec.parent_id));
    scheduler.end().await;
}

#[tokio::test]
async fn the_answer_to_a_delayed_submit_is_what_a_read_says() {
    let scheduler = Scheduler::start().await;
    let delayed = v1::TaskSpec {
        start: seconds(3_600).map(Start::Delay),
        ..spec()
    };
    let at = v1::TaskSpec {
        start: Some(Start::StartTime(prost_types::Timestamp {
            seconds: 4_102_444_800,
            nanos: 5_000,
        })),
        ..spec()
    };
    let past = v1::TaskSpec {
        start: Some(Start::StartTime(prost_types::Timestamp { seconds: 1, nanos: 0 })),
        ..spec()
    };
    for (spec, state) in [
        (delayed, TaskState::Scheduled),
        (at, TaskState::Scheduled),
        (past, TaskState::Pending),
    ] {
        let submitted = submit(&scheduler, spec).await;
        assert_eq!(submitted.state(), state);
        let read = get(&scheduler, &submitted.id).await.task.unwrap();
        assert_eq!(
            v1::Task {
                payload: None,
                ..read
            },
            submitted
        );
    }
    scheduler.end().await;
}

#[tokio::test]
async fn a_submit_that_comes_again_with_its_id_answers_with_the_first_task() {
    let scheduler = Scheduler::start().await;
    let spec = v1::TaskSpec {
        task_id: Uuid::now_v7().to_string(),
        input: Some(Input::PayloadJson(r#"{"a":1}"#.into())),
        ..spec()
    };
    let first = submit(&scheduler, spec.clone()).await;
    assert_eq!(submit(&scheduler, spec.clone()).await, first);
    cancel(&scheduler, &first.id).await.unwrap();
    let again = submit(&scheduler, spec.clone()).await;
    assert_eq!(again.state(), TaskState::Cancelled, "as it stands now");
    for other in [
        v1::TaskSpec {
            task_type: "other".into(),
            ..spec.clone()
        },
        v1::TaskSpec {
            queue: "other".into(),
            ..spec.clone()
        },
        v1::TaskSpec {
            input: None,
            ..spec.clone()
        },
    ] {
        let request = v1::SubmitTaskRequest { task: Some(other) };
        let answer = scheduler.tasks().submit_task(request).await;
        let metadata = refused(answer, Code::AlreadyExists, "TASK_EXISTS");
        assert_eq!(metadata.get("task_id"), Some(&first.id));
    }
    scheduler.end().await;
}

#[tokio::test]
async fn the_same_submit_from_many_callers_at_once_makes_one_task() {
    let scheduler = Scheduler::start().await;
    let spec = v1::TaskSpec {
        task_id: Uuid::now_v7().to_string(),
        ..spec()
    };
    let submits = (0..20).map(|_| submit(&scheduler, spec.clone()));
    let answers = futures_util::future::join_all(submits).await;
    assert!(answers.iter().all(|task| task.id == spec.task_id));
    let list = scheduler
        .tasks()
        .list_tasks(v1::ListTasksRequest::default())
        .await
        .unwrap();
    assert_eq!(list.into_inner().tasks.len(), 1);
    scheduler.end().await;
}

#[tokio::test]
async fn a_batch_is_stored_in_order_or_not_at_all() {
    let scheduler = Scheduler::start().await;
    let request = v1::SubmitTasksRequest {
        tasks: vec![spec(); 50],
    };
    let ids = scheduler
        .tasks()
        .submit_tasks(request)
        .await
        .unwrap()
        .into_inner()
        .task_ids;
    assert!(ids.is_sorted() && ids.len() == 50);

    let taken = v1::TaskSpec {
        task_id: ids[7].clone(),
        queue: "other".into(),
        ..spec()
    };
    let request = v1::SubmitTasksRequest {
        tasks: vec![spec(), taken, spec()],
    };
    refused(
        scheduler.tasks().submit_tasks(request).await,
        Code::AlreadyExists,
        "TASK_EXISTS",
    );
    let list = v1::ListTasksRequest {
        page_size: 1_000,
        ..Default::default()
    };
    let listed = scheduler.tasks().list_tasks(list).await.unwrap().into_inner();
    assert_eq!(listed.tasks.len(), 50);
    scheduler.end().await;
}

#[tokio::test]
async fn only_a_task_that_did_not_succeed_can_be_retried_and_stays_as_it_is() {
    let scheduler = Scheduler::start().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    let retry = async |id: &str| {
        let request = v1::RetryTaskRequest { task_id: id.into() };
        scheduler.tasks().retry_task(request).await
    };
    let old = submit(
        &scheduler,
        v1::TaskSpec {
            input: Some(Input::PayloadJson(r#"{"a":1}"#.into())),
            priority: 3,
            title: "title".into(),
            ..spec()
        },
    )
    .await;
    let metadata = refused(retry(&old.id).await, Code::FailedPrecondition, "WRONG_STATE");
    assert_eq!(metadata.get("state").map(String::as_str), Some("PENDING"));
    let task = worker.take_one().await;
    worker.report.tell(&task, failed(true)).await;
    let before = get(&scheduler, &old.id).await;
    assert_eq!(before.task.as_ref().unwrap().state(), TaskState::Failed);
    let new = retry(&old.id).await.unwrap().into_inner().task.unwrap();
    assert_eq!(
        (new.retry_of.as_str(), new.state()),
        (old.id.as_str(), TaskState::Pending)
    );
    assert_eq!((new.priority, new.title.as_str()), (3, "title"));
    assert_eq!(get(&scheduler, &old.id).await, before);
    let payload = |task: v1::GetTaskResponse| task.task.unwrap().payload;
    assert_eq!(payload(get(&scheduler, &new.id).await), payload(before));
    let task = worker.take_one().await;
    assert_eq!(task.task_id, new.id);
    worker.report.tell(&task, succeeded()).await;
    refused(retry(&new.id).await, Code::FailedPrecondition, "WRONG_STATE");
    scheduler.end().await;
}

#[tokio::test]
async fn a_task_can_be_deleted_once_it_has_ended() {
    let scheduler = Scheduler::start().await;
    let id = submit_one(&scheduler).await;
    let delete = async || {
        let request = v1::DeleteTaskRequest { task_id: id.clone() };
        scheduler.tasks().delete_task(request).await
    };
    let metadata = refused(delete().await, Code::FailedPrecondition, "WRONG_STATE");
    assert_eq!(metadata.get("task_id"), Some(&id));
    cancel(&scheduler, &id).await.unwrap();
    delete().await.unwrap();
    refused(delete().await, Code::NotFound, "TASK_NOT_FOUND");
    scheduler.end().await;
}

#[tokio::test]
async fn cancelling_again_changes_nothing_and_cancelling_too_late_is_refused() {
    let scheduler = Scheduler::start().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    submit_one(&scheduler).await;
    let task = worker.take_one().await;
    worker.report.tell(&task, succeeded()).await;
    let metadata = refused(
        cancel(&scheduler, &task.task_id).await,
        Code::FailedPrecondition,
        "WRONG_STATE",
    );
    assert_eq!(metadata.get("state").map(String::as_str), Some("SUCCEEDED"));

    let waiting = submit_one(&scheduler).await;
    let first = cancel(&scheduler, &waiting).await.unwrap();
    assert_eq!(first.state(), TaskState::Cancelled);
    assert_eq!(cancel(&scheduler, &waiting).await.unwrap(), first);
    assert!(get(&scheduler, &waiting).await.runs.is_empty());

    submit_one(&scheduler).await;
    let task = worker.take_one().await;
    let first = cancel(&scheduler, &task.task_id).await.unwrap();
    assert!(first.state() == TaskState::Running && first.cancel_requested);
    assert_eq!(cancel(&scheduler, &task.task_id).await.unwrap(), first);
    scheduler.end().await;
}

#[tokio::test]
async fn runs_are_shown_oldest_first_with_their_errors() {
    let scheduler = Scheduler::start().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    submit_one(&scheduler).await;
    let first = worker.take_one().await;
    let released = v1::report::Body::Released(v1::Released {
        message: "later".into(),
    });
    worker.report.tell(&first, released).await;
    let second = worker.take_one().await;
    worker.report.tell(&second, failed(true)).await;
    let read = get(&scheduler, &first.task_id).await;
    let runs: Vec<_> = read
        .runs
        .iter()
        .map(|run| (run.lease_token, run.attempt, run.outcome()))
        .collect();
    assert_eq!(runs, [(1, 1, v1::Outcome::Released), (2, 1, v1::Outcome::Failed)]);
    assert!(
        read.runs
            .iter()
            .all(|run| run.worker == "raw" && run.start_time.is_some() && run.finish_time.is_some())
    );
    assert_eq!(read.runs[1].error.as_ref().unwrap().kind, "BOOM");
    assert_eq!(state(&scheduler, &first.task_id).await, TaskState::Failed);
    scheduler.end().await;
}

#[tokio::test]
async fn a_call_keeps_the_request_id_of_its_caller_and_gets_one_otherwise() {
    let scheduler = Scheduler::start().await;
    let mut request = tonic::Request::new(v1::ListTasksRequest::default());
    request
        .metadata_mut()
        .insert("x-request-id", "mine".parse().unwrap());
    let answer = scheduler.tasks().list_tasks(request).await.unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap(), "mine");
    let answer = scheduler
        .tasks()
        .list_tasks(v1::ListTasksRequest::default())
        .await
        .unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap().len(), 36);
    scheduler.end().await;
}
