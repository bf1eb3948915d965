//! Tasks, runs, progress and events as the wire has them.

use bytes::Bytes;
use prost::Message as _;
use prost_types::Struct;
use serde::{Deserialize, Serialize};
use tasklease_proto::{convert::timestamp_from_micros, json, v1};

use crate::{
    domain::{
        ids::TaskId,
        limits,
        name::DEFAULT_NAMESPACE,
        new_task::{NewTask, Start},
        report::{EventKind, TaskError},
        state::TaskState,
        task::{ProgressRecord, RunRecord, TaskRecord},
    },
    store::StoredEvent,
};

/// What the database keeps of a progress card; empty parts are left out.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Card {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) heading: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) body: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) image: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Turns what a caller asked for into a format; numbers of a later version mean the default.
pub(super) fn payload_format(number: i32) -> v1::PayloadFormat {
    v1::PayloadFormat::try_from(number).unwrap_or_default()
}

/// A task with its payload and result: as the caller wants them, or as JSON text if a `Struct` would say something else
/// or be too large.
pub(super) fn with_payload(mut record: TaskRecord, format: v1::PayloadFormat) -> v1::Task {
    let texts = (record.payload.take(), record.result.take());
    let mut task = v1::Task::from(record);
    let room = limits::MESSAGE_BYTES.saturating_sub(task.encoded_len());
    let exact = |text: &Option<String>, room: usize| {
        text.as_deref()
            .filter(|_| format == v1::PayloadFormat::Unspecified)
            .and_then(|text| json::exact_struct(text, room))
    };
    let (payload, result) = texts;
    let result_bytes = result.as_ref().map_or(0, String::len);
    task.payload = exact(&payload, room.saturating_sub(result_bytes));
    if task.payload.is_none() {
        task.payload_json = payload.map(Into::into).unwrap_or_default();
    }
    let payload_bytes = task.payload_json.len() + task.payload.as_ref().map_or(0, Struct::encoded_len);
    task.result = exact(&result, room.saturating_sub(payload_bytes));
    if task.result.is_none() {
        task.result_json = result.map(Into::into).unwrap_or_default();
    }
    task
}

/// As many runs as fit beside their task, oldest first: older ones lose the detail of their error before they are left
/// out.
pub(super) fn runs_beside(task: &v1::Task, runs: Vec<RunRecord>) -> Vec<v1::Run> {
    let mut room = limits::MESSAGE_BYTES.saturating_sub(task.encoded_len());
    let mut fitting = Vec::with_capacity(runs.len());
    for record in runs.into_iter().rev() {
        let mut run = v1::Run::from(record);
        if run.encoded_len() + FIELD_BYTES > room
            && let Some(error) = &mut run.error
        {
            error.detail.clear();
        }
        let Some(rest) = room.checked_sub(run.encoded_len() + FIELD_BYTES) else {
            break;
        };
        room = rest;
        fitting.push(run);
    }
    fitting.reverse();
    fitting
}

/// Bytes of the field that holds a message in a list, beside the message.
pub(super) const FIELD_BYTES: usize = 6;

impl From<TaskRecord> for v1::Task {
    /// Without payload and result.
    fn from(task: TaskRecord) -> Self {
        Self {
            id: task.id.to_string(),
            namespace: task.namespace,
            task_type: task.task_type,
            queue: task.queue,
            payload: None,
            priority: task.priority,
            title: task.title.unwrap_or_default(),
            description: task.description.unwrap_or_default(),
            owner: task.owner.unwrap_or_default(),
            labels: task
                .labels
                .and_then(|labels| serde_json::from_str(&labels).ok())
                .unwrap_or_default(),
            parent_id: task.parent.map(|id| id.to_string()).unwrap_or_default(),
            retry_of: task.retry_of.map(|id| id.to_string()).unwrap_or_default(),
            max_attempts: task.max_attempts,
            create_time: Some(timestamp_from_micros(task.created_us)),
            schedule_time: task.due_us.map(timestamp_from_micros),
            state: i32::from(task.state as i16),
            attempt: task.attempt,
            lease_token: i64::from(task.lease_token.0),
            cancel_requested: task.cancel_requested,
            worker: task.worker.unwrap_or_default(),
            start_time: task.started_us.map(timestamp_from_micros),
            finish_time: task.finished_us.map(timestamp_from_micros),
            progress: task.progress.map(progress),
            result: None,
            error: task.error.map(Into::into),
            payload_json: Bytes::new(),
            result_json: Bytes::new(),
            cancel_reason: task.cancel_reason.unwrap_or_default(),
        }
    }
}

/// A new task as its submitter sees it, known without asking the database.
pub(super) struct JustStored {
    task: v1::Task,
    start: Start,
}

impl JustStored {
    /// All but the times.
    pub(super) fn new(task: &NewTask) -> Self {
        let options = &task.options;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let id = |id: Option<TaskId>| id.map(|id| id.to_string()).unwrap_or_default();
        let task_message = v1::Task {
            id: task.id.to_string(),
            namespace: DEFAULT_NAMESPACE.to_owned(),
            task_type: task.task_type.to_string(),
            queue: task.queue.to_string(),
            priority: i32::from(task.priority),
            title: text(&options.title),
            description: text(&options.description),
            owner: text(&options.owner),
            labels: options.labels.clone().into_iter().collect(),
            parent_id: id(options.parent),
            retry_of: id(options.retry_of),
            max_attempts: i32::from(task.max_attempts),
            ..Default::default()
        };
        Self {
            task: task_message,
            start: task.start,
        }
    }

    /// The task as it stood at its commit, microseconds since 1970.
    pub(super) fn at(mut self, commit_us: i64) -> v1::Task {
        let start_us = match self.start {
            Start::Now => commit_us,
            Start::At(us) => us,
            Start::After(delay) => {
                commit_us.saturating_add(i64::try_from(delay.as_micros()).unwrap_or(i64::MAX))
            }
        };
        self.task.create_time = Some(timestamp_from_micros(commit_us));
        let state = if start_us > commit_us {
            self.task.schedule_time = Some(timestamp_from_micros(start_us));
            TaskState::Scheduled
        } else {
            TaskState::Pending
        };
        self.task.state = i32::from(state as i16);
        self.task
    }
}

impl From<TaskError> for v1::TaskError {
    fn from(error: TaskError) -> Self {
        Self {
            kind: error.kind,
            message: error.message,
            detail: error.detail,
        }
    }
}

impl From<RunRecord> for v1::Run {
    fn from(run: RunRecord) -> Self {
        Self {
            lease_token: i64::from(run.lease_token.0),
            attempt: run.attempt,
            outcome: i32::from(run.outcome as i16),
            worker: run.worker.unwrap_or_default(),
            start_time: run.started_us.map(timestamp_from_micros),
            finish_time: run.finished_us.map(timestamp_from_micros),
            error: run.error.map(Into::into),
            cancel_reason: run.cancel_reason.unwrap_or_default(),
        }
    }
}

impl From<StoredEvent> for v1::watch_task_response::Update {
    fn from(stored: StoredEvent) -> Self {
        match stored.event.kind {
            EventKind::Progress {
                percent,
                message,
                card,
                worker_us,
            } => Self::Progress(progress(ProgressRecord {
                percent,
                message,
                card,
                at_us: stored.at_us,
                worker_us,
            })),
            EventKind::Log {
                level,
                message,
                worker_us,
            } => Self::Log(v1::LogLine {
                level: v1::LogLevel::from_name(&level).into(),
                message,
                time: Some(timestamp_from_micros(stored.at_us)),
                worker_time: worker_us.map(timestamp_from_micros),
            }),
        }
    }
}

fn progress(record: ProgressRecord) -> v1::Progress {
    let card: Card = record
        .card
        .and_then(|card| serde_json::from_str(&card).ok())
        .unwrap_or_default();
    v1::Progress {
        percent: record.percent,
        message: record.message,
        heading: card.heading,
        body: card.body,
        image: card.image,
        detail: card.detail.map(json::struct_from_map),
        update_time: Some(timestamp_from_micros(record.at_us)),
        worker_time: record.worker_us.map(timestamp_from_micros),
    }
}
