//! SIGTERM of a worker under load: it hands back what it cannot finish, and no attempt is counted.

use tasklease_proto::v1::{Outcome, TaskState};
use tasklease_tests::{
    Database, Hello, Process, RawWorker, Scheduler, Stage, WorkerProcess, attempts, ended, outcomes, program,
    reached, result_of, spec, with_payload,
};

#[tokio::test]
async fn a_terminated_worker_hands_back_its_tasks_uncounted_and_another_finishes_them() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let stage = Stage::new();
    let gated = vec![with_payload("gate", &stage.payload()); 4];
    let mut first = WorkerProcess::start(&[&scheduler], "first", &["--slots", "6", "--grace", "1s"]).await;
    let held = client.submit_batch(gated).await.unwrap();
    stage.reached("started", 4).await;
    let quick = vec![with_payload("side_effect", &stage.payload()); 300];
    let mut quick = client.submit_batch(quick).await.unwrap();
    stage.reached("done", 10).await;

    let status = first.terminate().await;

    assert_eq!(status.code(), Some(0), "{status}");
    let _second = WorkerProcess::start(&[&scheduler], "second", &[]).await;
    stage.open_gate();
    for id in &held {
        let answer = ended(&client, id).await;
        assert_eq!(answer.task.as_ref().unwrap().worker, "second");
        assert_eq!(outcomes(&answer), [Outcome::Released, Outcome::Succeeded]);
        assert_eq!(attempts(&answer), [1, 1]);
    }
    quick.extend(held);
    for id in &quick {
        let answer = ended(&client, id).await;
        let task = answer.task.as_ref().unwrap();
        assert_eq!((task.state(), task.attempt), (TaskState::Succeeded, 1));
    }
}

#[tokio::test]
async fn a_terminated_worker_lets_tasks_finish_within_its_grace() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let stage = Stage::new();
    let mut worker = WorkerProcess::start(&[&scheduler], "w", &["--grace", "600s"]).await;
    let id = client
        .submit(with_payload("gate", &stage.payload()))
        .await
        .unwrap()
        .id;
    stage.reached_by("started", &id, 1).await;

    worker.signal(tasklease_tests::Signal::TERM);
    // It takes nothing more, which a worker beside it shows.
    let mut other = RawWorker::with_credit(&scheduler, "gate", 1).await;
    let next = client
        .submit(with_payload("gate", &stage.payload()))
        .await
        .unwrap()
        .id;
    assert_eq!(other.next_lease().await.task_id, next);
    stage.open_gate();

    assert_eq!(worker.ended().await.code(), Some(0));
    let answer = ended(&client, &id).await;
    assert_eq!(outcomes(&answer), [Outcome::Succeeded]);
}

#[tokio::test]
async fn a_worker_that_says_goodbye_hands_back_everything_at_once() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let mut leaving = RawWorker::with_credit(&scheduler, "t", 2).await;
    let ids = client.submit_batch(vec![spec("t"), spec("t")]).await.unwrap();
    leaving.next_accepted().await;
    leaving.next_lease().await;

    leaving.goodbye().await.unwrap();

    let mut next = RawWorker::connect(&scheduler, Hello::new("next", &["t"])).await;
    next.credit(2).await;
    for _ in 0..2 {
        let lease = next.next_lease().await;
        assert!(ids.contains(&lease.task_id));
        assert_eq!((lease.lease_token, lease.attempt), (2, 1));
    }
}

#[tokio::test]
async fn code_that_blocks_its_thread_costs_neither_the_lease_nor_the_stop() {
    let database = Database::create().await;
    // The lease ends unless heartbeats go on while the code blocks.
    let scheduler = Scheduler::start_with(&database.url(), &["--lease", "3s"]).await;
    let client = scheduler.client();
    let stage = Stage::new();
    let worker = WorkerProcess::start(&[&scheduler], "w", &["--slots", "4"]).await;
    let blocking = vec![with_payload("blocks_its_thread", &stage.payload()); 4];
    let ids = client.submit_batch(blocking).await.unwrap();
    stage.reached("started", 1).await;
    // A silent worker beside it dies of the same lease: longer than that has then passed.
    let mut silent = RawWorker::with_credit(&scheduler, "t", 1).await;
    silent.hears_of_end().await;

    stage.open_gate();

    for id in &ids {
        let answer = ended(&client, id).await;
        assert_eq!(outcomes(&answer), [Outcome::Succeeded]);
        assert_eq!(result_of(&answer)["token"], 1);
    }
    assert_eq!(worker.name(), "w");
}

#[tokio::test]
async fn the_documents_worker_hands_back_its_tasks_uncounted_too() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let files = tempfile::tempdir().unwrap();
    let address = scheduler.address();
    let environment = [
        ("TASKLEASE_ADDR", &*address),
        ("TASKLEASE_FILES", files.path().to_str().unwrap()),
    ];
    let arguments = ["--name", "documents", "--slots", "4", "--grace", "1s"];
    let mut worker = Process::spawn(
        "documents",
        &program("tasklease-documents"),
        arguments,
        &environment,
    );
    scheduler.sees_worker("documents").await;
    let ids = client
        .submit_batch(vec![spec("dummy_very_long"); 10])
        .await
        .unwrap();
    // A worker with four slots runs the first four.
    for id in &ids[..4] {
        reached(&client, id, |task| task.state() == TaskState::Running).await;
    }

    let status = worker.terminate().await;

    assert_eq!(status.code(), Some(0), "{status}");
    for id in &ids {
        let answer = client.get(id).await.unwrap();
        assert_eq!(answer.task.as_ref().unwrap().state(), TaskState::Pending);
        assert!(
            outcomes(&answer)
                .iter()
                .all(|outcome| *outcome == Outcome::Released)
        );
    }
}
