//! The client against replicas that fail, over real connections.

#![expect(clippy::expect_used, reason = "tests may fail loudly")]

use std::{net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tasklease_client::{Backoff, Client, Endpoints, RetryPolicy};
use tasklease_proto::v1::{
    self, CancelTaskRequest, CancelTaskResponse, DeleteTaskRequest, DeleteTaskResponse, GetTaskRequest,
    GetTaskResponse, ListTasksRequest, ListTasksResponse, Progress, Reconnect, RetryTaskRequest,
    RetryTaskResponse, SubmitTaskRequest, SubmitTaskResponse, SubmitTasksRequest, SubmitTasksResponse, Task,
    TaskSpec, WatchTaskRequest, WatchTaskResponse,
    task_service_server::{TaskService, TaskServiceServer},
    watch_task_response::Update,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status};

/// What both replicas do, call by call, and what they were asked.
#[derive(Default)]
struct Script {
    /// Codes to fail the next unary calls with.
    failures: Mutex<Vec<Code>>,
    /// Ids of all submits and deletes, in order.
    asked: Mutex<Vec<String>>,
    /// Cursors of all watches, in order.
    cursors: Mutex<Vec<String>>,
}

impl Script {
    fn next(&self, asked: &str) -> Result<(), Status> {
        self.asked.lock().push(asked.to_owned());
        match self.failures.lock().pop() {
            Some(code) => Err(Status::new(code, "as the script says")),
            None => Ok(()),
        }
    }
}

struct Replica(Arc<Script>);

fn update(cursor: &str, update: Update) -> Result<WatchTaskResponse, Status> {
    Ok(WatchTaskResponse {
        cursor: cursor.to_owned(),
        update: Some(update),
        ..Default::default()
    })
}

#[tonic::async_trait]
impl TaskService for Replica {
    type WatchTaskStream =
        Pin<Box<dyn futures_util::Stream<Item = Result<WatchTaskResponse, Status>> + Send>>;

    async fn submit_task(
        &self,
        request: Request<SubmitTaskRequest>,
    ) -> Result<Response<SubmitTaskResponse>, Status> {
        let id = request.into_inner().task.unwrap_or_default().task_id;
        self.0.next(&id)?;
        Ok(Response::new(SubmitTaskResponse {
            task: Some(Task {
                id,
                ..Task::default()
            }),
        }))
    }

    /// The first watch breaks, the second is asked to reconnect, the third ends.
    async fn watch_task(
        &self,
        request: Request<WatchTaskRequest>,
    ) -> Result<Response<Self::WatchTaskStream>, Status> {
        let mut cursors = self.0.cursors.lock();
        cursors.push(request.into_inner().cursor);
        let updates = match cursors.len() {
            1 => vec![
                update("a", Update::Progress(Progress::default())),
                Err(Status::unavailable("the replica leaves")),
            ],
            2 => vec![
                update("b", Update::Progress(Progress::default())),
                update("", Update::Reconnect(Reconnect::default())),
            ],
            _ => vec![update("c", Update::Ended(Task::default()))],
        };
        Ok(Response::new(Box::pin(futures_util::stream::iter(updates))))
    }

    async fn delete_task(
        &self,
        request: Request<DeleteTaskRequest>,
    ) -> Result<Response<DeleteTaskResponse>, Status> {
        self.0.next(&request.into_inner().task_id)?;
        Ok(Response::new(DeleteTaskResponse {}))
    }

    async fn retry_task(
        &self,
        request: Request<RetryTaskRequest>,
    ) -> Result<Response<RetryTaskResponse>, Status> {
        self.0.next(&request.into_inner().task_id)?;
        Ok(Response::new(RetryTaskResponse {
            task: Some(Task::default()),
        }))
    }

    async fn submit_tasks(
        &self,
        _: Request<SubmitTasksRequest>,
    ) -> Result<Response<SubmitTasksResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn get_task(&self, _: Request<GetTaskRequest>) -> Result<Response<GetTaskResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn list_tasks(&self, _: Request<ListTasksRequest>) -> Result<Response<ListTasksResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn cancel_task(
        &self,
        _: Request<CancelTaskRequest>,
    ) -> Result<Response<CancelTaskResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }
}

async fn replica(script: &Arc<Script>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let service = TaskServiceServer::new(Replica(Arc::clone(script)));
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

/// An address that refuses connections.
async fn dead_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("bound")
}

fn client(addresses: &[SocketAddr]) -> Client {
    let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    Client::new(Endpoints::parse(&list.join(",")).expect("valid addresses"))
}

fn impatient(client: Client) -> Client {
    let backoff = Backoff {
        first: Duration::from_millis(1),
        longest: Duration::from_millis(1),
    };
    client.with_policy(RetryPolicy {
        deadline: Duration::from_millis(200),
        backoff,
        ..RetryPolicy::default()
    })
}

#[tokio::test]
async fn a_submit_is_repeated_with_the_same_id_until_a_replica_takes_it() {
    let script = Arc::new(Script::default());
    *script.failures.lock() = vec![Code::Unavailable, Code::Unavailable];
    let client = client(&[
        replica(&script).await,
        dead_address().await,
        replica(&script).await,
    ]);
    let task = client
        .submit(TaskSpec::default())
        .await
        .expect("the third attempt is taken");
    let asked = script.asked.lock().clone();
    assert_eq!(asked, vec![task.id.clone(); 3]);
    assert_eq!(task.id.len(), 36);
}

#[tokio::test]
async fn a_refusal_is_not_repeated() {
    let script = Arc::new(Script::default());
    *script.failures.lock() = vec![Code::InvalidArgument];
    let client = client(&[replica(&script).await]);
    let error = client.submit(TaskSpec::default()).await.expect_err("refused");
    assert_eq!(
        (error.code(), script.asked.lock().len()),
        (Code::InvalidArgument, 1)
    );
}

#[tokio::test]
async fn a_call_that_may_do_it_twice_is_not_repeated_once_it_was_sent() {
    let script = Arc::new(Script::default());
    *script.failures.lock() = vec![Code::Unavailable];
    let client = client(&[replica(&script).await]);
    let error = client.retry("t").await.expect_err("not repeated");
    assert_eq!((error.code(), script.asked.lock().len()), (Code::Unavailable, 1));
}

#[tokio::test]
async fn a_repeated_delete_that_finds_nothing_has_succeeded() {
    let script = Arc::new(Script::default());
    *script.failures.lock() = vec![Code::NotFound, Code::Unavailable];
    let client = client(&[replica(&script).await]);
    client
        .delete("t")
        .await
        .expect("the first attempt may have done it");
    *script.failures.lock() = vec![Code::NotFound];
    assert!(
        client
            .delete("t")
            .await
            .expect_err("a first attempt must find it")
            .is_not_found()
    );
}

#[tokio::test]
async fn without_any_replica_the_call_ends_at_its_deadline_as_unreachable() {
    let client = impatient(client(&[dead_address().await]));
    let error = client
        .submit(TaskSpec::default())
        .await
        .expect_err("nobody is there");
    assert!(error.is_unreachable(), "{error}");
    let mut updates = client.watch("t");
    assert!(
        updates
            .next()
            .await
            .expect("one item")
            .expect_err("nobody is there")
            .is_unreachable()
    );
    assert!(updates.next().await.is_none());
}

#[tokio::test]
async fn a_watch_goes_on_with_its_cursor_across_breaks_and_reconnects_until_the_end() {
    let script = Arc::new(Script::default());
    let client = client(&[replica(&script).await, replica(&script).await]);
    let updates: Vec<_> = client
        .watch("t")
        .map(|update| update.expect("no error reaches the caller"))
        .collect()
        .await;
    let cursors: Vec<&str> = updates.iter().map(|update| update.cursor.as_str()).collect();
    assert_eq!(cursors, ["a", "b", "c"]);
    assert!(matches!(
        updates.last().and_then(|last| last.update.as_ref()),
        Some(v1::watch_task_response::Update::Ended(_))
    ));
    assert_eq!(*script.cursors.lock(), ["", "a", "b"]);
}
