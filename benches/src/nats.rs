//! A private NATS server with JetStream on the disk of the databases; it ends, and its files are removed, when its value is dropped.

use std::{
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::cpu;

/// The program; `benches/peers/install` builds it.
const PROGRAM: &str = "target/peers/nats-server";

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a wait for the start checks again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// When JetStream flushes what it has answered.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Flush {
    /// JetStream's default.
    EveryTwoMinutes,
    /// Before each answer to a publish.
    Always,
}

/// A running server.
pub(crate) struct NatsServer {
    // Dropped in this order: the server first, then its folder.
    process: Child,
    url: String,
    _folder: TempDir,
}

impl NatsServer {
    /// Starts a server on a free port of the loopback interface.
    pub(crate) async fn start(flush: Flush) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let (config, log) = (folder.path().join("config"), folder.path().join("log"));
        fs::write(&config, settings(folder.path(), flush)?)?;
        let mut process = Command::new(PROGRAM)
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {PROGRAM}"))?;
        let begun = Instant::now();
        loop {
            if let Some(status) = process.try_wait()? {
                let said = fs::read_to_string(&log)?;
                bail!("the NATS server ended with {status}: {}", said.trim());
            }
            if let Some(url) = client_url(folder.path())? {
                return Ok(Self {
                    process,
                    url,
                    _folder: folder,
                });
            }
            ensure!(begun.elapsed() < PATIENCE, "the NATS server does not start");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// The URL for clients.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// CPU seconds of the server so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        cpu::of_process(self.pid()?)
    }

    /// Bytes that the server has written to files so far.
    pub(crate) fn written_bytes(&self) -> anyhow::Result<i64> {
        cpu::written_bytes(self.pid()?)
    }

    /// Stops the server and waits for its end, so that it does not disturb the next measurement.
    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        Ok(self.process.kill().await?)
    }

    fn pid(&self) -> anyhow::Result<u32> {
        self.process.id().context("the NATS server runs")
    }
}

fn settings(folder: &Path, flush: Flush) -> anyhow::Result<String> {
    // JSON text is a valid value in the server's own format.
    let path = |name: &str| serde_json::to_string(&folder.join(name));
    let sync = match flush {
        Flush::EveryTwoMinutes => "",
        Flush::Always => "sync_interval: always",
    };
    Ok(format!(
        "host: 127.0.0.1\nport: -1\nports_file_dir: {}\njetstream {{ store_dir: {}\n{sync} }}\n",
        path("")?,
        path("jetstream")?,
    ))
}

/// The address that the server has written down, once it listens there.
fn client_url(folder: &Path) -> anyhow::Result<Option<String>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "ports") {
            // The file may be half written; the next check reads all of it.
            let ports: Value = serde_json::from_str(&fs::read_to_string(path)?).unwrap_or_default();
            return Ok(ports["nats"][0].as_str().map(str::to_owned));
        }
    }
    Ok(None)
}
