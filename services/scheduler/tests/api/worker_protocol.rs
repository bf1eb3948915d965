//! What a worker may do, message by message.

use tasklease_proto::v1::{
    self, TaskState, claim_task_response::Message as FromClaim, report::Body,
    report_progress_request::Message as ToReport, report_progress_response::Message as FromReport,
};

use crate::{
    calls::{cancel, get, spec, state, submit, submit_one},
    raw_worker::{RawWorker, failed, hello, log, progress, report, succeeded},
    scheduler::Scheduler,
};

/// Keys out of order and a whole number with a fraction: what a parser would change.
const PAYLOAD: &str = r#"{ "z": 1, "a": [1.0] }"#;

/// A task with all that its worker hears of.
fn detailed_spec() -> v1::TaskSpec {
    v1::TaskSpec {
        input: Some(v1::task_spec::Input::PayloadJson(PAYLOAD.into())),
        max_attempts: 4,
        run_timeout: crate::calls::seconds(9),
        traceparent: "00-trace".into(),
        ..spec()
    }
}

/// The first lease of a task of [`detailed_spec`].
fn detailed_lease(id: &str) -> v1::LeasedTask {
    v1::LeasedTask {
        task_id: id.to_owned(),
        lease_token: 1,
        task_type: "t".into(),
        queue: "default".into(),
        payload_json: PAYLOAD.into(),
        attempt: 1,
        max_attempts: 4,
        run_timeout: crate::calls::seconds(9),
        traceparent: "00-trace".into(),
    }
}

#[tokio::test]
async fn a_session_says_its_times_and_a_lease_all_that_the_code_needs() {
    let scheduler = Scheduler::start_with(&["--lease", "30s"]).await;
    let mut claim = crate::raw_worker::ClaimStream::open(&scheduler.channel).await;
    let session = claim.hello(hello()).await;
    assert!(!session.resumed);
    let times = [
        session.heartbeat_interval,
        session.lease_duration,
        session.accept_timeout,
    ];
    assert_eq!(times.map(|time| time.unwrap().seconds), [10, 30, 10]);
    let id = submit(&scheduler, detailed_spec()).await.id;
    claim.credit(1).await;
    let task = claim.leases(1).await.remove(0);
    assert_eq!(task, detailed_lease(&id), "the payload travels to the byte");
    scheduler.end().await;
}

#[tokio::test]
async fn no_more_tasks_come_than_there_is_credit() {
    let scheduler = Scheduler::start().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(submit_one(&scheduler).await);
    }
    worker.claim.credit(1).await;
    worker.claim.credit(2).await;
    let mut first = worker.claim.leases(3).await;
    first.sort_by(|a, b| a.task_id.cmp(&b.task_id));
    let got: Vec<&String> = first.iter().map(|task| &task.task_id).collect();
    assert_eq!(got, ids[..3].iter().collect::<Vec<_>>());
    // A heartbeat travels through the scheduler and the database, and nothing overtakes it on the other stream.
    worker
        .report
        .acknowledged(ToReport::Heartbeat(v1::Heartbeat::default()))
        .await;
    for id in &ids[3..] {
        assert_eq!(state(&scheduler, id).await, TaskState::Pending);
    }
    worker.claim.credit(10).await;
    worker.claim.leases(3).await;
    scheduler.end().await;
}

#[tokio::test]
async fn a_task_that_need_not_wait_is_leased_as_it_is_stored() {
    let scheduler = Scheduler::start().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    let waited = submit_one(&scheduler).await;
    worker.claim.credit(3).await;
    assert_eq!(worker.claim.leases(1).await[0].task_id, waited);
    // That claim found fewer tasks than it could have taken: the lane is empty from here on.
    let id = submit(&scheduler, detailed_spec()).await.id;
    let leased = worker.claim.leases(1).await.remove(0);
    assert_eq!(leased, detailed_lease(&id),);
    let running = get(&scheduler, &id).await.task.unwrap();
    assert_eq!(running.state(), TaskState::Running);
    assert_eq!(running.start_time, running.create_time, "one commit");
    let waited = get(&scheduler, &waited).await.task.unwrap();
    assert_ne!(waited.start_time, waited.create_time, "two commits");
    worker.report.tell(&leased, succeeded()).await;
    assert_eq!(state(&scheduler, &id).await, TaskState::Succeeded);
    scheduler.end().await;
}

#[tokio::test]
async fn a_task_that_another_replica_puts_before_the_mark_is_found_too() {
    let scheduler = Scheduler::start().await;
    // It waits for the worker, so a claim takes it, and leaves the mark of its lane there.
    let id = submit_one(&scheduler).await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    let task = worker.take_one().await;
    let elsewhere = scheduler.database.connect().await;
    elsewhere
        .execute(
            "INSERT INTO tasklease.ready (lane, rank, order_key, first_task, lease_token, attempt, task_ids)
             SELECT lane, rank, order_key - 1, id, 2, 2, ARRAY[id] FROM tasklease.task WHERE id = $1::text::uuid",
            &[&id],
        )
        .await
        .unwrap();
    let before = worker.take_one().await;
    assert_eq!((&before.task_id, before.lease_token), (&task.task_id, 2));
    scheduler.end().await;
}

#[tokio::test]
async fn two_workers_share_the_tasks() {
    let scheduler = Scheduler::start().await;
    let mut one = RawWorker::connect(&scheduler.channel).await;
    let mut two = RawWorker::connect(&scheduler.channel).await;
    for _ in 0..10 {
        submit_one(&scheduler).await;
    }
    one.claim.credit(5).await;
    two.claim.credit(5).await;
    let mut ids: Vec<String> = one.claim.leases(5).await.into_iter().map(|t| t.task_id).collect();
    ids.extend(two.claim.leases(5).await.into_iter().map(|t| t.task_id));
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 10);
    scheduler.end().await;
}

#[tokio::test]
async fn a_run_is_accepted_reports_progress_and_succeeds() {
    let scheduler = Scheduler::start().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    let id = submit_one(&scheduler).await;
    let task = worker.take_one().await;
    let running = get(&scheduler, &id).await.task.unwrap();
    assert_eq!(
        (
            running.state(),
            running.worker.as_str(),
            running.lease_token,
            running.attempt
        ),
        (TaskState::Running, "raw", 1, 1)
    );
    worker.report.tell(&task, progress(1, 40.0)).await;
    let read = get(&scheduler, &id).await.task.unwrap().progress.unwrap();
    assert_eq!(read.percent, Some(40.0));
    worker.report.tell(&task, succeeded()).await;
    let ended = get(&scheduler, &id).await;
    let task = ended.task.unwrap();
    assert_eq!(task.state(), TaskState::Succeeded);
    assert!(task.result.is_some() && task.finish_time.is_some());
    assert_eq!(ended.runs.len(), 1);
    scheduler.end().await;
}

#[tokio::test]
async fn an_outcome_that_comes_again_is_acknowledged_and_another_one_is_stale() {
    let scheduler = Scheduler::start().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    let id = submit_one(&scheduler).await;
    let task = worker.take_one().await;
    worker.report.tell(&task, succeeded()).await;
    let before = get(&scheduler, &id).await;
    worker.report.tell(&task, succeeded()).await;
    for late in [failed(true), Body::Accepted(v1::Accepted {}), log(1, "late")] {
        let answer = worker.report.report(vec![report(&task, late)]).await;
        assert_eq!(answer.stale.len(), 1, "{answer:?}");
        assert_eq!(
            (answer.stale[0].task_id.as_str(), answer.stale[0].lease_token),
            (id.as_str(), 1)
        );
    }
    let twice = vec![report(&task, succeeded()), report(&task, failed(true))];
    assert_eq!(worker.report.report(twice).await.stale.len(), 1);
    assert_eq!(get(&scheduler, &id).await, before, "nothing changed");
    scheduler.end().await;
}

#[tokio::test]
async fn an_outcome_that_another_replica_was_first_with_is_stale_unless_it_is_the_same() {
    let scheduler = Scheduler::start().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    for _ in 0..3 {
        submit_one(&scheduler).await;
    }
    let tasks = worker.take(3).await;
    // What a replica leaves that ended the session's leases while this one still believes in them.
    let elsewhere = scheduler.database.connect().await;
    for (task, outcome) in [(&tasks[0], 1_i16), (&tasks[1], 2)] {
        elsewhere
            .execute(
                "INSERT INTO tasklease.run (task_id, lease_token, outcome, final, attempt, started_at, finished_at)
                 VALUES ($1::text::uuid, 1, $2, true, 1, now(), now())",
                &[&task.task_id, &outcome],
            )
            .await
            .unwrap();
    }
    let reports = tasks.iter().map(|task| report(task, succeeded())).collect();
    let answer = worker.report.report(reports).await;
    let stale: Vec<&str> = answer.stale.iter().map(|lease| lease.task_id.as_str()).collect();
    assert_eq!(stale, [tasks[1].task_id.as_str()]);
    assert_eq!(state(&scheduler, &tasks[1].task_id).await, TaskState::Failed);
    assert_eq!(state(&scheduler, &tasks[2].task_id).await, TaskState::Succeeded);
    scheduler.end().await;
}

#[tokio::test]
async fn two_outcomes_in_one_message_count_once() {
    let scheduler = Scheduler::start().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    let id = submit_one(&scheduler).await;
    let task = worker.take_one().await;
    let answer = worker
        .report
        .report(vec![report(&task, succeeded()), report(&task, failed(true))])
        .await;
    assert_eq!(answer.stale.len(), 1);
    assert_eq!(state(&scheduler, &id).await, TaskState::Succeeded);
    scheduler.end().await;
}

#[tokio::test]
async fn a_worker_cannot_report_on_a_lease_that_is_not_its_own() {
    let scheduler = Scheduler::start().await;
    let mut owner = RawWorker::connect(&scheduler.channel).await;
    let mut other = RawWorker::connect(&scheduler.channel).await;
    let id = submit_one(&scheduler).await;
    let task = owner.take_one().await;
    for body in [
        succeeded(),
        failed(true),
        progress(1, 1.0),
        Body::Accepted(v1::Accepted {}),
    ] {
        let answer = other.report.report(vec![report(&task, body)]).await;
        assert_eq!(answer.stale.len(), 1, "{answer:?}");
    }
    let wrong_token = v1::LeasedTask {
        lease_token: 2,
        ..task.clone()
    };
    let answer = owner.report.report(vec![report(&wrong_token, succeeded())]).await;
    assert_eq!(answer.stale.len(), 1);
    let read = get(&scheduler, &id).await.task.unwrap();
    assert_eq!((read.state(), read.progress), (TaskState::Running, None));
    owner.report.tell(&task, succeeded()).await;
    scheduler.end().await;
}

#[tokio::test]
async fn a_report_that_breaks_a_rule_is_refused_and_the_others_are_taken() {
    let scheduler = Scheduler::start_with(&["--max-payload", "2000"]).await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    let id = submit_one(&scheduler).await;
    let task = worker.take_one().await;
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(2_000));
    let too_large = Body::Succeeded(v1::Succeeded {
        output: Some(v1::succeeded::Output::ResultJson(large.into())),
    });
    let nothing = v1::Report {
        body: None,
        ..report(&task, succeeded())
    };
    let answer = worker
        .report
        .report(vec![
            report(&task, too_large),
            report(&task, progress(1, 101.0)),
            nothing,
            report(&task, progress(1, 50.0)),
        ])
        .await;
    assert_eq!((answer.refused.len(), answer.stale.len()), (3, 0));
    assert!(
        answer.refused[0].message.starts_with("succeeded.result_json"),
        "{answer:?}"
    );
    assert_eq!(answer.refused[0].lease.as_ref().unwrap().task_id, id);
    let read = get(&scheduler, &id).await.task.unwrap();
    assert_eq!(read.state(), TaskState::Running);
    assert_eq!(read.progress.unwrap().percent, Some(50.0));
    scheduler.end().await;
}

#[tokio::test]
async fn a_success_after_a_cancel_is_acknowledged_and_ends_cancelled() {
    let scheduler = Scheduler::start().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    let id = submit_one(&scheduler).await;
    let task = worker.take_one().await;
    cancel(&scheduler, &id).await.unwrap();
    let notice = worker.report.next().await.unwrap();
    let Some(FromReport::Cancels(batch)) = notice else {
        panic!("expected a cancel, got {notice:?}");
    };
    let lease = batch.cancels[0].lease.as_ref().unwrap();
    assert_eq!((lease.task_id.as_str(), lease.lease_token), (id.as_str(), 1));
    worker.report.tell(&task, succeeded()).await;
    let ended = get(&scheduler, &id).await.task.unwrap();
    assert_eq!((ended.state(), ended.result), (TaskState::Cancelled, None));
    scheduler.end().await;
}

#[tokio::test]
async fn code_that_ignores_its_cancel_loses_the_lease() {
    let scheduler = Scheduler::start().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    let id = submit_one(&scheduler).await;
    worker.take_one().await;
    let request = v1::CancelTaskRequest {
        task_id: id.clone(),
        reason: String::new(),
        grace: crate::calls::seconds(0),
    };
    scheduler.tasks().cancel_task(request).await.unwrap();
    let mut stale = false;
    while !stale {
        match worker.report.next().await.unwrap() {
            Some(FromReport::Cancels(_)) => {}
            Some(FromReport::Acknowledgement(notice)) => {
                assert!(notice.sequences.is_empty());
                assert_eq!(notice.stale[0].task_id, id);
                stale = true;
            }
            other => panic!("expected a stale notice, got {other:?}"),
        }
    }
    let read = get(&scheduler, &id).await;
    assert_eq!(read.task.unwrap().state(), TaskState::Cancelled);
    assert_eq!(read.runs.len(), 1);
    assert_eq!(read.runs[0].worker, "raw");
    assert!(read.runs[0].start_time.is_some());
    scheduler.end().await;
}

#[tokio::test]
async fn a_goodbye_hands_leases_back_and_ends_the_session() {
    let scheduler = Scheduler::start().await;
    let mut leaver = RawWorker::connect(&scheduler.channel).await;
    let mut heir = RawWorker::connect(&scheduler.channel).await;
    let id = submit_one(&scheduler).await;
    leaver.take_one().await;
    heir.claim.credit(1).await;
    leaver
        .report
        .acknowledged(ToReport::Goodbye(v1::Goodbye {}))
        .await;
    assert!(leaver.report.next().await.unwrap().is_none());
    let ended = leaver.claim.next().await.unwrap();
    assert!(matches!(ended, Some(FromClaim::Ended(_))), "{ended:?}");
    assert!(leaver.claim.next().await.unwrap().is_none());
    let task = heir.claim.leases(1).await.remove(0);
    assert_eq!(
        (task.task_id.as_str(), task.attempt, task.lease_token),
        (id.as_str(), 1, 2)
    );
    let mut again = crate::raw_worker::ReportStream::open(&scheduler.channel).await;
    let answer = again.open_session(&leaver.session).await.unwrap();
    assert!(matches!(answer, Some(FromReport::Ended(_))), "{answer:?}");
    scheduler.end().await;
}

#[tokio::test]
async fn a_worker_that_falls_silent_loses_its_session_and_its_tasks() {
    let scheduler = Scheduler::start_with(&["--lease", "3s"]).await;
    let mut silent = RawWorker::connect(&scheduler.channel).await;
    let id = submit_one(&scheduler).await;
    let task = silent.take_one().await;
    let ended = silent.report.next().await.unwrap();
    assert!(matches!(ended, Some(FromReport::Ended(_))), "{ended:?}");
    assert!(silent.report.next().await.unwrap().is_none());
    let ended = silent.claim.next().await.unwrap();
    assert!(matches!(ended, Some(FromClaim::Ended(_))), "{ended:?}");
    assert!(silent.claim.next().await.unwrap().is_none());
    let mut next = RawWorker::connect(&scheduler.channel).await;
    let again = next.take_one().await;
    assert_eq!(
        (again.task_id, again.attempt, again.lease_token),
        (id.clone(), 2, 2)
    );
    let zombie = next.report.report(vec![report(&task, succeeded())]).await;
    assert_eq!(zombie.stale.len(), 1);
    let read = get(&scheduler, &id).await;
    assert_eq!(read.runs[0].outcome(), v1::Outcome::Lost);
    scheduler.end().await;
}
