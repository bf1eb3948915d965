//! One cheap look, once a second, at everything that may need a background loop.

use std::{collections::HashMap, time::Duration};

use uuid::Uuid;

use super::{
    claim::Mark,
    database::{Database, micros, prepared},
    error::StoreError,
    lanes::LaneSet,
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
        let statement = prepared(&connection, include_str!("sql/tick.sql")).await?;
        let ids: Vec<i32> = lanes.iter().map(|(lane, _)| lane.0).collect();
        let ranks: Vec<i16> = lanes.iter().map(|(_, mark)| mark.rank).collect();
        let order_keys: Vec<i64> = lanes.iter().map(|(_, mark)| mark.order_key).collect();
        let tasks: Vec<Uuid> = lanes.iter().map(|(_, mark)| mark.first_task).collect();
        let sessions: Vec<Uuid> = sessions.iter().map(|session| session.0).collect();
        let row = connection
            .query_one(
                &statement,
                &[
                    &replica.0,
                    &name,
                    &ids,
                    &ranks,
                    &order_keys,
                    &tasks,
                    &micros(*lease),
                    &sessions,
                ],
            )
            .await?;
        let lanes = |column| row.get::<_, Vec<i32>>(column).into_iter().map(LaneId);
        let ranks: Vec<i16> = row.get(5);
        let order_keys: Vec<i64> = row.get(6);
        let firsts = ranks
            .into_iter()
            .zip(order_keys)
            .map(|(rank, order_key)| Mark::before(rank, order_key));
        Ok(Tick {
            expired: row.get(0),
            orphaned: row.get(1),
            cancelling: row.get(2),
            next_due: row
                .get::<_, Option<i64>>(3)
                .map(|us| Duration::from_micros(u64::try_from(us).unwrap_or(0))),
            ready_lanes: lanes(4).zip(firsts).collect(),
            paused_lanes: lanes(7).collect(),
            other_replicas: row.get(8),
            lanes: LaneSet {
                count: row.get(9),
                sum: row.get("lane_sum"),
            },
            spared: row.get(10),
            gone_sessions: row.get::<_, Vec<Uuid>>(11).into_iter().map(SessionId).collect(),
        })
    }

    /// The first place of each of these lanes, from a mark on, in which a task waits.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn first_places(&self, lanes: &[(LaneId, Mark)]) -> Result<HashMap<LaneId, Mark>, StoreError> {
        let connection = self.claim_connection().await?;
        let statement = prepared(&connection, include_str!("sql/first_places.sql")).await?;
        let ids: Vec<i32> = lanes.iter().map(|(lane, _)| lane.0).collect();
        let ranks: Vec<i16> = lanes.iter().map(|(_, mark)| mark.rank).collect();
        let order_keys: Vec<i64> = lanes.iter().map(|(_, mark)| mark.order_key).collect();
        let tasks: Vec<Uuid> = lanes.iter().map(|(_, mark)| mark.first_task).collect();
        let rows = connection
            .query(&statement, &[&ids, &ranks, &order_keys, &tasks])
            .await?;
        rows.iter()
            .map(|row| {
                let place = Mark::before(row.try_get("rank")?, row.try_get("order_key")?);
                Ok((LaneId(row.try_get("lane")?), place))
            })
            .collect()
    }

    /// Says that this replica leaves.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn replica_leaves(&self, replica: ReplicaId) -> Result<(), StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/leave.sql")).await?;
        connection.execute(&statement, &[&replica.0]).await?;
        Ok(())
    }

    /// Moves tasks whose time has come to ready, at most `at_most`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn promote(&self, at_most: i64) -> Result<Promoted, StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/promote.sql")).await?;
        let bundle = i64::try_from(BUNDLE).unwrap_or(i64::MAX);
        let rows = connection.query(&statement, &[&at_most, &bundle]).await?;
        let mut promoted = Promoted::default();
        for row in &rows {
            let tasks: Vec<Uuid> = row.try_get("task_ids")?;
            promoted.tasks.extend(tasks.into_iter().map(TaskId));
            let lane = LaneId(row.try_get("lane")?);
            let place = Mark::before(row.try_get("rank")?, row.try_get("order_key")?);
            match promoted.lanes.iter_mut().find(|(known, _)| *known == lane) {
                Some((_, low)) => *low = place.min(*low),
                None => promoted.lanes.push((lane, place)),
            }
        }
        Ok(promoted)
    }
}
