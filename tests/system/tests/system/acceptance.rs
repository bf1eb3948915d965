//! A lease that nobody accepts goes back, uncounted.

use tasklease_proto::v1::Outcome;
use tasklease_tests::{
    Answer, Database, Hello, RawWorker, Scheduler, attempts, ended, outcomes, spec, succeeded,
};

/// So long that nobody dies of silence while it waits for the deadline of the acceptance.
const LONG_LEASE: [&str; 2] = ["--lease", "60s"];

#[tokio::test]
async fn a_lease_that_is_not_accepted_in_time_is_taken_back_uncounted() {
    let database = Database::create().await;
    let scheduler = Scheduler::start_with(&database.url(), &LONG_LEASE).await;
    let client = scheduler.client();
    let mut deaf = RawWorker::with_credit(&scheduler, "t", 1).await;
    let id = client.submit(spec("t")).await.unwrap().id;
    let lost = deaf.next_lease().await;
    let mut other = RawWorker::with_credit(&scheduler, "t", 1).await;

    deaf.hears_of_loss(&lost).await;

    let lease = other.next_accepted().await;
    assert_eq!((&lease.task_id, lease.lease_token, lease.attempt), (&id, 2, 1));
    // Too late, although its session is alive.
    assert_eq!(deaf.heartbeat().await, Ok(Answer::Stored));
    assert_eq!(deaf.accept(&lost).await, Ok(Answer::Stale));
    other
        .report(&lease, succeeded(&serde_json::json!({})))
        .await
        .unwrap();
    let answer = ended(&client, &id).await;
    assert_eq!(outcomes(&answer), [Outcome::Released, Outcome::Succeeded]);
    assert_eq!(attempts(&answer), [1, 1]);
}

#[tokio::test]
async fn a_lease_that_a_dead_replica_never_handed_out_is_taken_back_however_the_worker_reconnects() {
    let database = Database::create().await;
    let mut dead = Scheduler::start_with(&database.url(), &LONG_LEASE).await;
    let scheduler = Scheduler::start_with(&database.url(), &LONG_LEASE).await;
    let client = scheduler.client();
    let hello = Hello::new("raw", &["t"]);
    let mut worker = RawWorker::connect(&dead, hello.clone()).await;
    worker.credit(1).await;
    let id = client.submit(spec("t")).await.unwrap().id;
    // As if it had not arrived: the worker does not name it when it comes back.
    worker.next_lease().await;
    let session = worker.session().session_id.clone();
    dead.kill();

    let hello = hello.resuming(&session, &[]);
    let mut worker = RawWorker::reconnect_reports_first(&scheduler, hello).await;

    assert!(worker.session().resumed);
    worker.credit(1).await;
    let lease = worker.next_accepted().await;
    assert_eq!((&lease.task_id, lease.lease_token, lease.attempt), (&id, 2, 1));
}
