//! The test stand: scheduler and worker processes over one database of a private Postgres.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tasklease_proto::v1::{
    ListWorkersRequest, task_service_client::TaskServiceClient, worker_service_client::WorkerServiceClient,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};
use tokio_postgres::Client;
use tonic::transport::{Channel, Endpoint};

use crate::{
    cpu::{self, Cpu},
    server::Server,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// How often a wait for processes checks again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Which processes serve one database.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fleet {
    /// Scheduler processes.
    pub(crate) schedulers: usize,
    /// Worker processes, spread over the schedulers.
    pub(crate) workers: usize,
    /// Slots of all workers together.
    pub(crate) slots: u32,
}

impl Fleet {
    /// One scheduler and one worker with `slots` slots.
    pub(crate) fn single(slots: u32) -> Self {
        Self {
            schedulers: 1,
            workers: 1,
            slots,
        }
    }
}

/// Running schedulers, and workers when they are wanted, over one database.
pub(crate) struct Stand<'a> {
    // Dropped in this order: workers first.
    workers: Vec<Child>,
    schedulers: Vec<Scheduler>,
    server: &'a Server,
    database: String,
    fleet: Fleet,
    /// Reads what is durable.
    pub(crate) db: Client,
}

struct Scheduler {
    process: Child,
    address: String,
}

impl<'a> Stand<'a> {
    /// Makes a new database and starts the schedulers over it.
    pub(crate) async fn start(server: &'a Server, database: &str, fleet: Fleet) -> anyhow::Result<Self> {
        server.create(database).await?;
        let mut schedulers = Vec::new();
        for _ in 0..fleet.schedulers {
            schedulers.push(Scheduler::start(&server.url(database)).await?);
        }
        Ok(Self {
            workers: Vec::new(),
            schedulers,
            server,
            database: database.to_owned(),
            fleet,
            db: server.client(database).await?,
        })
    }

    /// Starts the workers and waits until all are connected.
    pub(crate) async fn start_workers(&mut self) -> anyhow::Result<()> {
        let slots = (self.fleet.slots / u32::try_from(self.fleet.workers)?).max(1);
        for n in 0..self.fleet.workers {
            let worker = Command::new(sibling("bench-worker")?)
                .args([
                    "--addr",
                    &self.scheduler(n).address,
                    "--slots",
                    &slots.to_string(),
                ])
                .env("RUST_LOG", "warn")
                .kill_on_drop(true)
                .spawn()?;
            self.workers.push(worker);
        }
        self.wait_for_sessions(self.fleet.workers).await
    }

    /// Stops the workers, which hand back their tasks.
    pub(crate) async fn stop_workers(&mut self) -> anyhow::Result<()> {
        for worker in &self.workers {
            if let Some(pid) = pid_of(worker) {
                kill_process(pid, Signal::TERM)?;
            }
        }
        for mut worker in self.workers.drain(..) {
            tokio::time::timeout(PATIENCE, worker.wait())
                .await
                .context("a worker did not stop")??;
        }
        self.wait_for_sessions(0).await
    }

    /// Stops everything and removes the database.
    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        self.stop_workers().await?;
        for mut scheduler in self.schedulers {
            scheduler.process.kill().await?;
        }
        self.server.drop_database(&self.database).await
    }

    async fn wait_for_sessions(&self, count: usize) -> anyhow::Result<()> {
        let mut client = WorkerServiceClient::new(self.channel(0).await?);
        let settled = async {
            loop {
                let list = client
                    .list_workers(ListWorkersRequest::default())
                    .await?
                    .into_inner();
                if list.workers.len() == count {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(PATIENCE, settled)
            .await
            .with_context(|| format!("there are not {count} workers in time"))?
    }

    fn scheduler(&self, n: usize) -> &Scheduler {
        &self.schedulers[n % self.schedulers.len()]
    }

    /// A connection of its own to one of the schedulers.
    pub(crate) async fn channel(&self, n: usize) -> anyhow::Result<Channel> {
        Ok(
            Endpoint::from_shared(format!("http://{}", self.scheduler(n).address))?
                .tcp_nodelay(true)
                .connect()
                .await?,
        )
    }

    /// `count` clients, each with a connection of its own, spread over the schedulers.
    pub(crate) async fn clients(&self, count: usize) -> anyhow::Result<Vec<TaskServiceClient<Channel>>> {
        let mut clients = Vec::with_capacity(count);
        for n in 0..count {
            clients.push(TaskServiceClient::new(self.channel(n).await?));
        }
        Ok(clients)
    }

    /// Another connection to the database.
    pub(crate) async fn connect(&self) -> anyhow::Result<Client> {
        self.server.client(&self.database).await
    }

    /// The process id of the first scheduler.
    pub(crate) fn scheduler_pid(&self) -> anyhow::Result<u32> {
        self.scheduler(0).process.id().context("the scheduler runs")
    }

    /// CPU seconds so far, by part.
    pub(crate) fn cpu(&self) -> anyhow::Result<Cpu> {
        let sum =
            |pids: &mut dyn Iterator<Item = u32>| pids.map(cpu::of_process).sum::<anyhow::Result<f64>>();
        Ok(Cpu {
            postgres: self.server.cpu()?,
            scheduler: sum(&mut self
                .schedulers
                .iter()
                .filter_map(|scheduler| scheduler.process.id()))?,
            worker: sum(&mut self.workers.iter().filter_map(Child::id))?,
            client: cpu::of_process(std::process::id())?,
        })
    }
}

impl Scheduler {
    async fn start(url: &str) -> anyhow::Result<Self> {
        let mut process = Command::new(sibling("tasklease-scheduler")?)
            .args(["--listen", "127.0.0.1:0"])
            .env("DATABASE_URL", url)
            .env("RUST_LOG", "warn")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = process
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
        Ok(Self { process, address })
    }
}

fn pid_of(process: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(process.id()?).ok()?)
}

fn sibling(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if !path.exists() {
        bail!("{} is missing; run `make bench`, which builds it", path.display());
    }
    Ok(path)
}
