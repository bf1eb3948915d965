//! Queues, workers and their counts.

use std::collections::BTreeMap;

use tokio_postgres::Row;

use super::{
    database::{Database, prepared},
    error::StoreError,
};
use crate::domain::{
    ids::{LaneId, SessionId},
    name::QueueName,
    state::TaskState,
};

/// A queue as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueRecord {
    /// The tenant.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// True while its tasks are not handed out.
    pub paused: bool,
    /// When it was first used, microseconds since 1970.
    pub created_us: i64,
}

/// Counts of the tasks of one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneStats {
    /// The queue.
    pub queue: String,
    /// The task type.
    pub task_type: String,
    /// True while the queue is paused.
    pub paused: bool,
    /// Live workers that take this type from this queue.
    pub workers: i32,
    /// Waiting for a time.
    pub scheduled: i64,
    /// Waiting for a worker.
    pub pending: i64,
    /// Leased.
    pub running: i64,
    /// Ever ended with a result.
    pub succeeded: i64,
    /// Ever ended without success.
    pub failed: i64,
    /// Ever cancelled.
    pub cancelled: i64,
    /// False if a count of waiting tasks may have stopped at its limit.
    pub exact: bool,
}

/// A live session as it stands. Times are microseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerRecord {
    /// The session.
    pub id: SessionId,
    /// The worker's name.
    pub name: String,
    /// The process start.
    pub incarnation: String,
    /// The types it runs.
    pub task_types: Vec<String>,
    /// The queues it serves.
    pub queues: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// How many tasks it runs at once.
    pub slots: i32,
    /// How many it runs now.
    pub running: i32,
    /// When it began.
    pub created_us: i64,
    /// When its last heartbeat was stored.
    pub heartbeat_us: i64,
    /// The replica that it was connected to at its last heartbeat.
    pub scheduler: String,
}

impl Database {
    /// Queues by name, after a name.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn list_queues(&self, after: &str, at_most: i64) -> Result<Vec<QueueRecord>, StoreError> {
        let connection = self.listing().await?;
        Ok(connection
            .query(include_str!("sql/list_queues.sql"), &[&after, &at_most])
            .await?
            .iter()
            .map(queue_record)
            .collect())
    }

    /// Pauses or resumes a queue, which is made if it is new; returns its lanes, too.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn set_paused(
        &self,
        queue: &QueueName,
        paused: bool,
    ) -> Result<(QueueRecord, Vec<LaneId>), StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/set_paused.sql")).await?;
        let row = connection
            .query_one(&statement, &[&queue.as_str(), &paused])
            .await?;
        let lanes: Vec<i32> = row.get(4);
        Ok((queue_record(&row), lanes.into_iter().map(LaneId).collect()))
    }

    /// Counts by queue and task type; counts of waiting tasks stop at `limit`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn queue_stats(
        &self,
        queue: Option<&QueueName>,
        limit: i64,
    ) -> Result<Vec<LaneStats>, StoreError> {
        let connection = self.listing().await?;
        let rows = connection
            .query(
                include_str!("sql/queue_stats.sql"),
                &[&queue.map(QueueName::as_str), &limit],
            )
            .await?;
        Ok(rows
            .iter()
            .map(|row| LaneStats {
                queue: row.get(0),
                task_type: row.get(1),
                paused: row.get(2),
                workers: row.get(3),
                scheduled: row.get(4),
                pending: row.get(5),
                running: row.get(6),
                succeeded: row.get(7),
                failed: row.get(8),
                cancelled: row.get(9),
                exact: row.get::<_, bool>(10) && row.get::<_, i64>(5) < limit,
            })
            .collect())
    }

    /// Adds to the counts of ended tasks.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn add_ended(&self, counts: &[(LaneId, TaskState, i64)]) -> Result<(), StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/add_ended.sql")).await?;
        let lanes: Vec<i32> = counts.iter().map(|(lane, ..)| lane.0).collect();
        let states: Vec<i16> = counts.iter().map(|(_, state, _)| *state as i16).collect();
        let tasks: Vec<i64> = counts.iter().map(|(.., tasks)| *tasks).collect();
        connection.execute(&statement, &[&lanes, &states, &tasks]).await?;
        Ok(())
    }

    /// Live sessions by id, after an id.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn list_workers(
        &self,
        after: SessionId,
        at_most: i64,
    ) -> Result<Vec<WorkerRecord>, StoreError> {
        let connection = self.listing().await?;
        let rows = connection
            .query(include_str!("sql/list_workers.sql"), &[&after.0, &at_most])
            .await?;
        rows.iter()
            .map(|row| {
                Ok(WorkerRecord {
                    id: SessionId(row.get(0)),
                    name: row.get(1),
                    incarnation: row.get(2),
                    task_types: row.get(3),
                    queues: row.get(4),
                    labels: serde_json::from_str(row.get(5))
                        .map_err(|error| StoreError::Defect(error.to_string()))?,
                    slots: row.get(6),
                    scheduler: row.get(7),
                    created_us: row.get(8),
                    heartbeat_us: row.get(9),
                    running: row.get(10),
                })
            })
            .collect()
    }
}

fn queue_record(row: &Row) -> QueueRecord {
    QueueRecord {
        namespace: row.get(0),
        name: row.get(1),
        paused: row.get(2),
        created_us: row.get(3),
    }
}
