//! Removing what nobody needs any more, page by page in id order.

use std::time::Duration;

use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    columns::Interval,
    database::{Database, prepared},
    error::StoreError,
    spans::NOTE_HOLDS,
};
use crate::domain::ids::TaskId;

/// How long to keep what has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Succeeded and cancelled tasks.
    pub ended: Duration,
    /// Failed tasks.
    pub failed: Duration,
    /// Progress and log lines.
    pub events: Duration,
}

/// What one look removes at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionBite {
    /// Tasks that it looks at.
    pub tasks: i64,
    /// Events that it removes.
    pub events: i64,
}

/// What one page came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionPage {
    /// Where the next page begins; `None` after the last one.
    pub next: Option<TaskId>,
    /// How many tasks, or events of tasks that stay, were removed.
    pub removed: i64,
}

impl Database {
    /// Removes old tasks among the next ids above `above`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn delete_old_tasks(
        &self,
        above: TaskId,
        bite: RetentionBite,
        policy: &RetentionPolicy,
        now: Timestamp,
    ) -> Result<RetentionPage, StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/tasks/delete_old_tasks.sql")).await?;
        let up_to = id_at(now, policy.ended.min(policy.failed));
        let row = connection
            .query_one(
                &statement,
                &[
                    &above,
                    &up_to,
                    &bite.tasks,
                    &Interval(policy.ended),
                    &Interval(policy.failed),
                    &bite.events,
                ],
            )
            .await?;
        page(&row, above, bite)
    }

    /// Removes old events of the next tasks above `above`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn delete_old_events(
        &self,
        above: TaskId,
        bite: RetentionBite,
        policy: &RetentionPolicy,
        now: Timestamp,
    ) -> Result<RetentionPage, StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/events/delete_old_events.sql")).await?;
        let up_to = id_at(now, policy.events);
        let row = connection
            .query_one(
                &statement,
                &[
                    &above,
                    &up_to,
                    &bite.tasks,
                    &Interval(policy.events),
                    &bite.events,
                ],
            )
            .await?;
        page(&row, above, bite)
    }

    /// The lowest id above another.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn next_task(&self, above: TaskId) -> Result<Option<TaskId>, StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/tasks/next_task.sql")).await?;
        let row = connection.query_opt(&statement, &[&above]).await?;
        Ok(row.map(|row| row.try_get("id")).transpose()?)
    }
}

fn page(row: &Row, above: TaskId, bite: RetentionBite) -> Result<RetentionPage, StoreError> {
    let last: Option<TaskId> = row.try_get("last")?;
    let looked_at: i64 = row.try_get("looked_at")?;
    let next = if row.try_get("done")? {
        last.filter(|_| looked_at == bite.tasks)
    } else {
        Some(above)
    };
    Ok(RetentionPage {
        next,
        removed: row.try_get("removed")?,
    })
}

impl RetentionPolicy {
    /// How long nobody may have noted a span that is looked at: most of its tasks are gone by then, and none is about to
    /// be stored.
    pub fn unused_spans(&self) -> Duration {
        self.ended.max(4 * NOTE_HOLDS)
    }
}

/// The lowest id of version 7 of that time before now; a task with a higher id cannot be old enough.
fn id_at(now: Timestamp, before: Duration) -> TaskId {
    let then = now.checked_sub(before).unwrap_or(Timestamp::UNIX_EPOCH);
    let millis = u128::try_from(then.as_millisecond()).unwrap_or(0);
    TaskId(Uuid::from_u128(millis << 80))
}
