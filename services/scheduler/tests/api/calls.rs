//! Calls that most tests make, and what they read from errors.

use std::collections::HashMap;

use tasklease_proto::v1;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::scheduler::Scheduler;

/// A spec of type `t` in the default queue.
pub(crate) fn spec() -> v1::TaskSpec {
    v1::TaskSpec {
        task_type: "t".into(),
        ..Default::default()
    }
}

pub(crate) async fn submit(scheduler: &Scheduler, spec: v1::TaskSpec) -> v1::Task {
    let request = v1::SubmitTaskRequest { task: Some(spec) };
    let response = scheduler.tasks().submit_task(request).await.unwrap();
    response.into_inner().task.unwrap()
}

/// Submits a task of type `t`, and returns its id.
pub(crate) async fn submit_one(scheduler: &Scheduler) -> String {
    submit(scheduler, spec()).await.id
}

pub(crate) async fn get(scheduler: &Scheduler, id: &str) -> v1::GetTaskResponse {
    let request = v1::GetTaskRequest {
        task_id: id.into(),
        ..Default::default()
    };
    scheduler.tasks().get_task(request).await.unwrap().into_inner()
}

pub(crate) async fn state(scheduler: &Scheduler, id: &str) -> v1::TaskState {
    get(scheduler, id).await.task.unwrap().state()
}

pub(crate) async fn cancel(scheduler: &Scheduler, id: &str) -> Result<v1::Task, Status> {
    let request = v1::CancelTaskRequest {
        task_id: id.into(),
        reason: "enough".into(),
        grace: None,
    };
    let response = scheduler.tasks().cancel_task(request).await?;
    Ok(response.into_inner().task.unwrap())
}

pub(crate) fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// Checks code and reason of a refusal, and returns the metadata of its ErrorInfo.
#[track_caller]
pub(crate) fn refused<T>(answer: Result<T, Status>, code: Code, reason: &str) -> HashMap<String, String> {
    let Err(status) = answer else {
        panic!("must be refused with {reason}");
    };
    let info = status
        .get_details_error_info()
        .unwrap_or_else(|| panic!("an ErrorInfo in {status:?}"));
    assert_eq!(
        (status.code(), info.reason.as_str(), info.domain.as_str()),
        (code, reason, "tasklease"),
        "{status:?}"
    );
    info.metadata
}

/// Checks that a call was refused as invalid, and returns the fields that broke a rule.
#[track_caller]
pub(crate) fn invalid<T>(answer: Result<T, Status>) -> Vec<String> {
    let Err(status) = answer else {
        panic!("must be refused");
    };
    let fields = status
        .get_details_bad_request()
        .unwrap_or_else(|| panic!("a BadRequest in {status:?}"))
        .field_violations
        .into_iter()
        .map(|violation| violation.field)
        .collect();
    refused::<T>(Err(status), Code::InvalidArgument, "INVALID_REQUEST");
    fields
}
