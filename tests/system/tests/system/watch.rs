//! Every watcher sees the whole stream, in order, on any replica.

use futures_util::StreamExt as _;
use serde_json::json;
use tasklease_proto::v1::{
    LogLevel, LogLine, LogReport, Progress, ProgressReport, TaskState, WatchTaskRequest, WatchTaskResponse,
    report::Body, watch_task_response::Update,
};
use tasklease_tests::{Answer, Database, RawWorker, Scheduler, in_time, spec, succeeded};
use tonic::Streaming;

const STEPS: i64 = 20;

/// A watch through the bare client, which reconnects to nothing.
async fn watch(scheduler: &Scheduler, task_id: &str, cursor: &str) -> Streaming<WatchTaskResponse> {
    let request = WatchTaskRequest {
        task_id: task_id.to_owned(),
        cursor: cursor.to_owned(),
        ..Default::default()
    };
    scheduler.tasks().watch_task(request).await.unwrap().into_inner()
}

async fn rest(mut updates: Streaming<WatchTaskResponse>) -> Vec<WatchTaskResponse> {
    in_time("the end of a watch", async {
        let mut seen = Vec::new();
        while let Some(update) = updates.next().await {
            seen.push(update.unwrap());
        }
        seen
    })
    .await
}

/// The percentages of the progress reports among these updates.
fn steps(updates: &[WatchTaskResponse]) -> Vec<i64> {
    updates
        .iter()
        .filter_map(|update| match &update.update {
            Some(Update::Progress(progress)) => Some(progress.percent.unwrap() as i64),
            _ => None,
        })
        .collect()
}

fn has_ended(update: Option<&WatchTaskResponse>) -> bool {
    matches!(update.unwrap().update, Some(Update::Ended(_)))
}

fn progress(step: i64) -> Body {
    Body::Progress(ProgressReport {
        event_number: step,
        progress: Some(Progress {
            percent: Some(step as f64),
            message: format!("step {step}"),
            ..Progress::default()
        }),
    })
}

#[tokio::test]
async fn watchers_on_two_replicas_each_see_everything_in_order_and_late_ones_too() {
    let database = Database::create().await;
    let one = Scheduler::start(&database.url()).await;
    let two = Scheduler::start(&database.url()).await;
    let client = one.client();
    let mut worker = RawWorker::with_credit(&one, "t", 1).await;
    let id = client.submit(spec("t")).await.unwrap().id;
    let lease = worker.next_accepted().await;
    let early = [
        watch(&one, &id, "").await,
        watch(&one, &id, "").await,
        watch(&two, &id, "").await,
    ];

    for step in 1..STEPS {
        assert_eq!(worker.report(&lease, progress(step)).await, Ok(Answer::Stored));
    }
    let late = [watch(&one, &id, "").await, watch(&two, &id, "").await];
    worker.report(&lease, progress(STEPS)).await.unwrap();
    worker.report(&lease, succeeded(&json!({}))).await.unwrap();

    let all: Vec<i64> = (1..=STEPS).collect();
    for updates in early.into_iter().chain(late) {
        let seen = rest(updates).await;
        assert!(
            matches!(seen[0].update, Some(Update::Snapshot(_))),
            "{:?}",
            seen[0]
        );
        assert_eq!(steps(&seen), all);
        assert!(has_ended(seen.last()));
    }
}

#[tokio::test]
async fn a_watch_of_a_finished_task_gives_its_history_and_ends_at_once() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let mut worker = RawWorker::with_credit(&scheduler, "t", 1).await;
    let id = scheduler.client().submit(spec("t")).await.unwrap().id;
    let lease = worker.next_accepted().await;
    worker.report(&lease, progress(1)).await.unwrap();
    let line = LogLine {
        level: LogLevel::Info.into(),
        message: "half of it".to_owned(),
        ..LogLine::default()
    };
    let line = Body::Log(LogReport {
        event_number: 2,
        line: Some(line),
    });
    worker.report(&lease, line).await.unwrap();
    worker
        .report(&lease, succeeded(&json!({ "a": 1 })))
        .await
        .unwrap();

    let seen = rest(watch(&scheduler, &id, "").await).await;

    assert_eq!(steps(&seen), [1]);
    assert!(seen.iter().any(|update| {
        matches!(&update.update, Some(Update::Log(line)) if line.message == "half of it" && line.time.is_some())
    }));
    let Some(Update::Ended(task)) = &seen.last().unwrap().update else {
        panic!("{seen:?}");
    };
    assert_eq!(task.state(), TaskState::Succeeded);
    assert!(task.result.is_some());
    assert_eq!(task.progress.as_ref().unwrap().message, "step 1");
}

#[tokio::test]
async fn a_watch_resumed_on_another_replica_misses_and_repeats_nothing() {
    let database = Database::create().await;
    let one = Scheduler::start(&database.url()).await;
    let two = Scheduler::start(&database.url()).await;
    let mut worker = RawWorker::with_credit(&one, "t", 1).await;
    let id = one.client().submit(spec("t")).await.unwrap().id;
    let lease = worker.next_accepted().await;
    for step in 1..=STEPS {
        worker.report(&lease, progress(step)).await.unwrap();
    }

    // Every watch takes one more step and breaks off; the next goes on elsewhere.
    let (mut cursor, mut seen) = (String::new(), Vec::new());
    for turn in 0..STEPS {
        let replica = if turn % 2 == 0 { &one } else { &two };
        let mut updates = watch(replica, &id, &cursor).await;
        while let Some(update) = in_time("an update", updates.next()).await {
            let update = update.unwrap();
            let taken = steps(std::slice::from_ref(&update));
            cursor = update.cursor;
            if !taken.is_empty() {
                seen.extend(taken);
                break;
            }
        }
    }

    assert_eq!(seen, (1..=STEPS).collect::<Vec<_>>());
    worker.report(&lease, succeeded(&json!({}))).await.unwrap();
    let last = rest(watch(&two, &id, &cursor).await).await;
    assert_eq!(steps(&last), [0; 0]);
    assert!(has_ended(last.last()));
}

#[tokio::test]
async fn a_report_that_is_sent_again_is_shown_once() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let mut worker = RawWorker::with_credit(&scheduler, "t", 1).await;
    let id = scheduler.client().submit(spec("t")).await.unwrap().id;
    let lease = worker.next_accepted().await;

    for step in [1, 2, 1, 2, 3, 3] {
        assert_eq!(worker.report(&lease, progress(step)).await, Ok(Answer::Stored));
    }
    for _ in 0..2 {
        let answer = worker.report(&lease, succeeded(&json!({}))).await;
        assert_eq!(answer, Ok(Answer::Stored));
    }

    let seen = rest(watch(&scheduler, &id, "").await).await;
    assert_eq!(steps(&seen), [1, 2, 3]);
}
