//! Tasks that are in no place.

use std::time::Duration;

use super::{columns::Interval, database::Database, error::StoreError, mark::Mark, rows};
use crate::domain::ids::{LaneId, TaskId};

/// A task that was in no place and waits again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rescued {
    /// The task.
    pub task: TaskId,
    /// Its lane.
    pub lane: LaneId,
    /// Where it waits.
    pub place: Mark,
}

/// What one page of the search for strays came to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct StrayPage {
    /// Tasks that were in no place.
    pub rescued: Vec<Rescued>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<TaskId>,
}

impl Database {
    /// Looks at the newest tasks below an id that are at least so old, and puts those that are in no place back in
    /// line. Replicas do this one at a time.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn rescue_strays(
        &self,
        below: TaskId,
        at_most: i64,
        min_age: Duration,
    ) -> Result<StrayPage, StoreError> {
        let mut connection = self.connection().await?;
        let transaction = connection.transaction().await?;
        // Its snapshot comes after the lock: what another replica has rescued is in its place again.
        let lock = transaction
            .prepare_cached(include_str!("sql/tasks/lock_strays.sql"))
            .await?;
        transaction.query_one(&lock, &[]).await?;
        let rescue = transaction
            .prepare_cached(include_str!("sql/tasks/rescue_strays.sql"))
            .await?;
        let rows = transaction
            .query(&rescue, &[&below, &at_most, &Interval(min_age)])
            .await?;
        transaction.commit().await?;
        let mut page = StrayPage::default();
        for row in &rows {
            page.next = row.try_get("last")?;
            let Some(task) = row.try_get("task_id")? else {
                continue;
            };
            page.rescued.push(Rescued {
                task,
                lane: row.try_get("lane")?,
                place: rows::mark(row)?,
            });
        }
        Ok(page)
    }
}
