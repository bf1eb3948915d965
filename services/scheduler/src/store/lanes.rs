//! Lanes: (queue, task type) pairs with small ids.

use super::{
    database::{Database, prepared},
    error::StoreError,
    rows,
};
use crate::domain::{
    ids::LaneId,
    limits,
    name::{Namespace, QueueName, TaskType},
    queue::QueueKey,
};

/// A lane that exists for certain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnsuredLane {
    /// Its id, which never changes.
    pub id: LaneId,
    pub queue: QueueKey,
    pub task_type: TaskType,
    /// True if its queue was paused just now.
    pub paused: bool,
}

/// Tells sets of lanes apart without naming the lanes: lanes come and go, so as many need not be the same.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct LaneSet {
    /// How many there are.
    pub count: i64,
    /// The sum of the squares of their ids, each modulo [`SQUARES_BELOW`].
    pub sum: i64,
}

/// A prime, so that the squares spread; below 2³¹, so that no sum of them is too large.
const SQUARES_BELOW: i64 = 2_147_483_647;

impl LaneSet {
    /// The set of these lanes, each of which comes once.
    pub fn of(lanes: impl Iterator<Item = LaneId>) -> Self {
        lanes.fold(Self::default(), |set, lane| {
            let id = i64::from(lane.0);
            Self {
                count: set.count + 1,
                sum: set.sum + id * id % SQUARES_BELOW,
            }
        })
    }
}

impl Database {
    /// The lane of a queue and task type, made if it is new; `None` if there are too many already.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn ensure_lane(
        &self,
        queue: &QueueKey,
        task_type: &TaskType,
    ) -> Result<Option<EnsuredLane>, StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/lanes/ensure_lane.sql")).await?;
        let (namespace, name) = (queue.namespace.as_str(), queue.name.as_str());
        let row = connection
            .query_opt(
                &statement,
                &[&namespace, &name, &task_type.as_str(), &limits::LANES],
            )
            .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(EnsuredLane {
            id: row.try_get("id")?,
            queue: queue.clone(),
            task_type: task_type.clone(),
            paused: row.try_get("paused")?,
        }))
    }

    /// The lanes that exist for any of these queues and task types of a namespace.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn lanes_named(
        &self,
        namespace: &Namespace,
        queues: &[&str],
        task_types: &[&str],
    ) -> Result<Vec<EnsuredLane>, StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/lanes/lanes_named.sql")).await?;
        let rows = connection
            .query(&statement, &[&namespace.as_str(), &queues, &task_types])
            .await?;
        rows.iter().map(rows::lane).collect()
    }

    /// The lanes with these ids; all of them if no id is given.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn lanes(&self, ids: Option<&[LaneId]>) -> Result<Vec<EnsuredLane>, StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/lanes/list_lanes.sql")).await?;
        let rows = connection.query(&statement, &[&ids]).await?;
        rows.iter().map(rows::lane).collect()
    }

    /// The lanes of a queue, a task type, or both, in a namespace.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn find_lanes(
        &self,
        namespace: &Namespace,
        queue: Option<&QueueName>,
        task_type: Option<&TaskType>,
    ) -> Result<Vec<LaneId>, StoreError> {
        let connection = self.listing().await?;
        let rows = connection
            .query(
                include_str!("sql/lanes/find_lanes.sql"),
                &[
                    &namespace.as_str(),
                    &queue.map(QueueName::as_str),
                    &task_type.map(TaskType::as_str),
                ],
            )
            .await?;
        rows.iter().map(|row| Ok(row.try_get("id")?)).collect()
    }
}
