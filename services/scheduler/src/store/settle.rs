//! Committing how runs ended.

use jiff::Timestamp;
use tokio_postgres::{Row, types::ToSql};

use super::{
    columns::Interval,
    database::{Database, prepared},
    error::StoreError,
    json_text::JsonText,
    mark::Mark,
    rows,
};
use crate::domain::{
    ids::{GrantId, GrantKey, LeaseKey, LeaseToken, SessionId, TaskId},
    outcome::Outcome,
    verdict::{Disposition, Verdict},
};

/// A verdict that committed: the lease ended with this outcome, which is CANCELLED if a cancel came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fenced {
    /// Which lease.
    pub key: LeaseKey,
    /// How it ended.
    pub outcome: Outcome,
    /// Where its task waits now, if it may run again at once.
    pub place: Option<Mark>,
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
struct Successes<'a> {
    tasks: Vec<TaskId>,
    leases: Vec<LeaseToken>,
    attempts: Vec<i16>,
    starts: Vec<Timestamp>,
    workers: Vec<&'a str>,
    results: Vec<JsonText<&'a str>>,
}

#[derive(Default)]
struct Others<'a> {
    tasks: Vec<TaskId>,
    leases: Vec<LeaseToken>,
    attempts: Vec<i16>,
    starts: Vec<Timestamp>,
    workers: Vec<&'a str>,
    outcomes: Vec<i16>,
    finals: Vec<bool>,
    kinds: Vec<&'a str>,
    messages: Vec<&'a str>,
    details: Vec<&'a str>,
    delays: Vec<Option<Interval>>,
    next_attempts: Vec<i16>,
    blame: Vec<Option<i16>>,
    suspects: Vec<Option<TaskId>>,
}

/// Names grants, in the order of their keys.
struct Emptied {
    sessions: Vec<SessionId>,
    grants: Vec<GrantId>,
}

impl Database {
    /// Commits verdicts and removes the grants that they empty, all or nothing; returns the verdicts that committed.
    /// No two verdicts may be about the same lease.
    ///
    /// Every transaction that ends runs locks grants first and then runs, each in the order of their keys, so that
    /// none waits for another in a circle. Here that holds as long as successes do not come together with others.
    ///
    /// # Errors
    /// See [`StoreError`]; nothing is committed then, or the connection broke after the commit.
    pub async fn settle(
        &self,
        verdicts: &[Verdict],
        emptied: &[GrantKey],
    ) -> Result<Vec<Fenced>, StoreError> {
        let (successes, others) = columns(verdicts);
        let emptied = Emptied::from(emptied);
        if others.tasks.is_empty() {
            match self.settle_uncontested(&successes, &emptied).await {
                Err(StoreError::Exists) => {}
                done => return done.map(|()| successes.all_won()),
            }
        }
        let mut connection = self.other_ends_connection().await?;
        let transaction = connection.transaction().await?;
        if !emptied.sessions.is_empty() {
            let statement = transaction
                .prepare_cached(include_str!("sql/grants/drop_grants.sql"))
                .await?;
            transaction
                .execute(&statement, &[&emptied.sessions, &emptied.grants])
                .await?;
        }
        let mut fenced = Vec::new();
        if !successes.tasks.is_empty() {
            let statement = transaction
                .prepare_cached(include_str!("sql/runs/settle_contested.sql"))
                .await?;
            let rows = transaction.query(&statement, &successes.parameters()).await?;
            fenced.extend(committed(&rows)?);
        }
        fenced.extend(others.end_within(&transaction).await?);
        transaction.commit().await?;
        Ok(fenced)
    }

    /// Commits successes none of which may have lost; one statement is one round trip and its own transaction.
    async fn settle_uncontested(
        &self,
        successes: &Successes<'_>,
        emptied: &Emptied,
    ) -> Result<(), StoreError> {
        let connection = self.settlement_connection().await?;
        let statement = prepared(&connection, include_str!("sql/runs/settle.sql")).await?;
        let [tasks, leases, attempts, starts, workers, results] = successes.parameters();
        let parameters = [
            tasks,
            leases,
            attempts,
            starts,
            workers,
            results,
            &emptied.sessions,
            &emptied.grants,
        ];
        connection.execute(&statement, &parameters).await?;
        Ok(())
    }

    /// Commits verdicts inside a transaction that is under way; returns those that committed.
    pub(super) async fn settle_within(
        transaction: &deadpool_postgres::Transaction<'_>,
        verdicts: impl Iterator<Item = &Verdict> + Send,
    ) -> Result<Vec<Fenced>, StoreError> {
        columns(verdicts).1.end_within(transaction).await
    }

    /// How leases ended; leases that go on are left out.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn ended_runs(&self, keys: &[LeaseKey]) -> Result<Vec<EndedRun>, StoreError> {
        let connection = self.other_ends_connection().await?;
        let statement = prepared(&connection, include_str!("sql/runs/ended_runs.sql")).await?;
        let (tasks, leases): (Vec<TaskId>, Vec<LeaseToken>) =
            keys.iter().map(|key| (key.task, key.token)).unzip();
        let rows = connection.query(&statement, &[&tasks, &leases]).await?;
        rows.iter()
            .map(|row| {
                Ok(EndedRun {
                    key: rows::lease_key(row)?,
                    outcome: row.try_get("outcome")?,
                    worker: row.try_get("worker")?,
                })
            })
            .collect()
    }
}

impl From<&[GrantKey]> for Emptied {
    fn from(keys: &[GrantKey]) -> Self {
        let mut keys = keys.to_vec();
        keys.sort_unstable();
        let (sessions, grants) = keys.into_iter().map(|key| (key.session, key.grant)).unzip();
        Self { sessions, grants }
    }
}

impl Successes<'_> {
    fn parameters(&self) -> [&(dyn ToSql + Sync); 6] {
        [
            &self.tasks,
            &self.leases,
            &self.attempts,
            &self.starts,
            &self.workers,
            &self.results,
        ]
    }

    fn all_won(&self) -> Vec<Fenced> {
        let keys = self.tasks.iter().zip(&self.leases);
        keys.map(|(task, lease)| Fenced {
            key: LeaseKey {
                task: *task,
                token: *lease,
            },
            outcome: Outcome::Succeeded,
            place: None,
        })
        .collect()
    }
}

impl Others<'_> {
    async fn end_within(
        &self,
        transaction: &deadpool_postgres::Transaction<'_>,
    ) -> Result<Vec<Fenced>, StoreError> {
        if self.tasks.is_empty() {
            return Ok(Vec::new());
        }
        let statement = transaction
            .prepare_cached(include_str!("sql/runs/end_runs.sql"))
            .await?;
        committed(&transaction.query(&statement, &self.parameters()).await?)
    }

    fn parameters(&self) -> [&(dyn ToSql + Sync); 14] {
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
            &self.blame,
            &self.suspects,
        ]
    }
}

/// The columns of verdicts, in the order of their keys.
fn columns<'a>(verdicts: impl IntoIterator<Item = &'a Verdict>) -> (Successes<'a>, Others<'a>) {
    let mut successes = Successes::default();
    let mut others = Others::default();
    let mut verdicts: Vec<&Verdict> = verdicts.into_iter().collect();
    verdicts.sort_unstable_by_key(|verdict| verdict.key);
    for verdict in verdicts {
        let (outcome, error, delay, next_attempt) = match &verdict.disposition {
            Disposition::Succeed { result } => {
                successes.tasks.push(verdict.key.task);
                successes.leases.push(verdict.key.token);
                successes.attempts.push(verdict.attempt);
                successes.starts.push(verdict.started_at);
                successes.workers.push(&*verdict.worker);
                successes.results.push(JsonText(result));
                continue;
            }
            Disposition::End { outcome, error } => (*outcome, error, None, 1),
            Disposition::Retry {
                outcome,
                error,
                delay,
                next_attempt,
            } => (*outcome, error, Some(*delay), *next_attempt),
        };
        others.tasks.push(verdict.key.task);
        others.leases.push(verdict.key.token);
        others.attempts.push(verdict.attempt);
        others.starts.push(verdict.started_at);
        others.workers.push(&*verdict.worker);
        others.outcomes.push(outcome as i16);
        others.finals.push(delay.is_none());
        others.kinds.push(&error.kind);
        others.messages.push(&error.message);
        others.details.push(&error.detail);
        others.delays.push(delay.map(Interval));
        others.next_attempts.push(next_attempt);
        others.blame.push(verdict.blame.map(|blame| blame.points));
        let suspect = verdict.blame.and_then(|blame| blame.suspect);
        others.suspects.push(suspect);
    }
    (successes, others)
}

/// Reads the verdicts that a statement has committed.
fn committed(rows: &[Row]) -> Result<Vec<Fenced>, StoreError> {
    rows.iter()
        .map(|row| {
            Ok(Fenced {
                key: rows::lease_key(row)?,
                outcome: row.try_get("outcome")?,
                place: rows::optional_mark(row)?,
            })
        })
        .collect()
}
