//! Reading tasks. The view `task_place` decides every state; this file only asks it.

use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    claim::millis,
    database::{Database, prepared},
    error::StoreError,
    reading::Reading,
};
use crate::domain::{
    backoff::Backoff,
    ids::{LaneId, LeaseToken, TaskId},
    outcome::Outcome,
    report::TaskError,
    state::TaskState,
    task::{EventCursor, ProgressRecord, RunRecord, Standing, TaskRecord},
};

/// How much of a task to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Everything.
    Full,
    /// All but what only a view of one task shows: payload, result, the error's detail, and the progress card but for
    /// its heading.
    Summary,
}

impl Database {
    /// Reads tasks, newest first; unknown ids are left out.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn read_tasks(&self, ids: &[TaskId], detail: Detail) -> Result<Vec<TaskRecord>, StoreError> {
        read_tasks(&self.reading().await?, ids, detail).await
    }

    /// Reads the tasks of a list, which do not keep those waiting who read a single one.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn read_listed_tasks(&self, ids: &[TaskId]) -> Result<Vec<TaskRecord>, StoreError> {
        read_tasks(&self.listing().await?, ids, Detail::Summary).await
    }

    /// Reads one task.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn read_task(&self, id: TaskId, detail: Detail) -> Result<Option<TaskRecord>, StoreError> {
        Ok(self.read_tasks(&[id], detail).await?.pop())
    }

    /// Reads one task on behalf of a change of it, which does not wait behind those who only read.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn read_changed_task(&self, id: TaskId) -> Result<Option<TaskRecord>, StoreError> {
        let connection = Reading::new(self.connection().await?);
        Ok(read_tasks(&connection, &[id], Detail::Summary).await?.pop())
    }

    /// What tells of each task whether anything is new; unknown ids are left out.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn read_standings(&self, ids: &[TaskId]) -> Result<Vec<(TaskId, Standing)>, StoreError> {
        let connection = self.reading().await?;
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let rows = connection
            .query(include_str!("sql/read_standings.sql"), &[&ids])
            .await?;
        rows.iter()
            .map(|row| {
                let standing = Standing {
                    state: state(row)?,
                    lease_token: LeaseToken(row.try_get("lease_token")?),
                    cancel_requested: row.try_get("cancel_requested")?,
                    due_us: row.try_get("due_us")?,
                    last_event: EventCursor {
                        lease_token: row.try_get("event_lease_token")?,
                        number: row.try_get("event_no")?,
                    },
                };
                Ok((TaskId(row.try_get("id")?), standing))
            })
            .collect()
    }

    /// The last ended runs of a task, oldest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn read_runs(&self, id: TaskId, at_most: i64) -> Result<Vec<RunRecord>, StoreError> {
        let connection = self.reading().await?;
        let rows = connection
            .query(include_str!("sql/read_runs.sql"), &[&id.0, &at_most])
            .await?;
        rows.iter()
            .rev()
            .map(|row| {
                Ok(RunRecord {
                    lease_token: LeaseToken(row.try_get("lease_token")?),
                    attempt: i32::from(row.try_get::<_, i16>("attempt")?),
                    outcome: Outcome::from_number(row.try_get("outcome")?)
                        .ok_or_else(|| StoreError::Defect("unknown outcome".into()))?,
                    worker: row.try_get("worker")?,
                    started_us: row.try_get("started_us")?,
                    finished_us: row.try_get("finished_us")?,
                    error: task_error(row)?,
                    cancel_reason: row.try_get("cancel_reason")?,
                })
            })
            .collect()
    }

    /// Removes a task that has ended, with all it left behind; false if it has not ended or is unknown.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn delete_task(&self, id: TaskId) -> Result<bool, StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/delete_task.sql")).await?;
        Ok(connection.query_opt(&statement, &[&id.0]).await?.is_some())
    }
}

async fn read_tasks(
    connection: &Reading,
    ids: &[TaskId],
    detail: Detail,
) -> Result<Vec<TaskRecord>, StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = connection
        .query(
            include_str!("sql/read_tasks.sql"),
            &[&ids, &(detail == Detail::Full)],
        )
        .await?;
    rows.iter().map(task_record).collect()
}

fn state(row: &Row) -> Result<TaskState, StoreError> {
    let number = i32::from(row.try_get::<_, i16>("state")?);
    TaskState::from_number(number).ok_or_else(|| StoreError::Defect(format!("unknown state {number}")))
}

fn task_record(row: &Row) -> Result<TaskRecord, StoreError> {
    let progress = match row.try_get::<_, Option<i64>>("progress_us")? {
        Some(at_us) => Some(ProgressRecord {
            percent: row.try_get("percent")?,
            message: row.try_get("progress_message")?,
            card: row.try_get("progress_card")?,
            at_us,
            worker_us: row.try_get("progress_worker_us")?,
        }),
        None => None,
    };
    Ok(TaskRecord {
        id: TaskId(row.try_get("id")?),
        namespace: row.try_get("namespace")?,
        queue: row.try_get("queue")?,
        task_type: row.try_get("task_type")?,
        lane: LaneId(row.try_get("lane")?),
        state: state(row)?,
        attempt: row.try_get("attempt")?,
        lease_token: LeaseToken(row.try_get("lease_token")?),
        cancel_requested: row.try_get("cancel_requested")?,
        worker: row.try_get("worker")?,
        started_us: row.try_get("started_us")?,
        finished_us: row.try_get("finished_us")?,
        due_us: row.try_get("due_us")?,
        created_us: row.try_get("created_us")?,
        priority: -i32::from(row.try_get::<_, i16>("rank")?),
        max_attempts: i32::from(row.try_get::<_, i16>("max_attempts")?),
        title: row.try_get("title")?,
        description: row.try_get("description")?,
        owner: row.try_get("owner")?,
        labels: row.try_get("labels")?,
        parent: row.try_get::<_, Option<Uuid>>("parent_id")?.map(TaskId),
        retry_of: row.try_get::<_, Option<Uuid>>("retry_of")?.map(TaskId),
        backoff: match (
            millis(row.try_get("initial_backoff_ms")?),
            millis(row.try_get("max_backoff_ms")?),
        ) {
            (Some(initial), Some(longest)) => Some(Backoff { initial, longest }),
            _ => None,
        },
        run_timeout: millis(row.try_get("run_timeout_ms")?),
        traceparent: row.try_get("traceparent")?,
        payload: row.try_get("payload")?,
        result: row.try_get("result")?,
        error: task_error(row)?,
        cancel_reason: row.try_get("cancel_reason")?,
        progress,
    })
}

fn task_error(row: &Row) -> Result<Option<TaskError>, StoreError> {
    let Some(kind) = row.try_get("error_type")? else {
        return Ok(None);
    };
    Ok(Some(TaskError {
        kind,
        message: row
            .try_get::<_, Option<String>>("error_message")?
            .unwrap_or_default(),
        detail: row
            .try_get::<_, Option<String>>("error_detail")?
            .unwrap_or_default(),
    }))
}
