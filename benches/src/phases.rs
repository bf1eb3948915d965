//! The phases of a task's life under load: submit, processing, or both at once. Only durable outcomes count.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use serde_json::{Value, json};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::{
    cpu::Cpu,
    load::{self, Load},
    report::{joined, rounded},
    server::Server,
    stand::{Fleet, Stand},
};

/// How often a wait for the end checks. A check is two probes of an index, so it may be frequent.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The cost of one phase.
pub(crate) struct Phase {
    tasks: usize,
    took: Duration,
    cpu: Cpu,
    wal_bytes: i64,
}

impl Phase {
    /// Tasks a second.
    pub(crate) fn per_s(&self) -> f64 {
        rounded(self.tasks as f64 / self.took.as_secs_f64(), 0)
    }

    /// Rate, CPU and WAL of one task.
    pub(crate) fn figures(&self) -> Value {
        let rate = json!({
            "per_s": self.per_s(),
            "wal_bytes": self.wal_bytes / i64::try_from(self.tasks).unwrap_or(i64::MAX),
        });
        joined(rate, self.cpu.per_task(self.tasks))
    }
}

/// The CPU time and WAL that were used before a phase.
struct Meter {
    start: Instant,
    cpu: Cpu,
    wal: i64,
}

impl Meter {
    async fn start(stand: &Stand<'_>) -> anyhow::Result<Self> {
        Ok(Self {
            wal: wal_bytes(&stand.db).await?,
            cpu: stand.cpu()?,
            start: Instant::now(),
        })
    }

    async fn stop(self, stand: &Stand<'_>, tasks: usize, ended: Instant) -> anyhow::Result<Phase> {
        Ok(Phase {
            tasks,
            took: ended - self.start,
            cpu: stand.cpu()? - self.cpu,
            wal_bytes: wal_bytes(&stand.db).await? - self.wal,
        })
    }
}

/// Enqueue, drain and whole life in a new database, which is removed afterwards.
pub(crate) async fn whole_cycle(
    server: &Server,
    database: &str,
    load: Load,
    fleet: Fleet,
) -> anyhow::Result<Value> {
    let mut stand = Stand::start(server, database, fleet).await?;
    let figures = cycle(&mut stand, load).await?;
    stand.end().await?;
    Ok(figures)
}

/// Enqueue, drain and whole life; leaves the workers running.
pub(crate) async fn cycle(stand: &mut Stand<'_>, load: Load) -> anyhow::Result<Value> {
    Ok(json!({
        "enqueue": enqueue(stand, load).await?.figures(),
        "drain": drain(stand, load.tasks).await?.figures(),
        "whole_life": whole_life(stand, load).await?.figures(),
    }))
}

/// The rates of a cycle alone.
pub(crate) fn rates(cycle: &Value) -> Value {
    json!({
        "enqueue_per_s": cycle["enqueue"]["per_s"],
        "drain_per_s": cycle["drain"]["per_s"],
        "whole_life_per_s": cycle["whole_life"]["per_s"],
    })
}

/// Submits tasks in batches, without workers.
pub(crate) async fn enqueue(stand: &Stand<'_>, load: Load) -> anyhow::Result<Phase> {
    let meter = Meter::start(stand).await?;
    load::submit_batches(stand, load).await?;
    meter.stop(stand, load.tasks, Instant::now()).await
}

/// Submits single tasks, without workers.
pub(crate) async fn unary(stand: &Stand<'_>, callers: usize, tasks: usize) -> anyhow::Result<Phase> {
    let meter = Meter::start(stand).await?;
    load::submit_singly(stand, callers, tasks).await?;
    meter.stop(stand, tasks, Instant::now()).await
}

/// Starts the workers on tasks that wait; the clock runs from the first claim to the last durable outcome.
pub(crate) async fn drain(stand: &mut Stand<'_>, tasks: usize) -> anyhow::Result<Phase> {
    let begun = now_us()?;
    let meter = Meter::start(stand).await?;
    stand.start_workers().await?;
    let ended = wait_until_empty(&stand.db).await?;
    let ended_us = now_us()? - i64::try_from(ended.elapsed().as_micros())?;
    let mut phase = meter.stop(stand, tasks, ended).await?;
    let first_claim = check(&stand.db, begun, tasks).await?;
    phase.took = Duration::from_micros(u64::try_from(ended_us - first_claim)?);
    Ok(phase)
}

/// Processes the oldest `tasks` of the waiting tasks, and leaves the workers running; returns tasks per second.
pub(crate) async fn drain_oldest(stand: &mut Stand<'_>, tasks: usize) -> anyhow::Result<f64> {
    // The table of runs may be huge, and must be read by its key, whatever the statistics say.
    stand.db.batch_execute("SET enable_seqscan = off").await?;
    let oldest: Vec<Uuid> = stand
        .db
        .query_one(
            "SELECT array_agg(task_id) FROM (
                 SELECT unnest(task_ids) AS task_id
                 FROM (SELECT * FROM tasklease.ready ORDER BY lane, rank, order_key, first_task LIMIT $1) AS bundles
                 ORDER BY rank, order_key, task_id LIMIT $1) AS oldest",
            &[&i64::try_from(tasks)?],
        )
        .await?
        .get(0);
    ensure!(oldest.len() == tasks, "{} tasks wait, not {tasks}", oldest.len());
    stand.start_workers().await?;
    let last = stand
        .db
        .prepare("SELECT EXISTS (SELECT FROM tasklease.run WHERE task_id = $1)")
        .await?;
    while !stand
        .db
        .query_one(&last, &[&oldest.last()])
        .await?
        .get::<_, bool>(0)
    {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    loop {
        let row = stand
            .db
            .query_one(
                "SELECT count(*), extract(epoch FROM max(finished_at) - min(started_at))::float8
                 FROM tasklease.run WHERE task_id = ANY ($1::uuid[]) AND outcome = 1",
                &[&oldest],
            )
            .await?;
        if row.get::<_, i64>(0) == i64::try_from(tasks)? {
            return Ok(rounded(tasks as f64 / row.get::<_, f64>(1), 0));
        }
    }
}

/// Rates of the first and the last quarter of all runs: whether a drain slows down.
pub(crate) async fn quarters(db: &Client) -> anyhow::Result<Value> {
    let row = db
        .query_one(
            "SELECT count(*) / 4,
                    extract(epoch FROM percentile_disc(0.25) WITHIN GROUP (ORDER BY finished_at) - min(started_at))
                        ::float8,
                    extract(epoch FROM max(finished_at) - percentile_disc(0.75) WITHIN GROUP (ORDER BY finished_at))
                        ::float8
             FROM tasklease.run",
            &[],
        )
        .await?;
    // A batch ends at one instant: a quarter that is less than a batch has no rate.
    let rate = |seconds: f64| {
        let tasks = row.get::<_, i64>(0) as f64;
        (seconds > 0.0).then(|| rounded(tasks / seconds, 0))
    };
    Ok(json!({
        "drain_first_quarter_per_s": rate(row.get(1)),
        "drain_last_quarter_per_s": rate(row.get(2)),
    }))
}

/// Submits tasks while workers run, until the last outcome is durable.
pub(crate) async fn whole_life(stand: &Stand<'_>, load: Load) -> anyhow::Result<Phase> {
    let begun = now_us()?;
    let meter = Meter::start(stand).await?;
    load::submit_batches(stand, load).await?;
    let ended = wait_until_empty(&stand.db).await?;
    let phase = meter.stop(stand, load.tasks, ended).await?;
    check(&stand.db, begun, load.tasks).await?;
    Ok(phase)
}

/// Waits until no task waits or runs; returns when the check began that found none.
///
/// While a snapshot is held, a check of an empty table of waiting tasks reads all tasks that ever waited. So that table
/// is checked only when no task runs, and the time of the last check does not count.
pub(crate) async fn wait_until_empty(db: &Client) -> anyhow::Result<Instant> {
    // One statement, so that no task is seen in neither place. The far end of the index comes first: tasks leave at
    // its near end.
    let empty = db
        .prepare(
            "SELECT CASE WHEN EXISTS (SELECT FROM tasklease.grant) THEN false
                    ELSE NOT EXISTS (SELECT FROM (SELECT lane FROM tasklease.ready
                                     ORDER BY lane DESC, rank DESC, order_key DESC, first_task DESC LIMIT 1) AS last)
                    END",
        )
        .await?;
    loop {
        let looked = Instant::now();
        if db.query_one(&empty, &[]).await?.get(0) {
            return Ok(looked);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Checks that exactly `tasks` tasks that were claimed since `since_us` succeeded; returns when the first was claimed.
async fn check(db: &Client, since_us: i64, tasks: usize) -> anyhow::Result<i64> {
    let row = db
        .query_one(
            "SELECT count(*), (extract(epoch FROM min(started_at)) * 1000000)::bigint
             FROM tasklease.run
             WHERE outcome = 1 AND started_at >= to_timestamp($1::bigint / 1000000.0)",
            &[&since_us],
        )
        .await?;
    let found: i64 = row.get(0);
    ensure!(
        found == i64::try_from(tasks)?,
        "{found} tasks succeeded, expected {tasks}"
    );
    Ok(row.get::<_, Option<i64>>(1).unwrap_or(since_us))
}

/// How much WAL was ever written.
pub(crate) async fn wal_bytes(db: &Client) -> anyhow::Result<i64> {
    Ok(db
        .query_one("SELECT (pg_current_wal_lsn() - '0/0')::bigint", &[])
        .await?
        .get(0))
}

/// Microseconds since 1970.
pub(crate) fn now_us() -> anyhow::Result<i64> {
    Ok(i64::try_from(
        SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros(),
    )?)
}
