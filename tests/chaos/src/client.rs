//! Clients: they submit, read, cancel and watch as the plan says, and take down every call and answer.

use std::{net::SocketAddr, time::Duration};

use tasklease_proto::{
    convert::duration_to_wire,
    v1::{
        CancelTaskRequest, DeleteTaskRequest, GetTaskRequest, RetryPolicy, SubmitTaskRequest,
        SubmitTasksRequest, Task, TaskSpec, TaskState, WatchTaskRequest,
        task_service_client::TaskServiceClient,
        task_spec::{Input, Start},
        watch_task_response::Update,
    },
};
use tokio::sync::watch;
use tonic::{
    Code, Request as Message, Status,
    transport::{Channel, Endpoint},
};

use crate::{
    history::{Answer, Event, Request, State, Submitted},
    plan::PlannedTask,
    random::Random,
    recorder::Recorder,
};

/// How long a call may take.
const DEADLINE: Duration = Duration::from_secs(4);

/// How long a call with many new names may take.
const LONG_DEADLINE: Duration = Duration::from_secs(20);

/// How many queues are invented beside as many task types as there are tasks.
const INVENTED_QUEUES: usize = 20;

/// What waits before a call is repeated.
const AGAIN: Duration = Duration::from_millis(200);

/// How long a cancelled task's code may take to stop.
const GRACE: Duration = Duration::from_secs(2);

/// Messages are bounded far above what the tests need.
const MESSAGE_BYTES: usize = 64 << 20;

/// Clients of all replicas; cheap to clone.
#[derive(Clone)]
pub struct Clients {
    recorder: Recorder,
    channels: Vec<Channel>,
    random: Random,
    settled: watch::Receiver<bool>,
    closing: watch::Receiver<bool>,
}

impl Clients {
    /// Clients that reach the replicas at these addresses, until `closing`. Once all is `settled`, a task that is not
    /// there does not come any more.
    ///
    /// # Errors
    /// An address cannot be used.
    pub fn new(
        recorder: Recorder,
        addresses: &[SocketAddr],
        random: Random,
        settled: watch::Receiver<bool>,
        closing: watch::Receiver<bool>,
    ) -> anyhow::Result<Self> {
        let mut channels = Vec::new();
        for address in addresses {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
            let endpoint = endpoint
                .connect_timeout(Duration::from_secs(1))
                .http2_keep_alive_interval(Duration::from_secs(1))
                .keep_alive_timeout(Duration::from_secs(2));
            channels.push(endpoint.connect_lazy());
        }
        Ok(Self {
            recorder,
            channels,
            random,
            settled,
            closing,
        })
    }

    /// The same clients with other random numbers.
    #[must_use]
    pub fn fork(&self, part: u64) -> Self {
        Self {
            random: self.random.fork(part),
            ..self.clone()
        }
    }

    /// The generated client of any replica.
    pub fn any(&mut self) -> TaskServiceClient<Channel> {
        let replica = self.random.index(self.channels.len());
        self.one(replica)
    }

    /// The generated client of one replica.
    ///
    /// # Panics
    /// Never: numbers beyond the last replica begin anew.
    pub fn one(&self, replica: usize) -> TaskServiceClient<Channel> {
        let channel = self.channels[replica % self.channels.len()].clone();
        TaskServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES)
    }

    /// Submits tasks in one call, again and again if the plan says so.
    pub async fn submit(&mut self, tasks: &[PlannedTask]) {
        let insists = tasks.iter().any(|task| task.insists);
        loop {
            let client = self.any();
            let answer = submit_once(&self.recorder, client, tasks).await;
            if answer == Answer::Stored || !insists || *self.closing.borrow() {
                return;
            }
            if let Answer::Refused { status } = &answer
                && !status.starts_with("ResourceExhausted")
            {
                eprintln!("a submit was refused for good: {status}");
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Reads a task once.
    pub async fn read(&mut self, task: &str) -> Answer {
        let mut client = self.any();
        let call = self.recorder.call(Request::Get {
            task: task.to_owned(),
        });
        let request = GetTaskRequest {
            task_id: task.to_owned(),
            ..GetTaskRequest::default()
        };
        let answer = match client.get_task(in_time(request)).await {
            Ok(response) => of_task(response.into_inner().task),
            Err(status) => of_status(&status),
        };
        self.recorder.answer(call, answer.clone());
        answer
    }

    /// Cancels a task until there is a definite answer.
    pub async fn cancel(&mut self, task: &str) {
        loop {
            let mut client = self.any();
            let call = self.recorder.call(Request::Cancel {
                task: task.to_owned(),
            });
            let request = CancelTaskRequest {
                task_id: task.to_owned(),
                reason: "enough".to_owned(),
                grace: Some(duration_to_wire(GRACE)),
            };
            let answer = match client.cancel_task(in_time(request)).await {
                Ok(response) => of_task(response.into_inner().task),
                Err(status) => of_status(&status),
            };
            let is_definite = match &answer {
                Answer::Task { .. } | Answer::WrongState => true,
                Answer::NotFound => *self.settled.borrow(),
                _ => false,
            };
            self.recorder.answer(call, answer);
            if is_definite || *self.closing.borrow() {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Removes a task once it has ended, and submits it again, which must not revive it.
    pub async fn delete(&mut self, task: &PlannedTask) {
        let id = &task.submitted.task;
        loop {
            match self.read(id).await {
                Answer::Task { state, .. } if state.is_final() => break,
                // Nobody repeats its submit any more.
                Answer::NotFound => return,
                _ if *self.closing.borrow() => return,
                _ => tokio::time::sleep(AGAIN).await,
            }
        }
        loop {
            let mut client = self.any();
            let call = self.recorder.call(Request::Delete { task: id.clone() });
            let request = DeleteTaskRequest { task_id: id.clone() };
            let answer = match client.delete_task(in_time(request)).await {
                Ok(_) => Answer::Deleted,
                Err(status) => of_status(&status),
            };
            self.recorder.answer(call, answer.clone());
            match answer {
                // An answer before this one was lost.
                Answer::Deleted | Answer::NotFound => break,
                _ if *self.closing.borrow() => return,
                _ => tokio::time::sleep(AGAIN).await,
            }
        }
        while !*self.closing.borrow() {
            let mut client = self.any();
            let call = self.recorder.call(Request::Revive { task: id.clone() });
            let request = SubmitTaskRequest {
                task: Some(spec(&task.submitted)),
            };
            let answer = match client.submit_task(in_time(request)).await {
                Ok(_) => Answer::Stored,
                Err(status) => of_status(&status),
            };
            self.recorder.answer(call, answer.clone());
            if matches!(answer, Answer::Stored | Answer::Refused { .. }) {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Names queues and task types that nobody has named before, beside a task that is stored already under another
    /// type: the call fails, and stores nothing.
    pub async fn invent(&mut self, stored: &Submitted, prefix: &str, names: usize) -> Answer {
        let invented = (0..names).map(|number| TaskSpec {
            task_type: format!("{prefix}.{number}"),
            queue: format!("{prefix}.{}", number % INVENTED_QUEUES),
            ..TaskSpec::default()
        });
        let taken = TaskSpec {
            task_type: format!("{prefix}.other"),
            ..spec(stored)
        };
        let request = SubmitTasksRequest {
            tasks: invented.chain([taken]).collect(),
        };
        let mut client = self.any();
        let call = self.recorder.call(Request::Invent { names });
        let mut request = Message::new(request);
        request.set_timeout(LONG_DEADLINE);
        let answer = match client.submit_tasks(request).await {
            Ok(_) => Answer::Stored,
            Err(status) => of_status(&status),
        };
        self.recorder.answer(call, answer.clone());
        answer
    }

    /// Watches a task until it has ended.
    pub async fn watch(&mut self, task: &str) {
        let watch = self.recorder.call(Request::Watch {
            task: task.to_owned(),
        });
        let mut cursor = String::new();
        while !*self.closing.borrow() {
            let mut client = self.any();
            let request = WatchTaskRequest {
                task_id: task.to_owned(),
                cursor: cursor.clone(),
                ..WatchTaskRequest::default()
            };
            let mut updates = match client.watch_task(request).await {
                Ok(response) => response.into_inner(),
                Err(status) if status.code() == Code::NotFound => {
                    self.recorder.answer(watch, Answer::NotFound);
                    return;
                }
                Err(_) => {
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
            };
            while let Ok(Some(response)) = updates.message().await {
                cursor = response.cursor;
                match response.update {
                    Some(Update::Progress(progress)) => {
                        if let Some((token, number)) = numbers(&progress.message) {
                            self.recorder.note(Event::WatchProgress { watch, token, number });
                        }
                    }
                    Some(Update::Ended(task)) => {
                        let state = state(task.state());
                        self.recorder.note(Event::WatchEnded { watch, state });
                        return;
                    }
                    _ => {}
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Plays the life of a batch of tasks as its clients see it.
    pub async fn play(self, tasks: Vec<PlannedTask>) {
        let mut parts = tokio::task::JoinSet::new();
        if tasks.iter().any(|task| task.twice) {
            let (recorder, client, tasks) = (self.recorder.clone(), self.fork(1).any(), tasks.clone());
            parts.spawn(async move {
                submit_once(&recorder, client, &tasks).await;
            });
        }
        for (number, task) in tasks.iter().enumerate() {
            let id = task.submitted.task.clone();
            let number = 10 * (number as u64 + 1);
            if let Some(pause) = task.cancel_ms {
                let (mut clients, id) = (self.fork(number), id.clone());
                parts.spawn(async move {
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                    clients.cancel(&id).await;
                });
            }
            if task.watched {
                let (mut clients, id) = (self.fork(number + 1), id.clone());
                parts.spawn(async move {
                    tokio::time::sleep(AGAIN).await;
                    clients.watch(&id).await;
                });
            }
            for read in 0..task.reads {
                let (mut clients, id) = (self.fork(number + 2 + read), id.clone());
                parts.spawn(async move {
                    let pause = clients.random.between(0, 4_000);
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                    clients.read(&id).await;
                });
            }
        }
        self.fork(0).submit(&tasks).await;
        for (number, task) in tasks.iter().filter(|task| task.is_deleted).enumerate() {
            let (mut clients, task) = (self.fork(7 + 10 * number as u64), task.clone());
            parts.spawn(async move { clients.delete(&task).await });
        }
        parts.join_all().await;
    }
}

async fn submit_once(
    recorder: &Recorder,
    mut client: TaskServiceClient<Channel>,
    tasks: &[PlannedTask],
) -> Answer {
    let submitted: Vec<Submitted> = tasks.iter().map(|task| task.submitted.clone()).collect();
    let mut specs: Vec<TaskSpec> = submitted.iter().map(spec).collect();
    let call = recorder.call(Request::Submit { tasks: submitted });
    let result = if specs.len() == 1 {
        let request = SubmitTaskRequest { task: specs.pop() };
        client.submit_task(in_time(request)).await.map(|_| ())
    } else {
        let request = SubmitTasksRequest { tasks: specs };
        client.submit_tasks(in_time(request)).await.map(|_| ())
    };
    let answer = match result {
        Ok(()) => Answer::Stored,
        Err(status) => of_status(&status),
    };
    recorder.answer(call, answer.clone());
    answer
}

/// The wire form of a task.
pub fn spec(submitted: &Submitted) -> TaskSpec {
    let millis = |ms: u64| duration_to_wire(Duration::from_millis(ms));
    let payload = serde_json::json!({
        "script": submitted.behaviour,
        "padding": "x".repeat(submitted.padding),
    });
    TaskSpec {
        task_id: submitted.task.clone(),
        task_type: submitted.task_type.clone(),
        queue: submitted.queue.clone(),
        input: Some(Input::PayloadJson(payload.to_string().into())),
        priority: submitted.priority,
        start: (submitted.delay_ms > 0).then(|| Start::Delay(millis(submitted.delay_ms))),
        max_attempts: i32::try_from(submitted.max_attempts).unwrap_or(1_000),
        retry_policy: Some(RetryPolicy {
            initial_backoff: Some(millis(submitted.backoff_ms)),
            max_backoff: Some(millis(submitted.backoff_ms)),
        }),
        run_timeout: submitted.run_timeout_ms.map(millis),
        ..TaskSpec::default()
    }
}

fn in_time<T>(message: T) -> Message<T> {
    let mut request = Message::new(message);
    request.set_timeout(DEADLINE);
    request
}

fn of_task(task: Option<Task>) -> Answer {
    match task {
        Some(task) => Answer::Task {
            state: state(task.state()),
            token: task.lease_token,
            cancel_requested: task.cancel_requested,
        },
        None => Answer::Unknown {
            status: "an answer without a task".to_owned(),
        },
    }
}

fn of_status(status: &Status) -> Answer {
    let text = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Code::NotFound => Answer::NotFound,
        Code::FailedPrecondition => Answer::WrongState,
        Code::AlreadyExists | Code::InvalidArgument | Code::ResourceExhausted => {
            Answer::Refused { status: text }
        }
        _ => Answer::Unknown { status: text },
    }
}

fn state(state: TaskState) -> State {
    match state {
        TaskState::Scheduled => State::Scheduled,
        TaskState::Blocked => State::Blocked,
        TaskState::Running => State::Running,
        TaskState::Succeeded => State::Succeeded,
        TaskState::Failed => State::Failed,
        TaskState::Cancelled => State::Cancelled,
        TaskState::Unspecified | TaskState::Pending => State::Pending,
    }
}

/// Which run a progress message is of, and its number there.
fn numbers(message: &str) -> Option<(i64, u32)> {
    let (token, number) = message.split_once(':')?;
    Some((token.parse().ok()?, number.parse().ok()?))
}
