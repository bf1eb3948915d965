//! A process under test whose log can lose its reader.

use std::{fs::OpenOptions, net::SocketAddr, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child as Process, Command},
    task::JoinHandle,
};

/// How long a program may take to say where it listens.
const START: Duration = Duration::from_secs(20);

/// A running process; killed when dropped.
#[derive(Debug)]
pub struct Child {
    process: Process,
    log: JoinHandle<()>,
}

impl Child {
    /// Starts a program with nothing of this process's environment but the path; its log is added to a file.
    ///
    /// # Errors
    /// The program or the file cannot be used.
    pub fn spawn(
        program: &Path,
        arguments: &[String],
        environment: &[(&str, String)],
        log: &Path,
    ) -> anyhow::Result<Self> {
        let mut process = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("RUST_BACKTRACE", "1")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        let mut stderr = process.stderr.take().context("no standard error")?;
        let log = tokio::spawn(async move {
            let mut buffer = vec![0; 8 << 10];
            while let Ok(length @ 1..) = stderr.read(&mut buffer).await {
                // A full disk here must not hold up the process.
                let _ = std::io::Write::write_all(&mut file, buffer.get(..length).unwrap_or_default());
            }
        });
        Ok(Self { process, log })
    }

    /// Waits for the line in which a program says where it listens.
    ///
    /// # Errors
    /// It ends before, or takes too long.
    pub async fn address(&mut self, announcement: &str) -> anyhow::Result<SocketAddr> {
        let stdout = self
            .process
            .stdout
            .take()
            .context("its address was read before")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(START, lines.next_line()).await??;
        let Some(line) = line else {
            bail!("it ended before it listened");
        };
        let address = line.strip_prefix(announcement);
        let address = address.with_context(|| format!("not an announcement: {line}"))?;
        Ok(address.parse()?)
    }

    /// Its process id, unless it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// Sends it a signal, unless it has ended.
    pub fn signal(&self, signal: Signal) {
        let pid = self.process.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            // It may just have ended.
            let _ = kill_process(pid, signal);
        }
    }

    /// Lets the reader of its log go away: whoever writes to a pipe without a reader gets an error.
    pub fn close_log(&self) {
        self.log.abort();
    }

    /// Its exit code if it has ended; `None` inside if a signal ended it.
    pub fn ended(&mut self) -> Option<Option<i32>> {
        let status = self.process.try_wait().ok().flatten()?;
        Some(status.code())
    }
}
