//! Short words for what most tests do with tasks.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::Value;
use tasklease_client::Client;
use tasklease_proto::{
    convert::duration_to_wire,
    json::struct_from_json,
    v1::{
        self, CancelTaskRequest, GetTaskResponse, Outcome, Task, TaskSpec, TaskState, report::Body,
        task_spec::Input, watch_task_response::Update,
    },
};
use uuid::Uuid;

use crate::patience::in_time;

/// A task of this type, with defaults everywhere else.
pub fn spec(task_type: &str) -> TaskSpec {
    TaskSpec {
        task_type: task_type.to_owned(),
        ..TaskSpec::default()
    }
}

/// A task of this type with this input.
pub fn with_payload(task_type: &str, payload: &Value) -> TaskSpec {
    TaskSpec {
        input: Some(Input::PayloadJson(payload.to_string().into())),
        ..spec(task_type)
    }
}

/// JSON as the wire's struct.
///
/// # Panics
/// If it is no object.
pub fn to_struct(value: &Value) -> prost_types::Struct {
    struct_from_json(&value.to_string()).expect("an object")
}

/// An id that a client may choose.
pub fn new_task_id() -> String {
    Uuid::now_v7().to_string()
}

/// A duration of so many milliseconds, for the wire.
pub fn millis(number: u64) -> Option<prost_types::Duration> {
    Some(duration_to_wire(Duration::from_millis(number)))
}

/// Asks to cancel a task, with this grace period if it runs.
pub fn cancel_request(task_id: &str, grace: Duration) -> CancelTaskRequest {
    CancelTaskRequest {
        task_id: task_id.to_owned(),
        reason: "enough".to_owned(),
        grace: Some(duration_to_wire(grace)),
    }
}

/// The body that the code returned this object.
pub fn succeeded(result: &Value) -> Body {
    Body::Succeeded(v1::Succeeded {
        output: Some(v1::succeeded::Output::ResultJson(result.to_string().into())),
    })
}

/// The body that the code failed, and may be tried again.
pub fn failed(kind: &str) -> Body {
    Body::Failed(v1::Failed {
        error: Some(v1::TaskError {
            kind: kind.to_owned(),
            message: "it did not work".to_owned(),
            detail: String::new(),
        }),
        ..v1::Failed::default()
    })
}

/// The body that the code stopped because it was told to.
pub fn cancelled() -> Body {
    Body::Cancelled(v1::Cancelled::default())
}

/// Waits until a task has ended, and reads it with its runs.
///
/// # Panics
/// If it does not end in time.
pub async fn ended(client: &Client, task_id: &str) -> GetTaskResponse {
    reached(client, task_id, |task| {
        matches!(
            task.state(),
            TaskState::Succeeded | TaskState::Failed | TaskState::Cancelled
        )
    })
    .await;
    client.get(task_id).await.expect("the task")
}

/// Follows a task until it is as wanted, and gives it as it was then.
///
/// # Panics
/// If it ends otherwise, or does not get there in time.
pub async fn reached(client: &Client, task_id: &str, is_wanted: impl Fn(&Task) -> bool) -> Task {
    let mut updates = client.watch(task_id);
    let looking = async {
        while let Some(update) = updates.next().await {
            match update.expect("an update").update {
                Some(Update::Snapshot(task) | Update::Changed(task)) if is_wanted(&task) => return task,
                Some(Update::Ended(task)) => {
                    assert!(is_wanted(&task), "the task ended otherwise: {task:?}");
                    return task;
                }
                _ => {}
            }
        }
        panic!("the watch of {task_id} ended before the task did");
    };
    in_time(&format!("task {task_id}"), looking).await
}

/// A task's state now.
///
/// # Panics
/// If there is no such task.
pub async fn state_of(client: &Client, task_id: &str) -> TaskState {
    let answer = client.get(task_id).await.expect("the task");
    answer.task.expect("a task").state()
}

/// The outcomes of a task's ended runs, oldest first.
pub fn outcomes(answer: &GetTaskResponse) -> Vec<Outcome> {
    answer.runs.iter().map(v1::Run::outcome).collect()
}

/// The attempt numbers of a task's ended runs, oldest first.
pub fn attempts(answer: &GetTaskResponse) -> Vec<i32> {
    answer.runs.iter().map(|run| run.attempt).collect()
}

/// A finished task's result.
///
/// # Panics
/// If it has none.
pub fn result_of(answer: &GetTaskResponse) -> Value {
    let task = answer.task.as_ref().expect("a task");
    serde_json::from_slice(&task.result_json).expect("a result")
}
