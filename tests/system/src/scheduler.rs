//! A scheduler process and the clients that speak to it alone.

use std::{net::SocketAddr, process::ExitStatus, time::Duration};

use tasklease_client::{Client, Endpoints, RetryPolicy};
use tasklease_proto::v1::{
    queue_service_client::QueueServiceClient, task_service_client::TaskServiceClient,
    worker_service_client::WorkerServiceClient,
};
use tonic::transport::{Channel, Endpoint};

use crate::{
    patience::{PATIENCE, eventually},
    process::{Process, Signal},
    program::program,
};

const ANNOUNCEMENT: &str = "tasklease-scheduler listening on ";

/// Larger than any message of a test, so that the scheduler's limits are met first.
const MESSAGE_BYTES: usize = 64 << 20;

/// A scheduler that serves; killed when dropped.
#[derive(Debug)]
pub struct Scheduler {
    process: Process,
    address: SocketAddr,
    database_url: String,
    arguments: Vec<String>,
}

impl Scheduler {
    /// Starts one on a free port and waits until it serves.
    pub async fn start(database_url: &str) -> Self {
        Self::start_with(database_url, &[]).await
    }

    /// The same with more arguments.
    pub async fn start_with(database_url: &str, arguments: &[&str]) -> Self {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let (process, address) = launch(database_url, "127.0.0.1:0", &arguments).await;
        Self {
            process,
            address,
            database_url: database_url.to_owned(),
            arguments,
        }
    }

    /// Starts it again on the same address, after it has ended.
    pub async fn start_again(&mut self) {
        let listen = self.address.to_string();
        let (process, _) = launch(&self.database_url, &listen, &self.arguments).await;
        self.process = process;
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Asks it to end with SIGTERM and waits until it has.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.process.terminate().await
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        self.process.ended().await
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// A client that knows this replica only.
    pub fn client(&self) -> Client {
        client_of(&[self])
    }

    /// A client that knows several replicas.
    pub fn client_of(replicas: &[&Scheduler]) -> Client {
        client_of(replicas)
    }

    /// The addresses of several replicas, as `TASKLEASE_ADDR` takes them.
    pub fn addresses(replicas: &[&Scheduler]) -> String {
        replicas
            .iter()
            .map(|replica| replica.address())
            .collect::<Vec<_>>()
            .join(",")
    }

    /// A bare connection to this replica.
    pub fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address))
            .expect("an address")
            .connect_lazy()
    }

    /// The generated client of the task service, which repeats nothing.
    pub fn tasks(&self) -> TaskServiceClient<Channel> {
        TaskServiceClient::new(self.channel())
            .max_encoding_message_size(MESSAGE_BYTES)
            .max_decoding_message_size(MESSAGE_BYTES)
    }

    /// The generated client of the queue service.
    pub fn queues(&self) -> QueueServiceClient<Channel> {
        QueueServiceClient::new(self.channel())
    }

    /// The generated client of the worker service.
    pub fn workers(&self) -> WorkerServiceClient<Channel> {
        WorkerServiceClient::new(self.channel())
            .max_encoding_message_size(MESSAGE_BYTES)
            .max_decoding_message_size(MESSAGE_BYTES)
    }

    /// Waits until a worker of this name is alive.
    pub async fn sees_worker(&self, name: &str) {
        let client = self.client();
        eventually(&format!("the worker {name}"), async || {
            let workers = client.workers().await.expect("a list of workers");
            workers.iter().any(|worker| worker.name == name).then_some(())
        })
        .await;
    }
}

fn client_of(replicas: &[&Scheduler]) -> Client {
    let endpoints = Endpoints::parse(&Scheduler::addresses(replicas)).expect("addresses");
    Client::new(endpoints).with_policy(RetryPolicy {
        deadline: PATIENCE,
        attempt_timeout: Duration::from_secs(10),
        ..RetryPolicy::default()
    })
}

async fn launch(database_url: &str, listen: &str, arguments: &[String]) -> (Process, SocketAddr) {
    let mut process = Process::spawn(
        "a scheduler",
        &program("tasklease-scheduler"),
        arguments,
        &[("DATABASE_URL", database_url), ("TASKLEASE_LISTEN", listen)],
    );
    let line = process.first_line().await;
    let address = line
        .strip_prefix(ANNOUNCEMENT)
        .and_then(|address| address.parse().ok())
        .unwrap_or_else(|| panic!("not an announcement: {line}"));
    (process, address)
}
