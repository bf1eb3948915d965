//! Fills a database with tasks that wait and tasks that have ended, as the scheduler would have left them.

use tokio_postgres::Client;

use crate::{
    load,
    phases::now_us,
    progress::{grouped, tell},
    server::Server,
    stand::Stand,
};

/// Tasks of one statement.
const CHUNK: usize = 250_000;

/// How often to say how far the loading is.
const TELL_EVERY: usize = 1_000_000;

/// The room that must be left on the disk, for the WAL and for everything else that the machine does.
const RESERVE_BYTES: u64 = 16 << 30;

const HOUR_US: i64 = 3_600_000_000;

/// How long ago ended tasks ended: in the past, and long before they would be removed.
const ENDED_AGO_US: i64 = 24 * HOUR_US;

/// How long ago waiting tasks were submitted.
const WAITING_AGO_US: i64 = HOUR_US;

/// The tasks are one microsecond apart, and ids ascend in the order of submission, as real ones do. They were submitted
/// fifty at a time.
const TASKS: &str = "
    WITH source AS MATERIALIZED (
        SELECT us, (lpad(to_hex(us / 1000), 12, '0') || '7' || lpad(to_hex(us % 1000 * 4), 3, '0') || '8'
                    || substr(md5(us::text), 1, 15))::uuid AS id
        FROM generate_series($1::bigint, $1::bigint + $2::bigint - 1) AS us
    ),
    stored AS (
        INSERT INTO tasklease.task (id, lane, rank, max_attempts, order_key, created_at, payload)
        SELECT source.id, lane.id, 0, 3, us / 50 * 50, to_timestamp(us / 1000000.0), $3::text::json
        FROM source JOIN tasklease.lane ON lane.task_type = 'noop'
        RETURNING id AS task_id, lane, order_key
    )";

const WAITING: &str = "
    INSERT INTO tasklease.ready (lane, rank, order_key, first_task, lease_token, attempt, task_ids)
    SELECT lane, 0, order_key, (array_agg(task_id ORDER BY task_id))[1], 1, 1,
           array_agg(task_id ORDER BY task_id)
    FROM stored GROUP BY 1, 3";

const FINISHED: &str = "
    INSERT INTO tasklease.run (task_id, lease_token, outcome, final, attempt, started_at, finished_at, worker, result)
    SELECT task_id, 1, 1, true, 1, to_timestamp(order_key / 1000000.0), to_timestamp(order_key / 1000000.0 + 0.01),
           'earlier', '{}'
    FROM stored";

/// What one database was filled with so far.
pub(crate) struct Preload<'a> {
    server: &'a Server,
    db: Client,
    waiting: usize,
    finished: usize,
    next_waiting_us: i64,
    next_finished_us: i64,
}

impl<'a> Preload<'a> {
    /// Prepares a database that has seen no task yet.
    pub(crate) async fn new(server: &'a Server, stand: &Stand<'_>) -> anyhow::Result<Self> {
        let db = stand.connect().await?;
        // Loading is not what is measured.
        db.batch_execute(
            "SET synchronous_commit = off;
             INSERT INTO tasklease.queue (name) VALUES ('default') ON CONFLICT DO NOTHING;
             INSERT INTO tasklease.lane (queue_id, task_type) SELECT id, 'noop' FROM tasklease.queue
             ON CONFLICT DO NOTHING",
        )
        .await?;
        let now = now_us()?;
        Ok(Self {
            server,
            db,
            waiting: 0,
            finished: 0,
            next_waiting_us: now - WAITING_AGO_US,
            next_finished_us: now - ENDED_AGO_US,
        })
    }

    /// Adds waiting tasks until there are `goal`, or the disk has no room for more.
    pub(crate) async fn grow_waiting(&mut self, goal: usize) -> anyhow::Result<()> {
        let more = goal.saturating_sub(self.waiting);
        let loaded = self.load("waiting", WAITING, self.next_waiting_us, more).await?;
        self.waiting += loaded;
        self.next_waiting_us += i64::try_from(loaded)?;
        Ok(())
    }

    /// Adds ended tasks until there are `goal`, or the disk has no room for more.
    pub(crate) async fn grow_finished(&mut self, goal: usize) -> anyhow::Result<()> {
        let more = goal.saturating_sub(self.finished);
        let loaded = self
            .load("finished", FINISHED, self.next_finished_us, more)
            .await?;
        self.finished += loaded;
        self.next_finished_us += i64::try_from(loaded)?;
        Ok(())
    }

    /// The contents, as a name for figures.
    pub(crate) fn name(&self) -> String {
        format!("waiting_{}_finished_{}", self.waiting, self.finished)
    }

    /// Says so if the disk had no room for what was wanted.
    pub(crate) fn shortfall(&self, finished: usize, waiting: usize) -> Option<String> {
        (self.finished < finished || self.waiting < waiting).then(|| {
            format!(
                "The disk had no room for {} finished and {} waiting tasks: {} and {} were loaded.",
                grouped(finished),
                grouped(waiting),
                grouped(self.finished),
                grouped(self.waiting)
            )
        })
    }

    async fn load(&self, what: &str, place: &str, first_us: i64, wanted: usize) -> anyhow::Result<usize> {
        let statement = self.db.prepare(&format!("{TASKS}{place}")).await?;
        let payload = load::payload(100);
        let (mut goal, mut loaded) = (wanted, 0);
        while loaded < goal {
            let count = CHUNK.min(goal - loaded);
            let before = bytes(&self.db).await?;
            let (from, rows) = (first_us + i64::try_from(loaded)?, i64::try_from(count)?);
            self.db.execute(&statement, &[&from, &rows, &payload]).await?;
            loaded += count;
            let each = (bytes(&self.db).await? - before).max(0) / rows + 1;
            goal = goal.min(loaded + self.room(u64::try_from(each)?)?);
            if loaded.is_multiple_of(TELL_EVERY) || loaded == goal {
                tell(format_args!(
                    "loading {} of {} {what} tasks",
                    grouped(loaded),
                    grouped(wanted)
                ));
            }
        }
        Ok(loaded)
    }

    /// How many more tasks the disk has room for, at `each` bytes each.
    fn room(&self, each: u64) -> anyhow::Result<usize> {
        let free = self.server.free_bytes()?.saturating_sub(RESERVE_BYTES);
        Ok(usize::try_from(free / each)?)
    }
}

/// Does the work of autovacuum and of a checkpoint, which would have happened while such a backlog grew.
pub(crate) async fn settle_down(db: &Client) -> anyhow::Result<()> {
    for table in ["task", "ready", "run"] {
        db.batch_execute(&format!("VACUUM (ANALYZE) tasklease.{table}"))
            .await?;
    }
    Ok(db.batch_execute("CHECKPOINT").await?)
}

/// The bytes of tasks, places and runs on disk, with their indexes.
pub(crate) async fn bytes(db: &Client) -> anyhow::Result<i64> {
    Ok(db
        .query_one(
            "SELECT (pg_total_relation_size('tasklease.task') + pg_total_relation_size('tasklease.ready')
                     + pg_total_relation_size('tasklease.run'))::bigint",
            &[],
        )
        .await?
        .get(0))
}
