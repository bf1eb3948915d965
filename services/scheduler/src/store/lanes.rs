//! Lanes: (queue, task type) pairs with small ids.

use tokio_postgres::Row;

use super::{
    database::{Database, prepared},
    error::StoreError,
};
use crate::domain::{
    ids::LaneId,
    limits,
    name::{QueueName, TaskType},
};

/// A lane that exists for certain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnsuredLane {
    /// Its id, which never changes.
    pub id: LaneId,
    /// Its queue.
    pub queue: QueueName,
    /// Its task type.
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
        queue: &QueueName,
        task_type: &TaskType,
    ) -> Result<Option<EnsuredLane>, StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/ensure_lane.sql")).await?;
        let row = connection
            .query_opt(
                &statement,
                &[&queue.as_str(), &task_type.as_str(), &limits::LANES],
            )
            .await?;
        Ok(row.map(|row| EnsuredLane {
            id: LaneId(row.get(0)),
            queue: queue.clone(),
            task_type: task_type.clone(),
            paused: row.get(1),
        }))
    }

    /// The lanes that exist for any of these queues and task types.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn lanes_named(
        &self,
        queues: &[&str],
        task_types: &[&str],
    ) -> Result<Vec<EnsuredLane>, StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/lanes_named.sql")).await?;
        let rows = connection.query(&statement, &[&queues, &task_types]).await?;
        rows.iter().map(lane).collect()
    }

    /// The lanes with these ids; all of them if no id is given.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn lanes(&self, ids: Option<&[LaneId]>) -> Result<Vec<EnsuredLane>, StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/list_lanes.sql")).await?;
        let ids: Option<Vec<i32>> = ids.map(|ids| ids.iter().map(|lane| lane.0).collect());
        let rows = connection.query(&statement, &[&ids]).await?;
        rows.iter().map(lane).collect()
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
        let connection = self.listing().await?;
        let rows = connection
            .query(
                include_str!("sql/find_lanes.sql"),
                &[&queue.map(QueueName::as_str), &task_type.map(TaskType::as_str)],
            )
            .await?;
        Ok(rows.iter().map(|row| LaneId(row.get(0))).collect())
    }
}

fn lane(row: &Row) -> Result<EnsuredLane, StoreError> {
    let defect = |problem| StoreError::Defect(format!("a lane has an invalid name: {problem:?}"));
    Ok(EnsuredLane {
        id: LaneId(row.try_get("id")?),
        queue: QueueName::parse(row.try_get::<_, String>("queue")?, "queue").map_err(defect)?,
        task_type: TaskType::parse(row.try_get::<_, String>("task_type")?, "task_type").map_err(defect)?,
        paused: row.try_get("paused")?,
    })
}
