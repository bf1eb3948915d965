//! Which task comes first, and when one comes again.

use tasklease_proto::v1::{Outcome, RetryPolicy, TaskSpec, TaskState, task_spec::Start};
use tasklease_tests::{
    Database, Hello, RawWorker, Scheduler, attempts, ended, failed, millis, outcomes, spec, state_of,
    succeeded,
};

#[tokio::test]
async fn higher_priorities_run_first_and_equal_ones_in_the_order_of_their_submit() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let with_priority = |priority| TaskSpec {
        priority,
        ..spec("t")
    };
    let priorities = [0, -100, 7, 100, 0, -1, 7];
    let mut ids = Vec::new();
    for priority in priorities {
        ids.push(client.submit(with_priority(priority)).await.unwrap().id);
    }

    let mut worker = RawWorker::connect(&scheduler, Hello::new("raw", &["t"])).await;

    // One at a time: a batch would come sorted even if it was chosen otherwise.
    let expected = [3, 2, 6, 0, 4, 5, 1].map(|index| ids[index].clone());
    for id in expected {
        worker.credit(1).await;
        assert_eq!(worker.next_lease().await.task_id, id);
    }
}

#[tokio::test]
async fn a_delayed_task_does_not_start_before_its_time() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let mut worker = RawWorker::with_credit(&scheduler, "t", 5).await;
    let delayed = TaskSpec {
        start: millis(1_500).map(Start::Delay),
        ..spec("t")
    };

    let task = client.submit(delayed).await.unwrap();
    assert_eq!(task.state(), TaskState::Scheduled);
    let due = task.schedule_time.unwrap();
    // One that is not delayed passes it.
    let next = client.submit(spec("t")).await.unwrap();
    assert_eq!(worker.next_accepted().await.task_id, next.id);

    let lease = worker.next_accepted().await;
    assert_eq!(lease.task_id, task.id);
    worker
        .report(&lease, succeeded(&serde_json::json!({})))
        .await
        .unwrap();
    let started = ended(&client, &task.id).await.task.unwrap().start_time.unwrap();
    assert!(
        (started.seconds, started.nanos) >= (due.seconds, due.nanos),
        "started {started} before {due}"
    );
}

#[tokio::test]
async fn failures_are_tried_again_after_a_back_off_and_counted_to_the_last() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let mut worker = RawWorker::with_credit(&scheduler, "t", 10).await;
    let task = TaskSpec {
        max_attempts: 3,
        retry_policy: Some(RetryPolicy {
            initial_backoff: millis(50),
            max_backoff: millis(100),
        }),
        ..spec("t")
    };
    let id = client.submit(task).await.unwrap().id;

    for attempt in 1..=3 {
        let lease = worker.next_accepted().await;
        assert_eq!((lease.attempt, lease.max_attempts), (attempt, 3));
        worker.report(&lease, failed("BROKEN")).await.unwrap();
    }

    let answer = ended(&client, &id).await;
    let task = answer.task.as_ref().unwrap();
    assert_eq!((task.state(), task.attempt), (TaskState::Failed, 3));
    assert_eq!(task.error.as_ref().unwrap().kind, "BROKEN");
    assert_eq!(outcomes(&answer), [Outcome::Failed; 3]);
    assert_eq!(attempts(&answer), [1, 2, 3]);
}

#[tokio::test]
async fn a_failed_task_waits_for_its_retry_and_shows_why() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let mut worker = RawWorker::with_credit(&scheduler, "t", 10).await;
    let task = TaskSpec {
        retry_policy: Some(RetryPolicy {
            initial_backoff: millis(3_600_000),
            max_backoff: millis(3_600_000),
        }),
        ..spec("t")
    };
    let id = client.submit(task).await.unwrap().id;
    let lease = worker.next_accepted().await;

    worker.report(&lease, failed("BROKEN")).await.unwrap();

    assert_eq!(state_of(&client, &id).await, TaskState::Scheduled);
    let task = client.get(&id).await.unwrap().task.unwrap();
    assert_eq!(task.error.unwrap().kind, "BROKEN");
    assert!(task.schedule_time.is_some());
}
