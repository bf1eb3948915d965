//! Lanes: (queue, task type) pairs with small ids.

use super::{
    database::{Database, prepared},
    error::StoreError,
};
use crate::domain::{
    ids::LaneId,
    name::{QueueName, TaskType},
};

/// A lane that exists for certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnsuredLane {
    /// Its id, which never changes.
    pub id: LaneId,
    /// True if its queue was paused just now.
    pub paused: bool,
}

impl Database {
    /// The lane of a queue and task type, made if it is new.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn ensure_lane(
        &self,
        queue: &QueueName,
        task_type: &TaskType,
    ) -> Result<EnsuredLane, StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/ensure_lane.sql")).await?;
        let row = connection
            .query_one(&statement, &[&queue.as_str(), &task_type.as_str()])
            .await?;
        Ok(EnsuredLane {
            id: LaneId(row.get(0)),
            paused: row.get(1),
        })
    }

    /// The lanes of a queue, a task type, or both.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn find_lanes(
        &self,
        queue: Option<&QueueName>,
        task_type: Option<&TaskType>,
    ) -> Result<Vec<LaneId>, StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/find_lanes.sql")).await?;
        let rows = connection
            .query(
                &statement,
                &[&queue.map(QueueName::as_str), &task_type.map(TaskType::as_str)],
            )
            .await?;
        Ok(rows.iter().map(|row| LaneId(row.get(0))).collect())
    }
}
