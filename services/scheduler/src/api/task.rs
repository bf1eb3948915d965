//! Tasks, runs, progress and events as the wire has them.

use jiff::Timestamp;
use prost::Message as _;
use prost_types::Struct;
use serde::{Deserialize, Serialize};
use tasklease_proto::{convert::timestamp_to_wire, json, v1};

use crate::{
    domain::{
        ids::TaskId,
        limits,
        new_task::{NewTask, Start},
        report::{EventKind, TaskError},
        state::TaskState,
        task::{ProgressRecord, RunRecord, Standing, TaskRecord},
        task_spec::TaskSpec,
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
    let result = match &mut record.standing {
        Standing::Succeeded { result, .. } => result.take(),
        _ => None,
    };
    let payload = record.payload.take();
    let mut task = v1::Task::from(record);
    let room = limits::MESSAGE_BYTES.saturating_sub(task.encoded_len());
    let exact = |text: &Option<String>, room: usize| {
        text.as_deref()
            .filter(|_| format == v1::PayloadFormat::Unspecified)
            .and_then(|text| json::exact_struct(text, room))
    };
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
    fn from(record: TaskRecord) -> Self {
        let TaskRecord {
            id,
            spec,
            payload: _,
            created_at,
            standing,
            last_run,
        } = record;
        let task = Self {
            create_time: Some(timestamp_to_wire(created_at)),
            schedule_time: standing.due_at().map(timestamp_to_wire),
            state: i32::from(standing.state() as i16),
            cancel_requested: standing.is_cancel_requested(),
            finish_time: standing.finished_at().map(timestamp_to_wire),
            cancel_reason: standing.cancel_reason().unwrap_or_default().to_owned(),
            ..asked_for(id, spec)
        };
        let Some(run) = last_run else { return task };
        Self {
            attempt: run.attempt,
            lease_token: i64::from(run.lease_token.0),
            worker: run.worker.unwrap_or_default(),
            start_time: run.started_at.map(timestamp_to_wire),
            progress: run.progress.map(progress),
            error: run.error.map(Into::into),
            ..task
        }
    }
}

/// What a submitter asked for; all that came of it is left out.
fn asked_for(id: TaskId, spec: TaskSpec) -> v1::Task {
    let TaskSpec {
        task_type,
        queue,
        priority,
        max_attempts,
        options,
    } = spec;
    let id_text = |id: Option<TaskId>| id.map(|id| id.to_string()).unwrap_or_default();
    v1::Task {
        id: id.to_string(),
        namespace: queue.namespace.to_string(),
        task_type: task_type.to_string(),
        queue: queue.name.to_string(),
        priority: i32::from(priority),
        title: options.title.unwrap_or_default(),
        description: options.description.unwrap_or_default(),
        owner: options.owner.unwrap_or_default(),
        labels: options.labels.into_iter().collect(),
        parent_id: id_text(options.parent),
        retry_of: id_text(options.retry_of),
        max_attempts: i32::from(max_attempts),
        ..Default::default()
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
        Self {
            task: asked_for(task.id, task.spec.clone()),
            start: task.start,
        }
    }

    /// The task as it stood at its commit.
    pub(super) fn at(mut self, commit: Timestamp) -> v1::Task {
        let start = match self.start {
            Start::Now => commit,
            Start::At(time) => time,
            Start::After(delay) => commit.saturating_add(delay).unwrap_or(Timestamp::MAX),
        };
        self.task.create_time = Some(timestamp_to_wire(commit));
        let state = if start > commit {
            self.task.schedule_time = Some(timestamp_to_wire(start));
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
            start_time: run.started_at.map(timestamp_to_wire),
            finish_time: run.finished_at.map(timestamp_to_wire),
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
                worker_time,
            } => Self::Progress(progress(ProgressRecord {
                percent,
                message,
                card,
                stored_at: stored.stored_at,
                worker_time,
            })),
            EventKind::Log {
                level,
                message,
                worker_time,
            } => Self::Log(v1::LogLine {
                level: v1::LogLevel::from_name(&level).into(),
                message,
                time: Some(timestamp_to_wire(stored.stored_at)),
                worker_time: worker_time.map(timestamp_to_wire),
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
        update_time: Some(timestamp_to_wire(record.stored_at)),
        worker_time: record.worker_time.map(timestamp_to_wire),
    }
}
