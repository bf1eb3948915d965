//! A session outlives its connections.

use tasklease_proto::v1::{
    self, TaskState, claim_task_response::Message as FromClaim, report_progress_request::Message as ToReport,
    report_progress_response::Message as FromReport,
};

use crate::{
    calls::{get, state, submit_one},
    raw_worker::{ClaimStream, RawWorker, ReportStream, hello, succeeded},
    scheduler::Scheduler,
};

fn held(tasks: &[v1::LeasedTask]) -> Vec<v1::LeaseRef> {
    tasks
        .iter()
        .map(|task| v1::LeaseRef {
            task_id: task.task_id.clone(),
            lease_token: task.lease_token,
        })
        .collect()
}

#[tokio::test]
async fn a_session_goes_on_over_new_streams_with_the_leases_it_holds() {
    let scheduler = Scheduler::start().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    submit_one(&scheduler).await;
    let tasks = worker.take(1).await;
    let RawWorker {
        session,
        claim,
        report,
    } = worker;
    drop((claim, report));
    let mut claim = ClaimStream::open(&scheduler.channel).await;
    let resumed = claim
        .hello(v1::WorkerHello {
            session_id: session.clone(),
            held: held(&tasks),
            ..hello()
        })
        .await;
    assert!(resumed.resumed && resumed.session_id == session);
    let mut report = ReportStream::open(&scheduler.channel).await;
    let opened = report.open_session(&session).await.unwrap();
    assert!(matches!(opened, Some(FromReport::Opened(_))));
    report.tell(&tasks[0], succeeded()).await;
    assert_eq!(state(&scheduler, &tasks[0].task_id).await, TaskState::Succeeded);
    let next = submit_one(&scheduler).await;
    claim.credit(1).await;
    assert_eq!(claim.leases(1).await[0].task_id, next);
    scheduler.end().await;
}

#[tokio::test]
async fn a_session_moves_to_another_replica_with_its_leases() {
    let scheduler = Scheduler::start().await;
    let replica = scheduler.replica().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    submit_one(&scheduler).await;
    let tasks = worker.take(1).await;
    let mut claim = ClaimStream::open(&replica.channel).await;
    let resumed = claim
        .hello(v1::WorkerHello {
            session_id: worker.session.clone(),
            held: held(&tasks),
            ..hello()
        })
        .await;
    assert!(resumed.resumed);
    let mut report = ReportStream::open(&replica.channel).await;
    report.open_session(&worker.session).await.unwrap();
    report
        .acknowledged(ToReport::Heartbeat(v1::Heartbeat::default()))
        .await;
    report.tell(&tasks[0], succeeded()).await;
    let read = get(&scheduler, &tasks[0].task_id).await;
    assert_eq!(read.task.unwrap().state(), TaskState::Succeeded);
    assert_eq!(read.runs.len(), 1);
    replica.end().await;
    scheduler.end().await;
}

#[tokio::test]
async fn a_session_that_is_over_or_another_process_start_s_is_not_resumed() {
    let scheduler = Scheduler::start().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    let resume = async |session: &str, incarnation: &str| {
        let mut claim = ClaimStream::open(&scheduler.channel).await;
        let hello = v1::WorkerHello {
            session_id: session.into(),
            incarnation: incarnation.into(),
            ..hello()
        };
        claim.hello(hello).await
    };
    let other = resume(&worker.session, "2").await;
    assert!(!other.resumed && other.session_id != worker.session);
    worker
        .report
        .acknowledged(ToReport::Goodbye(v1::Goodbye {}))
        .await;
    let over = resume(&worker.session, "1").await;
    assert!(!over.resumed && over.session_id != worker.session);
    scheduler.end().await;
}

#[tokio::test]
async fn a_newer_stream_takes_the_place_of_the_one_before() {
    let scheduler = Scheduler::start().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    worker.claim.credit(5).await;
    let mut newer = ClaimStream::open(&scheduler.channel).await;
    newer
        .hello(v1::WorkerHello {
            session_id: worker.session.clone(),
            ..hello()
        })
        .await;
    assert!(worker.claim.next().await.unwrap().is_none());
    let id = submit_one(&scheduler).await;
    newer.credit(1).await;
    assert_eq!(newer.leases(1).await[0].task_id, id, "old credit is gone");
    let mut newer = ReportStream::open(&scheduler.channel).await;
    newer.open_session(&worker.session).await.unwrap();
    assert!(worker.report.next().await.unwrap().is_none());
    newer
        .acknowledged(ToReport::Heartbeat(v1::Heartbeat::default()))
        .await;
    scheduler.end().await;
}

#[tokio::test]
async fn a_heartbeat_that_names_leases_shows_both_sides_what_they_differ_in() {
    let scheduler = Scheduler::start().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    let (kept, forgotten) = (submit_one(&scheduler).await, submit_one(&scheduler).await);
    let tasks = worker.take(2).await;
    let keeps: Vec<v1::LeasedTask> = tasks
        .iter()
        .filter(|task| task.task_id == kept)
        .cloned()
        .collect();
    let foreign = v1::LeaseRef {
        task_id: uuid::Uuid::now_v7().to_string(),
        lease_token: 1,
    };
    let mut leases = held(&keeps);
    leases.push(foreign.clone());
    let heartbeat = v1::Heartbeat {
        held: Some(v1::HeldLeases { leases }),
    };
    worker.report.say(ToReport::Heartbeat(heartbeat)).await;
    // The acknowledgement, what is not the session's, and after the time to accept it what the worker forgot.
    let mut stale = Vec::new();
    while stale.len() < 2 {
        match worker.report.next().await.unwrap() {
            Some(FromReport::Acknowledgement(answer)) => stale.extend(answer.stale),
            other => panic!("expected an acknowledgement, got {other:?}"),
        }
    }
    assert_eq!(stale[0], foreign);
    assert_eq!(
        (stale[1].task_id.as_str(), stale[1].lease_token),
        (forgotten.as_str(), 1)
    );
    worker.claim.credit(1).await;
    let again = worker.claim.leases(1).await.remove(0);
    assert_eq!(
        (again.task_id, again.attempt, again.lease_token),
        (forgotten, 1, 2),
        "uncounted"
    );
    assert_eq!(state(&scheduler, &kept).await, TaskState::Running);
    scheduler.end().await;
}

#[tokio::test]
async fn a_cancel_reaches_a_worker_that_claims_through_one_replica_and_reports_to_another() {
    let scheduler = Scheduler::start().await;
    let replica = scheduler.replica().await;
    let mut claim = ClaimStream::open(&scheduler.channel).await;
    let session = claim.hello(hello()).await.session_id;
    let mut report = ReportStream::open(&replica.channel).await;
    report.open_session(&session).await.unwrap();
    let id = submit_one(&scheduler).await;
    claim.credit(1).await;
    assert_eq!(claim.leases(1).await[0].task_id, id);
    crate::calls::cancel(&scheduler, &id).await.unwrap();
    match report.next().await.unwrap() {
        Some(FromReport::Cancels(batch)) => {
            let lease = batch.cancels[0].lease.clone().unwrap();
            assert_eq!(lease.task_id, id);
        }
        other => panic!("expected a cancel, got {other:?}"),
    }
    replica.end().await;
    scheduler.end().await;
}

#[tokio::test]
async fn a_session_that_another_replica_ended_is_leased_nothing_more() {
    let scheduler = Scheduler::start().await;
    let replica = scheduler.replica().await;
    let mut claim = ClaimStream::open(&scheduler.channel).await;
    let session = claim.hello(hello()).await.session_id;
    claim.credit(5).await;
    let mut report = ReportStream::open(&replica.channel).await;
    report.open_session(&session).await.unwrap();
    report.acknowledged(ToReport::Goodbye(v1::Goodbye {})).await;
    let ended = claim.next().await.unwrap();
    assert!(matches!(ended, Some(FromClaim::Ended(_))), "{ended:?}");
    let id = submit_one(&scheduler).await;
    assert_eq!(state(&scheduler, &id).await, TaskState::Pending);
    replica.end().await;
    scheduler.end().await;
}
