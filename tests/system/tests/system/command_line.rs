//! The command `tasklease` against a running scheduler: what it prints and how it ends.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use serde_json::Value;
use tasklease_tests::{Database, Finished, Scheduler, Stage, WorkerProcess, program, run_with};

async fn tasklease(address: &str, arguments: &[&str]) -> Finished {
    run_with(&program("tasklease"), arguments, &[("TASKLEASE_ADDR", address)]).await
}

fn id_of(document: &Value) -> String {
    document["task"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn each_exit_code_means_what_the_help_says() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let address = scheduler.address();
    let stage = Stage::new();
    let _worker = WorkerProcess::start(&[&scheduler], "w", &[]).await;
    let param = format!("stage={}", stage.path().display());

    let done = tasklease(&address, &["submit", "side_effect", "--param", &param, "--wait"]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("SUCCEEDED"), "{done:?}");

    let failed = tasklease(&address, &["submit", "fail", "--param", &param, "--watch"]).await;
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stdout.contains("OUT_OF_PAPER"), "{failed:?}");

    for wrong in [
        &["submit", "side_effect", "--priority", "1000"][..],
        &["submit", "two words"],
        &["submit"],
        &["get", "no-id"],
        &["frobnicate"],
    ] {
        let usage = tasklease(&address, wrong).await;
        assert_eq!(usage.code, Some(2), "{wrong:?}: {usage:?}");
        assert!(!usage.stderr.is_empty());
    }

    let unknown = tasklease(&address, &["get", "0192d5a0-7c3e-7b1a-8000-1a2b3c4d5e6f"]).await;
    assert_eq!(unknown.code, Some(4), "{unknown:?}");
    assert!(unknown.stderr.contains("0192d5a0"), "{unknown:?}");

    // A port that nobody listens on any more.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = tasklease(&free.to_string(), &["list"]).await;
    assert_eq!(nobody.code, Some(3), "{nobody:?}");
    assert!(nobody.stderr.contains("tasklease dev"), "{nobody:?}");
}

#[tokio::test]
async fn every_command_speaks_canonical_json() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let address = scheduler.address();
    let stage = Stage::new();
    let _worker = WorkerProcess::start(&[&scheduler], "w", &[]).await;
    let json = async |arguments: &[&str]| {
        let mut all = vec!["-o", "json"];
        all.extend(arguments);
        tasklease(&address, &all).await.well().json()
    };

    let payload = stage.payload().to_string();
    let submitted = json(&["submit", "gate", "--payload", &payload, "--title", "A gate"]).await;
    let id = id_of(&submitted);
    stage.reached_by("started", &id, 1).await;
    let got = json(&["get", &id]).await;
    assert_eq!(got["task"]["state"], "TASK_STATE_RUNNING");
    assert_eq!(
        (&got["task"]["title"], &got["task"]["leaseToken"]),
        (&"A gate".into(), &"1".into())
    );
    let listed = json(&["list", "--state", "running", "--type", "gate"]).await;
    assert_eq!(listed["tasks"].as_array().unwrap().len(), 1);
    assert_eq!(json(&["workers"]).await["workers"][0]["name"], "w");
    let stats = json(&["stats"]).await;
    assert!(
        stats["stats"]
            .as_array()
            .unwrap()
            .iter()
            .any(|entry| entry["running"] == "1"),
        "{stats}"
    );

    let cancelled = json(&["cancel", &id, "--reason", "enough"]).await;
    assert_eq!(cancelled["task"]["cancelRequested"], true);
    stage.reached_by("cancelled", &id, 1).await;
    let watched = tasklease(&address, &["-o", "json", "watch", &id]).await;
    assert_eq!(watched.code, Some(1), "{watched:?}");
    let last: Value = serde_json::from_str(watched.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(last["ended"]["state"], "TASK_STATE_CANCELLED");

    stage.open_gate();
    let retried = json(&["retry", &id]).await;
    assert_eq!(retried["task"]["retryOf"], id.as_str());
    let watched = tasklease(&address, &["watch", &id_of(&retried)]).await.well();
    assert!(watched.stdout.contains("SUCCEEDED"), "{watched:?}");
    json(&["delete", &id]).await;
    assert_eq!(tasklease(&address, &["get", &id]).await.code, Some(4));

    assert_eq!(
        json(&["queue", "pause", "default"]).await["queue"]["paused"],
        true
    );
    let queues = json(&["queue", "list"]).await;
    assert_eq!(queues["queues"][0]["name"], "default");
    json(&["queue", "resume", "default"]).await;
}

#[tokio::test]
async fn a_command_finds_the_replica_that_lives() {
    let database = Database::create().await;
    let mut dead = Scheduler::start(&database.url()).await;
    let alive = Scheduler::start(&database.url()).await;
    let both = Scheduler::addresses(&[&dead, &alive]);
    dead.kill();

    for _ in 0..4 {
        tasklease(&both, &["submit", "t"]).await.well();
    }

    let listed = tasklease(&both, &["-o", "json", "list"]).await.well().json();
    assert_eq!(listed["tasks"].as_array().unwrap().len(), 4);
}

/// The exit code of a command that nobody listens to.
async fn unheard(address: &str, arguments: &[&str]) -> Option<i32> {
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    let mut command = Command::new(program("tasklease"));
    command
        .args(arguments)
        .env("TASKLEASE_ADDR", address)
        .stdin(Stdio::null())
        .stdout(closed())
        .stderr(closed());
    let ended = tokio::task::spawn_blocking(move || command.status()).await;
    ended.unwrap().unwrap().code()
}

#[tokio::test]
async fn exit_codes_hold_when_nobody_reads_the_output() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let address = scheduler.address();
    let stage = Stage::new();
    let _worker = WorkerProcess::start(&[&scheduler], "w", &[]).await;
    let param = format!("stage={}", stage.path().display());

    for follow in ["--wait", "--watch"] {
        let done = unheard(&address, &["submit", "side_effect", "--param", &param, follow]).await;
        assert_eq!(done, Some(0), "{follow}");
        let failed = unheard(&address, &["submit", "fail", "--param", &param, follow]).await;
        assert_eq!(failed, Some(1), "{follow}");
    }
    let unknown = unheard(&address, &["get", "0192d5a0-7c3e-7b1a-8000-1a2b3c4d5e6f"]).await;
    assert_eq!(unknown, Some(4));
    let usage = unheard(&address, &["submit", "two words"]).await;
    assert_eq!(usage, Some(2));
    assert_eq!(unheard(&address, &["list"]).await, Some(0));
}

#[tokio::test]
async fn a_queue_that_does_not_exist_is_paused_only_if_it_may_be_created() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let address = scheduler.address();
    tasklease(&address, &["submit", "t", "--queue", "slow"])
        .await
        .well();

    for wrong in [["queue", "pause", "solw"], ["queue", "resume", "solw"]] {
        let refused = tasklease(&address, &wrong).await;
        assert_eq!(refused.code, Some(4), "{refused:?}");
        assert!(refused.stderr.contains("solw"), "{refused:?}");
    }
    let queues = tasklease(&address, &["queue", "list"]).await.well();
    assert!(!queues.stdout.contains("solw"), "{queues:?}");

    tasklease(&address, &["queue", "pause", "slow"]).await.well();
    tasklease(&address, &["queue", "pause", "later", "--create"])
        .await
        .well();
    tasklease(&address, &["queue", "resume", "later"]).await.well();
}

#[tokio::test]
async fn what_was_typed_is_stored_as_it_was_typed_and_a_broken_rule_is_told_once() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let address = scheduler.address();

    let typed = ["sha=12e5", "version=1.10", "zip=01234", "n=7"];
    let mut arguments = vec!["-o", "json", "submit", "t", "--param-text", "text=5"];
    arguments.extend(typed.iter().flat_map(|param| ["--param", param]));
    let submitted = tasklease(&address, &arguments).await.well().json();
    let task = tasklease(&address, &["-o", "json", "get", &id_of(&submitted)])
        .await
        .well()
        .json();
    let payload = &task["task"]["payload"];
    assert_eq!(
        *payload,
        serde_json::json!({ "sha": "12e5", "version": "1.10", "zip": "01234", "n": 7, "text": "5" })
    );

    let refused = tasklease(&address, &["submit", "two words"]).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert_eq!(refused.stderr.matches("task_type").count(), 1, "{refused:?}");
}
