//! What was accepted can be read by a client with its library's defaults, messages of 4 MiB, and says exactly the same.

use std::collections::HashSet;

use prost::Message as _;
use tasklease_proto::{
    json::struct_from_json,
    v1::{self, PayloadFormat, task_spec::Input, watch_task_response::Update},
};

use crate::{
    calls::{cancel, get, spec, submit, submit_one},
    raw_worker::{RawWorker, progress, report, succeeded},
    scheduler::{Scheduler, soon},
};

/// Bytes that every answer stays below, well below what clients accept.
const MOST: usize = 3 << 20;

fn with_json(text: &str) -> v1::TaskSpec {
    v1::TaskSpec {
        input: Some(Input::PayloadJson(text.to_owned().into())),
        ..spec()
    }
}

async fn read(scheduler: &Scheduler, id: &str, format: PayloadFormat) -> v1::Task {
    let request = v1::GetTaskRequest {
        task_id: id.into(),
        payload_format: format.into(),
    };
    let response = scheduler.tasks().get_task(request).await.unwrap().into_inner();
    assert!(response.encoded_len() < MOST);
    response.task.unwrap()
}

#[tokio::test]
async fn a_page_is_closed_by_its_bytes_and_the_next_one_goes_on() {
    let scheduler = Scheduler::start().await;
    let large = v1::TaskSpec {
        description: "\u{1f980}".repeat(10_000),
        ..spec()
    };
    let mut ids = HashSet::new();
    for _ in 0..5 {
        let tasks = vec![large.clone(); 40];
        let request = v1::SubmitTasksRequest { tasks };
        ids.extend(
            scheduler
                .tasks()
                .submit_tasks(request)
                .await
                .unwrap()
                .into_inner()
                .task_ids,
        );
    }
    let mut request = v1::ListTasksRequest {
        page_size: 1_000,
        ..Default::default()
    };
    let mut pages = 0;
    loop {
        let page = scheduler
            .tasks()
            .list_tasks(request.clone())
            .await
            .unwrap()
            .into_inner();
        assert!(page.encoded_len() < MOST, "{} bytes", page.encoded_len());
        for task in page.tasks {
            assert!(ids.remove(&task.id), "a task comes once");
        }
        pages += 1;
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert!(ids.is_empty(), "every task came");
    assert_eq!(pages, 3, "200 tasks of 40 kB");
    scheduler.end().await;
}

#[tokio::test]
async fn lists_leave_out_what_only_a_view_of_one_task_shows() {
    let scheduler = Scheduler::start().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    let id = submit_one(&scheduler).await;
    let task = worker.take_one().await;
    let card = v1::report::Body::Progress(v1::ProgressReport {
        event_number: 1,
        progress: Some(v1::Progress {
            message: "a message".into(),
            heading: "a heading".into(),
            body: "a body".into(),
            image: "https://example.org/".into(),
            detail: Some(struct_from_json(r#"{"a":1}"#).unwrap()),
            ..Default::default()
        }),
    });
    let failure = v1::report::Body::Failed(v1::Failed {
        error: Some(v1::TaskError {
            kind: "E".into(),
            message: "m".into(),
            detail: "a trace".into(),
        }),
        non_retryable: true,
        retry_after: None,
    });
    worker.report.tell(&task, card).await;
    worker.report.tell(&task, failure).await;
    let whole = get(&scheduler, &id).await.task.unwrap();
    let seen = whole.progress.unwrap();
    assert_eq!((seen.body.as_str(), seen.detail.is_some()), ("a body", true));
    assert_eq!(whole.error.unwrap().detail, "a trace");
    let page = scheduler
        .tasks()
        .list_tasks(v1::ListTasksRequest::default())
        .await;
    let listed = page.unwrap().into_inner().tasks.remove(0);
    let seen = listed.progress.unwrap();
    assert_eq!(
        (seen.message.as_str(), seen.heading.as_str()),
        ("a message", "a heading")
    );
    assert_eq!(
        (seen.body.as_str(), seen.image.as_str(), seen.detail),
        ("", "", None)
    );
    let error = listed.error.unwrap();
    assert_eq!(
        (error.kind.as_str(), error.message.as_str(), error.detail.as_str()),
        ("E", "m", "")
    );
    scheduler.end().await;
}

#[tokio::test]
async fn a_payload_that_a_struct_would_change_comes_as_text() {
    let scheduler = Scheduler::start().await;
    let text = r#"{ "id": 9007199254740993, "a": 1e400 }"#;
    let id = submit(&scheduler, with_json(text)).await.id;
    for format in [PayloadFormat::Unspecified, PayloadFormat::Json] {
        let task = read(&scheduler, &id, format).await;
        assert_eq!(
            (task.payload, task.payload_json.as_ref()),
            (None, text.as_bytes())
        );
    }
    let plain = submit(&scheduler, with_json(r#"{"a":1.5}"#)).await.id;
    let task = read(&scheduler, &plain, PayloadFormat::Unspecified).await;
    assert_eq!(task.payload, struct_from_json(r#"{"a":1.5}"#).ok());
    assert!(task.payload_json.is_empty());
    let task = read(&scheduler, &plain, PayloadFormat::Json).await;
    assert_eq!(
        (task.payload, task.payload_json.as_ref()),
        (None, &br#"{"a":1.5}"#[..])
    );
    scheduler.end().await;
}

#[tokio::test]
async fn a_payload_and_a_result_of_many_numbers_fit_into_an_answer() {
    let scheduler = Scheduler::start().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    let text = format!("{{\"n\":[{}1]}}", "1,".repeat(500_000));
    let id = submit(&scheduler, with_json(&text)).await.id;
    let task = worker.take_one().await;
    let result = v1::report::Body::Succeeded(v1::Succeeded {
        output: Some(v1::succeeded::Output::ResultJson(text.clone().into())),
    });
    worker.report.tell(&task, result).await;
    let task = read(&scheduler, &id, PayloadFormat::Unspecified).await;
    assert_eq!((task.payload, task.payload_json.len()), (None, text.len()));
    assert_eq!((task.result, task.result_json.len()), (None, text.len()));
    let request = v1::WatchTaskRequest {
        task_id: id,
        ..Default::default()
    };
    let mut updates = scheduler.tasks().watch_task(request).await.unwrap().into_inner();
    let last = soon("the end", updates.message()).await.unwrap().unwrap();
    assert!(last.encoded_len() < MOST);
    let Some(Update::Ended(ended)) = last.update else {
        panic!("expected the end");
    };
    assert_eq!(ended.result_json.len(), text.len());
    scheduler.end().await;
}

#[tokio::test]
async fn long_traces_of_many_runs_fit_into_an_answer() {
    let scheduler = Scheduler::start().await;
    let id = submit_one(&scheduler).await;
    let database = scheduler.database.connect().await;
    database
        .execute(
            "INSERT INTO tasklease.run (task_id, lease_token, outcome, final, attempt, started_at, finished_at, worker,
                                        error_type, error_message, error_detail)
             SELECT $1::text::uuid, n, 2, n = 100, n, now(), now(), 'w', 'E', 'm', repeat('\u{1f980}', 16000)
             FROM generate_series(1, 100) AS n",
            &[&id],
        )
        .await
        .unwrap();
    let answer = get(&scheduler, &id).await;
    assert!(answer.encoded_len() < MOST);
    assert_eq!(answer.runs.len(), 100, "only details are too much");
    let attempts: Vec<i32> = answer.runs.iter().map(|run| run.attempt).collect();
    assert!(attempts.is_sorted());
    let detail = |run: &v1::Run| run.error.as_ref().map_or(0, |error| error.detail.len());
    assert_eq!((detail(&answer.runs[0]), detail(&answer.runs[99])), (0, 64_000));
    scheduler.end().await;
}

#[tokio::test]
async fn the_reason_of_a_cancel_is_returned_wherever_the_task_is() {
    let scheduler = Scheduler::start().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    let id = submit_one(&scheduler).await;
    let task = worker.take_one().await;
    let asked = cancel(&scheduler, &id).await.unwrap();
    assert_eq!(
        (asked.cancel_requested, asked.cancel_reason.as_str()),
        (true, "enough")
    );
    let notice = worker.report.next().await.unwrap();
    assert!(matches!(
        notice,
        Some(v1::report_progress_response::Message::Cancels(_))
    ));
    let stopped = v1::report::Body::Cancelled(v1::Cancelled::default());
    worker.report.tell(&task, stopped).await;
    let answer = get(&scheduler, &id).await;
    assert_eq!(answer.runs[0].cancel_reason, "enough");
    assert_eq!(answer.task.unwrap().cancel_reason, "enough");
    let waiting = v1::TaskSpec {
        task_type: "nobody".into(),
        ..spec()
    };
    let waiting = submit(&scheduler, waiting).await.id;
    assert_eq!(
        cancel(&scheduler, &waiting).await.unwrap().cancel_reason,
        "enough"
    );
    let page = scheduler
        .tasks()
        .list_tasks(v1::ListTasksRequest::default())
        .await;
    for task in page.unwrap().into_inner().tasks {
        assert_eq!(task.cancel_reason, "enough");
    }
    scheduler.end().await;
}

#[tokio::test]
async fn a_watcher_that_does_not_read_does_not_keep_a_scheduler_from_stopping() {
    let scheduler = Scheduler::start().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    let id = submit_one(&scheduler).await;
    let task = worker.take_one().await;
    let image = format!("data:,{}", "x".repeat(60_000));
    for batch in 0..20_i64 {
        let card = |number: i64| {
            let mut body = progress(batch * 20 + number, 1.0);
            if let v1::report::Body::Progress(report) = &mut body
                && let Some(progress) = &mut report.progress
            {
                progress.image.clone_from(&image);
            }
            report(&task, body)
        };
        worker.report.report((1..=20).map(card).collect()).await;
    }
    let request = v1::WatchTaskRequest {
        task_id: id,
        ..Default::default()
    };
    let channel = scheduler.connect().await;
    let mut tasks = v1::task_service_client::TaskServiceClient::new(channel);
    let mut updates = tasks.watch_task(request).await.unwrap().into_inner();
    let first = soon("the snapshot", updates.message()).await.unwrap().unwrap();
    assert!(matches!(first.update, Some(Update::Snapshot(_))));
    worker.report.tell(&task, succeeded()).await;
    drop(worker);
    // 24 MB wait to be read, far more than fits between here and there.
    let Scheduler {
        channel,
        served,
        database,
        shutdown,
        ..
    } = scheduler;
    drop(channel);
    shutdown.trigger_soft();
    let mut last = None;
    while let Ok(Some(update)) = soon("the end of the stream", updates.message()).await {
        last = update.update;
    }
    assert!(
        !matches!(last, Some(Update::Ended(_))),
        "the stream was given up before all was sent: {last:?}"
    );
    drop((updates, tasks));
    soon("the end of a soft stop", served).await.unwrap().unwrap();
    database.drop().await;
}

#[tokio::test]
async fn a_page_of_workers_is_closed_by_its_bytes() {
    let scheduler = Scheduler::start().await;
    let database = scheduler.database.connect().await;
    database
        .execute(
            "INSERT INTO tasklease.session (id, name, incarnation, task_types, queues, labels, slots, scheduler, expires_at)
             SELECT gen_random_uuid(), 'w', 'i', array_fill(repeat('t', 128), ARRAY[1000]), '{default}', '{}', 1, 's',
                    now() + interval '1 hour'
             FROM generate_series(1, 60) AS n",
            &[],
        )
        .await
        .unwrap();
    let mut request = v1::ListWorkersRequest {
        page_size: 1_000,
        ..Default::default()
    };
    let mut seen = HashSet::new();
    loop {
        let page = scheduler
            .workers()
            .list_workers(request.clone())
            .await
            .unwrap()
            .into_inner();
        assert!(page.encoded_len() < MOST);
        seen.extend(page.workers.into_iter().map(|worker| worker.session_id));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(seen.len(), 60);
    scheduler.end().await;
}
