//! Tasks, runs, progress and events as the wire has them.

use prost_types::Struct;
use serde::{Deserialize, Serialize};
use tasklease_proto::{convert::timestamp_from_micros, json, v1};

use crate::{
    domain::{
        report::{EventKind, TaskError},
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

impl From<TaskRecord> for v1::Task {
    fn from(task: TaskRecord) -> Self {
        Self {
            id: task.id.to_string(),
            namespace: task.namespace,
            task_type: task.task_type,
            queue: task.queue,
            payload: task.payload.as_deref().and_then(object),
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
            lease_token: i64::from(task.lease_no.0),
            cancel_requested: task.cancel_requested,
            worker: task.worker.unwrap_or_default(),
            start_time: task.started_us.map(timestamp_from_micros),
            finish_time: task.finished_us.map(timestamp_from_micros),
            progress: task.progress.map(progress),
            result: task.result.as_deref().and_then(object),
            error: task.error.map(Into::into),
        }
    }
}

impl From<TaskError> for v1::TaskError {
    fn from(error: TaskError) -> Self {
        Self {
            r#type: error.kind,
            message: error.message,
            detail: error.detail,
        }
    }
}

impl From<RunRecord> for v1::Run {
    fn from(run: RunRecord) -> Self {
        Self {
            lease_token: i64::from(run.lease_no.0),
            attempt: run.attempt,
            outcome: i32::from(run.outcome as i16),
            worker: run.worker.unwrap_or_default(),
            start_time: run.started_us.map(timestamp_from_micros),
            finish_time: run.finished_us.map(timestamp_from_micros),
            error: run.error.map(Into::into),
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
            } => Self::Progress(progress(ProgressRecord {
                percent,
                message,
                card,
                at_us: stored.at_us,
            })),
            EventKind::Log { level, message } => Self::Log(v1::LogLine {
                level,
                message,
                time: Some(timestamp_from_micros(stored.at_us)),
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
    }
}

/// Stored objects were checked when they came in.
fn object(text: &str) -> Option<Struct> {
    json::struct_from_json(text).ok()
}
