//! Sessions of workers, and what happens to their leases when they end.

use std::{collections::BTreeMap, time::Duration};

use deadpool_postgres::Transaction;

use super::{
    columns::Interval,
    database::{Database, prepared},
    error::StoreError,
    rows,
    settle::Fenced,
};
use crate::domain::{
    ids::{SessionId, TaskId},
    lease::{DeadLease, Lease},
    loss::Company,
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
        let statement = prepared(&connection, include_str!("sql/sessions/open_session.sql")).await?;
        let types: Vec<&str> = profile.task_types.iter().map(|name| name.as_str()).collect();
        let queues: Vec<&str> = profile.queues.iter().map(|name| name.as_str()).collect();
        let labels = labels_json(&profile.labels)?;
        connection
            .execute(
                &statement,
                &[
                    &id,
                    &profile.name,
                    &profile.incarnation,
                    &types,
                    &queues,
                    &labels,
                    &profile.slots,
                    &scheduler,
                    &Interval(lease),
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
        let statement = prepared(&connection, include_str!("sql/sessions/resume_session.sql")).await?;
        let row = connection
            .query_opt(&statement, &[&id, &incarnation, &scheduler, &Interval(lease)])
            .await?;
        Ok(row.is_some())
    }

    /// The name of the worker of a session that is not over.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn session_worker(&self, id: SessionId) -> Result<Option<String>, StoreError> {
        let connection = self.session_connection().await?;
        let statement = prepared(&connection, include_str!("sql/sessions/find_session.sql")).await?;
        let row = connection.query_opt(&statement, &[&id]).await?;
        Ok(row.map(|row| row.try_get("name")).transpose()?)
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
        let statement = prepared(&connection, include_str!("sql/sessions/heartbeat.sql")).await?;
        let (ids, ages): (Vec<SessionId>, Vec<Interval>) =
            sessions.iter().map(|(id, age)| (*id, Interval(*age))).unzip();
        let rows = connection
            .query(&statement, &[&ids, &ages, &Interval(lease)])
            .await?;
        rows.iter().map(|row| Ok(row.try_get("id")?)).collect()
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
        let statement = prepared(&connection, include_str!("sql/grants/session_leases.sql")).await?;
        let rows = connection.query(&statement, &[&sessions, &of_tasks]).await?;
        rows.iter().map(rows::known_lease).collect()
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
        self.end_sessions(
            include_str!("sql/sessions/expired_sessions.sql"),
            &[&at_most],
            decide,
        )
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
        self.end_sessions(include_str!("sql/sessions/lock_session.sql"), &[&id], decide)
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
        self.end_sessions(include_str!("sql/sessions/orphan_sessions.sql"), &[], decide)
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
        let sessions: Vec<SessionId> = transaction
            .query(&select, parameters)
            .await?
            .iter()
            .map(|row| row.try_get("id"))
            .collect::<Result<_, _>>()?;
        if sessions.is_empty() {
            return Ok(EndedSessions::default());
        }
        let end = transaction
            .prepare_cached(include_str!("sql/sessions/end_sessions.sql"))
            .await?;
        let mut dead: Vec<(SessionId, DeadLease)> = transaction
            .query(&end, &[&sessions])
            .await?
            .iter()
            .map(rows::dead_lease)
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
            sessions,
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
        let statement = prepared(&connection, include_str!("sql/grants/sweep_grants.sql")).await?;
        Ok(connection.execute(&statement, &[]).await?)
    }
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
            held.suspects.push(dead.key.task);
        }
    }
    for (session, dead) in dead {
        if let Some(held) = sessions.get(session) {
            dead.loss.company = Company::of(dead.key.task, held.tasks, &held.suspects);
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
    let new_suspects: Vec<TaskId> = dead
        .iter()
        .zip(verdicts)
        .filter(|((_, dead), verdict)| verdict.blame.is_some() && dead.loss.raises_suspicion())
        .map(|((_, dead), _)| dead.key.task)
        .collect();
    if new_suspects.is_empty() {
        return Ok(false);
    }
    let withdraw = transaction
        .prepare_cached(include_str!("sql/runs/withdraw_blame.sql"))
        .await?;
    let mut changed = false;
    for row in transaction.query(&withdraw, &[&new_suspects]).await? {
        let task: TaskId = row.try_get("task_id")?;
        for (_, dead) in dead.iter_mut().filter(|(_, dead)| dead.key.task == task) {
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
