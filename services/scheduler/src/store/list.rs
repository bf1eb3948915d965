//! Where lists look for tasks.

use super::{database::Database, error::StoreError, spans::IdRanges};
use crate::domain::ids::{LaneId, TaskId};

/// A place to look for tasks. Each is read newest first, by an index of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListSource {
    /// All tasks.
    Newest,
    /// Those that wait for a time.
    Scheduled,
    /// Those that may run now.
    Ready,
    /// Those that a grant names: all that run, and some that just ended.
    Leased,
    /// Those that succeeded.
    Succeeded,
    /// Those that failed.
    Failed,
    /// Those that were cancelled.
    Cancelled,
}

/// Which ids to look for.
#[derive(Debug, Clone)]
pub struct ListQuery {
    /// Only these ids.
    pub ids: IdRanges,
    /// Only these lanes; `None` means all.
    pub lanes: Option<Vec<LaneId>>,
    /// Look at this many rows at most.
    pub look_at: i64,
    /// Return this many ids at most.
    pub at_most: i64,
}

/// What one look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListStep {
    /// Ids, newest first.
    pub ids: Vec<TaskId>,
    /// The next look starts below this id; `None` if nothing is left there.
    pub looked_to: Option<TaskId>,
}

impl ListSource {
    fn sql(self) -> &'static str {
        match self {
            Self::Newest => include_str!("sql/tasks/list_newest.sql"),
            Self::Scheduled => include_str!("sql/tasks/list_scheduled.sql"),
            Self::Ready => include_str!("sql/tasks/list_ready.sql"),
            Self::Leased => include_str!("sql/tasks/list_leased.sql"),
            Self::Succeeded => include_str!("sql/tasks/list_succeeded.sql"),
            Self::Failed => include_str!("sql/tasks/list_failed.sql"),
            Self::Cancelled => include_str!("sql/tasks/list_cancelled.sql"),
        }
    }
}

impl Database {
    /// Looks for ids in a place.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn list_ids(&self, source: ListSource, query: &ListQuery) -> Result<ListStep, StoreError> {
        let connection = self.listing().await?;
        let (lows, highs): (Vec<TaskId>, Vec<TaskId>) = query
            .ids
            .ranges
            .iter()
            .map(|range| (range.start, range.end))
            .unzip();
        let row = connection
            .query_opt(
                source.sql(),
                &[&lows, &highs, &query.lanes, &query.look_at, &query.at_most],
            )
            .await?
            .ok_or_else(|| StoreError::Defect("a list gave no row".into()))?;
        let ids: Vec<TaskId> = row.try_get("ids")?;
        let last: Option<TaskId> = row.try_get("last")?;
        let looked_at: i64 = row.try_get("looked_at")?;
        let looked_to = if i64::try_from(ids.len()).is_ok_and(|found| found >= query.at_most) {
            ids.last().copied()
        } else {
            last.filter(|_| looked_at >= query.look_at).or(query.ids.rest)
        };
        Ok(ListStep { ids, looked_to })
    }
}
