//! Running a command to its end.

use std::{
    ffi::OsStr,
    path::Path,
    process::{Command, Stdio},
};

use crate::{patience::in_time, process::clean_environment};

/// What a command left behind.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Finished {
    /// Its standard output as one JSON document.
    ///
    /// # Panics
    /// If it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {}\n{}", self.stdout, self.stderr))
    }

    /// The same command, which must have ended well.
    ///
    /// # Panics
    /// If it did not.
    pub fn well(self) -> Self {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stdout, self.stderr);
        self
    }
}

/// Runs a command and waits for its end.
pub async fn run(program: &Path, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Finished {
    run_with(program, arguments, &[]).await
}

/// The same with variables in its environment.
///
/// # Panics
/// If it cannot be started.
pub async fn run_with(
    program: &Path,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    environment: &[(&str, &str)],
) -> Finished {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    clean_environment(&mut command);
    command.envs(environment.iter().copied());
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    let what = format!("the end of {command:?}");
    let output = in_time(&what, command.output())
        .await
        .unwrap_or_else(|error| panic!("cannot run {}: {error}", program.display()));
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
