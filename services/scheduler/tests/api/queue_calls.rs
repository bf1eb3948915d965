//! QueueService.

use tasklease_proto::v1::{self, task_spec::Start};

use crate::{
    calls::{seconds, spec, submit, submit_one},
    raw_worker::{RawWorker, hello},
    scheduler::Scheduler,
};

#[tokio::test]
async fn queues_are_listed_by_name_page_by_page() {
    let scheduler = Scheduler::start().await;
    for queue in ["b", "a", "c"] {
        submit(
            &scheduler,
            v1::TaskSpec {
                queue: queue.into(),
                ..spec()
            },
        )
        .await;
    }
    let mut names = Vec::new();
    let mut request = v1::ListQueuesRequest {
        page_size: 2,
        ..Default::default()
    };
    loop {
        let response = scheduler
            .queues()
            .list_queues(request.clone())
            .await
            .unwrap()
            .into_inner();
        names.extend(response.queues.into_iter().map(|queue| queue.name));
        if response.next_page_token.is_empty() {
            break;
        }
        request.page_token = response.next_page_token;
    }
    assert_eq!(names, ["a", "b", "c"]);
    scheduler.end().await;
}

#[tokio::test]
async fn counts_follow_tasks_and_workers() {
    let scheduler = Scheduler::start().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    for _ in 0..3 {
        submit_one(&scheduler).await;
    }
    submit(
        &scheduler,
        v1::TaskSpec {
            start: seconds(3_600).map(Start::Delay),
            ..spec()
        },
    )
    .await;
    worker.take_one().await;
    let request = v1::GetQueueStatsRequest {
        queue: "default".into(),
    };
    let stats = scheduler
        .queues()
        .get_queue_stats(request)
        .await
        .unwrap()
        .into_inner()
        .stats;
    assert_eq!(stats.len(), 1);
    let stats = &stats[0];
    assert_eq!((stats.queue.as_str(), stats.task_type.as_str()), ("default", "t"));
    assert_eq!((stats.scheduled, stats.pending, stats.running), (1, 2, 1));
    assert_eq!((stats.workers, stats.exact, stats.paused), (1, true, false));
    let all = v1::GetQueueStatsRequest::default();
    let stats = scheduler.queues().get_queue_stats(all).await.unwrap();
    assert_eq!(stats.into_inner().stats.len(), 1);
    scheduler.end().await;
}

#[tokio::test]
async fn a_paused_queue_hands_nothing_out_until_it_is_resumed() {
    let scheduler = Scheduler::start().await;
    // Before its first lane exists, and then with a lane that a worker takes from.
    set_paused(&scheduler, true).await;
    let hello = v1::WorkerHello {
        queues: vec!["held".into(), "default".into()],
        ..hello()
    };
    let mut worker = RawWorker::connect_as(&scheduler.channel, hello).await;
    worker.claim.credit(4).await;
    for _ in 0..2 {
        let held = submit(
            &scheduler,
            v1::TaskSpec {
                queue: "held".into(),
                ..spec()
            },
        )
        .await
        .id;
        let free = submit_one(&scheduler).await;
        let task = worker.claim.leases(1).await.remove(0);
        assert_eq!(task.task_id, free);
        set_paused(&scheduler, false).await;
        let task = worker.claim.leases(1).await.remove(0);
        assert_eq!((task.task_id, task.queue.as_str()), (held, "held"));
        set_paused(&scheduler, true).await;
    }
    scheduler.end().await;
}

/// Pauses the queue `held`, or resumes it.
async fn set_paused(scheduler: &Scheduler, paused: bool) {
    let (mut queues, queue) = (scheduler.queues(), "held".to_owned());
    let answer = if paused {
        let request = v1::PauseQueueRequest { queue };
        queues.pause_queue(request).await.unwrap().into_inner().queue
    } else {
        let request = v1::ResumeQueueRequest { queue };
        queues.resume_queue(request).await.unwrap().into_inner().queue
    };
    assert_eq!(answer.unwrap().paused, paused);
}

#[tokio::test]
async fn whoever_saw_a_task_end_finds_it_counted() {
    let scheduler = Scheduler::start().await;
    let id = submit_one(&scheduler).await;
    scheduler
        .tasks()
        .cancel_task(v1::CancelTaskRequest {
            task_id: id,
            ..Default::default()
        })
        .await
        .unwrap();
    let stats = scheduler
        .queues()
        .get_queue_stats(v1::GetQueueStatsRequest::default())
        .await
        .unwrap()
        .into_inner()
        .stats;
    assert_eq!(stats.iter().map(|lane| lane.cancelled).sum::<i64>(), 1);
    scheduler.end().await;
}
