//! A stranger's client: the real grpcurl, which knows nothing but what reflection tells it.

use serde_json::{Deserializer, Value, json};
use tasklease_tests::{Database, Finished, Scheduler, Stage, WorkerProcess, in_path, run};

/// Calls a method with a JSON message.
async fn call(scheduler: &Scheduler, method: &str, message: Value) -> Finished {
    let message = message.to_string();
    let address = scheduler.address();
    run(
        &in_path("grpcurl"),
        ["-plaintext", "-d", &message, &address, method],
    )
    .await
}

#[tokio::test]
async fn grpcurl_lists_submits_watches_gets_and_cancels_from_a_bare_start() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let address = scheduler.address();
    let stage = Stage::new();
    let _worker = WorkerProcess::start(&[&scheduler], "w", &[]).await;

    let listed = run(&in_path("grpcurl"), ["-plaintext", &address, "list"])
        .await
        .well();
    for service in ["TaskService", "WorkerService", "QueueService"] {
        assert!(
            listed.stdout.contains(&format!("tasklease.v1.{service}")),
            "{}",
            listed.stdout
        );
    }
    let described = run(
        &in_path("grpcurl"),
        ["-plaintext", &address, "describe", "tasklease.v1.TaskSpec"],
    )
    .await
    .well();
    assert!(described.stdout.contains("task_type"), "{}", described.stdout);

    let spec = json!({ "taskType": "gate", "payload": stage.payload() });
    let submitted = call(
        &scheduler,
        "tasklease.v1.TaskService/SubmitTask",
        json!({ "task": spec }),
    )
    .await
    .well()
    .json();
    let id = submitted["task"]["id"].as_str().unwrap().to_owned();
    stage.reached_by("started", &id, 1).await;
    let one = json!({ "taskId": id });
    let got = call(&scheduler, "tasklease.v1.TaskService/GetTask", one.clone())
        .await
        .well()
        .json();
    assert_eq!(got["task"]["state"], "TASK_STATE_RUNNING");
    assert_eq!(got["task"]["payload"], stage.payload());

    stage.open_gate();
    let watched = call(&scheduler, "tasklease.v1.TaskService/WatchTask", one.clone())
        .await
        .well();
    let updates: Vec<Value> = Deserializer::from_str(&watched.stdout)
        .into_iter()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(updates.last().unwrap()["ended"]["state"], "TASK_STATE_SUCCEEDED");

    let late = call(&scheduler, "tasklease.v1.TaskService/CancelTask", one).await;
    assert_eq!(late.code, Some(64 + 9), "{}", late.stderr);
    assert!(
        late.stderr.contains("FailedPrecondition") && late.stderr.contains(&id),
        "{}",
        late.stderr
    );
    let waiting = json!({ "task": { "taskType": "nobody.knows.it" } });
    let waiting = call(&scheduler, "tasklease.v1.TaskService/SubmitTask", waiting)
        .await
        .well()
        .json();
    let one = json!({ "taskId": waiting["task"]["id"], "reason": "changed my mind", "grace": "2s" });
    let ended = call(&scheduler, "tasklease.v1.TaskService/CancelTask", one)
        .await
        .well()
        .json();
    assert_eq!(ended["task"]["state"], "TASK_STATE_CANCELLED");
}

#[tokio::test]
async fn grpcurl_sees_the_health_of_the_server_and_of_each_service() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    for service in ["", "tasklease.v1.TaskService", "tasklease.v1.WorkerService"] {
        let health = tasklease_tests::eventually("a healthy scheduler", async || {
            let answer = call(
                &scheduler,
                "grpc.health.v1.Health/Check",
                json!({ "service": service }),
            )
            .await;
            (answer.code == Some(0) && answer.json()["status"] == "SERVING").then_some(answer)
        })
        .await;
        assert_eq!(health.json()["status"], "SERVING");
    }
    let unknown = json!({ "service": "nobody" });
    let unknown = call(&scheduler, "grpc.health.v1.Health/Check", unknown).await;
    assert!(unknown.stderr.contains("NotFound"), "{}", unknown.stderr);
}

#[tokio::test]
async fn grpcurl_is_told_which_field_breaks_which_rule() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let bad = json!({ "task": { "taskType": "no spaces please", "priority": 101 } });

    let refused = call(&scheduler, "tasklease.v1.TaskService/SubmitTask", bad).await;

    assert_eq!(refused.code, Some(64 + 3), "{}", refused.stderr);
    for word in ["task.task_type", "task.priority", "INVALID_REQUEST"] {
        assert!(refused.stderr.contains(word), "{word}: {}", refused.stderr);
    }
}
