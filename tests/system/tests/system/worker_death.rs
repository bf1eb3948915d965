//! A worker that dies: its task runs again, counted, and nothing that comes from it later counts.

use serde_json::json;
use tasklease_proto::v1::{LeaseRef, Outcome, TaskSpec, TaskState};
use tasklease_tests::{
    Answer, Database, Hello, RawWorker, Scheduler, SessionOver, Stage, WorkerProcess, attempts, ended,
    eventually, outcomes, reached, result_of, spec, succeeded, with_payload,
};

/// The shortest lease, so that a death is noticed soon.
const SHORT_LEASE: [&str; 2] = ["--lease", "3s"];

#[tokio::test]
async fn the_task_of_a_killed_worker_runs_again_elsewhere_and_its_late_report_is_stale() {
    let database = Database::create().await;
    let scheduler = Scheduler::start_with(&database.url(), &SHORT_LEASE).await;
    let client = scheduler.client();
    let stage = Stage::new();
    let mut first = WorkerProcess::start(&[&scheduler], "first", &[]).await;
    let id = client
        .submit(with_payload("gate", &stage.payload()))
        .await
        .unwrap()
        .id;
    stage.reached_by("started", &id, 1).await;
    let _second = WorkerProcess::start(&[&scheduler], "second", &[]).await;

    first.kill();

    stage.reached_by("started", &id, 2).await;
    // What the dead one might still have sent, from whoever has its lease token now.
    let mut impostor = RawWorker::connect(&scheduler, Hello::new("impostor", &["other"])).await;
    let old = LeaseRef {
        task_id: id.clone(),
        lease_token: 1,
    };
    let late = succeeded(&json!({ "token": "from the dead" }));
    assert_eq!(impostor.report_as(old, late).await, Ok(Answer::Stale));
    stage.open_gate();
    let answer = ended(&client, &id).await;
    let task = answer.task.as_ref().unwrap();
    assert_eq!((task.state(), &*task.worker), (TaskState::Succeeded, "second"));
    assert_eq!(outcomes(&answer), [Outcome::Lost, Outcome::Succeeded]);
    assert_eq!(attempts(&answer), [1, 2]);
    assert_eq!(result_of(&answer), json!({ "token": 2 }));
}

#[tokio::test]
async fn a_worker_that_fell_silent_is_told_that_its_session_is_over() {
    let database = Database::create().await;
    let scheduler = Scheduler::start_with(&database.url(), &SHORT_LEASE).await;
    let client = scheduler.client();
    let mut silent = RawWorker::with_credit(&scheduler, "t", 1).await;
    let id = client.submit(spec("t")).await.unwrap().id;
    let lease = silent.next_accepted().await;

    // No heartbeat is sent.
    reached(&client, &id, |task| task.state() == TaskState::Pending).await;

    let late = silent.report(&lease, succeeded(&json!({}))).await;
    assert!(
        matches!(late, Err(SessionOver(_)) | Ok(Answer::Stale)),
        "{late:?}"
    );
    let answer = client.get(&id).await.unwrap();
    assert_eq!(answer.task.as_ref().unwrap().state(), TaskState::Pending);
    assert_eq!(outcomes(&answer), [Outcome::Lost]);
}

#[tokio::test]
async fn a_task_that_was_in_the_hands_of_three_dying_workers_is_quarantined() {
    let database = Database::create().await;
    let scheduler = Scheduler::start_with(&database.url(), &SHORT_LEASE).await;
    let client = scheduler.client();
    let many = TaskSpec {
        max_attempts: 100,
        ..spec("t")
    };
    let id = client.submit(many).await.unwrap().id;

    for token in 1..=3 {
        // Not before it waits again: a worker that waited longer than its lease would be dead itself.
        reached(&client, &id, |task| task.state() == TaskState::Pending).await;
        let mut worker = RawWorker::with_credit(&scheduler, "t", 1).await;
        let lease = worker.next_accepted().await;
        assert_eq!((lease.lease_token, i64::from(lease.attempt)), (token, token));
        drop(worker);
    }

    let answer = ended(&client, &id).await;
    let task = answer.task.as_ref().unwrap();
    assert_eq!(task.state(), TaskState::Failed);
    assert_eq!(task.error.as_ref().unwrap().kind, "POISONED");
    assert_eq!(outcomes(&answer), [Outcome::Lost; 3]);
}

#[tokio::test]
async fn all_tasks_that_kill_workers_are_quarantined_and_those_beside_them_succeed() {
    const KILLERS: usize = 6;
    const OTHERS: usize = 12;
    let database = Database::create().await;
    let arguments = [&SHORT_LEASE[..], &["--quarantine-after", "1"]].concat();
    let scheduler = Scheduler::start_with(&database.url(), &arguments).await;
    let client = scheduler.client();
    let stage = Stage::new();
    let of_type = |task_type| TaskSpec {
        max_attempts: 100,
        ..with_payload(task_type, &stage.payload())
    };
    let mut specs = vec![of_type("kills_its_worker"); KILLERS];
    specs.extend(vec![of_type("gate"); OTHERS]);
    let ids = client.submit_batch(specs).await.unwrap();
    let (killers, others) = ids.split_at(KILLERS);

    let start = async |number: usize| {
        let name = format!("worker {number}");
        WorkerProcess::start(&[&scheduler], &name, &["--slots", "10"]).await
    };
    let mut workers = [start(0).await, start(1).await];
    let mut deaths = 0;
    let dying = async {
        loop {
            let dead = eventually("the death of a worker", async || {
                workers.iter_mut().position(WorkerProcess::has_ended)
            });
            let dead = dead.await;
            deaths += 1;
            // Until then the others are in the hands of every worker that dies.
            if deaths == KILLERS {
                stage.open_gate();
            }
            workers[dead] = start(deaths + 1).await;
        }
    };
    let ending = async {
        for id in killers {
            let task = ended(&client, id).await.task.unwrap();
            assert_eq!(task.state(), TaskState::Failed);
            assert_eq!(task.error.as_ref().unwrap().kind, "POISONED");
        }
    };
    tokio::select! {
        () = ending => {}
        () = dying => unreachable!("workers die until all killers are found"),
    }

    for id in others {
        let task = ended(&client, id).await.task.unwrap();
        assert_eq!(task.state(), TaskState::Succeeded, "{:?}", task.error);
    }
    assert!(
        (KILLERS..=KILLERS * 10).contains(&deaths),
        "{deaths} workers died"
    );
}

#[tokio::test]
async fn a_stream_that_breaks_loses_no_lease_while_heartbeats_return_in_time() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let hello = Hello::new("raw", &["t"]);
    let mut worker = RawWorker::connect(&scheduler, hello.clone()).await;
    worker.credit(2).await;
    let ids = client.submit_batch(vec![spec("t"), spec("t")]).await.unwrap();
    let held = worker.next_accepted().await;
    let forgotten = worker.next_accepted().await;
    let session = worker.session().session_id.clone();
    drop(worker);

    let mut worker = RawWorker::connect(&scheduler, hello.resuming(&session, &[&held])).await;

    assert!(worker.session().resumed);
    assert_eq!(worker.session().session_id, session);
    assert_eq!(
        worker.report(&held, succeeded(&json!({}))).await,
        Ok(Answer::Stored)
    );
    // The lease that it does not know any more is taken back, uncounted, and comes again.
    worker.credit(1).await;
    let again = worker.next_lease().await;
    assert_eq!(again.task_id, forgotten.task_id);
    assert_eq!((again.lease_token, again.attempt), (2, 1));
    assert!(ids.contains(&again.task_id));
    let answer = ended(&client, &held.task_id).await;
    assert_eq!(outcomes(&answer), [Outcome::Succeeded]);
}
