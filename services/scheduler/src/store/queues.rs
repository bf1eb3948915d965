//! Queues, workers and their counts.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    database::{Database, prepared},
    error::StoreError,
    rows,
};
use crate::domain::{
    ids::{LaneId, SessionId},
    name::{Namespace, QueueName, TaskType},
    queue::QueueKey,
    state::TaskState,
};

/// A queue as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueRecord {
    pub key: QueueKey,
    /// True while its tasks are not handed out.
    pub paused: bool,
    /// When it was first used.
    pub created_at: Timestamp,
}

/// Counts of the tasks of one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneStats {
    pub queue: QueueKey,
    pub task_type: TaskType,
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

/// A live session as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerRecord {
    pub id: SessionId,
    /// The worker's name.
    pub name: String,
    /// The process start.
    pub incarnation: String,
    /// The types it runs.
    pub task_types: Vec<String>,
    /// The queues it serves.
    pub queues: Vec<String>,
    pub labels: BTreeMap<String, String>,
    /// How many tasks it runs at once.
    pub slots: i32,
    /// How many it runs now.
    pub running: i32,
    pub created_at: Timestamp,
    /// When its last heartbeat was stored.
    pub heartbeat_at: Timestamp,
    /// The replica that it was connected to at its last heartbeat.
    pub scheduler: String,
}

impl Database {
    /// Queues of a namespace by name, after a name.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn list_queues(
        &self,
        namespace: &Namespace,
        after: &str,
        at_most: i64,
    ) -> Result<Vec<QueueRecord>, StoreError> {
        let connection = self.listing().await?;
        let rows = connection
            .query(
                include_str!("sql/queues/list_queues.sql"),
                &[&namespace.as_str(), &after, &at_most],
            )
            .await?;
        rows.iter().map(rows::queue_record).collect()
    }

    /// Pauses or resumes a queue, which is made if it is new; returns its lanes, too.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn set_paused(
        &self,
        queue: &QueueKey,
        paused: bool,
    ) -> Result<(QueueRecord, Vec<LaneId>), StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/queues/set_paused.sql")).await?;
        let (namespace, name) = (queue.namespace.as_str(), queue.name.as_str());
        let row = connection
            .query_one(&statement, &[&namespace, &name, &paused])
            .await?;
        Ok((rows::queue_record(&row)?, row.try_get("lanes")?))
    }

    /// Counts by queue and task type of a namespace; counts of waiting tasks stop at `limit`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn queue_stats(
        &self,
        namespace: &Namespace,
        queue: Option<&QueueName>,
        limit: i64,
    ) -> Result<Vec<LaneStats>, StoreError> {
        let connection = self.listing().await?;
        let rows = connection
            .query(
                include_str!("sql/queues/queue_stats.sql"),
                &[&namespace.as_str(), &queue.map(QueueName::as_str), &limit],
            )
            .await?;
        rows.iter().map(|row| rows::lane_stats(row, limit)).collect()
    }

    /// Adds to the counts of ended tasks.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn add_ended(&self, counts: &[(LaneId, TaskState, i64)]) -> Result<(), StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/queues/add_ended.sql")).await?;
        let lanes: Vec<LaneId> = counts.iter().map(|(lane, ..)| *lane).collect();
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
            .query(include_str!("sql/sessions/list_workers.sql"), &[&after, &at_most])
            .await?;
        rows.iter().map(rows::worker_record).collect()
    }
}
