//! Runs a command with a throw-away Postgres cluster.
//!
//! `with-postgres COMMAND [ARGUMENT]…` starts a cluster in a temporary folder, sets
//! `TASKLEASE_TEST_DATABASE_URL` to its superuser URL, runs the command, removes the
//! cluster and ends with the command's exit code. The cluster loses everything and must
//! hold nothing of value.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};

use rustix::process::{Pid, Signal};
use tasklease_postgres::{Cluster, ClusterOptions};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

/// Our own failure, as `env` and `timeout` report theirs.
const OWN_FAILURE: u8 = 125;

/// The command could not be started.
const NO_SUCH_COMMAND: u8 = 127;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let Some(program) = words.next() else {
        say("usage: with-postgres COMMAND [ARGUMENT]...");
        return ExitCode::from(OWN_FAILURE);
    };
    match run(program, words.collect()).await {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            say(format_args!("with-postgres: {message}"));
            ExitCode::from(OWN_FAILURE)
        }
    }
}

/// Writes a line to standard error; the exit code tells the same to a caller that does not read.
fn say(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

async fn run(program: OsString, arguments: Vec<OsString>) -> Result<u8, String> {
    // Installed before there is anything to clean up.
    let mut terminated = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let folder = tempfile::Builder::new()
        .prefix("tasklease-test-")
        .tempdir()
        .map_err(|error| format!("cannot create a temporary folder: {error}"))?;
    let mut cluster = tokio::select! {
        started = Cluster::start(ClusterOptions::throw_away(folder.path())) => started.map_err(|error| error.to_string())?,
        _ = terminated.recv() => return Ok(exit_code_of(Signal::TERM)),
        _ = interrupted.recv() => return Ok(exit_code_of(Signal::INT)),
    };
    let spawned = Command::new(&program)
        .args(arguments)
        .env("TASKLEASE_TEST_DATABASE_URL", cluster.url("postgres"))
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            say(format_args!(
                "with-postgres: cannot run {}: {error}",
                program.display()
            ));
            return Ok(NO_SUCH_COMMAND);
        }
    };
    let ended = loop {
        tokio::select! {
            ended = child.wait() => break ended.map_err(|error| error.to_string())?,
            _ = terminated.recv() => forward(&child, Signal::TERM),
            // A terminal has sent it to the command as well.
            _ = interrupted.recv() => if !std::io::stdin().is_terminal() { forward(&child, Signal::INT) },
        }
    };
    cluster.stop().await.map_err(|error| error.to_string())?;
    Ok(exit_code(ended))
}

fn forward(child: &Child, signal: Signal) {
    let pid = child
        .id()
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // Fails only if it has just ended, which the loop sees next.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// A shell's view of how a process ended.
fn exit_code(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(OWN_FAILURE),
        (None, Some(signal)) => u8::try_from(128 + signal).unwrap_or(OWN_FAILURE),
        (None, None) => OWN_FAILURE,
    }
}

fn exit_code_of(signal: Signal) -> u8 {
    u8::try_from(128 + signal.as_raw()).unwrap_or(OWN_FAILURE)
}
