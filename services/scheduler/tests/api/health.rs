//! grpc.health.v1.

use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::scheduler::{Scheduler, soon};

const SERVICES: [&str; 4] = [
    "",
    "tasklease.v1.TaskService",
    "tasklease.v1.WorkerService",
    "tasklease.v1.QueueService",
];

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.into(),
    }
}

#[tokio::test]
async fn every_service_is_serving_until_the_scheduler_stops() {
    let scheduler = Scheduler::start().await;
    let mut health = HealthClient::new(scheduler.connect().await);
    let mut watches = Vec::new();
    for service in SERVICES {
        let mut watch = health.watch(of(service)).await.unwrap().into_inner();
        // The first status may be older than the reporter's first word.
        loop {
            let status = soon("a status", watch.message()).await.unwrap().unwrap();
            if status.status() == ServingStatus::Serving {
                break;
            }
        }
        let checked = health.check(of(service)).await.unwrap().into_inner();
        assert_eq!(checked.status(), ServingStatus::Serving, "{service}");
        watches.push(watch);
    }
    scheduler.shutdown.trigger_soft();
    for mut watch in watches {
        let status = soon("a status", watch.message()).await.unwrap().unwrap();
        assert_eq!(status.status(), ServingStatus::NotServing);
    }
    scheduler.end().await;
}

#[tokio::test]
async fn a_service_that_does_not_exist_is_not_found() {
    let scheduler = Scheduler::start().await;
    let mut health = HealthClient::new(scheduler.channel.clone());
    let status = health.check(of("no.such.Service")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    scheduler.end().await;
}
