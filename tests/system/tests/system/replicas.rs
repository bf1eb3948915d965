//! Two schedulers on one database are one service.

use std::time::Duration;

use serde_json::json;
use tasklease_proto::v1::{LeasedTask, Outcome, PauseQueueRequest, ResumeQueueRequest, TaskSpec, TaskState};
use tasklease_tests::{
    Answer, Database, Hello, RawWorker, Scheduler, SessionOver, Signal, cancel_request, cancelled, ended,
    outcomes, reached, spec, state_of, succeeded,
};

async fn pair(database: &Database) -> (Scheduler, Scheduler) {
    let one = Scheduler::start(&database.url()).await;
    let two = Scheduler::start(&database.url()).await;
    (one, two)
}

#[tokio::test]
async fn a_task_submitted_to_one_replica_runs_on_a_worker_of_the_other() {
    let database = Database::create().await;
    let (one, two) = pair(&database).await;
    let mut worker = RawWorker::with_credit(&two, "t", 10).await;

    let id = one.client().submit(spec("t")).await.unwrap().id;

    let lease = worker.next_accepted().await;
    assert_eq!(lease.task_id, id);
    worker.report(&lease, succeeded(&json!({}))).await.unwrap();
    let answer = ended(&one.client(), &id).await;
    assert_eq!(answer.task.unwrap().state(), TaskState::Succeeded);
}

#[tokio::test]
async fn a_cancel_on_one_replica_reaches_the_worker_of_the_other() {
    let database = Database::create().await;
    let (one, two) = pair(&database).await;
    let mut worker = RawWorker::with_credit(&two, "t", 1).await;
    let id = one.client().submit(spec("t")).await.unwrap().id;
    let lease = worker.next_accepted().await;

    let request = cancel_request(&id, Duration::from_secs(600));
    one.client().cancel(request).await.unwrap();

    let notice = worker.next_cancel().await;
    assert_eq!(notice.lease.unwrap().task_id, id);
    assert_eq!(worker.report(&lease, cancelled()).await, Ok(Answer::Stored));
    let answer = ended(&one.client(), &id).await;
    assert_eq!(answer.task.unwrap().state(), TaskState::Cancelled);
}

#[tokio::test]
async fn a_revoked_lease_is_stale_on_every_replica() {
    let database = Database::create().await;
    let (one, two) = pair(&database).await;
    let mut worker = RawWorker::with_credit(&two, "t", 1).await;
    let id = one.client().submit(spec("t")).await.unwrap().id;
    let lease = worker.next_accepted().await;

    let request = cancel_request(&id, Duration::from_millis(1));
    one.client().cancel(request).await.unwrap();
    let answer = ended(&one.client(), &id).await;

    let late = worker.report(&lease, succeeded(&json!({}))).await;
    assert_eq!(late, Ok(Answer::Stale));
    assert_eq!(one.client().get(&id).await.unwrap(), answer);
}

#[tokio::test]
async fn a_replica_that_was_frozen_cannot_settle_a_lease_that_another_has_ended() {
    let database = Database::create().await;
    let short = ["--lease", "3s"];
    let one = Scheduler::start_with(&database.url(), &short).await;
    let frozen = Scheduler::start_with(&database.url(), &short).await;
    let client = one.client();
    let mut worker = RawWorker::with_credit(&frozen, "t", 1).await;
    let id = client.submit(spec("t")).await.unwrap().id;
    let lease = worker.next_accepted().await;

    frozen.signal(Signal::STOP);
    reached(&client, &id, |task| task.state() == TaskState::Pending).await;
    // The frozen one believes that the worker still has the lease.
    let (late, ()) = tokio::join!(worker.report(&lease, succeeded(&json!({}))), async {
        frozen.signal(Signal::CONT);
    });

    assert!(
        matches!(late, Ok(Answer::Stale) | Err(SessionOver(_))),
        "{late:?}"
    );
    let answer = client.get(&id).await.unwrap();
    assert_eq!(answer.task.as_ref().unwrap().state(), TaskState::Pending);
    assert_eq!(outcomes(&answer), [Outcome::Lost]);
}

#[tokio::test]
async fn a_queue_paused_on_one_replica_rests_on_the_other_until_it_is_resumed() {
    let database = Database::create().await;
    let (one, two) = pair(&database).await;
    let hello = Hello::new("raw", &["t"]).queues(&["still", "busy"]);
    let mut worker = RawWorker::connect(&two, hello).await;
    let in_queue = |queue: &str| TaskSpec {
        queue: queue.to_owned(),
        ..spec("t")
    };
    let queue = || "still".to_owned();
    let paused = one
        .queues()
        .pause_queue(PauseQueueRequest { queue: queue() })
        .await
        .unwrap();
    assert!(paused.into_inner().queue.unwrap().paused);
    worker.credit(1_000).await;
    // The other replica learns of it in a moment; what it still hands out until then is done.
    let resting = loop {
        let id = two.client().submit(in_queue("still")).await.unwrap().id;
        match passed_by(&two, &mut worker, &id).await {
            Passed::Yes => break id,
            Passed::No(lease) => {
                worker.report(&lease, succeeded(&json!({}))).await.unwrap();
            }
        }
    };
    // From then on it holds.
    assert!(matches!(
        passed_by(&two, &mut worker, &resting).await,
        Passed::Yes
    ));
    assert_eq!(state_of(&two.client(), &resting).await, TaskState::Pending);

    one.queues()
        .resume_queue(ResumeQueueRequest { queue: queue() })
        .await
        .unwrap();

    assert_eq!(worker.next_accepted().await.task_id, resting);
}

/// Whether tasks of another queue overtook a task.
enum Passed {
    Yes,
    No(LeasedTask),
}

/// Sends a few tasks through the queue `busy`, one after the other, and sees whether the given one, which waits in
/// another queue, is handed out meanwhile.
async fn passed_by(replica: &Scheduler, worker: &mut RawWorker, waiting: &str) -> Passed {
    let busy = TaskSpec {
        queue: "busy".to_owned(),
        ..spec("t")
    };
    let mut overtaken = None;
    for _ in 0..5 {
        let id = replica.client().submit(busy.clone()).await.unwrap().id;
        loop {
            let lease = worker.next_accepted().await;
            if lease.task_id == waiting {
                overtaken = Some(lease);
                continue;
            }
            assert_eq!(lease.task_id, id);
            worker.report(&lease, succeeded(&json!({}))).await.unwrap();
            break;
        }
    }
    overtaken.map_or(Passed::Yes, Passed::No)
}
