//! One function per command.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::options::{Command, Options};
use crate::queue::{Noop, Producer, RunningWorker, count_waiting};
use crate::report::{self, Stopwatch};

const WARM_UP_TASKS: usize = 20_000;
const WARM_UP_SAMPLES: usize = 100;
/// Lets the last task's settlement end, so that each sample meets an idle system.
const REST: Duration = Duration::from_millis(5);

/// Runs the command and gives its figures; `client` is for counting, beside the measured connections.
pub async fn run(options: &Options, client: &Client) -> Result<Value> {
    match options.command {
        Command::Prepare => prepare(options, client).await,
        Command::Enqueue => enqueue(options, options.tasks).await,
        Command::Drain => drain(options, client).await,
        Command::Life => life(options, client).await,
        Command::Unary => unary(options).await,
        Command::Latency => latency(options, client).await,
    }
}

async fn prepare(options: &Options, client: &Client) -> Result<Value> {
    Producer::connect(&options.url, 1)?.migrate().await?;
    refresh_statistics(client).await?;
    Ok(json!({ "prepared": true }))
}

async fn enqueue(options: &Options, tasks: usize) -> Result<Value> {
    let producer = Producer::connect(&options.url, options.producers)?;
    let watch = Stopwatch::start();
    submit_batches(options, &producer, tasks).await?;
    Ok(report::rate(tasks, watch.stop()))
}

async fn drain(options: &Options, client: &Client) -> Result<Value> {
    let waiting = count_waiting(client).await?;
    ensure!(
        waiting == options.tasks,
        "expected {} waiting tasks, found {waiting}",
        options.tasks
    );
    refresh_statistics(client).await?;
    Ok(report::rate(
        waiting,
        drain_backlog(options, client, waiting).await?,
    ))
}

async fn life(options: &Options, client: &Client) -> Result<Value> {
    warm_up(options, client).await?;
    let producer = Producer::connect(&options.url, options.producers)?;
    let (mut worker, _) = RunningWorker::start(&options.url).await?;
    let watch = Stopwatch::start();
    submit_batches(options, &producer, options.tasks).await?;
    worker.settled(options.tasks, client).await?;
    let took = watch.stop();
    worker.stop().await?;
    Ok(report::rate(options.tasks, took))
}

async fn unary(options: &Options) -> Result<Value> {
    let producer = Producer::connect(&options.url, options.callers)?;
    let task = Noop::with_payload(options.payload);
    let taken = AtomicUsize::new(0);
    let watch = Stopwatch::start();
    try_join_all((0..options.callers).map(|_| async {
        while taken.fetch_add(1, Ordering::Relaxed) < options.tasks {
            producer.submit_one(&task).await?;
        }
        anyhow::Ok(())
    }))
    .await?;
    Ok(report::rate(options.tasks, watch.stop()))
}

async fn latency(options: &Options, client: &Client) -> Result<Value> {
    warm_up(options, client).await?;
    let producer = Producer::connect(&options.url, 1)?;
    let (mut worker, _) = RunningWorker::start(&options.url).await?;
    let task = Noop::with_payload(options.payload);
    let mut samples = Vec::with_capacity(options.samples);
    for sample in 0..WARM_UP_SAMPLES + options.samples {
        let begin = Instant::now();
        producer.submit_one(&task).await?;
        let start = worker.next_start().await?;
        if sample >= WARM_UP_SAMPLES {
            samples.push(start - begin);
        }
        tokio::time::sleep(REST).await;
    }
    worker.stop().await?;
    report::percentiles(samples)
}

/// Leaves no task waiting and statistics of a table in use.
/// Plans made for an empty table would be kept, and would be far too slow for a full one.
async fn warm_up(options: &Options, client: &Client) -> Result<()> {
    enqueue(options, WARM_UP_TASKS).await?;
    refresh_statistics(client).await?;
    let waiting = count_waiting(client).await?;
    drain_backlog(options, client, waiting).await?;
    Ok(())
}

async fn drain_backlog(options: &Options, client: &Client, waiting: usize) -> Result<Duration> {
    let (mut worker, watch) = RunningWorker::start(&options.url).await?;
    worker.settled(waiting, client).await?;
    let took = watch.stop();
    worker.stop().await?;
    Ok(took)
}

async fn submit_batches(options: &Options, producer: &Producer, tasks: usize) -> Result<()> {
    let task = Noop::with_payload(options.payload);
    let taken = AtomicUsize::new(0);
    try_join_all((0..options.producers).map(|_| async {
        loop {
            let begin = taken.fetch_add(options.batch, Ordering::Relaxed);
            let size = options.batch.min(tasks.saturating_sub(begin));
            if size == 0 {
                return anyhow::Ok(());
            }
            producer.submit(&task, size).await?;
        }
    }))
    .await?;
    Ok(())
}

async fn refresh_statistics(client: &Client) -> Result<()> {
    Ok(client.batch_execute("VACUUM ANALYZE").await?)
}
