//! A client that sends deadlines and leaves it to the server to keep them.

use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tasklease_proto::v1::task_service_client::TaskServiceClient;
use tokio::net::TcpStream;
use tonic::body::Body;
use tower::{service_fn, util::BoxCloneService};

use crate::scheduler::Scheduler;

/// A bare HTTP/2 connection; tonic's own channel would end a late call itself, with another code.
pub type BareConnection = BoxCloneService<Request<Body>, Response<Incoming>, hyper::Error>;

/// Connects the generated client of the task service without a timer of its own.
///
/// # Panics
/// If the scheduler cannot be reached.
pub async fn client_without_deadline(scheduler: &Scheduler) -> TaskServiceClient<BareConnection> {
    let stream = TcpStream::connect(scheduler.address())
        .await
        .expect("a connection");
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .expect("an HTTP/2 connection");
    tokio::spawn(connection);
    let service = service_fn(move |request| {
        let mut sender = sender.clone();
        async move { sender.send_request(request).await }
    });
    let origin = format!("http://{}", scheduler.address());
    TaskServiceClient::with_origin(BoxCloneService::new(service), origin.parse().expect("an origin"))
}
