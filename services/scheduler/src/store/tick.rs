//! One cheap look, once a second, at everything that may need a background loop.

use std::{collections::HashMap, time::Duration};

use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    columns::Interval,
    database::{Database, prepared},
    error::StoreError,
    lanes::LaneSet,
    mark::Mark,
    rows,
    submit::BUNDLE,
};
use crate::domain::ids::{LaneId, ReplicaId, SessionId, TaskId};

/// What there is to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tick {
    /// Some session's lease is over.
    pub expired: bool,
    /// Some session was over before it was handed tasks.
    pub orphaned: bool,
    /// Some running task was cancelled.
    pub cancelling: bool,
    /// When the next scheduled task is due; zero if one is.
    pub next_due: Option<Duration>,
    /// Of the lanes asked for, those in which tasks wait, and just before the first of them.
    pub ready_lanes: Vec<(LaneId, Mark)>,
    /// Lanes of paused queues.
    pub paused_lanes: Vec<LaneId>,
    /// Other replicas that are alive.
    pub other_replicas: i32,
    /// Which lanes there are.
    pub lanes: LaneSet,
    /// Sessions whose lease was extended, because no replica had been at work for a while.
    pub spared: i64,
    /// Of the sessions asked for, those that are over.
    pub gone_sessions: Vec<SessionId>,
}

/// Who asks, and about what.
#[derive(Debug, Clone, Copy)]
pub struct TickQuestion<'a> {
    /// This scheduler.
    pub replica: ReplicaId,
    /// Its name, for people.
    pub name: &'a str,
    /// How long a session lives after its last heartbeat.
    pub lease: Duration,
    /// The lanes that somebody here serves, and where to begin in each.
    pub lanes: &'a [(LaneId, Mark)],
    /// The sessions that are connected here.
    pub sessions: &'a [SessionId],
}

/// Tasks whose time has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Promoted {
    /// The tasks.
    pub tasks: Vec<TaskId>,
    /// Their lanes, and the first place that was filled in each.
    pub lanes: Vec<(LaneId, Mark)>,
}

impl Database {
    /// Looks at everything that may need a background job. It also says that this replica is alive; if none was for a
    /// third of a lease, it extends the leases of all sessions first, because nobody could hear their heartbeats.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn tick(&self, question: &TickQuestion<'_>) -> Result<Tick, StoreError> {
        let TickQuestion {
            replica,
            name,
            lease,
            lanes,
            sessions,
        } = question;
        let connection = self.vital_connection().await?;
        let statement = prepared(&connection, include_str!("sql/schedulers/tick.sql")).await?;
        let marks = MarkColumns::of(lanes);
        let row = connection
            .query_one(
                &statement,
                &[
                    replica,
                    name,
                    &marks.lanes,
                    &marks.ranks,
                    &marks.order_keys,
                    &marks.first_tasks,
                    &Interval(*lease),
                    sessions,
                ],
            )
            .await?;
        let next_due: Option<Interval> = row.try_get("next_due")?;
        Ok(Tick {
            expired: row.try_get("expired")?,
            orphaned: row.try_get("orphaned")?,
            cancelling: row.try_get("cancelling")?,
            next_due: next_due.map(|Interval(delay)| delay),
            ready_lanes: ready_lanes(&row)?,
            paused_lanes: row.try_get("paused_lanes")?,
            other_replicas: row.try_get("other_replicas")?,
            lanes: LaneSet {
                count: row.try_get("lanes")?,
                sum: row.try_get("lane_sum")?,
            },
            spared: row.try_get("spared")?,
            gone_sessions: row.try_get("gone_sessions")?,
        })
    }

    /// The first place of each of these lanes, from a mark on, in which a task waits.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn first_places(&self, lanes: &[(LaneId, Mark)]) -> Result<HashMap<LaneId, Mark>, StoreError> {
        let connection = self.claim_connection().await?;
        let statement = prepared(&connection, include_str!("sql/lanes/first_places.sql")).await?;
        let marks = MarkColumns::of(lanes);
        let rows = connection
            .query(
                &statement,
                &[&marks.lanes, &marks.ranks, &marks.order_keys, &marks.first_tasks],
            )
            .await?;
        rows.iter()
            .map(|row| Ok((row.try_get("lane")?, rows::mark(row)?)))
            .collect()
    }

    /// Says that this replica leaves.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn replica_leaves(&self, replica: ReplicaId) -> Result<(), StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/schedulers/leave.sql")).await?;
        connection.execute(&statement, &[&replica]).await?;
        Ok(())
    }

    /// Moves tasks whose time has come to ready, at most `at_most`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn promote(&self, at_most: i64) -> Result<Promoted, StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/tasks/promote.sql")).await?;
        let bundle = i64::try_from(BUNDLE).unwrap_or(i64::MAX);
        let rows = connection.query(&statement, &[&at_most, &bundle]).await?;
        let mut promoted = Promoted::default();
        for row in &rows {
            promoted.tasks.extend(row.try_get::<_, Vec<TaskId>>("task_ids")?);
            let lane = row.try_get("lane")?;
            let place = rows::mark(row)?;
            match promoted.lanes.iter_mut().find(|(known, _)| *known == lane) {
                Some((_, low)) => *low = place.min(*low),
                None => promoted.lanes.push((lane, place)),
            }
        }
        Ok(promoted)
    }
}

/// Lanes and marks as the columns of a statement.
struct MarkColumns {
    lanes: Vec<LaneId>,
    ranks: Vec<i16>,
    order_keys: Vec<i64>,
    first_tasks: Vec<Uuid>,
}

impl MarkColumns {
    fn of(lanes: &[(LaneId, Mark)]) -> Self {
        Self {
            lanes: lanes.iter().map(|(lane, _)| *lane).collect(),
            ranks: lanes.iter().map(|(_, mark)| mark.rank).collect(),
            order_keys: lanes.iter().map(|(_, mark)| mark.order_key).collect(),
            first_tasks: lanes.iter().map(|(_, mark)| mark.first_task).collect(),
        }
    }
}

fn ready_lanes(row: &Row) -> Result<Vec<(LaneId, Mark)>, StoreError> {
    let lanes: Vec<LaneId> = row.try_get("ready_lanes")?;
    let ranks: Vec<i16> = row.try_get("ready_ranks")?;
    let order_keys: Vec<i64> = row.try_get("ready_order_keys")?;
    let marks = ranks.into_iter().zip(order_keys);
    let marks = marks.map(|(rank, order_key)| Mark::before(rank, order_key));
    Ok(lanes.into_iter().zip(marks).collect())
}
