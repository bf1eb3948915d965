//! Lists and counts.

use std::collections::HashSet;

use serde_json::json;
use tasklease_proto::v1::{ListTasksRequest, TaskSpec, TaskState};
use tasklease_tests::{Database, RawWorker, Scheduler, eventually, failed, spec, succeeded};

#[tokio::test]
async fn pages_give_every_task_once_newest_first_while_more_are_submitted() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let ids = client.submit_batch(vec![spec("t"); 250]).await.unwrap();
    client.submit_batch(vec![spec("other"); 50]).await.unwrap();

    let mut request = ListTasksRequest {
        page_size: 40,
        task_type: "t".to_owned(),
        states: vec![TaskState::Pending.into()],
        ..ListTasksRequest::default()
    };
    let mut seen = Vec::new();
    loop {
        let page = client.list(request.clone()).await.unwrap();
        assert!(page.tasks.len() <= 40);
        seen.extend(page.tasks.into_iter().map(|task| task.id));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
        client.submit(spec("t")).await.unwrap();
    }

    assert!(seen.is_sorted_by(|newer, older| newer > older), "newest first");
    let seen: HashSet<_> = seen.into_iter().collect();
    assert!(ids.iter().all(|id| seen.contains(id)));
}

#[tokio::test]
async fn stats_count_every_task_where_it_stands() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let mut worker = RawWorker::with_credit(&scheduler, "t", 3).await;
    let once = TaskSpec {
        max_attempts: 1,
        ..spec("t")
    };
    client.submit_batch(vec![once; 5]).await.unwrap();
    let done = worker.next_accepted().await;
    let broken = worker.next_accepted().await;
    worker.next_accepted().await;
    worker.report(&done, succeeded(&json!({}))).await.unwrap();
    worker.report(&broken, failed("BROKEN")).await.unwrap();

    // Ends are counted once a second.
    let stats = eventually("both ends in the stats", async || {
        let stats = client.stats("").await.unwrap().stats;
        stats
            .into_iter()
            .find(|entry| entry.task_type == "t" && entry.succeeded + entry.failed == 2)
    })
    .await;

    assert_eq!((stats.succeeded, stats.failed, stats.cancelled), (1, 1, 0));
    assert_eq!((stats.pending, stats.running, stats.workers), (2, 1, 1));
    assert!(stats.exact && !stats.paused);
}
