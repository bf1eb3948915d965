//! TaskService: submitting, reading and steering tasks.

use std::{collections::HashSet, time::Duration};

use jiff::Timestamp;
use tasklease_proto::v1::{self, task_service_server::TaskService};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{
    Api, list,
    spec::{self, SpecRules},
    task::{self, JustStored},
    violations::{Violations, checked},
    watch::{self, WatchStream},
};
use crate::{
    domain::{
        error::{Error, Violation},
        ids::TaskId,
        limits, name,
        new_task::NewTask,
        task::TaskRecord,
    },
    engine::Stored,
    store::Detail,
};

#[tonic::async_trait]
impl TaskService for Api {
    type WatchTaskStream = WatchStream;

    async fn submit_task(
        &self,
        request: Request<v1::SubmitTaskRequest>,
    ) -> Result<Response<v1::SubmitTaskResponse>, Status> {
        let spec = request
            .into_inner()
            .task
            .ok_or_else(|| Error::invalid("task", "must be set"))?;
        let task = spec::check(spec, self.rules()).map_err(|broken| Error::from(broken.within("task")))?;
        let task = self.submit_one(task).await?;
        Ok(Response::new(v1::SubmitTaskResponse { task: Some(task) }))
    }

    async fn submit_tasks(
        &self,
        request: Request<v1::SubmitTasksRequest>,
    ) -> Result<Response<v1::SubmitTasksResponse>, Status> {
        let tasks = check_batch(request.into_inner().tasks, self.rules())?;
        let task_ids = tasks.iter().map(|task| task.id.to_string()).collect();
        self.engine.submit(tasks).await?;
        Ok(Response::new(v1::SubmitTasksResponse { task_ids }))
    }

    async fn get_task(
        &self,
        request: Request<v1::GetTaskRequest>,
    ) -> Result<Response<v1::GetTaskResponse>, Status> {
        let request = request.into_inner();
        let id = task_id(&request.task_id)?;
        let record = self.read(id, Detail::Full).await?;
        let runs = self
            .engine
            .db()
            .read_runs(id, limits::RUNS)
            .await
            .map_err(Error::from)?;
        let task = task::with_payload(record, task::payload_format(request.payload_format));
        Ok(Response::new(v1::GetTaskResponse {
            runs: task::runs_beside(&task, runs),
            task: Some(task),
        }))
    }

    async fn list_tasks(
        &self,
        request: Request<v1::ListTasksRequest>,
    ) -> Result<Response<v1::ListTasksResponse>, Status> {
        Ok(Response::new(
            list::page(self.engine.db(), request.into_inner()).await?,
        ))
    }

    async fn watch_task(
        &self,
        request: Request<v1::WatchTaskRequest>,
    ) -> Result<Response<Self::WatchTaskStream>, Status> {
        let request = request.into_inner();
        Ok(Response::new(
            watch::open(self, task_id(&request.task_id)?, &request).await?,
        ))
    }

    async fn cancel_task(
        &self,
        request: Request<v1::CancelTaskRequest>,
    ) -> Result<Response<v1::CancelTaskResponse>, Status> {
        let request = request.into_inner();
        let cancel = checked!(Cancel {
            id: spec::parse_id(&request.task_id, "task_id"),
            reason: name::text(request.reason, limits::MESSAGE_CHARS, "reason"),
            grace: grace(request.grace.as_ref()),
        })
        .map_err(Error::from)?;
        let task = self
            .engine
            .cancel(cancel.id, &cancel.reason, cancel.grace)
            .await?;
        Ok(Response::new(v1::CancelTaskResponse {
            task: Some(task.into()),
        }))
    }

    async fn retry_task(
        &self,
        request: Request<v1::RetryTaskRequest>,
    ) -> Result<Response<v1::RetryTaskResponse>, Status> {
        let id = task_id(&request.into_inner().task_id)?;
        let old = self.read(id, Detail::Full).await?;
        let again = NewTask::repeating(old, TaskId(Uuid::now_v7()))?;
        let task = self.submit_one(again).await?;
        Ok(Response::new(v1::RetryTaskResponse { task: Some(task) }))
    }

    async fn delete_task(
        &self,
        request: Request<v1::DeleteTaskRequest>,
    ) -> Result<Response<v1::DeleteTaskResponse>, Status> {
        let id = task_id(&request.into_inner().task_id)?;
        if !self.engine.delete(id).await? {
            let state = self.read(id, Detail::Summary).await?.standing.state();
            return Err(Error::WrongState {
                task: id,
                state,
                needs: "only a finished task can be deleted",
            }
            .into());
        }
        Ok(Response::new(v1::DeleteTaskResponse {}))
    }
}

impl Api {
    fn rules(&self) -> SpecRules {
        SpecRules {
            payload_bytes: self.limits.payload_bytes,
            now: Timestamp::now(),
        }
    }

    /// Stores one task and says how it stands, without asking the database again if it is new.
    async fn submit_one(&self, task: NewTask) -> Result<v1::Task, Error> {
        let (id, just_stored) = (task.id, JustStored::new(&task));
        match self.engine.submit(vec![task]).await? {
            Stored::Created(commit) => Ok(just_stored.at(commit)),
            Stored::AlreadyStored => match self.engine.db().read_task(id, Detail::Summary).await? {
                Some(task) => Ok(task.into()),
                None => Err(Error::TaskDeleted(id)),
            },
        }
    }

    async fn read(&self, id: TaskId, detail: Detail) -> Result<TaskRecord, Error> {
        self.engine
            .db()
            .read_task(id, detail)
            .await?
            .ok_or(Error::TaskNotFound(id))
    }
}

fn task_id(text: &str) -> Result<TaskId, Error> {
    spec::parse_id(text, "task_id").map_err(Error::from)
}

/// A valid request to cancel a task.
struct Cancel {
    id: TaskId,
    reason: String,
    grace: Duration,
}

fn grace(wire: Option<&prost_types::Duration>) -> Result<Duration, Violation> {
    let grace = spec::wait(wire, "grace")?.unwrap_or(limits::DEFAULT_GRACE);
    if grace > limits::LONGEST_GRACE {
        let hours = limits::LONGEST_GRACE.as_secs() / 3_600;
        return Err(Violation::new("grace", format!("must be at most {hours} h")));
    }
    Ok(grace)
}

fn check_batch(specs: Vec<v1::TaskSpec>, rules: SpecRules) -> Result<Vec<NewTask>, Error> {
    if specs.is_empty() || specs.len() > limits::BATCH_TASKS {
        let problem = format!(
            "must contain 1 to {} tasks, got {}",
            limits::BATCH_TASKS,
            specs.len()
        );
        return Err(Error::invalid("tasks", problem));
    }
    let mut tasks = Vec::with_capacity(specs.len());
    let mut violations = Violations::default();
    let mut ids = HashSet::with_capacity(specs.len());
    for (index, spec) in specs.into_iter().enumerate() {
        let parent = format!("tasks[{index}]");
        let task = spec::check(spec, rules).and_then(|task| {
            if ids.insert(task.id) {
                Ok(task)
            } else {
                Err(Violation::new("task_id", "is used twice in this request").into())
            }
        });
        tasks.extend(violations.keep(task.map_err(|broken| broken.within(&parent))));
    }
    Ok(violations.finish(Some(tasks))?)
}
