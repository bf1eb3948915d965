//! A scheduler in this process, on a port and a database of its own.

use std::{future::Future, time::Duration};

use clap::Parser as _;
use tasklease_lifecycle::Shutdown;
use tasklease_proto::v1::{
    queue_service_client::QueueServiceClient, task_service_client::TaskServiceClient,
    worker_service_client::WorkerServiceClient,
};
use tasklease_scheduler::{App, AppError, Config};
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

use crate::test_database::TestDatabase;

/// Long enough for the slowest machine; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for what must come.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("waited too long for {what}"))
}

pub(crate) struct Scheduler {
    pub(crate) channel: Channel,
    pub(crate) shutdown: Shutdown,
    pub(crate) served: JoinHandle<Result<(), AppError>>,
    pub(crate) database: TestDatabase,
    address: String,
}

impl Scheduler {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub(crate) async fn start_with(flags: &[&str]) -> Self {
        let database = TestDatabase::create().await;
        let (address, shutdown, served) = serve(&database, flags).await;
        Self {
            channel: connect(&address).await,
            shutdown,
            served,
            database,
            address,
        }
    }

    /// A second replica on the same database.
    pub(crate) async fn replica(&self) -> Replica {
        let (address, shutdown, served) = serve(&self.database, &[]).await;
        Replica {
            channel: connect(&address).await,
            shutdown,
            served,
        }
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self) -> Channel {
        connect(&self.address).await
    }

    pub(crate) fn tasks(&self) -> TaskServiceClient<Channel> {
        TaskServiceClient::new(self.channel.clone())
    }

    pub(crate) fn queues(&self) -> QueueServiceClient<Channel> {
        QueueServiceClient::new(self.channel.clone())
    }

    pub(crate) fn workers(&self) -> WorkerServiceClient<Channel> {
        WorkerServiceClient::new(self.channel.clone())
    }

    /// Ends everything at once.
    pub(crate) async fn end(self) {
        self.shutdown.trigger_hard();
        soon("the scheduler's end", self.served).await.unwrap().unwrap();
        self.database.drop().await;
    }
}

pub(crate) struct Replica {
    pub(crate) channel: Channel,
    shutdown: Shutdown,
    served: JoinHandle<Result<(), AppError>>,
}

impl Replica {
    pub(crate) fn tasks(&self) -> TaskServiceClient<Channel> {
        TaskServiceClient::new(self.channel.clone())
    }

    pub(crate) async fn end(self) {
        self.shutdown.trigger_hard();
        soon("the replica's end", self.served).await.unwrap().unwrap();
    }
}

async fn serve(
    database: &TestDatabase,
    flags: &[&str],
) -> (String, Shutdown, JoinHandle<Result<(), AppError>>) {
    let url = database.url();
    let words = [
        "tasklease-scheduler",
        "--listen",
        "127.0.0.1:0",
        "--database-url",
        &url,
        "--db-connections",
        "6",
    ];
    let config = Config::parse_from(words.iter().chain(flags));
    let app = App::bind(config).await.unwrap();
    let address = format!("http://{}", app.address());
    let shutdown = Shutdown::manual();
    let served = tokio::spawn(app.serve(shutdown.clone()));
    (address, shutdown, served)
}

async fn connect(address: &str) -> Channel {
    Endpoint::from_shared(address.to_owned())
        .unwrap()
        .connect()
        .await
        .unwrap()
}
