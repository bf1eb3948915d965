//! Committing how runs ended.

use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    database::{Database, micros, prepared},
    error::StoreError,
};
use crate::domain::{
    ids::{GrantId, LeaseKey, LeaseNo, SessionId, TaskId},
    outcome::Outcome,
    verdict::{End, Verdict},
};

/// Names a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GrantKey {
    /// The session it belongs to.
    pub session: SessionId,
    /// Which of its grants.
    pub grant: GrantId,
}

/// A verdict that won: the lease ended with this outcome, which is CANCELLED if a cancel came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fenced {
    /// Which lease.
    pub key: LeaseKey,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a lease ended, as it stands in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedRun {
    /// Which lease.
    pub key: LeaseKey,
    /// How it ended; `None` while a cancel request is open.
    pub outcome: Option<Outcome>,
    /// Whose run it was.
    pub worker: Option<String>,
}

#[derive(Default)]
struct Successes {
    tasks: Vec<Uuid>,
    leases: Vec<i32>,
    attempts: Vec<i16>,
    starts: Vec<i64>,
    workers: Vec<String>,
    results: Vec<String>,
}

#[derive(Default)]
struct Others {
    tasks: Vec<Uuid>,
    leases: Vec<i32>,
    attempts: Vec<i16>,
    starts: Vec<i64>,
    workers: Vec<String>,
    outcomes: Vec<i16>,
    finals: Vec<bool>,
    kinds: Vec<String>,
    messages: Vec<String>,
    details: Vec<String>,
    delays: Vec<i64>,
    next_attempts: Vec<i16>,
}

impl Database {
    /// Commits verdicts and removes the grants that they empty, in one transaction; returns the verdicts that won.
    ///
    /// # Errors
    /// See [`StoreError`]; nothing is committed then, or the connection broke after the commit.
    pub async fn settle(
        &self,
        verdicts: &[Verdict],
        emptied: &[GrantKey],
    ) -> Result<Vec<Fenced>, StoreError> {
        let (successes, others) = columns(verdicts);
        let mut connection = self.connection().await?;
        let statements = usize::from(!successes.tasks.is_empty())
            + usize::from(!others.tasks.is_empty())
            + usize::from(!emptied.is_empty());
        if statements == 1 && emptied.is_empty() {
            // One statement is its own transaction, and saves two round trips.
            let connection = &connection;
            let client: &tokio_postgres::Client = connection;
            return if others.tasks.is_empty() {
                let statement = prepared(connection, include_str!("sql/settle.sql")).await?;
                Ok(fenced(&client.query(&statement, &successes.parameters()).await?))
            } else {
                let statement = prepared(connection, include_str!("sql/end_runs.sql")).await?;
                Ok(fenced(&client.query(&statement, &others.parameters()).await?))
            };
        }
        let settle = prepared(&connection, include_str!("sql/settle.sql")).await?;
        let end_runs = prepared(&connection, include_str!("sql/end_runs.sql")).await?;
        let drop_grants = prepared(&connection, include_str!("sql/drop_grants.sql")).await?;
        let transaction = connection.transaction().await?;
        let mut won = Vec::new();
        if !successes.tasks.is_empty() {
            won.extend(fenced(
                &transaction.query(&settle, &successes.parameters()).await?,
            ));
        }
        if !others.tasks.is_empty() {
            won.extend(fenced(&transaction.query(&end_runs, &others.parameters()).await?));
        }
        if !emptied.is_empty() {
            let sessions: Vec<Uuid> = emptied.iter().map(|key| key.session.0).collect();
            let grants: Vec<i64> = emptied.iter().map(|key| key.grant.0).collect();
            transaction.execute(&drop_grants, &[&sessions, &grants]).await?;
        }
        transaction.commit().await?;
        Ok(won)
    }

    /// Commits verdicts inside a transaction that is under way; returns those that won.
    pub(super) async fn settle_within(
        transaction: &deadpool_postgres::Transaction<'_>,
        verdicts: impl Iterator<Item = &Verdict> + Send,
    ) -> Result<Vec<Fenced>, StoreError> {
        let (_, others) = columns(verdicts);
        if others.tasks.is_empty() {
            return Ok(Vec::new());
        }
        let statement = transaction
            .prepare_cached(include_str!("sql/end_runs.sql"))
            .await?;
        Ok(fenced(
            &transaction.query(&statement, &others.parameters()).await?,
        ))
    }

    /// How leases ended; leases that go on are left out.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn ended_runs(&self, keys: &[LeaseKey]) -> Result<Vec<EndedRun>, StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/ended_runs.sql")).await?;
        let tasks: Vec<Uuid> = keys.iter().map(|key| key.task.0).collect();
        let leases: Vec<i32> = keys.iter().map(|key| key.no.0).collect();
        let rows = connection.query(&statement, &[&tasks, &leases]).await?;
        Ok(rows
            .iter()
            .map(|row| EndedRun {
                key: LeaseKey {
                    task: TaskId(row.get(0)),
                    no: LeaseNo(row.get(1)),
                },
                outcome: Outcome::from_number(row.get(2)),
                worker: row.get(3),
            })
            .collect())
    }
}

impl Successes {
    fn parameters(&self) -> [&(dyn tokio_postgres::types::ToSql + Sync); 6] {
        [
            &self.tasks,
            &self.leases,
            &self.attempts,
            &self.starts,
            &self.workers,
            &self.results,
        ]
    }
}

impl Others {
    fn parameters(&self) -> [&(dyn tokio_postgres::types::ToSql + Sync); 12] {
        [
            &self.tasks,
            &self.leases,
            &self.attempts,
            &self.starts,
            &self.workers,
            &self.outcomes,
            &self.finals,
            &self.kinds,
            &self.messages,
            &self.details,
            &self.delays,
            &self.next_attempts,
        ]
    }
}

fn columns<'a>(verdicts: impl IntoIterator<Item = &'a Verdict>) -> (Successes, Others) {
    let mut successes = Successes::default();
    let mut others = Others::default();
    for verdict in verdicts {
        let (outcome, error, delay, next_attempt) = match &verdict.end {
            End::Succeeded { result } => {
                successes.tasks.push(verdict.key.task.0);
                successes.leases.push(verdict.key.no.0);
                successes.attempts.push(verdict.attempt);
                successes.starts.push(verdict.started_us);
                successes.workers.push(verdict.worker.clone());
                successes.results.push(result.clone());
                continue;
            }
            End::Final { outcome, error } => (*outcome, error, None, 1),
            End::Again {
                outcome,
                error,
                delay,
                next_attempt,
            } => (*outcome, error, Some(*delay), *next_attempt),
        };
        others.tasks.push(verdict.key.task.0);
        others.leases.push(verdict.key.no.0);
        others.attempts.push(verdict.attempt);
        others.starts.push(verdict.started_us);
        others.workers.push(verdict.worker.clone());
        others.outcomes.push(outcome as i16);
        others.finals.push(delay.is_none());
        others.kinds.push(error.kind.clone());
        others.messages.push(error.message.clone());
        others.details.push(error.detail.clone());
        others.delays.push(delay.map_or(0, micros));
        others.next_attempts.push(next_attempt);
    }
    (successes, others)
}

fn fenced(rows: &[Row]) -> Vec<Fenced> {
    rows.iter()
        .filter_map(|row| {
            Some(Fenced {
                key: LeaseKey {
                    task: TaskId(row.get(0)),
                    no: LeaseNo(row.get(1)),
                },
                outcome: Outcome::from_number(row.get(2))?,
            })
        })
        .collect()
}
