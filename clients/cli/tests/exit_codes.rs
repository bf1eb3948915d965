//! What scripts see of the command when there is no server to talk to.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail at once")]

use std::fs::File;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

fn tasklease(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tasklease"))
        .args(arguments)
        .env_remove("TASKLEASE_ADDR")
        .output()
        .unwrap()
}

#[test]
fn wrong_usage_ends_with_2_and_leaves_standard_output_empty() {
    for arguments in [
        &["submit"][..],
        &["submit", "greet", "--payload", "[1]"],
        &["submit", "greet", "--payload", "@/no/such/file"],
        &["submit", "greet", "--param", "a=1", "--param", "a=2"],
        &["--addr", "not an address", "stats"],
        &["submit", "greet", "--param-json", "a=x"],
        &["submit", "greet", "--param", "a=1", "--param-text", "a=2"],
        &["dev", "--files", "/dev/null/folder"],
        &["dev", "--addr", "127.0.0.1:7070"],
    ] {
        let output = tasklease(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(
            output.stdout.is_empty() && !output.stderr.is_empty(),
            "{arguments:?}"
        );
    }
}

#[test]
fn a_server_that_cannot_be_reached_ends_with_3_and_advice() {
    // Bound and dropped: the port is known to be free.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let output = tasklease(&["--addr", &format!("127.0.0.1:{port}"), "stats"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("tasklease dev"));
}

/// A pipe that nobody reads.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// A device that is full.
fn full_device() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

#[test]
fn the_exit_code_is_the_same_when_nothing_can_be_written() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (arguments, code) in [
        (vec!["submit", "greet", "--payload", "[1]"], 2),
        (vec!["frobnicate"], 2),
        (vec!["--help"], 0),
        (vec!["--version"], 0),
        (vec!["stats"], 3),
        (
            vec!["dev", "--listen", "127.0.0.1:0", "--data-dir", "/dev/null/x"],
            1,
        ),
    ] {
        for gone in [closed_pipe, full_device] {
            let status = Command::new(env!("CARGO_BIN_EXE_tasklease"))
                .args(&arguments)
                .env("TASKLEASE_ADDR", free.to_string())
                .stdout(gone())
                .stderr(gone())
                .status()
                .unwrap();
            assert_eq!(status.code(), Some(code), "{arguments:?}");
        }
    }
}

#[test]
fn an_empty_address_means_the_default() {
    for arguments in [&["stats"][..], &["stats", "--addr", ""]] {
        let output = Command::new(env!("CARGO_BIN_EXE_tasklease"))
            .args(arguments)
            .env("TASKLEASE_ADDR", "")
            .output()
            .unwrap();
        // Somebody may well run a scheduler there.
        if output.status.code() != Some(0) {
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(told.contains("127.0.0.1:7070"), "{told}");
        }
    }
}

#[test]
fn arguments_that_are_no_text_are_wrong_usage() {
    use std::os::unix::ffi::OsStrExt;
    let broken = std::ffi::OsStr::from_bytes(b"a\xFFb");
    for before in [
        &["get"][..],
        &["submit"],
        &["submit", "t", "--param"],
        &["--addr"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_tasklease"))
            .args(before)
            .arg(broken)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{before:?}");
    }
}

#[test]
fn a_payload_file_with_a_byte_order_mark_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.json");
    std::fs::write(&path, "\u{feff}{\r\n\"a\": 1}\r\n").unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let payload = format!("@{}", path.display());
    let output = tasklease(&["--addr", &free.to_string(), "submit", "t", "--payload", &payload]);
    // The input is right; nobody is there to take it.
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}

#[test]
fn names_in_messages_cannot_steer_the_terminal_and_are_told_once() {
    let output = tasklease(&["submit", "t", "--payload", "@no\u{1b}[2Jfile"]);
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!told.contains('\u{1b}'), "{told}");
    assert_eq!(told.matches("--payload").count(), 1, "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
}

#[test]
fn help_tells_the_exit_codes() {
    let output = tasklease(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("3  the server cannot be reached"));
}
