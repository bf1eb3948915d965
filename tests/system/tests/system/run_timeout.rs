//! A run that takes longer than it may is stopped, and counts.

use tasklease_proto::v1::{Outcome, TaskSpec, TaskState};
use tasklease_tests::{
    Answer, Database, RawWorker, Scheduler, Stage, WorkerProcess, cancelled, ended, millis, outcomes, spec,
    with_payload,
};

#[tokio::test]
async fn code_that_takes_too_long_is_told_to_stop_and_the_run_counts_as_timed_out() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let stage = Stage::new();
    let _worker = WorkerProcess::start(&[&scheduler], "w", &[]).await;
    let hasty = TaskSpec {
        run_timeout: millis(200),
        max_attempts: 1,
        ..with_payload("gate", &stage.payload())
    };

    let id = client.submit(hasty).await.unwrap().id;

    stage.reached_by("cancelled", &id, 1).await;
    let answer = ended(&client, &id).await;
    let task = answer.task.as_ref().unwrap();
    assert_eq!((task.state(), task.attempt), (TaskState::Failed, 1));
    assert_eq!(task.error.as_ref().unwrap().kind, "TIMED_OUT");
    assert_eq!(outcomes(&answer), [Outcome::TimedOut]);
}

#[tokio::test]
async fn a_worker_is_told_of_the_time_and_the_next_attempt_comes() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let mut worker = RawWorker::with_credit(&scheduler, "t", 2).await;
    let hasty = TaskSpec {
        run_timeout: millis(200),
        ..spec("t")
    };
    let id = client.submit(hasty).await.unwrap().id;
    let lease = worker.next_accepted().await;
    assert_eq!(lease.run_timeout, millis(200));

    let notice = worker.next_cancel().await;
    assert_eq!(
        (notice.lease.unwrap().task_id, &*notice.reason),
        (id.clone(), "timed out")
    );
    assert_eq!(worker.report(&lease, cancelled()).await, Ok(Answer::Stored));

    let again = worker.next_accepted().await;
    assert_eq!((&again.task_id, again.attempt), (&id, 2));
    assert_eq!(outcomes(&client.get(&id).await.unwrap()), [Outcome::TimedOut]);
}
