//! WatchTask: a snapshot, every update in order, the end, and going on from a cursor.

use tasklease_proto::v1::task_service_client::TaskServiceClient;
use tasklease_proto::v1::{self, TaskState, report::Body, task_spec::Start, watch_task_response::Update};
use tonic::{Streaming, transport::Channel};

use crate::{
    calls::{cancel, seconds, spec, submit, submit_one},
    raw_worker::{RawWorker, failed, log, progress, report, succeeded},
    scheduler::{Scheduler, soon},
};

struct Watch(Streaming<v1::WatchTaskResponse>);

impl Watch {
    async fn open(mut tasks: TaskServiceClient<Channel>, id: &str, cursor: &str) -> Self {
        let request = v1::WatchTaskRequest {
            task_id: id.into(),
            cursor: cursor.into(),
            ..Default::default()
        };
        Self(tasks.watch_task(request).await.unwrap().into_inner())
    }

    async fn next(&mut self) -> Option<(String, Update)> {
        let message = soon("an update", self.0.message()).await.unwrap()?;
        Some((message.cursor, message.update.expect("an update says something")))
    }

    /// The next update in short, such as `changed RUNNING`.
    async fn short(&mut self) -> String {
        match self.next().await {
            None => "closed".into(),
            Some((_, update)) => short(&update),
        }
    }

    async fn rest(mut self) -> Vec<String> {
        let mut updates = Vec::new();
        while let Some((_, update)) = self.next().await {
            updates.push(short(&update));
        }
        updates
    }
}

fn short(update: &Update) -> String {
    let state = |task: &v1::Task| task.state().as_str_name().replace("TASK_STATE_", "");
    match update {
        Update::Snapshot(task) => format!("snapshot {}", state(task)),
        Update::Changed(task) => format!("changed {}", state(task)),
        Update::Progress(progress) => format!("progress {}", progress.message),
        Update::Log(line) => format!("log {}", line.message),
        Update::Ended(task) => format!("ended {}", state(task)),
        Update::Reconnect(_) => "reconnect".into(),
    }
}

#[tokio::test]
async fn a_watcher_sees_the_snapshot_every_update_and_the_end() {
    let scheduler = Scheduler::start().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    let id = submit_one(&scheduler).await;
    let mut watch = Watch::open(scheduler.tasks(), &id, "").await;
    assert_eq!(watch.short().await, "snapshot PENDING");
    let task = worker.take_one().await;
    assert_eq!(watch.short().await, "changed RUNNING");
    worker.report.tell(&task, progress(1, 10.0)).await;
    let Some((_, Update::Progress(seen))) = watch.next().await else {
        panic!("expected progress");
    };
    assert_eq!((seen.percent, seen.heading.as_str()), (Some(10.0), "a heading"));
    worker.report.tell(&task, log(2, "a line")).await;
    assert_eq!(watch.short().await, "log a line");
    worker
        .report
        .report(vec![report(&task, progress(3, 90.0)), report(&task, succeeded())])
        .await;
    assert_eq!(watch.short().await, "progress at 90");
    let Some((_, Update::Ended(ended))) = watch.next().await else {
        panic!("expected the end");
    };
    assert_eq!(ended.state(), TaskState::Succeeded);
    assert!(ended.result.is_some(), "the end carries the result");
    assert!(watch.next().await.is_none(), "the stream closes with OK");
    scheduler.end().await;
}

#[tokio::test]
async fn a_watch_goes_on_from_its_cursor_without_a_gap_or_a_repetition() {
    let scheduler = Scheduler::start().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    let id = submit_one(&scheduler).await;
    let task = worker.take_one().await;
    for number in 1..=3 {
        worker
            .report
            .tell(&task, log(number, &format!("line {number}")))
            .await;
    }
    let mut first = Watch::open(scheduler.tasks(), &id, "").await;
    assert_eq!(first.short().await, "snapshot RUNNING");
    assert_eq!(first.short().await, "log line 1");
    let (cursor, update) = first.next().await.unwrap();
    assert_eq!(short(&update), "log line 2");
    drop(first);
    worker.report.tell(&task, log(4, "line 4")).await;
    worker.report.tell(&task, succeeded()).await;
    let resumed = Watch::open(scheduler.tasks(), &id, &cursor).await;
    assert_eq!(
        resumed.rest().await,
        ["log line 3", "log line 4", "ended SUCCEEDED"]
    );
    let whole = Watch::open(scheduler.tasks(), &id, "").await;
    assert_eq!(
        whole.rest().await,
        [
            "log line 1",
            "log line 2",
            "log line 3",
            "log line 4",
            "ended SUCCEEDED"
        ],
        "no snapshot of a task that has ended"
    );
    scheduler.end().await;
}

#[tokio::test]
async fn a_retry_and_its_events_come_in_order() {
    let scheduler = Scheduler::start().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    let id = submit_one(&scheduler).await;
    let mut watch = Watch::open(scheduler.tasks(), &id, "").await;
    assert_eq!(watch.short().await, "snapshot PENDING");
    let task = worker.take_one().await;
    assert_eq!(watch.short().await, "changed RUNNING");
    let Body::Failed(failure) = failed(false) else {
        panic!("a failure");
    };
    let again = Body::Failed(v1::Failed {
        retry_after: seconds(0),
        ..failure
    });
    worker.report.tell(&task, log(1, "first")).await;
    worker.report.tell(&task, again).await;
    assert_eq!(watch.short().await, "log first");
    assert_eq!(watch.short().await, "changed PENDING");
    let task = worker.take_one().await;
    assert_eq!((task.attempt, task.lease_token), (2, 2));
    assert_eq!(watch.short().await, "changed RUNNING");
    worker.report.tell(&task, log(1, "second")).await;
    assert_eq!(watch.short().await, "log second");
    worker.report.tell(&task, failed(true)).await;
    assert_eq!(watch.short().await, "ended FAILED");
    assert_eq!(watch.short().await, "closed");
    scheduler.end().await;
}

#[tokio::test]
async fn every_update_says_to_which_run_it_belongs_and_when_the_worker_said_it() {
    let scheduler = Scheduler::start().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    let id = submit_one(&scheduler).await;
    let first = worker.take_one().await;
    let mut line = log(1, "a line");
    let said = prost_types::Timestamp::from(std::time::SystemTime::now());
    if let Body::Log(report) = &mut line
        && let Some(line) = &mut report.line
    {
        line.worker_time = Some(said);
    }
    worker.report.tell(&first, line).await;
    let again = Body::Failed(v1::Failed {
        retry_after: seconds(0),
        ..Default::default()
    });
    worker.report.tell(&first, again).await;
    let second = worker.take_one().await;
    worker.report.tell(&second, progress(1, 1.0)).await;
    worker.report.tell(&second, succeeded()).await;
    let mut watch = Watch::open(scheduler.tasks(), &id, "").await;
    let mut runs = Vec::new();
    while let Some(message) = soon("an update", watch.0.message()).await.unwrap() {
        let update = message.update.expect("an update says something");
        if let Update::Log(line) = &update {
            let kept = line.worker_time.expect("the worker's time");
            assert_eq!(
                (kept.seconds, kept.nanos / 1_000),
                (said.seconds, said.nanos / 1_000)
            );
            assert!(line.time.is_some());
        }
        runs.push((short(&update), message.lease_token, message.attempt));
    }
    assert_eq!(
        runs,
        [
            ("log a line".to_owned(), 1, 1),
            ("progress at 1".to_owned(), 2, 2),
            ("ended SUCCEEDED".to_owned(), 2, 2)
        ]
    );
    scheduler.end().await;
}

#[tokio::test]
async fn every_watcher_sees_the_same_on_every_replica() {
    let scheduler = Scheduler::start().await;
    let replica = scheduler.replica().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    let id = submit_one(&scheduler).await;
    let task = worker.take_one().await;
    let mut watches = Vec::new();
    for tasks in [scheduler.tasks(), scheduler.tasks(), replica.tasks()] {
        let mut watch = Watch::open(tasks, &id, "").await;
        assert_eq!(watch.short().await, "snapshot RUNNING");
        watches.push(watch);
    }
    worker.report.tell(&task, progress(1, 50.0)).await;
    worker.report.tell(&task, succeeded()).await;
    for watch in watches {
        assert_eq!(watch.rest().await, ["progress at 50", "ended SUCCEEDED"]);
    }
    replica.end().await;
    scheduler.end().await;
}

#[tokio::test]
async fn a_cancel_is_seen_as_a_change_and_then_as_the_end() {
    let scheduler = Scheduler::start().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    let id = submit_one(&scheduler).await;
    let task = worker.take_one().await;
    let mut watch = Watch::open(scheduler.tasks(), &id, "").await;
    assert_eq!(watch.short().await, "snapshot RUNNING");
    cancel(&scheduler, &id).await.unwrap();
    let Some((_, Update::Changed(changed))) = watch.next().await else {
        panic!("expected a change");
    };
    assert!(changed.cancel_requested);
    let notice = worker.report.next().await.unwrap();
    assert!(
        matches!(
            &notice,
            Some(v1::report_progress_response::Message::Cancels(batch))
                if batch.cancels[0].reason == "enough"
        ),
        "{notice:?}"
    );
    let stopped = Body::Cancelled(v1::Cancelled::default());
    worker.report.tell(&task, stopped).await;
    assert_eq!(watch.rest().await, ["ended CANCELLED"]);
    scheduler.end().await;
}

#[tokio::test]
async fn a_delayed_task_is_seen_to_become_pending() {
    let scheduler = Scheduler::start().await;
    let delayed = v1::TaskSpec {
        start: Some(Start::Delay(prost_types::Duration {
            seconds: 0,
            nanos: 200_000_000,
        })),
        ..spec()
    };
    let id = submit(&scheduler, delayed).await.id;
    let mut watch = Watch::open(scheduler.tasks(), &id, "").await;
    let mut seen = watch.short().await;
    if seen == "snapshot SCHEDULED" {
        seen = watch.short().await;
        assert_eq!(seen, "changed PENDING");
    }
    assert!(seen.ends_with("PENDING"));
    scheduler.end().await;
}

#[tokio::test]
async fn the_watch_of_a_waiting_task_that_is_cancelled_ends_with_it() {
    let scheduler = Scheduler::start().await;
    let id = submit_one(&scheduler).await;
    let watch = Watch::open(scheduler.tasks(), &id, "").await;
    cancel(&scheduler, &id).await.unwrap();
    let last = watch.rest().await.pop().unwrap();
    assert_eq!(last, "ended CANCELLED");
    scheduler.end().await;
}

#[tokio::test]
async fn watchers_are_asked_to_come_again_when_the_scheduler_stops() {
    let scheduler = Scheduler::start().await;
    let id = submit_one(&scheduler).await;
    let mut watch = Watch::open(scheduler.tasks(), &id, "").await;
    assert_eq!(watch.short().await, "snapshot PENDING");
    scheduler.shutdown.trigger_soft();
    assert_eq!(watch.short().await, "reconnect");
    assert_eq!(watch.short().await, "closed");
    scheduler.end().await;
}

#[tokio::test]
async fn a_connection_with_a_thousand_watches_has_room_for_calls() {
    let scheduler = Scheduler::start().await;
    let id = submit_one(&scheduler).await;
    let mut watches = Vec::new();
    for _ in 0..1_001 {
        let mut watch = Watch::open(scheduler.tasks(), &id, "").await;
        assert_eq!(watch.short().await, "snapshot PENDING");
        watches.push(watch);
    }
    soon("a call beside them", submit_one(&scheduler)).await;
    scheduler.end().await;
}
