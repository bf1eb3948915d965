//! The one place that wires everything together, and takes it apart again in order.

use std::{net::SocketAddr, time::Duration};

use tasklease_lifecycle::Shutdown;
use tasklease_proto::v1::{
    queue_service_server::QueueServiceServer, task_service_server::TaskServiceServer,
    worker_service_server::WorkerServiceServer,
};
use tokio::net::TcpListener;
use tonic::{
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use uuid::Uuid;

use crate::{
    api::{
        Api, Streams,
        layers::{DeadlineLayer, RequestIdLayer, StatusCodesLayer},
    },
    config::Config,
    domain::ids::ReplicaId,
    engine::{self, Background, EngineConfig},
    health,
    store::{Database, DatabaseConfig, MigrateError, StoreError, migrate},
};

/// Why the scheduler could not start or run.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The schema could not be brought up to date.
    #[error("cannot prepare the database: {0}")]
    Migrate(#[from] MigrateError),
    /// The database URL is wrong.
    #[error("cannot use the database: {0}")]
    Store(#[from] StoreError),
    /// The address cannot be used.
    #[error("cannot listen on {address}: {error}; choose another with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The server stopped by itself.
    #[error("the server failed: {0}")]
    Serve(#[from] tonic::transport::Error),
    /// A part that it cannot do without has panicked.
    #[error("{0} failed; the log has the reason")]
    Failed(&'static str),
    /// The descriptors of the contract cannot be served.
    #[error("cannot serve reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Streams that one connection may have open. A worker needs two, a gateway one per watcher: more than the watchers that
/// one replica takes, so that there is room for calls beside them.
const STREAMS_PER_CONNECTION: u32 = 12_000;
/// HTTP/2 flow-control windows; the default of 64 KiB would stop a batch of tasks several times on its way.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Largest HTTP/2 frame to receive; the default of 16 KiB would cut a batch of tasks into dozens.
const FRAME: u32 = 1 << 20;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
const HEADER_BYTES: u32 = 64 * 1024;
/// How long calls may take to end when the scheduler stops and its streams have ended.
const LAST_CALLS: Duration = Duration::from_secs(3);
/// How long to go on trying to reach the database at start.
const DATABASE_PATIENCE: Duration = Duration::from_secs(30);

/// A scheduler that listens, and has not begun to serve.
pub struct App {
    config: Config,
    listener: TcpListener,
    db: Database,
}

impl App {
    /// Prepares the database and takes the address.
    ///
    /// # Errors
    /// See [`AppError`].
    pub async fn bind(config: Config) -> Result<Self, AppError> {
        let database = config.database();
        let db = Database::new(&database)?;
        let version = prepare_patiently(&db, &database).await?;
        let address = config.listen;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| AppError::Listen { address, error })?;
        tracing::info!(schema = version, "database is ready");
        Ok(Self { config, listener, db })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap_or(self.config.listen)
    }

    /// Serves until told to stop, then ends in order: health says so, streams are asked to leave, batches are flushed.
    ///
    /// # Errors
    /// See [`AppError`].
    pub async fn serve(self, shutdown: Shutdown) -> Result<(), AppError> {
        let name = self
            .config
            .replica
            .clone()
            .unwrap_or_else(|| self.address().to_string());
        // The engine outlives the streams: what they took must still be flushed.
        let background = Background::new(&shutdown);
        let engine = engine::start(
            EngineConfig {
                db: self.db.clone(),
                timing: self.config.timing(),
                retention: self.config.retention(),
                loss_limit: self.config.loss_limit(),
                replica: ReplicaId(Uuid::new_v4()),
                name: name.clone(),
            },
            &background,
        );
        let age = self.config.stream_age;
        let streams = Streams::new(age, shutdown.soft().clone(), shutdown.hard().clone());
        let api = Api::new(engine.clone(), self.config.limits(), streams.clone());
        let (reporter, health_service) = tonic_health::server::health_reporter();
        let health = tokio::spawn(health::report(reporter, engine, shutdown.soft().clone()));
        let routes = self.routes(&api)?.add_service(health_service);
        tracing::info!(address = %self.address(), replica = name, "serving");
        if !self.address().ip().is_loopback() {
            tracing::warn!(
                "listening beyond loopback, and there is no authentication yet: anybody can submit and claim"
            );
        }

        let server = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .http2_max_header_list_size(HEADER_BYTES)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .max_concurrent_streams(STREAMS_PER_CONNECTION)
            .layer(RequestIdLayer)
            .layer(StatusCodesLayer)
            .layer(DeadlineLayer)
            .add_routes(routes)
            .serve_with_incoming_shutdown(
                // The server's own socket options do not reach connections of a listener that is handed to it.
                TcpIncoming::from(self.listener)
                    .with_nodelay(Some(true))
                    .with_keepalive(Some(KEEPALIVE_INTERVAL)),
                shutdown.soft().clone().cancelled_owned(),
            );
        // A connection that does not close must not keep the process: its client may never read what waits for it.
        let gives_up = async {
            shutdown.soft().cancelled().await;
            streams.ended().await;
            tokio::time::sleep(LAST_CALLS).await;
        };
        let served = tokio::select! {
            served = server => served.map_err(AppError::from),
            () = gives_up => {
                tracing::warn!("dropped connections that did not close");
                Ok(())
            }
            () = shutdown.hard().cancelled() => Ok(()),
        };
        shutdown.trigger_soft();
        let _ = shutdown.hard().run_until_cancelled(streams.ended()).await;
        background.stop();
        if shutdown
            .hard()
            .run_until_cancelled(background.ended())
            .await
            .is_none()
        {
            tracing::warn!("left before everything was flushed; workers will report again");
        }
        let _ = health.await;
        if let Some(part) = shutdown.failure() {
            return Err(AppError::Failed(part));
        }
        tracing::info!("stopped");
        served
    }

    fn routes(&self, api: &Api) -> Result<Routes, AppError> {
        let bytes = self.config.limits().message_bytes;
        let mut routes = Routes::new(
            TaskServiceServer::new(api.clone())
                .max_decoding_message_size(bytes)
                .max_encoding_message_size(bytes),
        )
        .add_service(
            WorkerServiceServer::new(api.clone())
                .max_decoding_message_size(bytes)
                .max_encoding_message_size(bytes),
        )
        .add_service(
            QueueServiceServer::new(api.clone())
                .max_decoding_message_size(bytes)
                .max_encoding_message_size(bytes),
        );
        if self.config.reflection {
            let builder = || {
                tonic_reflection::server::Builder::configure()
                    .register_encoded_file_descriptor_set(tasklease_proto::FILE_DESCRIPTOR_SET)
                    .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                    .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            };
            // Older clients only speak v1alpha.
            routes = routes
                .add_service(builder().build_v1()?)
                .add_service(builder().build_v1alpha()?);
        }
        Ok(routes)
    }
}

/// Brings the schema up to date. Waits for a database that is starting; refuses at once what waiting does not fix.
async fn prepare_patiently(db: &Database, database: &DatabaseConfig) -> Result<i32, MigrateError> {
    let give_up = tokio::time::Instant::now() + DATABASE_PATIENCE;
    loop {
        match prepare(db, database).await {
            Err(MigrateError::Store(error))
                if error.is_transient() && tokio::time::Instant::now() < give_up =>
            {
                tracing::warn!(%error, "waiting for the database");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            result => return result,
        }
    }
}

/// Changes nothing unless the scheduler can work with its connections.
async fn prepare(db: &Database, database: &DatabaseConfig) -> Result<i32, MigrateError> {
    db.check_connections().await?;
    migrate(database).await
}
