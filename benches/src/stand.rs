//! The test stand: a private Postgres with `fsync` on, a scheduler process and worker processes.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context as _, bail};
use tasklease_postgres::{Cluster, ClusterOptions};
use tasklease_proto::v1::{
    ListWorkersRequest, task_service_client::TaskServiceClient, worker_service_client::WorkerServiceClient,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};
use tokio_postgres::NoTls;
use tonic::transport::{Channel, Endpoint};

const DATABASE: &str = "bench";
const PATIENCE: Duration = Duration::from_secs(60);

/// A running scheduler over its own Postgres.
pub(crate) struct Stand {
    // Dropped in this order: processes first, then the database, then its folder.
    workers: Vec<Child>,
    scheduler: Child,
    address: String,
    cluster: Cluster,
    _folder: tempfile::TempDir,
}

impl Stand {
    /// Starts Postgres and a scheduler.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let cluster = Cluster::start(ClusterOptions::durable(folder.path().join("postgres"))).await?;
        cluster.create_database(DATABASE).await?;
        let mut scheduler = Command::new(sibling("tasklease-scheduler")?)
            .args(["--listen", "127.0.0.1:0"])
            .env("DATABASE_URL", cluster.url(DATABASE))
            .env("RUST_LOG", "warn")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = scheduler
            .stdout
            .take()
            .context("the scheduler has a standard output")?;
        let line = BufReader::new(output)
            .lines()
            .next_line()
            .await?
            .context("the scheduler did not start")?;
        let address = line
            .rsplit(' ')
            .next()
            .context("the scheduler names its address")?
            .to_owned();
        Ok(Self {
            workers: Vec::new(),
            scheduler,
            address,
            cluster,
            _folder: folder,
        })
    }

    /// Starts a worker with so many slots and waits until it is connected.
    pub(crate) async fn add_worker(&mut self, slots: u32) -> anyhow::Result<()> {
        let worker = Command::new(sibling("bench-worker")?)
            .args(["--addr", &self.address, "--slots", &slots.to_string()])
            .env("RUST_LOG", "warn")
            .kill_on_drop(true)
            .spawn()?;
        self.workers.push(worker);
        let mut client = WorkerServiceClient::new(self.channel().await?);
        let connected = async {
            loop {
                let list = client
                    .list_workers(ListWorkersRequest::default())
                    .await?
                    .into_inner();
                if list.workers.len() == self.workers.len() {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, connected)
            .await
            .context("the worker did not connect")?
    }

    /// A connection of its own to the scheduler.
    pub(crate) async fn channel(&self) -> anyhow::Result<Channel> {
        Ok(Endpoint::from_shared(format!("http://{}", self.address))?
            .tcp_nodelay(true)
            .connect()
            .await?)
    }

    /// A client on a connection of its own.
    pub(crate) async fn client(&self) -> anyhow::Result<TaskServiceClient<Channel>> {
        Ok(TaskServiceClient::new(self.channel().await?))
    }

    /// A connection to the database, to look at what is durable.
    pub(crate) async fn database(&self) -> anyhow::Result<tokio_postgres::Client> {
        let (client, connection) = tokio_postgres::connect(&self.cluster.url(DATABASE), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Waits until nothing waits or runs, and checks that so many tasks succeeded in all.
    pub(crate) async fn drained(&self, db: &tokio_postgres::Client, succeeded: i64) -> anyhow::Result<()> {
        let empty = db
            .prepare("SELECT NOT EXISTS (SELECT FROM tasklease.ready) AND NOT EXISTS (SELECT FROM tasklease.lease)")
            .await?;
        loop {
            if db.query_one(&empty, &[]).await?.get(0) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let found: i64 = db
            .query_one("SELECT count(*) FROM tasklease.run WHERE outcome = 1", &[])
            .await?
            .get(0);
        if found != succeeded {
            bail!("{found} tasks succeeded, expected {succeeded}");
        }
        Ok(())
    }

    /// CPU seconds so far: scheduler, workers, and all of Postgres.
    pub(crate) fn cpu(&self) -> anyhow::Result<Cpu> {
        let postgres = self.cluster.pid().context("Postgres runs")?;
        Ok(Cpu {
            scheduler: cpu_of(self.scheduler.id().context("the scheduler runs")?)?,
            workers: self
                .workers
                .iter()
                .filter_map(Child::id)
                .map(cpu_of)
                .sum::<anyhow::Result<f64>>()?,
            postgres: cpu_of(postgres)?
                + children(postgres)?
                    .into_iter()
                    .map(|pid| cpu_of(pid).unwrap_or(0.0))
                    .sum::<f64>(),
        })
    }
}

/// CPU seconds by part.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cpu {
    pub(crate) scheduler: f64,
    pub(crate) workers: f64,
    pub(crate) postgres: f64,
}

/// Clock ticks per second of /proc, fixed on Linux.
const TICKS: f64 = 100.0;

fn cpu_of(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The command name, in parentheses, may hold spaces; utime and stime are the 12th and 13th field after it.
    let (_, fields) = stat.rsplit_once(')').context("a process status")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |n: usize| {
        fields
            .get(n)
            .and_then(|field| field.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    Ok((ticks(11) + ticks(12)) / TICKS)
}

fn children(parent: u32) -> anyhow::Result<Vec<u32>> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        let of = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        if of == Some(parent) {
            children.push(pid);
        }
    }
    Ok(children)
}

fn sibling(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if !path.exists() {
        bail!("{} is missing; run `make bench`, which builds it", path.display());
    }
    Ok(path)
}
