//! Reading tasks. The view `task_place` decides every state; this file only asks it.

use super::{
    database::{Database, prepared},
    error::StoreError,
    reading::Reading,
    rows,
};
use crate::domain::{
    ids::TaskId,
    task::{RunRecord, TaskRecord, TaskVersion},
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

    /// What tells of each task whether it has changed; unknown ids are left out.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn read_versions(&self, ids: &[TaskId]) -> Result<Vec<(TaskId, TaskVersion)>, StoreError> {
        let connection = self.reading().await?;
        let rows = connection
            .query(include_str!("sql/tasks/read_versions.sql"), &[&ids])
            .await?;
        rows.iter().map(rows::task_version).collect()
    }

    /// The last ended runs of a task, oldest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn read_runs(&self, id: TaskId, at_most: i64) -> Result<Vec<RunRecord>, StoreError> {
        let connection = self.reading().await?;
        let rows = connection
            .query(include_str!("sql/runs/read_runs.sql"), &[&id, &at_most])
            .await?;
        rows.iter().rev().map(rows::run_record).collect()
    }

    /// Removes a task that has ended, with all it left behind; false if it has not ended or is unknown.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn delete_task(&self, id: TaskId) -> Result<bool, StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/tasks/delete_task.sql")).await?;
        Ok(connection.query_opt(&statement, &[&id]).await?.is_some())
    }
}

async fn read_tasks(
    connection: &Reading,
    ids: &[TaskId],
    detail: Detail,
) -> Result<Vec<TaskRecord>, StoreError> {
    let rows = connection
        .query(
            include_str!("sql/tasks/read_tasks.sql"),
            &[&ids, &(detail == Detail::Full)],
        )
        .await?;
    rows.iter().map(rows::task_record).collect()
}
