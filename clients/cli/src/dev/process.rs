//! A running child.

use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::dev::guard::Guard;
use crate::dev::log_file;
use crate::dev::program::{LogTarget, Program};
use crate::failure::Failure;

/// A running child of this process, with a process group of its own.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// The first line of its standard output, once.
    first_line: Option<oneshot::Receiver<String>>,
    /// Declared last: outlives the child.
    _guard: Guard,
}

impl Process {
    /// Starts a program.
    pub(crate) fn spawn(program: &Program) -> Result<Self, Failure> {
        let cannot = |error| Failure::other(format!("cannot run {}: {error}", program.path.display()));
        let log = match &program.log {
            LogTarget::File(path) => {
                let file = log_file::open(path)
                    .map_err(|error| Failure::other(format!("cannot open {}: {error}", path.display())))?;
                Stdio::from(OwnedFd::from(file))
            }
            LogTarget::Shown => Stdio::piped(),
        };
        let mut child = Command::new(&program.path)
            .args(&program.arguments)
            .envs(program.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            // Only a panic gets there; every other way waits for the child.
            .kill_on_drop(true)
            .spawn()
            .map_err(cannot)?;
        let guard = Guard::start(child.id().unwrap_or_default()).map_err(cannot)?;
        if let Some(lines) = child.stderr.take() {
            tokio::spawn(show_lines(program.name, lines));
        }
        let first_line = child.stdout.take().map(|lines| {
            let (first, receiver) = oneshot::channel();
            tokio::spawn(drain(lines, first));
            receiver
        });
        Ok(Self {
            child,
            first_line,
            _guard: guard,
        })
    }

    /// Waits for the first line that it writes to standard output; `None` if it ends
    /// without one. Gives it once.
    pub(crate) async fn first_line(&mut self) -> Option<String> {
        self.first_line.take()?.await.ok()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end and tells it in words.
    pub(crate) async fn wait(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// Asks it to end and waits for that; kills it once `hard` is cancelled.
    pub(crate) async fn stop(mut self, hard: &CancellationToken) {
        let pid = self
            .child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // Fails only if it has just ended.
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
        tokio::select! {
            _ = self.child.wait() => {}
            () = hard.cancelled() => {
                // Fails only if it has just ended.
                let _ = self.child.kill().await;
            }
        }
    }
}

/// Reads until the end, so that the child never waits for us.
async fn drain(lines: impl AsyncRead + Unpin, first: oneshot::Sender<String>) {
    let mut lines = BufReader::new(lines).lines();
    if let Ok(Some(line)) = lines.next_line().await {
        // Nobody may be waiting for it.
        let _ = first.send(line);
    }
    while let Ok(Some(_)) = lines.next_line().await {}
}

async fn show_lines(name: &'static str, lines: impl AsyncRead + Unpin) {
    let mut lines = BufReader::new(lines).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        eprintln!("{name:>9} | {line}");
    }
}
