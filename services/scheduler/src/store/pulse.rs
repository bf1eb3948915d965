//! One cheap look, once a second, at everything that may need a background loop.

use std::time::Duration;

use uuid::Uuid;

use super::{
    claim::Mark,
    database::{Database, prepared},
    error::StoreError,
    submit::BUNDLE,
};
use crate::domain::ids::{LaneId, ReplicaId};

/// What there is to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pulse {
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
}

impl Database {
    /// Takes the pulse; `lanes` are those that somebody here has room for, with the marks to look from. Every few
    /// seconds it also says that this replica is alive.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn pulse(
        &self,
        replica: ReplicaId,
        name: &str,
        lanes: &[(LaneId, Mark)],
    ) -> Result<Pulse, StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/pulse.sql")).await?;
        let ids: Vec<i32> = lanes.iter().map(|(lane, _)| lane.0).collect();
        let ranks: Vec<i16> = lanes.iter().map(|(_, mark)| mark.rank).collect();
        let order_keys: Vec<i64> = lanes.iter().map(|(_, mark)| mark.order_key).collect();
        let tasks: Vec<Uuid> = lanes.iter().map(|(_, mark)| mark.first_task).collect();
        let row = connection
            .query_one(
                &statement,
                &[&replica.0, &name, &ids, &ranks, &order_keys, &tasks],
            )
            .await?;
        let lanes = |column| row.get::<_, Vec<i32>>(column).into_iter().map(LaneId);
        let ranks: Vec<i16> = row.get(5);
        let order_keys: Vec<i64> = row.get(6);
        let firsts = ranks
            .into_iter()
            .zip(order_keys)
            .map(|(rank, order_key)| Mark::before(rank, order_key));
        Ok(Pulse {
            expired: row.get(0),
            orphaned: row.get(1),
            cancelling: row.get(2),
            next_due: row
                .get::<_, Option<i64>>(3)
                .map(|us| Duration::from_micros(u64::try_from(us).unwrap_or(0))),
            ready_lanes: lanes(4).zip(firsts).collect(),
            paused_lanes: lanes(7).collect(),
            other_replicas: row.get(8),
        })
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

    /// Moves tasks whose time has come to ready, at most so many; returns how many moved, and for each lane the
    /// first position that was filled.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn promote(&self, at_most: i64) -> Result<(usize, Vec<(LaneId, Mark)>), StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/promote.sql")).await?;
        let bundle = i64::try_from(BUNDLE).unwrap_or(i64::MAX);
        let rows = connection.query(&statement, &[&at_most, &bundle]).await?;
        let mut moved = 0;
        let mut lowest: Vec<(LaneId, Mark)> = Vec::new();
        for row in &rows {
            moved += usize::try_from(row.get::<_, i32>(4)).unwrap_or(0);
            let lane = LaneId(row.get(0));
            let mark = Mark {
                rank: row.get(1),
                order_key: row.get(2),
                first_task: row.get(3),
            };
            match lowest.iter_mut().find(|(known, _)| *known == lane) {
                Some((_, low)) => *low = mark.min(*low),
                None => lowest.push((lane, mark)),
            }
        }
        Ok((moved, lowest))
    }
}
