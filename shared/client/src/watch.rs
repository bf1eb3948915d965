//! Following one task across replicas.

use std::time::Duration;

use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tasklease_proto::{
    convert::duration_from_wire,
    limits,
    v1::{
        PayloadFormat, WatchTaskRequest, WatchTaskResponse, task_service_client::TaskServiceClient,
        watch_task_response::Update,
    },
};
use tokio::time::Instant;
use tonic::{Request, Streaming};

use crate::{
    connector::{Connector, ReplicaConnection},
    error::{ClientError, is_unanswered},
    retry::RetryPolicy,
};

/// Longest wait that a scheduler may ask for before the stream is opened again.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The updates of a task; ends after `ended` or after an error.
///
/// A new snapshot comes each time another replica takes over; every other update comes once.
pub type WatchStream = BoxStream<'static, Result<WatchTaskResponse, ClientError>>;

struct Watch {
    connector: Connector,
    policy: RetryPolicy,
    task_id: String,
    cursor: String,
    open: Option<Open>,
    last: Option<ReplicaConnection>,
    failures: u32,
    /// When to give up, while no replica answers.
    give_up: Option<Instant>,
    done: bool,
}

struct Open {
    updates: Streaming<WatchTaskResponse>,
    picked: ReplicaConnection,
}

/// The result of one step of a watch.
enum Step {
    Update(Box<WatchTaskResponse>),
    Reconnect { after: Duration },
}

pub(crate) fn follow(
    connector: Connector,
    policy: RetryPolicy,
    task_id: String,
    cursor: String,
) -> WatchStream {
    let watch = Watch {
        connector,
        policy,
        task_id,
        cursor,
        open: None,
        last: None,
        failures: 0,
        give_up: None,
        done: false,
    };
    stream::unfold(watch, |mut watch| async move {
        watch.next().await.map(|item| (item, watch))
    })
    .boxed()
}

impl Watch {
    async fn next(&mut self) -> Option<Result<WatchTaskResponse, ClientError>> {
        while !self.done {
            match self.step().await {
                Ok(Step::Update(update)) => {
                    self.failures = 0;
                    self.give_up = None;
                    self.done = matches!(update.update, Some(Update::Ended(_)));
                    return Some(Ok(*update));
                }
                Ok(Step::Reconnect { after }) => {
                    if let Some(open) = self.open.take() {
                        self.connector.retire(&open.picked);
                        self.last = Some(open.picked);
                    }
                    tokio::time::sleep(after.min(LONGEST_WAIT)).await;
                }
                Err(error) => {
                    if let Err(error) = self.recover(error).await {
                        self.done = true;
                        return Some(Err(error));
                    }
                }
            }
        }
        None
    }

    async fn step(&mut self) -> Result<Step, ClientError> {
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                let opened = self.connect().await?;
                self.open.insert(opened)
            }
        };
        let Some(update) = open.updates.message().await? else {
            // A stream that closes without `ended` or `reconnect` means that its replica stopped.
            return Err(tonic::Status::unavailable("the watch was closed before the task ended").into());
        };
        self.connector.succeeded(&open.picked);
        if !update.cursor.is_empty() {
            self.cursor.clone_from(&update.cursor);
        }
        Ok(match update.update {
            Some(Update::Reconnect(reconnect)) => {
                let after = reconnect
                    .after
                    .as_ref()
                    .and_then(duration_from_wire)
                    .unwrap_or_default();
                // Each round is jittered, so that watchers spread over the replicas.
                Step::Reconnect {
                    after: after + self.policy.backoff.delay(1, rand::random()),
                }
            }
            _ => Step::Update(Box::new(update)),
        })
    }

    async fn connect(&mut self) -> Result<Open, ClientError> {
        let picked = match &self.last {
            Some(last) => self.connector.pick_other(last).await?,
            None => self.connector.pick().await?,
        };
        self.last = Some(picked.clone());
        let mut client = TaskServiceClient::new(picked.channel())
            .max_decoding_message_size(limits::ACCEPTED_BYTES)
            .max_encoding_message_size(limits::ACCEPTED_BYTES);
        let request = WatchTaskRequest {
            task_id: self.task_id.clone(),
            cursor: self.cursor.clone(),
            payload_format: PayloadFormat::Json.into(),
        };
        let opening = client.watch_task(Request::new(request));
        match tokio::time::timeout(self.policy.attempt_timeout, opening).await {
            Ok(Ok(updates)) => Ok(Open {
                updates: updates.into_inner(),
                picked,
            }),
            Ok(Err(status)) => {
                if is_unanswered(&status) {
                    self.connector.failed(&picked);
                }
                Err(status.into())
            }
            Err(_) => {
                self.connector.failed(&picked);
                Err(ClientError::Deadline(self.policy.attempt_timeout))
            }
        }
    }

    /// Waits before the next attempt; returns the error if there is no further attempt.
    async fn recover(&mut self, error: ClientError) -> Result<(), ClientError> {
        if let Some(open) = self.open.take() {
            if error.is_unreachable() {
                self.connector.failed(&open.picked);
            }
            self.last = Some(open.picked);
        }
        if !error.is_unreachable() {
            return Err(error);
        }
        self.failures += 1;
        let now = Instant::now();
        let give_up = *self.give_up.get_or_insert(now + self.policy.deadline);
        let wait = self.policy.backoff.delay(self.failures, rand::random());
        if now + wait >= give_up {
            return Err(error);
        }
        tracing::debug!(task_id = self.task_id, %error, failures = self.failures, "watching again");
        tokio::time::sleep(wait).await;
        Ok(())
    }
}
