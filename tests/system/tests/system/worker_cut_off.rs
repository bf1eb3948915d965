//! A worker that reaches no scheduler stops its own code before somebody else may run it.

use std::{fs, time::SystemTime};

use tasklease_proto::v1::TaskState;
use tasklease_tests::{Database, Scheduler, Stage, WorkerProcess, ended, with_payload};

#[tokio::test]
async fn code_is_stopped_before_its_lease_is_over() {
    let database = Database::create().await;
    let mut scheduler = Scheduler::start_with(&database.url(), &["--lease", "3s"]).await;
    let client = scheduler.client();
    let stage = Stage::new();
    let _worker = WorkerProcess::start(&[&scheduler], "w", &[]).await;
    let id = client
        .submit(with_payload("gate", &stage.payload()))
        .await
        .unwrap()
        .id;
    stage.reached_by("started", &id, 1).await;

    scheduler.kill();
    stage.reached_by("cancelled", &id, 1).await;

    let stopped = fs::metadata(stage.path().join("cancelled"))
        .unwrap()
        .modified()
        .unwrap();
    let session = database
        .connect()
        .await
        .query_one(
            "SELECT extract(epoch FROM expires_at)::float8 FROM tasklease.session",
            &[],
        )
        .await
        .unwrap();
    let lease_end: f64 = session.get(0);
    let stopped = stopped
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs_f64();
    assert!(
        stopped < lease_end,
        "stopped at {stopped}, the lease ended at {lease_end}"
    );

    // Afterwards it works again, under a new lease.
    scheduler.start_again().await;
    stage.open_gate();
    let answer = ended(&client, &id).await;
    let task = answer.task.unwrap();
    assert_eq!((task.state(), task.lease_token), (TaskState::Succeeded, 2));
}
