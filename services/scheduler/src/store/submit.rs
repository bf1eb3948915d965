//! Storing new tasks.

use serde::Serialize;
use uuid::Uuid;

use super::{
    database::{Database, micros, prepared},
    error::StoreError,
    json_text::JsonText,
};
use crate::domain::{
    ids::{GrantId, LaneId, SessionId, TaskId},
    new_task::{NewTask, Start, TaskOptions},
};

/// New tasks as the columns of one statement.
#[derive(Default)]
pub struct SubmitBatch {
    ids: Vec<Uuid>,
    lanes: Vec<i32>,
    ranks: Vec<i16>,
    payloads: Vec<String>,
    max_attempts: Vec<i16>,
    starts: Vec<Option<i64>>,
    delays: Vec<Option<i64>>,
    titles: Vec<Option<String>>,
    options: Vec<Option<String>>,
    sessions: Vec<Option<Uuid>>,
    grant: i64,
}

/// A task that was stored before under an id that a client chose.
#[derive(Debug, Clone, Copy)]
pub struct Existing {
    /// Its id.
    pub id: TaskId,
    /// True if its lane and payload are those of the new one.
    pub same: bool,
}

/// Columns that most tasks leave empty travel together, as one JSON object or nothing.
#[derive(Serialize)]
struct OptionColumns<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<&'a std::collections::BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_of: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    initial_backoff_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_backoff_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
}

impl SubmitBatch {
    /// An empty batch whose tasks that do not have to wait are leased by this grant.
    pub fn granting(grant: GrantId) -> Self {
        Self {
            grant: grant.0,
            ..Self::default()
        }
    }

    /// Adds a task that may start at once and is leased to a session as it is stored.
    pub fn push_leased(&mut self, task: &NewTask, lane: LaneId, session: SessionId) {
        self.sessions.resize(self.ids.len(), None);
        self.sessions.push(Some(session.0));
        self.push(task, lane);
    }

    /// Adds a task.
    pub fn push(&mut self, task: &NewTask, lane: LaneId) {
        self.ids.push(task.id.0);
        self.lanes.push(lane.0);
        self.ranks.push(-task.priority);
        self.payloads.push(task.payload.clone());
        self.max_attempts.push(task.max_attempts);
        let (start, delay) = match task.start {
            Start::Now => (None, None),
            Start::At(us) => (Some(us), None),
            Start::After(delay) => (None, Some(micros(delay))),
        };
        self.starts.push(start);
        self.delays.push(delay);
        self.titles.push(task.options.title.clone());
        self.options.push(option_columns(&task.options));
    }

    /// How many tasks it holds.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// True if it holds none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

fn option_columns(options: &TaskOptions) -> Option<String> {
    let TaskOptions {
        title,
        description,
        owner,
        labels,
        parent,
        retry_of,
        backoff,
        run_timeout,
        traceparent,
    } = options;
    if *options
        == (TaskOptions {
            title: title.clone(),
            ..TaskOptions::default()
        })
    {
        return None;
    }
    let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let columns = OptionColumns {
        description: description.as_deref(),
        owner: owner.as_deref(),
        labels: (!labels.is_empty()).then_some(labels),
        parent_id: parent.map(|id| id.to_string()),
        retry_of: retry_of.map(|id| id.to_string()),
        initial_backoff_ms: backoff.map(|b| millis(b.initial)),
        max_backoff_ms: backoff.map(|b| millis(b.longest)),
        run_timeout_ms: run_timeout.map(millis),
        traceparent: traceparent.as_deref(),
    };
    serde_json::to_string(&columns).ok()
}

impl Database {
    /// Stores a batch, all or nothing; returns the commit's clock, microseconds since 1970.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if an id is taken; see [`StoreError`] for the rest.
    pub async fn submit(&self, batch: &SubmitBatch) -> Result<i64, StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/submit.sql")).await?;
        let payloads: Vec<_> = batch
            .payloads
            .iter()
            .map(|text| JsonText(text.as_str()))
            .collect();
        let options: Vec<_> = batch
            .options
            .iter()
            .map(|text| text.as_deref().map(JsonText))
            .collect();
        let row = connection
            .query_one(
                &statement,
                &[
                    &batch.ids,
                    &batch.lanes,
                    &batch.ranks,
                    &payloads,
                    &batch.max_attempts,
                    &batch.starts,
                    &batch.delays,
                    &batch.titles,
                    &options,
                    &batch.sessions,
                    &batch.grant,
                ],
            )
            .await?;
        Ok(row.get(0))
    }

    /// Those of a batch's tasks whose ids are taken.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn submit_existing(&self, batch: &SubmitBatch) -> Result<Vec<Existing>, StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/submit_existing.sql")).await?;
        let rows = connection
            .query(&statement, &[&batch.ids, &batch.lanes, &batch.payloads])
            .await?;
        Ok(rows
            .iter()
            .map(|row| Existing {
                id: TaskId(row.get(0)),
                same: row.get(1),
            })
            .collect())
    }
}
