//! A soft stop: streams are asked to leave, what was taken is flushed, the server ends by itself.

use tasklease_proto::v1::{
    self, TaskState, claim_task_response::Message as FromClaim,
    report_progress_response::Message as FromReport,
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    calls::{state, submit_one},
    raw_worker::{RawWorker, report, succeeded},
    scheduler::{Scheduler, soon},
};

#[tokio::test]
async fn a_soft_stop_drains_workers_and_loses_no_outcome() {
    let scheduler = Scheduler::start().await;
    let survivor = scheduler.replica().await;
    let channel = scheduler.connect().await;
    let mut worker = RawWorker::connect(&channel).await;
    let id = submit_one(&scheduler).await;
    let task = worker.take_one().await;
    scheduler.shutdown.trigger_soft();
    let drained = worker.claim.next().await.unwrap();
    assert!(matches!(drained, Some(FromClaim::Drain(_))), "{drained:?}");
    let drained = worker.report.next().await.unwrap();
    assert!(matches!(drained, Some(FromReport::Drain(_))), "{drained:?}");
    let answer = worker.report.report(vec![report(&task, succeeded())]).await;
    assert!(answer.stale.is_empty(), "reports are taken while it drains");
    drop((worker, channel));
    let Scheduler {
        channel,
        served,
        database,
        ..
    } = scheduler;
    drop(channel);
    soon("the end of a soft stop", served).await.unwrap().unwrap();
    let request = v1::GetTaskRequest {
        task_id: id,
        ..Default::default()
    };
    let read = survivor.tasks().get_task(request).await.unwrap().into_inner();
    assert_eq!(read.task.unwrap().state(), TaskState::Succeeded);
    survivor.end().await;
    database.drop().await;
}

#[tokio::test]
async fn a_scheduler_without_clients_stops_at_once() {
    let scheduler = Scheduler::start().await;
    let id = submit_one(&scheduler).await;
    assert_eq!(state(&scheduler, &id).await, TaskState::Pending);
    scheduler.shutdown.trigger_soft();
    let Scheduler {
        channel,
        served,
        database,
        ..
    } = scheduler;
    drop(channel);
    soon("the end of a soft stop", served).await.unwrap().unwrap();
    database.drop().await;
}

#[tokio::test]
async fn a_client_that_watches_health_does_not_hold_up_a_soft_stop() {
    let scheduler = Scheduler::start().await;
    let channel = scheduler.connect().await;
    let request = HealthCheckRequest::default();
    let mut watch = HealthClient::new(channel)
        .watch(request)
        .await
        .unwrap()
        .into_inner();
    soon("a status", watch.message()).await.unwrap().unwrap();
    scheduler.shutdown.trigger_soft();
    let Scheduler {
        channel,
        served,
        database,
        ..
    } = scheduler;
    drop(channel);
    soon("the end of a soft stop", served).await.unwrap().unwrap();
    database.drop().await;
}

#[tokio::test]
async fn a_worker_that_moves_leaves_no_lease_unread() {
    let scheduler = Scheduler::start_with(&["--stream-age", "1s"]).await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    worker.claim.credit(3).await;
    let mut got = 0;
    let mut submitted = 0;
    loop {
        if submitted < 3 {
            submit_one(&scheduler).await;
            submitted += 1;
        }
        match worker.claim.next().await.unwrap() {
            Some(FromClaim::Leases(batch)) => got += batch.tasks.len(),
            Some(FromClaim::Drain(_)) => break,
            other => panic!("unexpected {other:?}"),
        }
    }
    let running = v1::ListTasksRequest {
        states: vec![TaskState::Running.into()],
        ..Default::default()
    };
    let listed = scheduler.tasks().list_tasks(running).await.unwrap().into_inner();
    assert_eq!(listed.tasks.len(), got, "every lease was sent before the drain");
    scheduler.end().await;
}
