//! What the tables say: each task with its places and its runs, read at one instant.

use std::collections::BTreeMap;

use anyhow::Context as _;
use tokio_postgres::{Client, IsolationLevel};

use crate::history::{Outcome, Place, PlaceKind, RunFound, TaskFound};

/// Every task with its type.
const TASKS: &str = "SELECT id::text FROM tasklease.task";

/// Every ended run.
const RUNS: &str = "
    SELECT task_id::text, lease_token::bigint, outcome::int, final, attempt::int, (result ->> 'token')::bigint, error_type
    FROM tasklease.run ORDER BY task_id, lease_token";

/// Every row that holds an unfinished task.
const PLACES: &str = "
    SELECT unnest(task_ids)::text, 'ready', lease_token::bigint FROM tasklease.ready
    UNION ALL SELECT task_id::text, 'scheduled', lease_token::bigint FROM tasklease.scheduled
    UNION ALL SELECT unnest(task_ids)::text, 'grant', lease_token::bigint FROM tasklease.grant";

/// How many tasks have not ended.
const UNFINISHED: &str = "
    SELECT count(*) FROM tasklease.task t
    WHERE NOT EXISTS (SELECT FROM tasklease.run r WHERE r.task_id = t.id AND r.final)";

/// Reads all tasks as they are at one instant.
///
/// # Errors
/// Postgres does not answer.
pub async fn tasks(client: &mut Client) -> anyhow::Result<Vec<TaskFound>> {
    let snapshot = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    let mut tasks: BTreeMap<String, TaskFound> = BTreeMap::new();
    for row in snapshot.query(TASKS, &[]).await? {
        let task: String = row.try_get(0)?;
        let found = TaskFound {
            task: task.clone(),
            places: Vec::new(),
            runs: Vec::new(),
        };
        tasks.insert(task, found);
    }
    for row in snapshot.query(RUNS, &[]).await? {
        let task: String = row.try_get(0)?;
        let run = RunFound {
            token: row.try_get(1)?,
            outcome: outcome(row.try_get(2)?).context("an outcome that is not known here")?,
            ends_task: row.try_get(3)?,
            attempt: u32::try_from(row.try_get::<_, i32>(4)?).unwrap_or(0),
            result_token: row.try_get(5)?,
            error: row.try_get(6)?,
        };
        if let Some(found) = tasks.get_mut(&task) {
            found.runs.push(run);
        }
    }
    for row in snapshot.query(PLACES, &[]).await? {
        let (task, kind): (String, &str) = (row.try_get(0)?, row.try_get(1)?);
        let place = Place {
            kind: match kind {
                "ready" => PlaceKind::Ready,
                "scheduled" => PlaceKind::Scheduled,
                _ => PlaceKind::Grant,
            },
            token: row.try_get(2)?,
        };
        if let Some(found) = tasks.get_mut(&task) {
            found.places.push(place);
        }
    }
    Ok(tasks.into_values().collect())
}

/// Counts the tasks that have not ended.
///
/// # Errors
/// Postgres does not answer.
pub async fn unfinished(client: &Client) -> anyhow::Result<i64> {
    Ok(client.query_one(UNFINISHED, &[]).await?.try_get(0)?)
}

fn outcome(number: i32) -> Option<Outcome> {
    Some(match number {
        0 => Outcome::CancelRequested,
        1 => Outcome::Succeeded,
        2 => Outcome::Failed,
        3 => Outcome::Cancelled,
        4 => Outcome::TimedOut,
        5 => Outcome::Lost,
        6 => Outcome::Released,
        _ => return None,
    })
}
