//! Typed calls that find a live replica and repeat what is safe to repeat.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use tasklease_proto::{
    limits,
    v1::{
        CancelTaskRequest, DeleteTaskRequest, GetQueueStatsRequest, GetQueueStatsResponse, GetTaskRequest,
        GetTaskResponse, ListQueuesRequest, ListTasksRequest, ListTasksResponse, ListWorkersRequest,
        PauseQueueRequest, PayloadFormat, Queue, ResumeQueueRequest, RetryTaskRequest, SubmitTaskRequest,
        SubmitTasksRequest, Task, TaskSpec, Worker, queue_service_client::QueueServiceClient,
        task_service_client::TaskServiceClient, worker_service_client::WorkerServiceClient,
    },
};
use tonic::{Code, Request, Response, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::{
    connector::{Connector, ReplicaConnection},
    endpoints::Endpoints,
    error::{ClientError, is_unanswered},
    retry::RetryPolicy,
    watch::{self, WatchStream},
};

/// The most entries that are read of a whole list.
const LONGEST_LIST: usize = 100_000;

/// Calls the scheduler; clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    connector: Connector,
    policy: RetryPolicy,
}

/// Whether a call may reach the scheduler twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// A repeated call changes nothing more.
    Safe,
    /// A repeated call may do the work twice, so it is repeated only if no connection was made.
    BeforeSending,
}

/// One attempt: the replica that it goes to, and how long it may take.
struct Attempt {
    channel: Channel,
    timeout: Duration,
}

impl Attempt {
    fn tasks(&self) -> TaskServiceClient<Channel> {
        TaskServiceClient::new(self.channel.clone())
            .max_decoding_message_size(limits::ACCEPTED_BYTES)
            .max_encoding_message_size(limits::ACCEPTED_BYTES)
    }

    fn queues(&self) -> QueueServiceClient<Channel> {
        QueueServiceClient::new(self.channel.clone())
            .max_decoding_message_size(limits::ACCEPTED_BYTES)
            .max_encoding_message_size(limits::ACCEPTED_BYTES)
    }

    fn workers(&self) -> WorkerServiceClient<Channel> {
        WorkerServiceClient::new(self.channel.clone())
            .max_decoding_message_size(limits::ACCEPTED_BYTES)
            .max_encoding_message_size(limits::ACCEPTED_BYTES)
    }

    fn request<T: Clone>(&self, message: &T) -> Request<T> {
        let mut request = Request::new(message.clone());
        request.set_timeout(self.timeout);
        request
    }
}

impl Client {
    /// A client for these replicas; connects at the first call.
    pub fn new(endpoints: Endpoints) -> Self {
        Self::with_connector(Connector::new(endpoints))
    }

    /// A client over connections that are shared with others.
    pub fn with_connector(connector: Connector) -> Self {
        Self {
            connector,
            policy: RetryPolicy::default(),
        }
    }

    /// The same client with another retry policy.
    #[must_use]
    pub fn with_policy(mut self, policy: RetryPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// The connections that this client uses.
    pub fn connector(&self) -> &Connector {
        &self.connector
    }

    /// Submits one task and returns it as stored; without an id, one is chosen here, so that the
    /// submit can be repeated without making a second task.
    ///
    /// # Errors
    /// The task breaks a rule, or no scheduler answered within the deadline.
    pub async fn submit(&self, task: TaskSpec) -> Result<Task, ClientError> {
        let send = async |task: TaskSpec, repeat| {
            let message = SubmitTaskRequest { task: Some(task) };
            self.call(repeat, async |a: Attempt| {
                a.tasks().submit_task(a.request(&message)).await
            })
            .await
        };
        let answer = match send(with_id(task.clone()), Repeat::Safe).await {
            // The clock of this machine is wrong: the scheduler chooses the id.
            Err(error) if task.task_id.is_empty() && refuses_an_id(&error) => {
                send(task, Repeat::BeforeSending).await?
            }
            answer => answer?,
        };
        answer.task.ok_or(ClientError::Incomplete {
            method: "SubmitTask",
            missing: "a task",
        })
    }

    /// Submits up to 1,000 tasks, all or none, and returns their ids in order.
    ///
    /// # Errors
    /// A task breaks a rule, or no scheduler answered within the deadline.
    pub async fn submit_batch(&self, tasks: Vec<TaskSpec>) -> Result<Vec<String>, ClientError> {
        let send = async |tasks: Vec<TaskSpec>, repeat| {
            let message = SubmitTasksRequest { tasks };
            self.call(repeat, async |a: Attempt| {
                a.tasks().submit_tasks(a.request(&message)).await
            })
            .await
        };
        let chosen = tasks.iter().cloned().map(with_id).collect();
        let answer = match send(chosen, Repeat::Safe).await {
            Err(error) if tasks.iter().all(|task| task.task_id.is_empty()) && refuses_an_id(&error) => {
                send(tasks, Repeat::BeforeSending).await?
            }
            answer => answer?,
        };
        Ok(answer.task_ids)
    }

    /// Reads one task and its ended runs; payload and result are JSON text, exactly as they are stored.
    ///
    /// # Errors
    /// The task does not exist, or no scheduler answered within the deadline.
    pub async fn get(&self, task_id: &str) -> Result<GetTaskResponse, ClientError> {
        let message = GetTaskRequest {
            task_id: task_id.to_owned(),
            payload_format: PayloadFormat::Json.into(),
        };
        self.call(Repeat::Safe, async |a: Attempt| {
            a.tasks().get_task(a.request(&message)).await
        })
        .await
    }

    /// Lists one page of tasks, newest first.
    ///
    /// # Errors
    /// A filter breaks a rule, or no scheduler answered within the deadline.
    pub async fn list(&self, message: ListTasksRequest) -> Result<ListTasksResponse, ClientError> {
        self.call(Repeat::Safe, async |a: Attempt| {
            a.tasks().list_tasks(a.request(&message)).await
        })
        .await
    }

    /// Follows a task from its beginning until it has ended, across replicas.
    pub fn watch(&self, task_id: impl Into<String>) -> WatchStream {
        self.watch_from(task_id, String::new())
    }

    /// Follows a task from a cursor that an earlier watch gave.
    pub fn watch_from(&self, task_id: impl Into<String>, cursor: impl Into<String>) -> WatchStream {
        watch::follow(self.connector.clone(), self.policy, task_id.into(), cursor.into())
    }

    /// Cancels a task.
    ///
    /// # Errors
    /// The task does not exist or ended otherwise before, or no scheduler answered.
    pub async fn cancel(&self, message: CancelTaskRequest) -> Result<Task, ClientError> {
        let answer = self
            .call(Repeat::Safe, async |a: Attempt| {
                a.tasks().cancel_task(a.request(&message)).await
            })
            .await?;
        answer.task.ok_or(ClientError::Incomplete {
            method: "CancelTask",
            missing: "a task",
        })
    }

    /// Submits a finished task again and returns the new task.
    ///
    /// The call is repeated only while no connection can be made, because a second call would make a
    /// second task.
    ///
    /// # Errors
    /// The task does not exist or may not be retried, or no scheduler answered.
    pub async fn retry(&self, task_id: &str) -> Result<Task, ClientError> {
        let message = RetryTaskRequest {
            task_id: task_id.to_owned(),
        };
        let answer = self
            .call(Repeat::BeforeSending, async |a: Attempt| {
                a.tasks().retry_task(a.request(&message)).await
            })
            .await?;
        answer.task.ok_or(ClientError::Incomplete {
            method: "RetryTask",
            missing: "a task",
        })
    }

    /// Removes a finished task.
    ///
    /// # Errors
    /// The task does not exist or is not finished, or no scheduler answered.
    pub async fn delete(&self, task_id: &str) -> Result<(), ClientError> {
        let message = DeleteTaskRequest {
            task_id: task_id.to_owned(),
        };
        let attempts = std::sync::atomic::AtomicU32::new(0);
        let answer = self
            .call(Repeat::Safe, async |a: Attempt| {
                let earlier = attempts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                match a.tasks().delete_task(a.request(&message)).await {
                    // An earlier attempt, whose answer was lost, has deleted the task.
                    Err(status) if earlier > 0 && status.code() == Code::NotFound => {
                        Ok(Response::new(tasklease_proto::v1::DeleteTaskResponse {}))
                    }
                    other => other,
                }
            })
            .await;
        answer.map(|_| ())
    }

    /// Lists all queues by name.
    ///
    /// # Errors
    /// No scheduler answered within the deadline.
    pub async fn queues(&self) -> Result<Vec<Queue>, ClientError> {
        let mut queues = Vec::new();
        let mut message = ListQueuesRequest {
            page_size: limits::PAGE,
            ..ListQueuesRequest::default()
        };
        loop {
            let page = self
                .call(Repeat::Safe, async |a: Attempt| {
                    a.queues().list_queues(a.request(&message)).await
                })
                .await?;
            queues.extend(page.queues);
            if page.next_page_token.is_empty() || queues.len() >= LONGEST_LIST {
                return Ok(queues);
            }
            message.page_token = page.next_page_token;
        }
    }

    /// Counts the tasks of one queue, or of all if `queue` is empty.
    ///
    /// # Errors
    /// No scheduler answered within the deadline.
    pub async fn stats(&self, queue: &str) -> Result<GetQueueStatsResponse, ClientError> {
        let message = GetQueueStatsRequest {
            queue: queue.to_owned(),
        };
        self.call(Repeat::Safe, async |a: Attempt| {
            a.queues().get_queue_stats(a.request(&message)).await
        })
        .await
    }

    /// Stops handing out a queue's tasks.
    ///
    /// # Errors
    /// The name breaks a rule, or no scheduler answered within the deadline.
    pub async fn pause(&self, queue: &str) -> Result<Queue, ClientError> {
        let message = PauseQueueRequest {
            queue: queue.to_owned(),
        };
        let answer = self
            .call(Repeat::Safe, async |a: Attempt| {
                a.queues().pause_queue(a.request(&message)).await
            })
            .await?;
        answer.queue.ok_or(ClientError::Incomplete {
            method: "PauseQueue",
            missing: "a queue",
        })
    }

    /// Hands out a paused queue's tasks again.
    ///
    /// # Errors
    /// The queue does not exist, or no scheduler answered within the deadline.
    pub async fn resume(&self, queue: &str) -> Result<Queue, ClientError> {
        let message = ResumeQueueRequest {
            queue: queue.to_owned(),
        };
        let answer = self
            .call(Repeat::Safe, async |a: Attempt| {
                a.queues().resume_queue(a.request(&message)).await
            })
            .await?;
        answer.queue.ok_or(ClientError::Incomplete {
            method: "ResumeQueue",
            missing: "a queue",
        })
    }

    /// Lists all live workers by session.
    ///
    /// # Errors
    /// No scheduler answered within the deadline.
    pub async fn workers(&self) -> Result<Vec<Worker>, ClientError> {
        let mut workers = Vec::new();
        let mut message = ListWorkersRequest {
            page_size: limits::PAGE,
            ..ListWorkersRequest::default()
        };
        loop {
            let page = self
                .call(Repeat::Safe, async |a: Attempt| {
                    a.workers().list_workers(a.request(&message)).await
                })
                .await?;
            workers.extend(page.workers);
            if page.next_page_token.is_empty() || workers.len() >= LONGEST_LIST {
                return Ok(workers);
            }
            message.page_token = page.next_page_token;
        }
    }

    async fn call<T, F, Fut>(&self, repeat: Repeat, send: F) -> Result<T, ClientError>
    where
        F: Fn(Attempt) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = Instant::now() + self.policy.deadline;
        let mut last: Option<ReplicaConnection> = None;
        let mut failures = 0;
        loop {
            let (error, replica) = match self.attempt(repeat, deadline, last.as_ref(), &send).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let sent = replica.is_some();
            if !error.is_unreachable() || (sent && repeat == Repeat::BeforeSending) {
                return Err(error);
            }
            failures += 1;
            // Another replica is asked at once; the back-off begins when all have been asked.
            let fail_over = sent && failures == 1 && self.connector.endpoints().addresses().len() > 1;
            last = replica.or(last);
            let wait = if fail_over {
                Duration::ZERO
            } else {
                self.pause_after(&error, failures)
            };
            if Instant::now() + wait >= deadline {
                return Err(error);
            }
            tracing::debug!(%error, failures, wait_ms = wait.as_millis(), "calling again");
            tokio::time::sleep(wait).await;
        }
    }

    /// Makes one attempt; an error comes with the replica that it was sent to.
    async fn attempt<T, F, Fut>(
        &self,
        repeat: Repeat,
        deadline: Instant,
        last: Option<&ReplicaConnection>,
        send: &F,
    ) -> Result<T, (ClientError, Option<ReplicaConnection>)>
    where
        F: Fn(Attempt) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let remaining = || deadline.saturating_duration_since(Instant::now());
        let choosing = async {
            match last {
                Some(last) => self.connector.pick_other(last).await,
                None => self.connector.pick().await,
            }
        };
        let picked = match tokio::time::timeout(remaining(), choosing).await {
            Ok(Ok(picked)) => picked,
            Ok(Err(error)) => return Err((error.into(), None)),
            Err(_) => return Err((ClientError::Deadline(self.policy.deadline), None)),
        };
        let timeout = match repeat {
            Repeat::Safe => remaining().min(self.policy.attempt_timeout),
            Repeat::BeforeSending => remaining(),
        };
        let attempt = Attempt {
            channel: picked.channel(),
            timeout,
        };
        let error = match tokio::time::timeout(timeout, send(attempt)).await {
            Ok(Ok(answer)) => {
                self.connector.succeeded(&picked);
                return Ok(answer.into_inner());
            }
            Ok(Err(status)) if is_local_timeout(&status) => ClientError::Deadline(self.policy.deadline),
            Ok(Err(status)) if !is_unanswered(&status) => {
                self.connector.succeeded(&picked);
                return Err((status.into(), Some(picked)));
            }
            Ok(Err(status)) => status.into(),
            Err(_) => ClientError::Deadline(self.policy.deadline),
        };
        self.connector.failed(&picked);
        Err((error, Some(picked)))
    }

    /// The longer of the back-off and the delay that the scheduler asks for.
    fn pause_after(&self, error: &ClientError, failures: u32) -> Duration {
        let asked = error
            .status()
            .and_then(|status| status.get_details_retry_info()?.retry_delay);
        let backoff = self.policy.backoff.delay(failures, rand::random());
        asked.map_or(backoff, |asked| asked.max(backoff))
    }
}

/// tonic ends a call whose own timeout passed with CANCELLED and the timeout as its source.
fn is_local_timeout(status: &Status) -> bool {
    status.code() == Code::Cancelled && std::error::Error::source(status).is_some()
}

/// True if a scheduler finds the time inside an id too far from its own.
fn refuses_an_id(error: &ClientError) -> bool {
    let violations = error
        .status()
        .and_then(|status| status.get_details_bad_request())
        .map(|request| request.field_violations)
        .unwrap_or_default();
    violations
        .iter()
        .any(|violation| violation.field.ends_with("task_id"))
}

fn with_id(mut task: TaskSpec) -> TaskSpec {
    if task.task_id.is_empty() {
        task.task_id = uuid::Uuid::now_v7().to_string();
    }
    task
}
