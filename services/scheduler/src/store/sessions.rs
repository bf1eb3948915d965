//! Sessions of workers, and what happens to their leases when they end.

use std::{collections::BTreeMap, time::Duration};

use deadpool_postgres::Transaction;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    claim::{backoff, millis},
    database::{Database, micros, prepared},
    error::StoreError,
    settle::Fenced,
};
use crate::domain::{
    backoff::Backoff,
    ids::{GrantId, LaneId, LeaseKey, LeaseToken, SessionId, TaskId},
    lease::Lease,
    loss::{Company, Loss},
    session::WorkerProfile,
    verdict::Verdict,
};

/// A lease of a session that goes on.
#[derive(Debug, Clone)]
pub struct KnownLease {
    /// The lease.
    pub lease: Lease,
    /// How long ago it was made, by the database's clock.
    pub age: Duration,
}

/// A lease whose session is over.
#[derive(Debug, Clone)]
pub struct DeadLease {
    /// The lease.
    pub lease: Lease,
    /// The worker's name; `None` if its session was gone before it could know of the lease.
    pub worker: Option<String>,
    /// True if nobody could hear the worker, because no scheduler was at work.
    pub was_spared: bool,
    /// Who may be to blame.
    pub loss: Loss,
}

/// Sessions that ended, and what became of their leases.
#[derive(Debug, Default)]
pub struct EndedSessions {
    /// The sessions.
    pub sessions: Vec<SessionId>,
    /// What was decided about each of their leases, and its lane.
    pub verdicts: Vec<Verdict>,
    /// The verdicts that committed.
    pub committed: Vec<Fenced>,
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
        let connection = self.session_connection().await?;
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
        let connection = self.session_connection().await?;
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
        let connection = self.session_connection().await?;
        let statement = prepared(&connection, include_str!("sql/find_session.sql")).await?;
        Ok(connection
            .query_opt(&statement, &[&id.0])
            .await?
            .map(|row| row.get(0)))
    }

    /// Extends the leases of sessions, whose heartbeats came that long ago; returns those that are not over.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn heartbeat(
        &self,
        sessions: &[(SessionId, Duration)],
        lease: Duration,
    ) -> Result<Vec<SessionId>, StoreError> {
        let connection = self.vital_connection().await?;
        let statement = prepared(&connection, include_str!("sql/heartbeat.sql")).await?;
        let ids: Vec<Uuid> = sessions.iter().map(|(id, _)| id.0).collect();
        let ages: Vec<i64> = sessions.iter().map(|(_, age)| micros(*age)).collect();
        let rows = connection
            .query(&statement, &[&ids, &ages, &micros(lease)])
            .await?;
        Ok(rows.iter().map(|row| SessionId(row.get(0))).collect())
    }

    /// The leases of sessions that have not ended; if tasks are named, those of the grants that hold any of them.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn session_leases(
        &self,
        sessions: &[SessionId],
        of_tasks: Option<&[TaskId]>,
    ) -> Result<Vec<(SessionId, KnownLease)>, StoreError> {
        let connection = self.session_connection().await?;
        let statement = prepared(&connection, include_str!("sql/session_leases.sql")).await?;
        let tasks: Option<Vec<Uuid>> = of_tasks.map(|tasks| tasks.iter().map(|task| task.0).collect());
        let ids: Vec<Uuid> = sessions.iter().map(|id| id.0).collect();
        let rows = connection.query(&statement, &[&ids, &tasks]).await?;
        rows.iter()
            .map(|row| {
                let lease = Lease {
                    key: LeaseKey {
                        task: TaskId(row.try_get("task_id")?),
                        token: LeaseToken(row.try_get("lease_token")?),
                    },
                    grant: GrantId(row.try_get("grant_id")?),
                    lane: LaneId(row.try_get("lane")?),
                    attempt: row.try_get("attempt")?,
                    max_attempts: row.try_get("max_attempts")?,
                    backoff: backoff(row, 8),
                    run_timeout: millis(row.try_get("run_timeout_ms")?),
                    started_us: row.try_get("started_us")?,
                };
                let age = Duration::from_micros(u64::try_from(row.try_get::<_, i64>("age_us")?).unwrap_or(0));
                Ok((SessionId(row.try_get("session_id")?), KnownLease { lease, age }))
            })
            .collect()
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
        let mut connection = self.vital_connection().await?;
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
        let mut dead: Vec<(SessionId, DeadLease)> = transaction
            .query(&end, &[&ids])
            .await?
            .iter()
            .map(dead_lease)
            .collect::<Result<_, _>>()?;
        tell_company(&mut dead);
        let judge = |dead: &[(SessionId, DeadLease)]| dead.iter().map(|(_, dead)| decide(dead)).collect();
        let mut verdicts: Vec<Verdict> = judge(&dead);
        if withdraw_blame(&transaction, &verdicts, &mut dead).await? {
            verdicts = judge(&dead);
        }
        let committed = Self::settle_within(&transaction, verdicts.iter()).await?;
        transaction.commit().await?;
        Ok(EndedSessions {
            sessions: ids.into_iter().map(SessionId).collect(),
            verdicts,
            committed,
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

fn dead_lease(row: &Row) -> Result<(SessionId, DeadLease), StoreError> {
    let dead = DeadLease {
        lease: Lease {
            key: LeaseKey {
                task: TaskId(row.try_get("task_id")?),
                token: LeaseToken(row.try_get("lease_token")?),
            },
            grant: GrantId(row.try_get("grant_id")?),
            lane: LaneId(row.try_get("lane")?),
            attempt: row.try_get("attempt")?,
            max_attempts: row.try_get("max_attempts")?,
            backoff: Backoff::default(),
            run_timeout: None,
            started_us: row.try_get("started_us")?,
        },
        worker: row.try_get("worker")?,
        was_spared: row.try_get::<_, Option<bool>>("was_spared")?.unwrap_or(false),
        loss: Loss {
            before: row.try_get("before")?,
            points_before: row.try_get("points_before")?,
            company: Company::Nobody,
        },
    };
    Ok((SessionId(row.try_get("session_id")?), dead))
}

/// Tells each lease of a session what else was lost with it.
fn tell_company(dead: &mut [(SessionId, DeadLease)]) {
    #[derive(Default)]
    struct Held {
        tasks: usize,
        suspects: Vec<TaskId>,
    }
    let mut sessions: BTreeMap<SessionId, Held> = BTreeMap::new();
    for (session, dead) in dead.iter() {
        let held = sessions.entry(*session).or_default();
        held.tasks += 1;
        if dead.loss.before > 0 {
            held.suspects.push(dead.lease.key.task);
        }
    }
    for (session, dead) in dead {
        if let Some(held) = sessions.get(session) {
            dead.loss.company = Company::of(dead.lease.key.task, held.tasks, &held.suspects);
        }
    }
}

/// Takes back the points that others got because the tasks that now become suspects seemed innocent; true if any of
/// those others are among the leases that are judged now.
async fn withdraw_blame(
    transaction: &Transaction<'_>,
    verdicts: &[Verdict],
    dead: &mut [(SessionId, DeadLease)],
) -> Result<bool, StoreError> {
    let new_suspects: Vec<Uuid> = dead
        .iter()
        .zip(verdicts)
        .filter(|((_, dead), verdict)| verdict.blame.is_some() && dead.loss.raises_suspicion())
        .map(|((_, dead), _)| dead.lease.key.task.0)
        .collect();
    if new_suspects.is_empty() {
        return Ok(false);
    }
    let withdraw = transaction
        .prepare_cached(include_str!("sql/withdraw_blame.sql"))
        .await?;
    let mut changed = false;
    for row in transaction.query(&withdraw, &[&new_suspects]).await? {
        let task = TaskId(row.try_get(0)?);
        for (_, dead) in dead.iter_mut().filter(|(_, dead)| dead.lease.key.task == task) {
            dead.loss.points_before -= 1;
            changed = true;
        }
    }
    Ok(changed)
}

/// Labels as JSON text of one object.
pub(super) fn labels_json(labels: &BTreeMap<String, String>) -> Result<String, StoreError> {
    serde_json::to_string(labels).map_err(|error| StoreError::Defect(error.to_string()))
}
