//! grpc.health.v1: every service by name, and `""` for the whole.

use std::time::Duration;

use tasklease_proto::v1::{
    queue_service_server::QueueServiceServer, task_service_server::TaskServiceServer,
    worker_service_server::WorkerServiceServer,
};
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService as _;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{api::Api, engine::Engine};

/// How often the engine is asked.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Reports what the engine says, until `stop`; then that nothing is served any more.
pub(crate) async fn report(mut reporter: HealthReporter, engine: Engine, stop: CancellationToken) {
    let mut serving = true;
    set(&reporter, ServingStatus::Serving).await;
    while stop
        .run_until_cancelled(tokio::time::sleep(LOOK_EVERY))
        .await
        .is_some()
    {
        let healthy = engine.is_healthy();
        if healthy != serving {
            serving = healthy;
            tracing::warn!(serving, "health changed");
            set(
                &reporter,
                if serving {
                    ServingStatus::Serving
                } else {
                    ServingStatus::NotServing
                },
            )
            .await;
        }
    }
    set(&reporter, ServingStatus::NotServing).await;
    // The server waits for all calls to end, and a watch of health ends only with what it watches; it still hears the
    // last status.
    for service in [
        "",
        TaskServiceServer::<Api>::NAME,
        WorkerServiceServer::<Api>::NAME,
        QueueServiceServer::<Api>::NAME,
    ] {
        reporter.clear_service_status(service).await;
    }
}

async fn set(reporter: &HealthReporter, status: ServingStatus) {
    reporter.set_service_status("", status).await;
    match status {
        ServingStatus::Serving => {
            reporter.set_serving::<TaskServiceServer<Api>>().await;
            reporter.set_serving::<WorkerServiceServer<Api>>().await;
            reporter.set_serving::<QueueServiceServer<Api>>().await;
        }
        _ => {
            reporter.set_not_serving::<TaskServiceServer<Api>>().await;
            reporter.set_not_serving::<WorkerServiceServer<Api>>().await;
            reporter.set_not_serving::<QueueServiceServer<Api>>().await;
        }
    }
}
