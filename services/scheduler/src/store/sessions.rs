//! Sessions of workers, and what happens to their leases when they end.

use std::{collections::BTreeMap, time::Duration};

use uuid::Uuid;

use super::{
    claim::{backoff, millis},
    database::{Database, micros, prepared},
    error::StoreError,
    settle::Fenced,
};
use crate::domain::{
    backoff::Backoff,
    ids::{GrantId, LaneId, LeaseKey, LeaseNo, SessionId, TaskId},
    lease::Lease,
    session::WorkerProfile,
    verdict::Verdict,
};

/// A lease whose session is over.
#[derive(Debug, Clone)]
pub struct DeadLease {
    /// The lease.
    pub lease: Lease,
    /// The worker's name; `None` if its session was gone before it could know of the lease.
    pub worker: Option<String>,
    /// How often a worker died with the task in hand before.
    pub losses: i32,
}

/// Sessions that ended, and what became of their leases.
#[derive(Debug, Default)]
pub struct EndedSessions {
    /// The sessions.
    pub sessions: Vec<SessionId>,
    /// What was decided about each of their leases, and its lane.
    pub verdicts: Vec<Verdict>,
    /// The verdicts that won.
    pub won: Vec<Fenced>,
}

impl Database {
    /// Stores a new session.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn open_session(
        &self,
        id: SessionId,
        profile: &WorkerProfile,
        scheduler: &str,
        lease: Duration,
    ) -> Result<(), StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/open_session.sql")).await?;
        let types: Vec<&str> = profile.task_types.iter().map(|name| name.as_str()).collect();
        let queues: Vec<&str> = profile.queues.iter().map(|name| name.as_str()).collect();
        let labels = labels_json(&profile.labels)?;
        connection
            .execute(
                &statement,
                &[
                    &id.0,
                    &profile.name,
                    &profile.incarnation,
                    &types,
                    &queues,
                    &labels,
                    &profile.slots,
                    &scheduler,
                    &micros(lease),
                ],
            )
            .await?;
        Ok(())
    }

    /// Goes on with a session on this replica; false if it is over or another process start's.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn resume_session(
        &self,
        id: SessionId,
        incarnation: &str,
        scheduler: &str,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/resume_session.sql")).await?;
        let row = connection
            .query_opt(&statement, &[&id.0, &incarnation, &scheduler, &micros(lease)])
            .await?;
        Ok(row.is_some())
    }

    /// The name of the worker of a session that is not over.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn session_worker(&self, id: SessionId) -> Result<Option<String>, StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/find_session.sql")).await?;
        Ok(connection
            .query_opt(&statement, &[&id.0])
            .await?
            .map(|row| row.get(0)))
    }

    /// Extends the leases of sessions; returns those that are not over.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn heartbeat(
        &self,
        sessions: &[SessionId],
        lease: Duration,
    ) -> Result<Vec<SessionId>, StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/heartbeat.sql")).await?;
        let ids: Vec<Uuid> = sessions.iter().map(|id| id.0).collect();
        let rows = connection.query(&statement, &[&ids, &micros(lease)]).await?;
        Ok(rows.iter().map(|row| SessionId(row.get(0))).collect())
    }

    /// The leases of a session that have not ended.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn session_leases(&self, id: SessionId) -> Result<Vec<Lease>, StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/session_leases.sql")).await?;
        let rows = connection.query(&statement, &[&id.0]).await?;
        Ok(rows
            .iter()
            .map(|row| Lease {
                key: LeaseKey {
                    task: TaskId(row.get(1)),
                    no: LeaseNo(row.get(2)),
                },
                grant: GrantId(row.get(0)),
                lane: LaneId(row.get(5)),
                attempt: row.get(3),
                max_attempts: row.get(6),
                backoff: backoff(row, 7),
                run_timeout: millis(row.get(9)),
                started_us: row.get(4),
            })
            .collect())
    }

    /// Ends sessions whose lease is over and sends their tasks on, as `decide` says.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn expire_sessions(
        &self,
        at_most: i64,
        decide: impl Fn(&DeadLease) -> Verdict,
    ) -> Result<EndedSessions, StoreError> {
        self.end_sessions(include_str!("sql/expired_sessions.sql"), &[&at_most], decide)
            .await
    }

    /// Ends one session and sends its tasks on, as `decide` says.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn end_session(
        &self,
        id: SessionId,
        decide: impl Fn(&DeadLease) -> Verdict,
    ) -> Result<EndedSessions, StoreError> {
        self.end_sessions(include_str!("sql/lock_session.sql"), &[&id.0], decide)
            .await
    }

    /// Sends on tasks that were leased to sessions which were over by then, as `decide` says.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn end_orphans(
        &self,
        decide: impl Fn(&DeadLease) -> Verdict,
    ) -> Result<EndedSessions, StoreError> {
        self.end_sessions(include_str!("sql/orphan_sessions.sql"), &[], decide)
            .await
    }

    async fn end_sessions(
        &self,
        select: &str,
        parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
        decide: impl Fn(&DeadLease) -> Verdict,
    ) -> Result<EndedSessions, StoreError> {
        let mut connection = self.connection().await?;
        let transaction = connection.transaction().await?;
        let select = transaction.prepare_cached(select).await?;
        let ids: Vec<Uuid> = transaction
            .query(&select, parameters)
            .await?
            .iter()
            .map(|row| row.get(0))
            .collect();
        if ids.is_empty() {
            return Ok(EndedSessions::default());
        }
        let end = transaction
            .prepare_cached(include_str!("sql/end_sessions.sql"))
            .await?;
        let verdicts: Vec<Verdict> = transaction
            .query(&end, &[&ids])
            .await?
            .iter()
            .map(|row| {
                decide(&DeadLease {
                    lease: Lease {
                        key: LeaseKey {
                            task: TaskId(row.get(2)),
                            no: LeaseNo(row.get(3)),
                        },
                        grant: GrantId(0),
                        lane: LaneId(row.get(5)),
                        attempt: row.get(4),
                        max_attempts: row.get(6),
                        backoff: Backoff::default(),
                        run_timeout: None,
                        started_us: row.get(7),
                    },
                    worker: row.get(1),
                    losses: row.get(8),
                })
            })
            .collect();
        let won = Self::settle_within(&transaction, verdicts.iter()).await?;
        transaction.commit().await?;
        Ok(EndedSessions {
            sessions: ids.into_iter().map(SessionId).collect(),
            verdicts,
            won,
        })
    }

    /// Removes grants that a moved session left behind although all their tasks have ended.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn sweep_grants(&self) -> Result<u64, StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/sweep_grants.sql")).await?;
        Ok(connection.execute(&statement, &[]).await?)
    }
}

/// Labels as JSON text of one object.
pub(super) fn labels_json(labels: &BTreeMap<String, String>) -> Result<String, StoreError> {
    serde_json::to_string(labels).map_err(|error| StoreError::Defect(error.to_string()))
}
