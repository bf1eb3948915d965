//! Cancelling tasks.

use std::time::Duration;

use super::{
    columns::Interval,
    database::{Database, prepared},
    error::StoreError,
    mark::Mark,
    rows,
};
use crate::domain::ids::{LaneId, LeaseKey, TaskId};

/// An open cancel request on a running task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopOrder {
    /// Which lease must stop.
    pub key: LeaseKey,
    /// Why.
    pub reason: String,
    /// How long until it is revoked.
    pub grace: Duration,
}

/// What one look at a task to be cancelled came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelStep {
    /// It waited in this lane, and is CANCELLED now.
    Ended {
        /// Its lane.
        lane: LaneId,
        /// Where others wait that a claim may have passed over meanwhile, because they are in the same bundle.
        others: Option<Mark>,
    },
    /// It runs, and can only end CANCELLED now.
    Requested,
    /// Neither: it has ended, is unknown, was cancelled before, or moved just now.
    Neither,
}

impl Database {
    /// Tries to cancel a task wherever it is. `Neither` says nothing yet: read the task, and try again if it moved.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn cancel(
        &self,
        task: TaskId,
        reason: &str,
        grace: Duration,
    ) -> Result<CancelStep, StoreError> {
        let connection = self.connection().await?;
        let waiting = prepared(&connection, include_str!("sql/cancels/cancel_waiting.sql")).await?;
        if let Some(row) = connection.query_opt(&waiting, &[&task, &reason]).await? {
            return Ok(CancelStep::Ended {
                lane: row.try_get("lane")?,
                others: rows::optional_mark(&row)?,
            });
        }
        let running = prepared(&connection, include_str!("sql/cancels/cancel_running.sql")).await?;
        let opened = connection
            .query_opt(&running, &[&task, &reason, &Interval(grace)])
            .await?;
        Ok(if opened.is_some() {
            CancelStep::Requested
        } else {
            CancelStep::Neither
        })
    }

    /// The open cancel requests, those that must be revoked first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn stop_orders(&self, at_most: i64) -> Result<Vec<StopOrder>, StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/cancels/cancelling.sql")).await?;
        let rows = connection.query(&statement, &[&at_most]).await?;
        rows.iter()
            .map(|row| {
                let Interval(grace) = row.try_get("grace")?;
                Ok(StopOrder {
                    key: rows::lease_key(row)?,
                    reason: row.try_get("reason")?,
                    grace,
                })
            })
            .collect()
    }

    /// Ends the runs whose grace period is over, and returns their leases and lanes.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn revoke_overdue(&self) -> Result<Vec<(LeaseKey, LaneId)>, StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/cancels/revoke.sql")).await?;
        let rows = connection.query(&statement, &[]).await?;
        rows.iter()
            .map(|row| Ok((rows::lease_key(row)?, row.try_get("lane")?)))
            .collect()
    }
}
