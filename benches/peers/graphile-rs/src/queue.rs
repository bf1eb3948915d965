//! graphile_worker with the settings of its own performance bench.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use graphile_worker::tokio_postgres::TokioPostgresDatabase;
use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, TaskHandler, Worker, WorkerContext, WorkerOptions,
    WorkerUtils,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::report::Stopwatch;

const SCHEMA: &str = "graphile_worker";
const CONCURRENCY: usize = 500;
const LOCAL_QUEUE_SIZE: usize = 5_000;
const POLL_INTERVAL: Duration = Duration::from_millis(5);
const COMPLETE_BATCH_DELAY: Duration = Duration::from_millis(5);
const WORKER_CONNECTIONS: usize = 100;
const SETTLED_POLL: Duration = Duration::from_millis(2);

/// A task that does nothing.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Noop {
    data: String,
}

impl Noop {
    /// A task whose payload has about this many bytes.
    pub fn with_payload(bytes: usize) -> Self {
        let frame = r#"{"data":""}"#.len();
        Self {
            data: "x".repeat(bytes.saturating_sub(frame)),
        }
    }
}

/// Where handlers tell when they started.
#[derive(Clone, Debug)]
struct Starts(mpsc::UnboundedSender<Instant>);

impl TaskHandler for Noop {
    const IDENTIFIER: &'static str = "noop";

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        let starts = context.get_ext::<Starts>().ok_or("nobody counts the tasks")?;
        starts.0.send(Instant::now()).map_err(|_| "the bench has ended")
    }
}

/// Submits tasks over connections of its own.
pub struct Producer(WorkerUtils);

impl Producer {
    /// A producer with up to this many connections.
    pub fn connect(url: &str, connections: usize) -> Result<Self> {
        let database = TokioPostgresDatabase::from_url(url, connections)?;
        Ok(Self(WorkerUtils::new(database, SCHEMA)))
    }

    /// Creates or updates the schema.
    pub async fn migrate(&self) -> Result<()> {
        Ok(self.0.migrate().await?)
    }

    /// Submits tasks in one call.
    pub async fn submit(&self, task: &Noop, count: usize) -> Result<()> {
        let spec = JobSpec::default();
        let jobs: Vec<_> = (0..count).map(|_| (task.clone(), &spec)).collect();
        self.0.add_jobs(&jobs).await?;
        Ok(())
    }

    /// Submits one task.
    pub async fn submit_one(&self, task: &Noop) -> Result<()> {
        self.0.add_job(task.clone(), JobSpec::default()).await?;
        Ok(())
    }
}

/// A worker that is ready, or runs.
pub struct RunningWorker {
    worker: Arc<Worker>,
    run: JoinHandle<Result<()>>,
    starts: mpsc::UnboundedReceiver<Instant>,
}

impl RunningWorker {
    /// Connects a worker and lets it run; also gives the moment from which it may fetch.
    pub async fn start(url: &str) -> Result<(Self, Stopwatch)> {
        let (sender, starts) = mpsc::unbounded_channel();
        let worker = WorkerOptions::default()
            .database(TokioPostgresDatabase::from_url(url, WORKER_CONNECTIONS)?)
            .schema(SCHEMA)
            .concurrency(CONCURRENCY)
            .poll_interval(POLL_INTERVAL)
            .local_queue(LocalQueueConfig::default().with_size(LOCAL_QUEUE_SIZE))
            .complete_job_batch_delay(COMPLETE_BATCH_DELAY)
            .add_extension(Starts(sender))
            .define_job::<Noop>()
            .init()
            .await?;
        let worker = Arc::new(worker);
        let watch = Stopwatch::start();
        let run = tokio::spawn({
            let worker = Arc::clone(&worker);
            async move { Ok(worker.run().await?) }
        });
        Ok((Self { worker, run, starts }, watch))
    }

    /// The moment when the next task starts.
    pub async fn next_start(&mut self) -> Result<Instant> {
        self.starts.recv().await.context("the worker has ended")
    }

    /// Waits until so many tasks have run and none is left.
    pub async fn settled(&mut self, tasks: usize, client: &Client) -> Result<()> {
        for _ in 0..tasks {
            self.next_start().await?;
        }
        // Settled tasks are deleted, in batches: the empty table tells.
        while count_waiting(client).await? > 0 {
            tokio::time::sleep(SETTLED_POLL).await;
        }
        Ok(())
    }

    /// Ends the worker.
    pub async fn stop(self) -> Result<()> {
        self.worker.request_shutdown();
        self.run.await?
    }
}

/// How many tasks are not settled.
pub async fn count_waiting(client: &Client) -> Result<usize> {
    let row = client
        .query_one("SELECT count(*) FROM graphile_worker._private_jobs", &[])
        .await?;
    Ok(usize::try_from(row.try_get::<_, i64>(0)?)?)
}
