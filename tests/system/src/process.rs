//! A process under test: its logs, its signals, its end.

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::process::{Pid, kill_process};
use tempfile::TempDir;

use crate::patience::eventually;

pub use rustix::process::Signal;

/// Lines of its log that a failed test shows.
const SHOWN_LINES: usize = 80;

/// A running process; killed when dropped. If that is because the test failed, shows the end of what it logged.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    logs: TempDir,
}

impl Process {
    /// Starts a program. Settings of the developer's own shell do not reach it.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn spawn(
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        environment: &[(&str, &str)],
    ) -> Self {
        let logs = tempfile::tempdir().expect("a temporary folder");
        let file = |name| File::create(logs.path().join(name)).expect("a log file");
        let mut command = Command::new(program);
        command.args(arguments);
        clean_environment(&mut command);
        command
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"));
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        Self {
            name: name.to_owned(),
            child,
            logs,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file that holds what it logs.
    pub fn log(&self) -> PathBuf {
        self.logs.path().join("stderr")
    }

    /// Waits for the first whole line that it writes to standard output.
    pub async fn first_line(&mut self) -> String {
        let file = self.logs.path().join("stdout");
        eventually(&format!("the first line of {}", self.name), async || {
            let text = fs::read_to_string(&file).unwrap_or_default();
            if let Some((line, _)) = text.split_once('\n') {
                return Some(line.to_owned());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("{} ended early: {status}", self.name);
            }
            None
        })
        .await
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// If it has ended.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), signal)
            .unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.name));
    }

    /// True if it has ended.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        eventually(&what, async || self.child.try_wait().ok().flatten()).await
    }

    /// Asks it to end with SIGTERM, and waits until it has ended.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let text = fs::read_to_string(self.log()).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
            eprintln!("--- the last {} lines of {} ---", shown.len(), self.name);
            eprintln!("{}", shown.join("\n"));
        }
    }
}

/// Removes every setting of Tasklease but those that say where the tools are.
pub(crate) fn clean_environment(command: &mut Command) {
    command.env_remove("DATABASE_URL");
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let is_tool = matches!(
            &*text,
            "TASKLEASE_TOOLS_DIR" | "TASKLEASE_PG_BIN" | "TASKLEASE_ROOT"
        );
        if text.starts_with("TASKLEASE_") && !is_tool {
            command.env_remove(&name);
        }
    }
}
