//! Storing new tasks.

use std::{ops::Range, pin::pin, time::Duration};

use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_postgres::types::ToSql;

use super::{
    columns::Interval,
    database::{Database, prepared},
    error::StoreError,
    json_text::JsonText,
};
use crate::domain::{
    ids::{GrantId, LaneId, SessionId, TaskId},
    new_task::{NewTask, Start},
    task_spec::TaskOptions,
};

/// Most tasks of a bundle. More make a large claim cheaper, and one of a single task dearer, which writes the others
/// again; with fifty, both cost little.
pub const BUNDLE: usize = 50;

/// Where the ids of deleted tasks are.
const DELETED: LaneId = LaneId(0);

/// New tasks that are stored by one statement.
#[derive(Default)]
pub struct SubmitBatch<'a> {
    rows: Vec<NewRow<'a>>,
    grant: Option<GrantId>,
}

/// A new task and its first place.
struct NewRow<'a> {
    task: &'a NewTask,
    lane: LaneId,
    session: Option<SessionId>,
}

impl NewRow<'_> {
    /// What the tasks of a bundle have in common; `None` if it has to wait for a time, or for nothing.
    fn bundle(&self) -> Option<(LaneId, i16)> {
        let ready = self.start_and_delay() == (None, None);
        (ready && self.session.is_none()).then_some((self.lane, -self.task.spec.priority))
    }

    /// When it may start, and after what delay; neither if at once.
    fn start_and_delay(&self) -> (Option<Timestamp>, Option<Interval>) {
        match self.task.start {
            Start::Now => (None, None),
            Start::At(time) => (Some(time), None),
            // Delays under a microsecond, the resolution of the database, count as none.
            Start::After(delay) => (None, Some(Interval(delay)).filter(|_| delay.as_micros() > 0)),
        }
    }
}

/// New tasks as the columns of one statement.
#[derive(Default)]
struct Columns<'a> {
    ids: Vec<TaskId>,
    lanes: Vec<LaneId>,
    ranks: Vec<i16>,
    payloads: Vec<JsonText<&'a str>>,
    max_attempts: Vec<i16>,
    starts: Sparse<Timestamp>,
    delays: Sparse<Interval>,
    titles: Sparse<&'a str>,
    options: Sparse<JsonText<String>>,
    sessions: Sparse<SessionId>,
    bundle_firsts: Vec<i32>,
    bundle_lasts: Vec<i32>,
}

/// A column that few rows fill: it ends with the last of them, and `unnest` fills up the rest for nothing.
struct Sparse<T>(Vec<Option<T>>);

impl<T> Default for Sparse<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Sparse<T> {
    /// Sets the value of a row; rows come in their order.
    fn set(&mut self, row: usize, value: Option<T>) {
        if value.is_some() {
            self.0.resize_with(row, || None);
            self.0.push(value);
        }
    }
}

/// A task that was stored before under an id that a client chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Existing {
    /// Its id.
    pub id: TaskId,
    /// True if it is the task that was submitted now.
    pub same: bool,
}

/// The payload of a stored task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredPayload<'a> {
    /// JSON text.
    Text(&'a str),
    /// Of a task that was deleted: the SHA-256 of the text, in hexadecimal digits.
    Sha256(&'a str),
}

/// What a deleted task leaves in place of its payload.
#[derive(Deserialize)]
struct Remains {
    lane: i32,
    sha256: String,
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

impl<'a> SubmitBatch<'a> {
    /// An empty batch whose tasks that do not have to wait are leased by this grant.
    pub fn granting(grant: GrantId) -> Self {
        Self {
            rows: Vec::new(),
            grant: Some(grant),
        }
    }

    /// Adds a task that may start at once and is leased to a session as it is stored.
    pub fn push_leased(&mut self, task: &'a NewTask, lane: LaneId, session: SessionId) {
        self.rows.push(NewRow {
            task,
            lane,
            session: Some(session),
        });
    }

    /// Adds a task.
    pub fn push(&mut self, task: &'a NewTask, lane: LaneId) {
        self.rows.push(NewRow {
            task,
            lane,
            session: None,
        });
    }

    /// How many tasks it holds.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True if it holds none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows in an order in which the tasks of a bundle follow each other by their ids. Only what was submitted
    /// decides the order, not who is free to take it: two replicas that store the same tasks at once lock their ids in
    /// one order.
    fn columns(&self) -> Columns<'a> {
        let mut rows: Vec<(Option<(LaneId, i16)>, &NewRow<'a>)> =
            self.rows.iter().map(|row| (row.bundle(), row)).collect();
        rows.sort_by_key(|(_, row)| {
            let is_later = row.task.start != Start::Now;
            (row.lane, row.task.spec.priority, is_later, row.task.id)
        });
        let mut columns = Columns::default();
        for (_, row) in &rows {
            columns.push(row);
        }
        let mut position = 0;
        for alike in rows.chunk_by(|(one, _), (other, _)| one == other) {
            let positions = position..position + alike.len();
            if alike.iter().any(|(bundle, _)| bundle.is_some()) {
                columns.bundle(positions.clone());
            }
            position = positions.end;
        }
        columns
    }
}

impl<'a> Columns<'a> {
    fn push(&mut self, new: &NewRow<'a>) {
        let NewRow { task, lane, session } = new;
        let row = self.ids.len();
        self.ids.push(task.id);
        self.lanes.push(*lane);
        self.ranks.push(-task.spec.priority);
        self.payloads.push(JsonText(&task.payload));
        self.max_attempts.push(task.spec.max_attempts);
        let (start, delay) = new.start_and_delay();
        self.starts.set(row, start);
        self.delays.set(row, delay);
        self.titles.set(row, task.spec.options.title.as_deref());
        self.options
            .set(row, option_columns(&task.spec.options).map(JsonText));
        self.sessions.set(row, *session);
    }

    /// Makes bundles of the tasks at these positions.
    fn bundle(&mut self, positions: Range<usize>) {
        // A batch is bounded far below; as SQL counts, from 1.
        let number = |position: usize| i32::try_from(position).unwrap_or(i32::MAX);
        for first in positions.clone().step_by(BUNDLE) {
            let end = positions.end.min(first + BUNDLE);
            self.bundle_firsts.push(number(first + 1));
            self.bundle_lasts.push(number(end));
        }
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
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
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
    /// Stores a batch, all or nothing; returns the time of the commit.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if an id is taken; see [`StoreError`] for the rest.
    pub async fn submit(&self, batch: &SubmitBatch<'_>) -> Result<Timestamp, StoreError> {
        let connection = self.submit_connection().await?;
        let statement = prepared(&connection, include_str!("sql/tasks/submit.sql")).await?;
        let columns = batch.columns();
        let row = connection
            .query_one(
                &statement,
                &[
                    &columns.ids,
                    &columns.lanes,
                    &columns.ranks,
                    &columns.payloads,
                    &columns.max_attempts,
                    &columns.starts.0,
                    &columns.delays.0,
                    &columns.titles.0,
                    &columns.options.0,
                    &columns.sessions.0,
                    &batch.grant,
                    &columns.bundle_firsts,
                    &columns.bundle_lasts,
                ],
            )
            .await?;
        Ok(row.try_get("committed_at")?)
    }

    /// Those of these tasks that are stored, each with what `is_same` says of its lane and its payload.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn existing_tasks(
        &self,
        ids: &[TaskId],
        is_same: impl Fn(TaskId, LaneId, StoredPayload<'_>) -> bool,
    ) -> Result<Vec<Existing>, StoreError> {
        let connection = self.submit_connection().await?;
        let statement = prepared(&connection, include_str!("sql/tasks/existing_tasks.sql")).await?;
        let parameters: [&(dyn ToSql + Sync); 1] = [&ids];
        // Row by row: the stored payloads may be a thousand times as large as those that came.
        let mut rows = pin!(connection.query_raw(&statement, parameters).await?);
        let mut existing = Vec::new();
        while let Some(row) = rows.try_next().await? {
            let (id, lane) = (row.try_get("id")?, row.try_get("lane")?);
            let payload: JsonText<String> = row.try_get("payload")?;
            let same = if lane == DELETED {
                let remains = serde_json::from_str(&payload.0);
                remains.is_ok_and(|Remains { lane, sha256 }| {
                    is_same(id, LaneId(lane), StoredPayload::Sha256(&sha256))
                })
            } else {
                is_same(id, lane, StoredPayload::Text(&payload.0))
            };
            existing.push(Existing { id, same });
        }
        Ok(existing)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::{
        name::{QueueName, TaskType},
        queue::QueueKey,
        task_spec::TaskSpec,
    };

    fn task(start: Start) -> NewTask {
        NewTask {
            id: TaskId(Uuid::now_v7()),
            spec: TaskSpec {
                task_type: TaskType::parse("t", "task_type").expect("a name"),
                queue: QueueKey::in_default(QueueName::parse("default", "queue").expect("a name")),
                priority: 0,
                max_attempts: 1,
                options: TaskOptions::default(),
            },
            payload: "{}".into(),
            start,
        }
    }

    #[test]
    fn who_is_free_to_take_tasks_does_not_change_the_order_in_which_they_are_stored() {
        let tasks = [
            (task(Start::Now), LaneId(2)),
            (task(Start::After(Duration::from_secs(1))), LaneId(1)),
            (task(Start::Now), LaneId(1)),
            (task(Start::Now), LaneId(1)),
        ];
        let orders = [None, Some(LaneId(1)), Some(LaneId(2))].map(|leased| {
            let mut batch = SubmitBatch::granting(GrantId(1));
            for (task, lane) in &tasks {
                if leased == Some(*lane) && task.start == Start::Now {
                    batch.push_leased(task, *lane, SessionId(Uuid::nil()));
                } else {
                    batch.push(task, *lane);
                }
            }
            batch.columns().ids
        });
        let [waiting, one, other] = orders;
        assert_eq!([&one, &other], [&waiting, &waiting]);
    }
}
