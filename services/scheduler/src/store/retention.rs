//! Removing what nobody needs any more, page by page in id order.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    database::{Database, micros, prepared},
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
        now: SystemTime,
    ) -> Result<RetentionPage, StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/delete_old_tasks.sql")).await?;
        let up_to = id_at(now, policy.ended.min(policy.failed));
        let row = connection
            .query_one(
                &statement,
                &[
                    &above.0,
                    &up_to,
                    &bite.tasks,
                    &micros(policy.ended),
                    &micros(policy.failed),
                    &bite.events,
                ],
            )
            .await?;
        Ok(page(&row, above, bite))
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
        now: SystemTime,
    ) -> Result<RetentionPage, StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/delete_old_events.sql")).await?;
        let up_to = id_at(now, policy.events);
        let row = connection
            .query_one(
                &statement,
                &[
                    &above.0,
                    &up_to,
                    &bite.tasks,
                    &micros(policy.events),
                    &bite.events,
                ],
            )
            .await?;
        Ok(page(&row, above, bite))
    }

    /// The lowest id above another.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn next_task(&self, above: TaskId) -> Result<Option<TaskId>, StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/next_task.sql")).await?;
        let row = connection.query_opt(&statement, &[&above.0]).await?;
        Ok(row.map(|row| TaskId(row.get(0))))
    }
}

fn page(row: &Row, above: TaskId, bite: RetentionBite) -> RetentionPage {
    let last: Option<Uuid> = row.get(0);
    let (looked_at, removed, done): (i64, i64, bool) = (row.get(1), row.get(2), row.get(3));
    RetentionPage {
        next: if done {
            last.filter(|_| looked_at == bite.tasks).map(TaskId)
        } else {
            Some(above)
        },
        removed,
    }
}

impl RetentionPolicy {
    /// How long nobody may have noted a span that is looked at: most of its tasks are gone by then, and none is about to
    /// be stored.
    pub fn unused_spans(&self) -> Duration {
        self.ended.max(4 * NOTE_HOLDS)
    }
}

/// The lowest id of version 7 of that time before now; a task with a higher id cannot be old enough.
fn id_at(now: SystemTime, before: Duration) -> Uuid {
    let millis = now
        .checked_sub(before)
        .and_then(|then| then.duration_since(UNIX_EPOCH).ok())
        .map_or(0, |since| since.as_millis());
    Uuid::from_u128(millis << 80)
}
