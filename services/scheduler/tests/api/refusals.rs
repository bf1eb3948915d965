//! What breaks a rule is refused with the field that broke it, and nothing is stored.

use tasklease_proto::v1::{self, TaskState};
use tonic::Code;
use uuid::Uuid;

use crate::{
    calls::{invalid, refused, seconds, spec},
    scheduler::Scheduler,
};

#[tokio::test]
async fn a_submit_that_breaks_rules_names_all_of_them() {
    let scheduler = Scheduler::start().await;
    let mut tasks = scheduler.tasks();
    let none = tasks.submit_task(v1::SubmitTaskRequest { task: None }).await;
    assert_eq!(invalid(none), ["task"]);
    let broken = v1::TaskSpec {
        task_type: "no spaces".into(),
        priority: 101,
        run_timeout: seconds(-1),
        ..Default::default()
    };
    let answer = tasks
        .submit_task(v1::SubmitTaskRequest {
            task: Some(broken.clone()),
        })
        .await;
    let mut fields = invalid(answer);
    fields.sort();
    assert_eq!(fields, ["task.priority", "task.run_timeout", "task.task_type"]);

    let batch = v1::SubmitTasksRequest {
        tasks: vec![spec(), broken],
    };
    let fields = invalid(tasks.submit_tasks(batch).await);
    assert!(fields.contains(&"tasks[1].priority".to_owned()), "{fields:?}");
    for tasks_field in [vec![], vec![spec(); 1_001]] {
        let request = v1::SubmitTasksRequest { tasks: tasks_field };
        assert_eq!(invalid(tasks.submit_tasks(request).await), ["tasks"]);
    }
    let twice = v1::TaskSpec {
        task_id: Uuid::now_v7().to_string(),
        ..spec()
    };
    let request = v1::SubmitTasksRequest {
        tasks: vec![twice.clone(), twice],
    };
    assert_eq!(invalid(tasks.submit_tasks(request).await), ["tasks[1].task_id"]);
    let listed = tasks.list_tasks(v1::ListTasksRequest::default()).await.unwrap();
    assert!(listed.into_inner().tasks.is_empty());
    scheduler.end().await;
}

#[tokio::test]
async fn ids_that_are_none_and_ids_of_nothing_are_told_apart() {
    let scheduler = Scheduler::start().await;
    let mut tasks = scheduler.tasks();
    let unknown = Uuid::now_v7().to_string();
    for (id, is_id) in [("nonsense", false), ("", false), (unknown.as_str(), true)] {
        let task_id = id.to_owned();
        let check = |answer: Result<(), tonic::Status>| {
            if is_id {
                let metadata = refused(answer, Code::NotFound, "TASK_NOT_FOUND");
                assert_eq!(metadata.get("task_id"), Some(&task_id));
            } else {
                assert_eq!(invalid(answer), ["task_id"]);
            }
        };
        let get = v1::GetTaskRequest {
            task_id: task_id.clone(),
            ..Default::default()
        };
        check(tasks.get_task(get).await.map(drop));
        let cancel = v1::CancelTaskRequest {
            task_id: task_id.clone(),
            ..Default::default()
        };
        check(tasks.cancel_task(cancel).await.map(drop));
        let retry = v1::RetryTaskRequest {
            task_id: task_id.clone(),
        };
        check(tasks.retry_task(retry).await.map(drop));
        let delete = v1::DeleteTaskRequest {
            task_id: task_id.clone(),
        };
        check(tasks.delete_task(delete).await.map(drop));
        let watch = v1::WatchTaskRequest {
            task_id: task_id.clone(),
            ..Default::default()
        };
        check(tasks.watch_task(watch).await.map(drop));
    }
    scheduler.end().await;
}

#[tokio::test]
async fn other_calls_name_the_field_that_broke_a_rule() {
    let scheduler = Scheduler::start().await;
    let mut tasks = scheduler.tasks();
    let id = Uuid::now_v7().to_string();
    let cancel = |reason: &str, grace| v1::CancelTaskRequest {
        task_id: id.clone(),
        reason: reason.into(),
        grace,
    };
    let long = "x".repeat(1_001);
    assert_eq!(invalid(tasks.cancel_task(cancel(&long, None)).await), ["reason"]);
    assert_eq!(invalid(tasks.cancel_task(cancel("\0", None)).await), ["reason"]);
    for grace in [-1, 3_601] {
        assert_eq!(
            invalid(tasks.cancel_task(cancel("", seconds(grace))).await),
            ["grace"]
        );
    }
    for cursor in ["x", "1", "1.", "-1.0", "1.-1", "99999999999.1"] {
        let watch = v1::WatchTaskRequest {
            task_id: id.clone(),
            cursor: cursor.into(),
            ..Default::default()
        };
        assert_eq!(invalid(tasks.watch_task(watch).await), ["cursor"], "{cursor}");
    }
    let list = v1::ListTasksRequest {
        states: vec![TaskState::Failed.into(), 99],
        ..Default::default()
    };
    assert_eq!(invalid(tasks.list_tasks(list).await), ["states"]);
    for (queue, task_type, field) in [("a b", "", "queue"), ("", "a b", "task_type")] {
        let list = v1::ListTasksRequest {
            queue: queue.into(),
            task_type: task_type.into(),
            ..Default::default()
        };
        assert_eq!(invalid(tasks.list_tasks(list).await), [field]);
    }
    let mut queues = scheduler.queues();
    for name in ["", "a b"] {
        let queue = || name.to_owned();
        let pause = v1::PauseQueueRequest { queue: queue() };
        assert_eq!(invalid(queues.pause_queue(pause).await), ["queue"]);
        let resume = v1::ResumeQueueRequest { queue: queue() };
        assert_eq!(invalid(queues.resume_queue(resume).await), ["queue"]);
    }
    let stats = v1::GetQueueStatsRequest { queue: "a b".into() };
    assert_eq!(invalid(queues.get_queue_stats(stats).await), ["queue"]);
    scheduler.end().await;
}

#[tokio::test]
async fn pages_of_every_list_have_bounds() {
    let scheduler = Scheduler::start().await;
    for page_size in [-1, 1_001, i32::MIN] {
        let tasks = v1::ListTasksRequest {
            page_size,
            ..Default::default()
        };
        assert_eq!(invalid(scheduler.tasks().list_tasks(tasks).await), ["page_size"]);
        let queues = v1::ListQueuesRequest {
            page_size,
            ..Default::default()
        };
        assert_eq!(
            invalid(scheduler.queues().list_queues(queues).await),
            ["page_size"]
        );
        let workers = v1::ListWorkersRequest {
            page_size,
            ..Default::default()
        };
        assert_eq!(
            invalid(scheduler.workers().list_workers(workers).await),
            ["page_size"]
        );
    }
    for page_token in ["?", "ä"] {
        let page_token = page_token.to_owned();
        let tasks = v1::ListTasksRequest {
            page_token: page_token.clone(),
            ..Default::default()
        };
        assert_eq!(invalid(scheduler.tasks().list_tasks(tasks).await), ["page_token"]);
        let queues = v1::ListQueuesRequest {
            page_token: page_token.clone(),
            ..Default::default()
        };
        assert_eq!(
            invalid(scheduler.queues().list_queues(queues).await),
            ["page_token"]
        );
        let workers = v1::ListWorkersRequest {
            page_token,
            ..Default::default()
        };
        assert_eq!(
            invalid(scheduler.workers().list_workers(workers).await),
            ["page_token"]
        );
    }
    scheduler.end().await;
}

#[tokio::test]
async fn a_payload_beyond_the_limit_is_invalid_and_a_message_beyond_it_exhausts() {
    let scheduler = Scheduler::start().await;
    let submit = async |bytes: usize| {
        let text = format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes));
        let task = v1::TaskSpec {
            input: Some(v1::task_spec::Input::PayloadJson(text.into())),
            ..spec()
        };
        let request = v1::SubmitTaskRequest { task: Some(task) };
        scheduler.tasks().submit_task(request).await
    };
    submit((1 << 20) - 8).await.unwrap();
    assert_eq!(invalid(submit(1 << 20).await), ["task.payload_json"]);
    let status = submit(17 << 20).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    scheduler.end().await;
}
