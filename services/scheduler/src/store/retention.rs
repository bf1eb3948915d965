//! Removing what nobody needs any more, page by page in id order.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use super::{
    database::{Database, micros, prepared},
    error::StoreError,
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

/// What one page came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionPage {
    /// Where the next page begins; `None` after the last one.
    pub next: Option<TaskId>,
    /// How many tasks or events were removed.
    pub removed: i64,
}

impl Database {
    /// Removes old tasks among the next `page` ids above `above`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn retain_tasks(
        &self,
        above: TaskId,
        page: i64,
        policy: &RetentionPolicy,
        now: SystemTime,
    ) -> Result<RetentionPage, StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/retain_tasks.sql")).await?;
        let up_to = id_at(now, policy.ended.min(policy.failed));
        let row = connection
            .query_one(
                &statement,
                &[
                    &above.0,
                    &up_to,
                    &page,
                    &micros(policy.ended),
                    &micros(policy.failed),
                ],
            )
            .await?;
        Ok(outcome(row.get(0), row.get(1), row.get(2), page))
    }

    /// Removes old events of the next `page` tasks above `above`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn retain_events(
        &self,
        above: TaskId,
        page: i64,
        policy: &RetentionPolicy,
        now: SystemTime,
    ) -> Result<RetentionPage, StoreError> {
        let up_to = id_at(now, policy.events);
        let (last, looked_at, removed) = self
            .retain_events_page(above.0, up_to, page, micros(policy.events))
            .await?;
        Ok(outcome(last, looked_at, removed, page))
    }
}

fn outcome(last: Option<Uuid>, looked_at: i64, removed: i64, page: i64) -> RetentionPage {
    RetentionPage {
        next: last.filter(|_| looked_at == page).map(TaskId),
        removed,
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
