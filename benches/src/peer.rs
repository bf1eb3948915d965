//! The program of another queue, and the server that it works with.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::{
    cpu,
    nats::NatsServer,
    phases::wal_bytes,
    report::{joined, rounded},
    server::Server,
};

/// Where `benches/peers/install` puts the programs, one of each peer's name.
const PROGRAMS: &str = "target/peers/bin";

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Lines of a failed program's standard error that the report shows.
const SHOWN_LINES: usize = 3;

/// The server that stores a peer's tasks.
pub(crate) enum Host<'a> {
    /// A database of the Postgres server that all systems share.
    Postgres {
        /// The server.
        server: &'a Server,
        /// The peer's own database.
        database: &'static str,
        /// A connection that asks how much log was written.
        admin: tokio_postgres::Client,
    },
    /// A server of the peer's own.
    Nats(NatsServer),
}

impl<'a> Host<'a> {
    /// An empty database of the shared server.
    pub(crate) async fn postgres(server: &'a Server, database: &'static str) -> anyhow::Result<Self> {
        server.create(database).await?;
        Ok(Self::Postgres {
            server,
            database,
            admin: server.client(database).await?,
        })
    }

    fn url(&self) -> String {
        match self {
            Self::Postgres { server, database, .. } => server.url(database),
            Self::Nats(server) => server.url().to_owned(),
        }
    }

    async fn usage(&self) -> anyhow::Result<(f64, i64)> {
        match self {
            Self::Postgres { server, admin, .. } => Ok((server.cpu()?, wal_bytes(admin).await?)),
            Self::Nats(server) => Ok((server.cpu()?, server.written_bytes()?)),
        }
    }

    /// Stops a server of the peer's own; the owner of a shared server drops the database.
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        match self {
            Self::Postgres { .. } => Ok(()),
            Self::Nats(server) => server.end().await,
        }
    }
}

/// The CPU time and bytes that a program and its server have used.
#[derive(Clone, Copy)]
struct Usage {
    server_cpu: f64,
    client_cpu: f64,
    written: i64,
}

impl Usage {
    async fn so_far(host: &Host<'_>, program: u32) -> anyhow::Result<Self> {
        let client_cpu = cpu::of_process(program)?;
        let (server_cpu, written) = host.usage().await?;
        Ok(Self {
            server_cpu,
            client_cpu,
            written,
        })
    }

    fn since(self, before: Self, tasks: usize) -> Value {
        let micros = |seconds: f64| rounded(seconds * 1e6 / tasks as f64, 1);
        let server = self.server_cpu - before.server_cpu;
        let client = self.client_cpu - before.client_cpu;
        json!({
            "cpu_us": micros(server + client),
            "server_cpu_us": micros(server),
            "written_bytes": (self.written - before.written) / i64::try_from(tasks).unwrap_or(i64::MAX),
        })
    }
}

/// A peer's program with the options of every command.
pub(crate) struct Program<'a> {
    /// Its name among the peers.
    pub(crate) name: &'a str,
    /// The server that it works with.
    pub(crate) host: &'a Host<'a>,
    /// Options besides the server's URL and the number of tasks.
    pub(crate) options: Vec<(&'static str, usize)>,
}

impl Program<'_> {
    /// Runs one command and returns its figures, with what they cost if the program tells when its clock runs.
    pub(crate) async fn run(&self, command: &str, tasks: usize) -> anyhow::Result<Value> {
        let program = Path::new(PROGRAMS).join(self.name);
        let mut child = Command::new(&program)
            .args([command, "--url", &self.host.url(), "--tasks", &tasks.to_string()])
            .args(
                self.options
                    .iter()
                    .flat_map(|(name, value)| [(*name).to_owned(), value.to_string()]),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        tokio::time::timeout(PATIENCE, self.follow(&mut child, tasks))
            .await
            .with_context(|| format!("{command} takes too long"))?
            .with_context(|| command.to_owned())
    }

    async fn follow(&self, child: &mut Child, tasks: usize) -> anyhow::Result<Value> {
        let pid = child.id().context("the program runs")?;
        let output = child.stdout.take().context("the program has an output")?;
        let mut errors = child.stderr.take().context("the program has an error output")?;
        let mut complaint = Vec::new();
        let (read, complained) =
            tokio::join!(self.read(pid, output, tasks), errors.read_to_end(&mut complaint));
        complained?;
        let status = child.wait().await?;
        ensure!(
            status.success(),
            "{}",
            last_lines(&String::from_utf8_lossy(&complaint))
        );
        read
    }

    /// Reads what the program prints. A clock that starts again, after a warm-up, makes the first one void.
    async fn read(
        &self,
        pid: u32,
        output: tokio::process::ChildStdout,
        tasks: usize,
    ) -> anyhow::Result<Value> {
        let mut lines = BufReader::new(output).lines();
        let (mut begun, mut cost, mut last) = (None, json!({}), None);
        while let Some(line) = lines.next_line().await? {
            match line.as_str() {
                "clock starts" => begun = Some(Usage::so_far(self.host, pid).await?),
                "clock stops" => {
                    let begun = begun.take().context("a clock stops that has not started")?;
                    cost = Usage::so_far(self.host, pid).await?.since(begun, tasks);
                }
                _ => last = Some(line),
            }
        }
        let Some(last) = last else { bail!("says nothing") };
        let figures = serde_json::from_str(&last).with_context(|| format!("says: {last}"))?;
        Ok(joined(figures, cost))
    }
}

/// The end of a failed program's standard error, without the stack.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("at "))
        .collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_without_its_stack() {
        let text = "Error: no such table\n    at file:///somewhere/bench.mjs:7\n\n  code: 42\n";
        assert_eq!(last_lines(text), "Error: no such table | code: 42");
    }
}
