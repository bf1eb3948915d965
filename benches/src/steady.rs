//! Latency from submit to the start of the task's code: one task at a time, or at a steady rate.

use std::time::{Duration, Instant};

use anyhow::ensure;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tasklease_proto::v1::{
    SubmitTaskRequest, TaskSpec, task_service_client::TaskServiceClient, task_spec::Input,
};
use tokio::{sync::mpsc, task::JoinSet};
use tonic::transport::Channel;

use crate::{
    phases::{now_us, wait_until_empty},
    stand::Stand,
};

/// Warm-up tasks, which do not count.
const WARM_UP: usize = 100;

/// Connections that send at a steady rate.
const SENDERS: usize = 4;

/// How long to wait for a task before the database is asked about it.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// When a task was meant to be sent, and how long after that its code started.
pub(crate) struct Sample {
    /// Microseconds since 1970.
    pub(crate) intended_us: i64,
    /// Microseconds.
    pub(crate) latency_us: u64,
}

impl Sample {
    /// When its code started, microseconds since 1970.
    pub(crate) fn started_us(&self) -> i64 {
        self.intended_us.saturating_add_unsigned(self.latency_us)
    }
}

/// The percentiles of some samples.
pub(crate) fn percentiles<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> anyhow::Result<Value> {
    let mut histogram = Histogram::<u64>::new(3)?;
    for sample in samples {
        histogram.record(sample.latency_us)?;
    }
    Ok(json!({
        "p50_us": histogram.value_at_quantile(0.50),
        "p95_us": histogram.value_at_quantile(0.95),
        "p99_us": histogram.value_at_quantile(0.99),
        "p99_9_us": histogram.value_at_quantile(0.999),
        "max_us": histogram.max(),
    }))
}

/// Sends each task only when the one before it has ended.
pub(crate) async fn one_by_one(stand: &Stand<'_>, samples: usize) -> anyhow::Result<Vec<Sample>> {
    let mut client = stand.clients(1).await?.remove(0);
    for _ in 0..WARM_UP {
        alone(stand, &mut client).await?;
    }
    let mut taken = Vec::with_capacity(samples);
    for _ in 0..samples {
        taken.push(alone(stand, &mut client).await?);
    }
    Ok(taken)
}

async fn alone(stand: &Stand<'_>, client: &mut TaskServiceClient<Channel>) -> anyhow::Result<Sample> {
    let done = stand
        .db
        .prepare("SELECT (result ->> 'us')::bigint FROM tasklease.run WHERE task_id = $1::text::uuid")
        .await?;
    let intended_us = now_us()?;
    let answer = client.submit_task(stamp(intended_us)).await?.into_inner();
    let id = answer.task.map(|task| task.id).unwrap_or_default();
    let latency: i64 = loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        if let Some(row) = stand.db.query_opt(&done, &[&id]).await? {
            break row.get(0);
        }
    };
    Ok(Sample {
        intended_us,
        latency_us: u64::try_from(latency)?,
    })
}

/// Sends `rate` tasks per second whether or not earlier ones have ended, and measures from the moment at which each
/// was meant to be sent: a system that stalls does not get fewer tasks, and the time that they wait counts.
pub(crate) async fn at_rate(stand: &Stand<'_>, rate: u32, samples: usize) -> anyhow::Result<Vec<Sample>> {
    let clients = stand.clients(SENDERS).await?;
    offer(&clients, rate, WARM_UP).await?;
    wait_until_empty(&stand.db).await?;
    let begun = now_us()?;
    offer(&clients, rate, samples).await?;
    wait_until_empty(&stand.db).await?;
    let rows = stand
        .db
        .query(
            "SELECT (t.payload ->> 'at_us')::bigint, (r.result ->> 'us')::bigint
             FROM tasklease.run r JOIN tasklease.task t ON t.id = r.task_id
             WHERE r.outcome = 1 AND r.started_at >= to_timestamp($1::bigint / 1000000.0)",
            &[&begun],
        )
        .await?;
    ensure!(
        rows.len() == samples,
        "{} tasks succeeded, expected {samples}",
        rows.len()
    );
    rows.iter()
        .map(|row| {
            Ok(Sample {
                intended_us: row.get(0),
                latency_us: u64::try_from(row.get::<_, i64>(1))?,
            })
        })
        .collect()
}

async fn offer(clients: &[TaskServiceClient<Channel>], rate: u32, samples: usize) -> anyhow::Result<()> {
    let mut due = pace(rate, samples)?;
    let mut under_way = JoinSet::new();
    let mut turn = 0;
    while let Some(intended_us) = due.recv().await {
        let mut client = clients[turn % clients.len()].clone();
        turn += 1;
        under_way.spawn(async move { client.submit_task(stamp(intended_us)).await });
        while let Some(answered) = under_way.try_join_next() {
            answered??;
        }
    }
    while let Some(answered) = under_way.join_next().await {
        answered??;
    }
    Ok(())
}

/// Says when each task is due. A thread of its own sleeps to some 50 µs; the runtime's timers round up to 1 ms.
fn pace(rate: u32, samples: usize) -> anyhow::Result<mpsc::UnboundedReceiver<i64>> {
    let (tell, due) = mpsc::unbounded_channel();
    let (start, start_us) = (Instant::now(), now_us()?);
    std::thread::Builder::new().spawn(move || {
        for n in 0..samples {
            let after = Duration::from_secs_f64(n as f64 / f64::from(rate));
            std::thread::sleep(after.saturating_sub(start.elapsed()));
            let after_us = i64::try_from(after.as_micros()).unwrap_or(i64::MAX);
            if tell.send(start_us.saturating_add(after_us)).is_err() {
                return;
            }
        }
    })?;
    Ok(due)
}

/// A task that returns how long after this moment its code started.
fn stamp(at_us: i64) -> SubmitTaskRequest {
    let payload = json!({ "at_us": at_us.to_string() }).to_string();
    SubmitTaskRequest {
        task: Some(TaskSpec {
            task_type: "stamp".into(),
            input: Some(Input::PayloadJson(payload.into())),
            ..Default::default()
        }),
    }
}
