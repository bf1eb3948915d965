//! Many workers on many tasks through two replicas.

use std::collections::HashSet;

use tasklease_proto::v1::Outcome;
use tasklease_tests::{Database, Scheduler, Stage, WorkerProcess, ended, outcomes, with_payload};

/// Tasks that wait before the workers come, and again while they work.
const HALF: usize = 300;

/// Tasks that one worker runs at a time.
const SLOTS: usize = 8;

#[tokio::test]
async fn concurrent_workers_run_every_task_once_and_no_lease_twice() {
    let database = Database::create().await;
    let url = database.url();
    // Both find an empty database.
    let (one, two) = tokio::join!(Scheduler::start(&url), Scheduler::start(&url));
    let both = Scheduler::client_of(&[&one, &two]);
    let stage = Stage::new();
    let batch = |task_type, count| vec![with_payload(task_type, &stage.payload()); count];
    // Half is there before the workers, half comes while they work.
    let mut ids = both.submit_batch(batch("side_effect", HALF)).await.unwrap();
    let mut workers = Vec::new();
    for (name, replicas) in [
        ("a", [&one, &two]),
        ("b", [&two, &one]),
        ("c", [&one, &two]),
        ("d", [&two, &one]),
    ] {
        workers.push(WorkerProcess::start(&replicas, name, &["--slots", &SLOTS.to_string()]).await);
    }
    // As many as there are slots run at once, so every worker has its part.
    let gated = both
        .submit_batch(batch("gate", workers.len() * SLOTS))
        .await
        .unwrap();
    stage.reached("started", gated.len()).await;
    stage.open_gate();
    for _ in 0..10 {
        ids.extend(both.submit_batch(batch("side_effect", HALF / 10)).await.unwrap());
    }

    let mut used = HashSet::new();
    for id in &gated {
        used.insert(ended(&both, id).await.task.unwrap().worker);
    }
    assert_eq!(used.len(), workers.len(), "some worker did nothing: {used:?}");
    ids.extend(gated);
    for id in &ids {
        let answer = ended(&both, id).await;
        assert_eq!(outcomes(&answer), [Outcome::Succeeded], "{answer:?}");
    }

    let done = stage.events("done");
    let leases: HashSet<_> = done.iter().collect();
    assert_eq!(leases.len(), done.len(), "a lease ran twice");
    assert_eq!(done.len(), ids.len(), "a task ran twice");
}
