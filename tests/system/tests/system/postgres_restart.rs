//! Postgres goes away and comes back: nothing acknowledged is lost, and everything resumes by itself.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tasklease_proto::v1::Outcome;
use tasklease_tests::{
    OwnCluster, Scheduler, Stage, WorkerProcess, ended, eventually, outcomes, with_payload,
};

/// Submits that must be acknowledged before the fault, and again after it.
const ENOUGH: usize = 40;

/// What the fault is.
enum Fault {
    /// Postgres ends all connections, writes its data and starts again.
    Restart,
    /// Postgres crashes and recovers.
    Crash,
}

#[tokio::test]
async fn an_orderly_restart_loses_nothing() {
    nothing_is_lost(Fault::Restart).await;
}

#[tokio::test]
async fn a_crash_loses_nothing() {
    nothing_is_lost(Fault::Crash).await;
}

async fn nothing_is_lost(fault: Fault) {
    let mut postgres = OwnCluster::start().await;
    let scheduler = Scheduler::start(&postgres.url()).await;
    let client = scheduler.client();
    let stage = Stage::new();
    let _worker = WorkerProcess::start(&[&scheduler], "w", &["--slots", "8"]).await;
    let held = client
        .submit_batch(vec![with_payload("gate", &stage.payload()); 4])
        .await
        .unwrap();
    stage.reached("started", 4).await;

    // Somebody submits all the time, right through the fault.
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let enough = Arc::new(AtomicBool::new(false));
    let submitting = tokio::spawn({
        let (client, acknowledged, enough) = (client.clone(), acknowledged.clone(), enough.clone());
        let spec = with_payload("side_effect", &stage.payload());
        async move {
            let mut ids = Vec::new();
            while !enough.load(Ordering::Acquire) {
                ids.push(client.submit(spec.clone()).await.unwrap().id);
                acknowledged.fetch_add(1, Ordering::Release);
            }
            ids
        }
    });
    let passes = async |count: usize| {
        let what = format!("{count} acknowledged submits");
        eventually(&what, async || {
            (acknowledged.load(Ordering::Acquire) >= count).then_some(())
        })
        .await;
    };
    passes(ENOUGH).await;

    match fault {
        Fault::Restart => postgres.restart().await,
        Fault::Crash => postgres.crash_and_restart().await,
    }

    passes(acknowledged.load(Ordering::Acquire) + ENOUGH).await;
    enough.store(true, Ordering::Release);
    let ids = submitting.await.unwrap();
    stage.open_gate();
    for id in &held {
        assert_eq!(outcomes(&ended(&client, id).await), [Outcome::Succeeded]);
    }
    for id in &ids {
        let answer = ended(&client, id).await;
        assert_eq!(outcomes(&answer).last(), Some(&Outcome::Succeeded), "{answer:?}");
        assert_eq!(answer.task.as_ref().unwrap().attempt, 1);
    }
    assert_eq!(
        stage.events("started").len(),
        held.len(),
        "a running task lost its lease"
    );
}
