//! Leasing waiting tasks.

use std::time::Duration;

use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    database::{Database, prepared},
    error::StoreError,
    json_text::JsonText,
};
use crate::domain::{
    backoff::Backoff,
    ids::{GrantId, LaneId, LeaseKey, LeaseNo, SessionId, TaskId},
    lease::Lease,
};

/// Where the last claim of a lane stopped. What lies before it is mostly dead index entries, which
/// would have to be read again by every claim while an old snapshot keeps them from being removed.
/// Only a shortcut: whoever knows of a row below lowers the mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Minus the priority.
    pub rank: i16,
    /// The order key.
    pub order_key: i64,
    /// The task.
    pub task: Uuid,
}

impl Mark {
    /// Before every row.
    pub const START: Self = Self {
        rank: i16::MIN,
        order_key: i64::MIN,
        task: Uuid::nil(),
    };

    /// Just before all rows of that rank and order key.
    pub fn before(rank: i16, order_key: i64) -> Self {
        Self {
            rank,
            order_key,
            task: Uuid::nil(),
        }
    }
}

/// One session for each task that may be claimed, in the order in which the tasks are dealt.
pub struct Slots(pub Vec<SessionId>);

/// A task leased by a claim.
#[derive(Debug)]
pub struct ClaimedTask {
    /// To whom.
    pub session: SessionId,
    /// The lease.
    pub lease: Lease,
    /// The input, JSON text.
    pub payload: String,
    /// W3C trace context of the submitter.
    pub traceparent: Option<String>,
}

impl Database {
    /// Leases the first tasks of a lane after `mark`, as many as there are slots; returns them with the
    /// position of the last one. `now_us` becomes the start of their runs in memory.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn claim(
        &self,
        lane: LaneId,
        mark: Mark,
        slots: &Slots,
        grant: GrantId,
        now_us: i64,
    ) -> Result<(Vec<ClaimedTask>, Option<Mark>), StoreError> {
        let connection = self.claim_connection().await?;
        let statement = prepared(&connection, include_str!("sql/claim.sql")).await?;
        let sessions: Vec<Uuid> = slots.0.iter().map(|session| session.0).collect();
        let rows = connection
            .query(
                &statement,
                &[
                    &lane.0,
                    &mark.rank,
                    &mark.order_key,
                    &mark.task,
                    &sessions,
                    &grant.0,
                ],
            )
            .await?;
        let mut tasks: Vec<(Mark, ClaimedTask)> =
            rows.iter().map(|row| claimed(row, lane, grant, now_us)).collect();
        // They come in the order of their places on disk.
        tasks.sort_unstable_by_key(|(mark, _)| *mark);
        let last = tasks.last().map(|(mark, _)| *mark);
        let tasks = tasks.into_iter().map(|(_, task)| task).collect();
        Ok((tasks, last))
    }
}

fn claimed(row: &Row, lane: LaneId, grant: GrantId, now_us: i64) -> (Mark, ClaimedTask) {
    let mark = Mark {
        rank: row.get(4),
        order_key: row.get(5),
        task: row.get(1),
    };
    let task = ClaimedTask {
        session: SessionId(row.get(0)),
        lease: Lease {
            key: LeaseKey {
                task: TaskId(mark.task),
                no: LeaseNo(row.get(2)),
            },
            grant,
            lane,
            attempt: row.get(3),
            max_attempts: row.get(7),
            backoff: backoff(row, 8),
            run_timeout: millis(row.get(10)),
            started_us: now_us,
        },
        payload: row.get::<_, JsonText<String>>(6).0,
        traceparent: row.get(11),
    };
    (mark, task)
}

/// Reads a back-off from two columns, `first` and the one after it.
pub(super) fn backoff(row: &Row, first: usize) -> Backoff {
    let default = Backoff::default();
    Backoff {
        initial: millis(row.get(first)).unwrap_or(default.initial),
        longest: millis(row.get(first + 1)).unwrap_or(default.longest),
    }
}

/// Reads a duration from a column of milliseconds.
pub(super) fn millis(column: Option<i64>) -> Option<Duration> {
    column
        .and_then(|ms| u64::try_from(ms).ok())
        .map(Duration::from_millis)
}
