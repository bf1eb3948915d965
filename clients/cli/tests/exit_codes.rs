//! What scripts see of the command when there is no server to talk to.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail at once")]

use std::net::TcpListener;
use std::process::{Command, Output};

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
        &["dev", "--files", "/no/such/folder"],
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

#[test]
fn help_tells_the_exit_codes() {
    let output = tasklease(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("3  the server cannot be reached"));
}
