//! Many workers on many tasks through two replicas.

use std::collections::HashSet;

use tasklease_proto::v1::Outcome;
use tasklease_tests::{Database, Scheduler, Stage, WorkerProcess, ended, outcomes, with_payload};

const TASKS: usize = 600;

#[tokio::test]
async fn concurrent_workers_run_every_task_once_and_no_lease_twice() {
    let database = Database::create().await;
    let url = database.url();
    // Both find an empty database.
    let (one, two) = tokio::join!(Scheduler::start(&url), Scheduler::start(&url));
    let both = Scheduler::client_of(&[&one, &two]);
    let stage = Stage::new();
    let batch = |count| vec![with_payload("side_effect", &stage.payload()); count];
    // Half is there before the workers, half comes while they work.
    let mut ids = both.submit_batch(batch(TASKS / 2)).await.unwrap();
    let mut workers = Vec::new();
    for (name, replicas) in [
        ("a", [&one, &two]),
        ("b", [&two, &one]),
        ("c", [&one, &two]),
        ("d", [&two, &one]),
    ] {
        workers.push(WorkerProcess::start(&replicas, name, &["--slots", "8"]).await);
    }
    for _ in 0..10 {
        ids.extend(both.submit_batch(batch(TASKS / 20)).await.unwrap());
    }

    let mut used = HashSet::new();
    for id in &ids {
        let answer = ended(&both, id).await;
        assert_eq!(outcomes(&answer), [Outcome::Succeeded], "{answer:?}");
        used.insert(answer.task.unwrap().worker);
    }

    let done = stage.events("done");
    let leases: HashSet<_> = done.iter().collect();
    assert_eq!(leases.len(), done.len(), "a lease ran twice");
    assert_eq!(done.len(), TASKS, "a task ran twice");
    assert!(used.len() > 1, "one worker did everything");
}
