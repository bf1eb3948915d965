//! Every subcommand runs for real with tiny numbers and reports figures; how large they are is not asked here.

#![expect(clippy::expect_used, reason = "a test that cannot go on should fail at once")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tasklease-bench"))
        .args(arguments)
        .output()
        .expect("the benchmark program starts")
}

/// Runs a subcommand and reads the last line of its output.
fn result(arguments: &[&str]) -> Value {
    let output = bench(arguments);
    let shown = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?} failed: {shown}");
    let result = last_line(&output);
    assert_eq!(result["bench"], arguments[0]);
    assert!(result["parameters"].is_object(), "{result}");
    assert_positive(&result["machine"], &["cores", "memory_gib", "fsync_us"]);
    assert!(result["machine"]["postgres"].is_string(), "{result}");
    result
}

fn last_line(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().expect("a last line")).expect("one JSON object")
}

fn assert_positive(figures: &Value, names: &[&str]) {
    for name in names {
        assert!(figures[name].as_f64() > Some(0.0), "{name} in {figures}");
    }
}

const RATES: [&str; 3] = ["enqueue_per_s", "drain_per_s", "whole_life_per_s"];
const RATIOS: [&str; 3] = ["enqueue_ratio", "drain_ratio", "whole_life_ratio"];
const LATENCIES: [&str; 5] = ["p50_us", "p95_us", "p99_us", "p99_9_us", "max_us"];

#[test]
fn throughput_reports_every_phase() {
    let result = result(&["throughput", "--tasks", "2000", "--batch", "300"]);
    for phase in ["enqueue", "drain", "whole_life"] {
        assert_positive(&result["figures"][phase], &["per_s", "wal_bytes"]);
    }
}

#[test]
fn unary_reports_its_rate() {
    let result = result(&["unary", "--tasks", "500", "--callers", "8"]);
    assert_positive(&result["figures"], &["per_s", "wal_bytes"]);
}

#[test]
fn latency_is_reported_of_one_at_a_time_and_at_a_rate() {
    assert_positive(&result(&["latency", "--samples", "20"])["figures"], &LATENCIES);
    let steady = result(&["latency", "--samples", "50", "--rate", "100"]);
    assert_positive(&steady["figures"], &LATENCIES);
}

#[test]
fn backlog_reports_every_pair_beside_the_empty_case() {
    let arguments = [
        "backlog",
        "--tasks",
        "2000",
        "--rounds",
        "1",
        "--waiting",
        "0,3000",
        "--finished",
        "0,1000",
    ];
    let figures = result(&arguments)["figures"].clone();
    for pair in [
        "waiting_0_finished_0",
        "waiting_3000_finished_0",
        "waiting_0_finished_1000",
        "waiting_3000_finished_1000",
    ] {
        let names = [
            "enqueue_per_s",
            "drain_per_s",
            "enqueue_ratio",
            "drain_ratio",
            "loaded_bytes",
        ];
        assert_positive(&figures[pair], &names);
    }
}

#[test]
fn snapshot_reports_both_conditions() {
    let figures = result(&["snapshot", "--tasks", "2000", "--rounds", "1"])["figures"].clone();
    assert_positive(&figures["free"], &RATES);
    assert_positive(&figures["held"], &RATES);
    assert_positive(&figures["held_to_free"], &RATIOS);
}

#[test]
fn sessions_stay_connected() {
    let figures = result(&["sessions", "--workers", "20", "--watch", "2s"])["figures"].clone();
    assert_positive(&figures["without_sessions"], &["scheduler_rss_bytes"]);
    assert_positive(
        &figures["with_sessions"],
        &["queries", "scheduler_rss_bytes", "opened_per_s"],
    );
    assert_eq!(figures["with_sessions"]["listed"], 20);
}

#[test]
fn replicas_report_each_number_of_schedulers() {
    let figures = result(&[
        "replicas",
        "--tasks",
        "2000",
        "--schedulers",
        "1,2",
        "--rounds",
        "1",
    ])["figures"]
        .clone();
    for schedulers in ["schedulers_1", "schedulers_2"] {
        assert_positive(&figures[schedulers], &RATES);
        assert_positive(&figures[schedulers], &RATIOS);
    }
}

#[test]
fn the_floor_is_reported_beside_the_whole_system() {
    let figures =
        result(&["floor", "--tasks", "2000", "--rounds", "1", "--claimers", "2"])["figures"].clone();
    assert_positive(&figures["floor"], &RATES);
    assert_positive(&figures["whole_system"], &RATES);
    assert_positive(&figures["whole_to_floor"], &RATIOS);
}

#[test]
fn peers_measures_ours_alone_when_asked_to() {
    let arguments = [
        "peers",
        "--only",
        "tasklease",
        "--tasks",
        "2000",
        "--rounds",
        "1",
        "--unary-tasks",
        "300",
        "--samples",
        "20",
    ];
    let ours = result(&arguments)["figures"]["tasklease"].clone();
    assert_positive(&ours, &RATES);
    assert_positive(
        &ours,
        &[
            "unary_per_s",
            "latency_p50_us",
            "latency_p95_us",
            "latency_p99_us",
        ],
    );
}

#[test]
fn compare_fails_when_a_figure_became_worse() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (old, new) = (folder.path().join("old.json"), folder.path().join("new.json"));
    let result = |per_s: u32| json!({ "bench": "unary", "figures": { "per_s": per_s } }).to_string();
    fs::write(&old, result(100)).expect("a file");
    fs::write(&new, result(50)).expect("a file");
    let compare = |old: &Path, new: &Path| {
        let output = bench(&["compare", &old.to_string_lossy(), &new.to_string_lossy()]);
        (
            output.status.code(),
            last_line(&output)["figures"]["per_s"]["verdict"].clone(),
        )
    };
    assert_eq!(compare(&old, &new), (Some(1), json!("worse")));
    assert_eq!(compare(&new, &old), (Some(0), json!("better")));
}

#[test]
fn the_result_is_also_written_to_a_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("unary.json");
    let printed = result(&[
        "unary",
        "--tasks",
        "100",
        "--callers",
        "2",
        "--out",
        &file.to_string_lossy(),
    ]);
    let written = fs::read_to_string(&file).expect("the file");
    assert_eq!(serde_json::from_str::<Value>(&written).expect("JSON"), printed);
}
