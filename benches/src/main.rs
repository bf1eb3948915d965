//! Measures a real scheduler with real workers over a private Postgres with `fsync` on.
//!
//! Everything runs on this machine, so figures of different machines or days do not compare: compare ratios taken in
//! one run. The last line of output is one JSON object.

mod load;
mod stand;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::{Parser, Subcommand};
use comfy_table::Table;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tasklease_proto::v1::{SubmitTaskRequest, TaskSpec, task_spec::Input};

use crate::stand::Stand;

/// Measures Tasklease. Build with --release.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Batches in, everything worked off, and both at once; counts only durable outcomes.
    Throughput {
        /// Tasks of each phase.
        #[arg(long, default_value_t = 200_000)]
        tasks: usize,
        /// Tasks in one submit.
        #[arg(long, default_value_t = 1_000)]
        batch: usize,
        /// Bytes of each payload.
        #[arg(long, default_value_t = 100)]
        payload: usize,
        /// Slots of the worker.
        #[arg(long, default_value_t = 2_000)]
        slots: u32,
    },
    /// One task per call, many callers.
    Unary {
        /// Concurrent callers.
        #[arg(long, default_value_t = 64)]
        callers: usize,
        /// Tasks in all.
        #[arg(long, default_value_t = 50_000)]
        tasks: usize,
    },
    /// From submit to the start of the task's code, one task at a time.
    Latency {
        /// How many tasks.
        #[arg(long, default_value_t = 1_000)]
        samples: usize,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let result = match Args::parse().bench {
        Bench::Throughput {
            tasks,
            batch,
            payload,
            slots,
        } => throughput(tasks, batch, payload, slots).await?,
        Bench::Unary { callers, tasks } => unary(callers, tasks).await?,
        Bench::Latency { samples } => latency(samples).await?,
    };
    show(&result);
    Ok(())
}

async fn throughput(tasks: usize, batch: usize, payload: usize, slots: u32) -> anyhow::Result<Value> {
    let mut stand = Stand::start().await?;
    let db = stand.database().await?;
    let count = i64::try_from(tasks.div_ceil(batch) * batch)?;
    let rate = |took: Duration| (count as f64 / took.as_secs_f64()).round();
    let micros = |cpu: f64| (cpu * 1e7 / count as f64).round() / 10.0;

    let (wal_before, cpu_before) = (wal_bytes(&db).await?, stand.cpu()?);
    let enqueue = load::submit_batches(&stand, tasks, batch, payload).await?;
    let cpu_enqueued = stand.cpu()?;
    let start = Instant::now();
    stand.add_worker(slots).await?;
    let connected = start.elapsed();
    stand.drained(&db, count).await?;
    let drain = claimed_to_settled(&db).await?;
    let (wal_after, cpu_drained) = (wal_bytes(&db).await?, stand.cpu()?);

    let start = Instant::now();
    load::submit_batches(&stand, tasks, batch, payload).await?;
    stand.drained(&db, count * 2).await?;
    let life = start.elapsed();
    Ok(json!({
        "bench": "throughput",
        "tasks": count, "batch": batch, "payload": payload, "slots": slots,
        "enqueue_per_s": rate(enqueue),
        "drain_per_s": rate(drain),
        "whole_life_per_s": rate(life),
        "worker_connected_ms": connected.as_millis(),
        "wal_bytes_per_task": (wal_after - wal_before) / count,
        "enqueue_cpu_us_scheduler": micros(cpu_enqueued.scheduler - cpu_before.scheduler),
        "enqueue_cpu_us_postgres": micros(cpu_enqueued.postgres - cpu_before.postgres),
        "drain_cpu_us_scheduler": micros(cpu_drained.scheduler - cpu_enqueued.scheduler),
        "drain_cpu_us_postgres": micros(cpu_drained.postgres - cpu_enqueued.postgres),
        "drain_cpu_us_worker": micros(cpu_drained.workers),
    }))
}

async fn unary(callers: usize, tasks: usize) -> anyhow::Result<Value> {
    let stand = Stand::start().await?;
    let rate = load::submit_singly(&stand, callers, tasks, 100).await?;
    Ok(json!({ "bench": "unary", "callers": callers, "tasks": tasks, "submits_per_s": rate.round() }))
}

async fn latency(samples: usize) -> anyhow::Result<Value> {
    let mut stand = Stand::start().await?;
    stand.add_worker(16).await?;
    let db = stand.database().await?;
    let mut client = stand.client().await?;
    let done = db
        .prepare("SELECT (result ->> 'us')::bigint FROM tasklease.run WHERE task_id::text = $1")
        .await?;
    let mut histogram = Histogram::<u64>::new(3)?;
    for _ in 0..samples {
        let at_us = SystemTime::now()
            .duration_since(UNIX_EPOCH)?
            .as_micros()
            .to_string();
        let payload = json!({ "at_us": at_us }).to_string();
        let spec = TaskSpec {
            task_type: "stamp".into(),
            input: Some(Input::PayloadJson(payload.into())),
            ..Default::default()
        };
        let answer = client
            .submit_task(SubmitTaskRequest { task: Some(spec) })
            .await?
            .into_inner();
        let id = answer.task.map(|task| task.id).unwrap_or_default();
        let us: i64 = loop {
            if let Some(row) = db.query_opt(&done, &[&id]).await? {
                break row.get(0);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        histogram.record(u64::try_from(us)?)?;
    }
    Ok(json!({
        "bench": "latency",
        "samples": samples,
        "p50_us": histogram.value_at_quantile(0.50),
        "p95_us": histogram.value_at_quantile(0.95),
        "p99_us": histogram.value_at_quantile(0.99),
        "max_us": histogram.max(),
    }))
}

/// From the first claim to the last durable outcome.
async fn claimed_to_settled(db: &tokio_postgres::Client) -> anyhow::Result<Duration> {
    let seconds: f64 = db
        .query_one(
            "SELECT extract(epoch FROM max(finished_at) - min(started_at))::float8 FROM tasklease.run",
            &[],
        )
        .await?
        .get(0);
    Ok(Duration::from_secs_f64(seconds))
}

async fn wal_bytes(db: &tokio_postgres::Client) -> anyhow::Result<i64> {
    Ok(db
        .query_one("SELECT (pg_current_wal_lsn() - '0/0')::bigint", &[])
        .await?
        .get(0))
}

#[expect(clippy::print_stdout, reason = "the result of a benchmark is its output")]
fn show(result: &Value) {
    let mut table = Table::new();
    for (name, value) in result.as_object().into_iter().flatten() {
        table.add_row([name.clone(), value.to_string()]);
    }
    println!("{table}\n{result}");
}
