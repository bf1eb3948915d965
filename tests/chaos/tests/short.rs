//! The short version of the chaos tests: a few seeds of a few seconds, and what the command says for itself.

#![expect(clippy::expect_used, reason = "a test that cannot go on should fail at once")]

use std::{
    path::Path,
    process::{Command, Output},
};

/// Seeds whose plans together hold a fault of each part: schedulers, workers, Postgres, links, statements, locks.
const SEEDS: &str = "3";

fn chaos(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tasklease-chaos"))
        .args(arguments)
        .output()
        .expect("the program starts")
}

fn text(output: &Output) -> String {
    let (stdout, stderr) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(stdout),
        String::from_utf8_lossy(stderr)
    )
}

#[test]
fn no_promise_is_broken_by_faults_of_every_kind() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("runs");
    let out = out.to_string_lossy();
    let arguments = [
        "run",
        "--seed",
        "1",
        "--seeds",
        SEEDS,
        "--minutes",
        "0.1",
        "--out",
        &out,
    ];
    let output = chaos(&arguments);
    // What is needed to find the reason goes with the folder.
    assert!(
        output.status.success(),
        "{}{}",
        text(&output),
        logs(folder.path())
    );
}

#[test]
fn a_series_goes_on_where_it_stopped_and_keeps_only_results() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().to_string_lossy();
    let series = |seeds: &str| {
        let one_kind = [
            "run",
            "--each-kind",
            "--faults",
            "move-streams",
            "--minutes",
            "0.03",
        ];
        let rest = ["--seeds", seeds, "--resume", "--out", &out];
        let output = chaos(&[&one_kind[..], &rest].concat());
        assert!(
            output.status.success(),
            "{}{}",
            text(&output),
            logs(folder.path())
        );
        text(&output).matches("all promises held").count()
    };
    assert_eq!(
        [series("1"), series("1")],
        [1, 0],
        "what was made is not made again"
    );
    let run = folder.path().join("move-streams").join("seed-1");
    let kept: Vec<_> = run.read_dir().expect("a folder").flatten().collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    let page = chaos(&["promises", &run.join("result.json").to_string_lossy()]);
    assert!(text(&page).contains("| runs | 1 |"), "{}", text(&page));
}

/// The last lines of all logs.
fn logs(folder: &Path) -> String {
    let mut shown = String::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "log") {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let last = &lines[lines.len().saturating_sub(15)..];
                shown.push_str(&format!("--- {} ---\n{}\n", path.display(), last.join("\n")));
            }
        }
    }
    shown
}

#[test]
fn the_command_explains_itself_and_names_what_it_does_not_know() {
    for topic in [
        &["--help"][..],
        &["run", "--help"],
        &["list-faults"],
        &["list-promises"],
    ] {
        let output = chaos(topic);
        assert!(output.status.success(), "{topic:?}: {}", text(&output));
    }
    let output = chaos(&["run", "--faults", "kill-worker,meteor"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("\"meteor\""), "{}", text(&output));
}
