//! Pages and filters of lists.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tasklease_proto::v1::{self, TaskState, task_spec::Start};
use uuid::Uuid;

use crate::{
    calls::{cancel, invalid, seconds, spec, submit, submit_one},
    raw_worker::{RawWorker, failed, hello, succeeded},
    scheduler::Scheduler,
};

async fn page(scheduler: &Scheduler, request: &v1::ListTasksRequest) -> v1::ListTasksResponse {
    scheduler
        .tasks()
        .list_tasks(request.clone())
        .await
        .unwrap()
        .into_inner()
}

/// The ids on all pages.
async fn all(scheduler: &Scheduler, mut request: v1::ListTasksRequest) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let response = page(scheduler, &request).await;
        ids.extend(response.tasks.into_iter().map(|task| task.id));
        if response.next_page_token.is_empty() {
            return ids;
        }
        request.page_token = response.next_page_token;
    }
}

#[tokio::test]
async fn pages_together_hold_every_task_once_newest_first() {
    let scheduler = Scheduler::start().await;
    let mut ids = Vec::new();
    for _ in 0..7 {
        ids.push(submit_one(&scheduler).await);
    }
    ids.reverse();
    for page_size in [1, 2, 3, 6, 7, 8, 0] {
        let request = v1::ListTasksRequest {
            page_size,
            ..Default::default()
        };
        assert_eq!(all(&scheduler, request).await, ids, "pages of {page_size}");
    }
    let exact = v1::ListTasksRequest {
        page_size: 7,
        ..Default::default()
    };
    assert!(page(&scheduler, &exact).await.next_page_token.is_empty());
    scheduler.end().await;
}

#[tokio::test]
async fn a_page_token_works_for_its_own_filters_only() {
    let scheduler = Scheduler::start().await;
    submit_one(&scheduler).await;
    submit_one(&scheduler).await;
    let first = v1::ListTasksRequest {
        page_size: 1,
        task_type: "t".into(),
        ..Default::default()
    };
    let token = page(&scheduler, &first).await.next_page_token;
    let other = v1::ListTasksRequest {
        page_token: token,
        task_type: "u".into(),
        ..first
    };
    assert_eq!(invalid(scheduler.tasks().list_tasks(other).await), ["page_token"]);
    scheduler.end().await;
}

#[tokio::test]
async fn filters_by_state_type_and_queue_find_what_they_name() {
    let scheduler = Scheduler::start().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    let mut ended = Vec::new();
    for body in [succeeded(), failed(true)] {
        let id = submit_one(&scheduler).await;
        let task = worker.take_one().await;
        worker.report.tell(&task, body).await;
        ended.push(id);
    }
    let running = submit_one(&scheduler).await;
    worker.take_one().await;
    let cancelled = submit_one(&scheduler).await;
    cancel(&scheduler, &cancelled).await.unwrap();
    let pending = submit(
        &scheduler,
        v1::TaskSpec {
            queue: "q2".into(),
            ..spec()
        },
    )
    .await
    .id;
    let scheduled = submit(
        &scheduler,
        v1::TaskSpec {
            task_type: "u".into(),
            start: seconds(3_600).map(Start::Delay),
            ..spec()
        },
    )
    .await
    .id;
    let by_state = |states: &[TaskState]| v1::ListTasksRequest {
        states: states.iter().map(|state| i32::from(*state)).collect(),
        page_size: 1,
        ..Default::default()
    };
    for (state, id) in [
        (TaskState::Succeeded, &ended[0]),
        (TaskState::Failed, &ended[1]),
        (TaskState::Running, &running),
        (TaskState::Cancelled, &cancelled),
        (TaskState::Pending, &pending),
        (TaskState::Scheduled, &scheduled),
    ] {
        assert_eq!(
            all(&scheduler, by_state(&[state])).await,
            std::slice::from_ref(id),
            "{state:?}"
        );
    }
    assert!(all(&scheduler, by_state(&[TaskState::Blocked])).await.is_empty());
    let two = by_state(&[TaskState::Failed, TaskState::Running]);
    assert_eq!(all(&scheduler, two).await, [running.clone(), ended[1].clone()]);
    let by_queue = v1::ListTasksRequest {
        queue: "q2".into(),
        ..Default::default()
    };
    assert_eq!(all(&scheduler, by_queue).await, [pending]);
    let by_type = v1::ListTasksRequest {
        task_type: "u".into(),
        ..Default::default()
    };
    assert_eq!(all(&scheduler, by_type.clone()).await, [scheduled]);
    let both = v1::ListTasksRequest {
        states: vec![TaskState::Failed.into()],
        ..by_type
    };
    assert!(all(&scheduler, both).await.is_empty());
    scheduler.end().await;
}

#[tokio::test]
async fn a_list_leaves_payloads_and_results_out() {
    let scheduler = Scheduler::start().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    submit_one(&scheduler).await;
    let task = worker.take_one().await;
    worker.report.tell(&task, succeeded()).await;
    let listed = page(&scheduler, &v1::ListTasksRequest::default()).await.tasks;
    assert!(listed[0].payload.is_none() && listed[0].result.is_none());
    scheduler.end().await;
}

#[tokio::test]
async fn workers_are_listed_page_by_page_with_what_they_said_of_themselves() {
    let scheduler = Scheduler::start().await;
    let mut sessions = Vec::new();
    let mut streams = Vec::new();
    for n in 0..3 {
        let hello = v1::WorkerHello {
            name: format!("worker {n}"),
            labels: [("zone".to_owned(), "a".to_owned())].into(),
            queues: vec!["default".into(), "other".into()],
            ..hello()
        };
        let worker = RawWorker::connect_as(&scheduler.channel, hello).await;
        sessions.push(worker.session.clone());
        streams.push(worker);
    }
    sessions.sort();
    submit_one(&scheduler).await;
    let busy = streams[0].session.clone();
    streams[0].take_one().await;
    let mut found = Vec::new();
    let mut request = v1::ListWorkersRequest {
        page_size: 2,
        ..Default::default()
    };
    loop {
        let response = scheduler
            .workers()
            .list_workers(request.clone())
            .await
            .unwrap()
            .into_inner();
        found.extend(response.workers);
        if response.next_page_token.is_empty() {
            break;
        }
        request.page_token = response.next_page_token;
    }
    let ids: Vec<String> = found.iter().map(|worker| worker.session_id.clone()).collect();
    assert_eq!(ids, sessions);
    for worker in &found {
        assert_eq!(worker.running, i32::from(worker.session_id == busy));
        assert_eq!((worker.slots, worker.incarnation.as_str()), (10, "1"));
        assert_eq!(worker.queues, ["default", "other"]);
        assert!(worker.create_time.is_some() && worker.heartbeat_time.is_some());
        assert!(Uuid::try_parse(&worker.session_id).is_ok() && !worker.scheduler.is_empty());
    }
    scheduler.end().await;
}

#[tokio::test]
async fn a_task_type_whose_lane_is_gone_can_be_submitted_again() {
    let scheduler = Scheduler::start().await;
    submit_one(&scheduler).await;
    let database = scheduler.database.connect().await;
    for table in ["lane_span", "ready", "task", "lane"] {
        database
            .execute(&format!("DELETE FROM tasklease.{table}"), &[])
            .await
            .unwrap();
    }
    // An id of another time than the last one, as it is bound to be when a lane is gone.
    let hour_ago = SystemTime::now() - Duration::from_secs(3_600);
    let millis = hour_ago.duration_since(UNIX_EPOCH).unwrap().as_millis();
    let id = Uuid::from_u128(millis << 80 | 7 << 76 | 8 << 60 | 1).to_string();
    let spec = v1::TaskSpec {
        task_id: id.clone(),
        ..spec()
    };
    submit(&scheduler, spec).await;
    let of_type = v1::ListTasksRequest {
        task_type: "t".into(),
        ..Default::default()
    };
    assert_eq!(all(&scheduler, of_type).await, [id.as_str()]);
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    assert_eq!(worker.take_one().await.task_id, id);
    scheduler.end().await;
}
