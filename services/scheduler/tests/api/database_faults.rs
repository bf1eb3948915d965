//! Errors and stalls of Postgres while workers report: nothing is lost, and one slow thing stops no other.

use std::time::Duration;

use futures_util::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use tasklease_proto::v1::{
    self, TaskState, report_progress_request::Message as ToReport,
    report_progress_response::Message as FromReport,
};
use tokio_postgres::Client;
use tonic::Code;

use crate::{
    calls::{spec, state, submit_one},
    raw_worker::{RawWorker, hello, progress, report, succeeded},
    scheduler::{Scheduler, soon},
};

/// Waits until a query says true.
async fn until(client: &Client, what: &str, query: &str) {
    let holds = async {
        while !client.query_one(query, &[]).await.unwrap().get::<_, bool>(0) {
            tokio::task::yield_now().await;
        }
    };
    soon(what, holds).await;
}

/// Postgres raises an error at every insert of a run of this task. A sequence counts them, because it does not roll
/// back.
async fn raise_at_runs_of(client: &Client, task: &str, code: &str) {
    client
        .batch_execute(&format!(
            "CREATE SEQUENCE raised;
             CREATE FUNCTION raise_error() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 PERFORM nextval('raised');
                 RAISE EXCEPTION 'planted' USING ERRCODE = '{code}';
             END $$;
             CREATE TRIGGER planted BEFORE INSERT ON tasklease.run FOR EACH ROW
             WHEN (NEW.task_id = '{task}') EXECUTE FUNCTION raise_error()"
        ))
        .await
        .unwrap();
}

/// Reads acknowledgements until all these messages are acknowledged; nothing of them may be refused.
async fn acknowledged(worker: &mut RawWorker, mut sequences: Vec<u64>) {
    while !sequences.is_empty() {
        match worker.report.next().await.unwrap() {
            Some(FromReport::Acknowledgement(ack)) => {
                assert!(ack.stale.is_empty() && ack.refused.is_empty(), "{ack:?}");
                sequences.retain(|sequence| !ack.sequences.contains(sequence));
            }
            other => panic!("expected an acknowledgement, got {other:?}"),
        }
    }
}

async fn say(worker: &mut RawWorker, reports: Vec<v1::Report>) -> u64 {
    let batch = v1::ReportBatch { reports };
    worker.report.say(ToReport::Reports(batch)).await
}

#[tokio::test]
async fn an_outcome_that_postgres_refuses_for_a_while_is_stored_and_its_grant_stays_until_then() {
    // An I/O error, an internal error, and one that nobody knows.
    for code in ["58030", "XX000", "P0001"] {
        let scheduler = Scheduler::start().await;
        let client = scheduler.database.connect().await;
        let mut worker = RawWorker::connect(&scheduler.channel).await;
        let (one, two) = (submit_one(&scheduler).await, submit_one(&scheduler).await);
        let mut tasks = worker.take(2).await;
        tasks.sort_by_key(|task| task.task_id != one);
        raise_at_runs_of(&client, &one, code).await;
        let first = say(&mut worker, vec![report(&tasks[0], succeeded())]).await;
        until(&client, "the error", "SELECT is_called FROM raised").await;
        let second = say(&mut worker, vec![report(&tasks[1], succeeded())]).await;
        until(&client, "it again", "SELECT last_value > 1 FROM raised").await;
        client
            .batch_execute("DROP TRIGGER planted ON tasklease.run")
            .await
            .unwrap();
        acknowledged(&mut worker, vec![first, second]).await;
        for task in [&one, &two] {
            assert_eq!(state(&scheduler, task).await, TaskState::Succeeded, "{code}");
        }
        scheduler.end().await;
    }
}

#[tokio::test]
async fn an_outcome_that_can_never_be_stored_is_refused_and_holds_up_no_other() {
    let scheduler = Scheduler::start().await;
    let client = scheduler.database.connect().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    let (one, two) = (submit_one(&scheduler).await, submit_one(&scheduler).await);
    let mut tasks = worker.take(2).await;
    tasks.sort_by_key(|task| task.task_id != one);
    // As Postgres does with a value that it cannot take.
    raise_at_runs_of(&client, &one, "22P05").await;
    let both = tasks.iter().map(|task| report(task, succeeded())).collect();
    let answer = worker.report.report(both).await;
    let refused: Vec<String> = answer
        .refused
        .into_iter()
        .map(|refused| refused.lease.unwrap().task_id)
        .collect();
    assert_eq!((refused, answer.stale), (vec![one.clone()], Vec::new()));
    assert_eq!(state(&scheduler, &two).await, TaskState::Succeeded);
    assert_eq!(state(&scheduler, &one).await, TaskState::Running);
    client
        .batch_execute("DROP TRIGGER planted ON tasklease.run")
        .await
        .unwrap();
    worker.report.tell(&tasks[0], succeeded()).await;
    assert_eq!(state(&scheduler, &one).await, TaskState::Succeeded);
    scheduler.end().await;
}

#[tokio::test]
async fn heartbeats_and_outcomes_do_not_wait_for_progress() {
    let scheduler = Scheduler::start().await;
    let mut client = scheduler.database.connect().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    let id = submit_one(&scheduler).await;
    let task = worker.take_one().await;
    let lock = client.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE tasklease.task_event IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let stuck = say(&mut worker, vec![report(&task, progress(1, 50.0))]).await;
    let heartbeat = worker
        .report
        .say(ToReport::Heartbeat(v1::Heartbeat::default()))
        .await;
    acknowledged(&mut worker, vec![heartbeat]).await;
    let outcome = say(&mut worker, vec![report(&task, succeeded())]).await;
    acknowledged(&mut worker, vec![outcome]).await;
    lock.commit().await.unwrap();
    acknowledged(&mut worker, vec![stuck]).await;
    assert_eq!(state(&scheduler, &id).await, TaskState::Succeeded);
    scheduler.end().await;
}

#[tokio::test]
async fn submits_that_wait_for_their_lane_to_be_noted_are_bounded_in_bytes() {
    let scheduler = Scheduler::start().await;
    let mut client = scheduler.database.connect().await;
    let lock = client.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE tasklease.lane_span IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let payload = format!(r#"{{"text":"{}"}}"#, "x".repeat(1_000_000));
    let mut answers: FuturesUnordered<_> = (0..80)
        .map(|_| {
            let task = v1::TaskSpec {
                input: Some(v1::task_spec::Input::PayloadJson(payload.clone().into())),
                ..spec()
            };
            let mut tasks = scheduler.tasks();
            async move {
                tasks
                    .submit_task(v1::SubmitTaskRequest { task: Some(task) })
                    .await
            }
        })
        .collect();
    for _ in 0..10 {
        let refused = soon("a refusal", answers.next()).await.unwrap().unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    }
    lock.rollback().await.unwrap();
    let rest: Vec<_> = soon("the other answers", answers.collect()).await;
    assert!(rest.iter().any(Result::is_ok));
    scheduler.end().await;
}

#[tokio::test]
async fn patient_readers_keep_neither_heartbeats_nor_tasks_waiting() {
    let scheduler = Scheduler::start().await;
    let mut client = scheduler.database.connect().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    let id = submit_one(&scheduler).await;
    let task = worker.take_one().await;
    let lock = client.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE tasklease.task_event IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let list = || async {
        let request = v1::ListTasksRequest::default();
        scheduler.tasks().list_tasks(request).await.map(drop)
    };
    let readers = tokio::time::timeout(Duration::from_secs(60), join_all((0..20).map(|_| list())));
    let work = async {
        let heartbeat = worker
            .report
            .say(ToReport::Heartbeat(v1::Heartbeat::default()))
            .await;
        acknowledged(&mut worker, vec![heartbeat]).await;
        worker.report.tell(&task, succeeded()).await;
        let next = submit_one(&scheduler).await;
        let again = worker.take_one().await;
        assert_eq!(again.task_id, next);
        lock.commit().await.unwrap();
    };
    let (_, ()) = tokio::join!(readers, work);
    assert_eq!(state(&scheduler, &id).await, TaskState::Succeeded);
    scheduler.end().await;
}

#[tokio::test]
async fn a_statement_whose_caller_left_is_cancelled() {
    let scheduler = Scheduler::start().await;
    submit_one(&scheduler).await;
    let watcher = scheduler.database.connect().await;
    let mut client = scheduler.database.connect().await;
    let lock = client.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE tasklease.task_event IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity
                               WHERE application_name = 'tasklease lists' AND state = 'active'
                                 AND datname = current_database())";
    let mut tasks = scheduler.tasks();
    let call = tokio::spawn(async move { tasks.list_tasks(v1::ListTasksRequest::default()).await });
    until(&watcher, "the list to wait for the lock", waits).await;
    call.abort();
    until(
        &watcher,
        "the list to be cancelled",
        &format!("SELECT NOT ({waits})"),
    )
    .await;
    lock.commit().await.unwrap();
    scheduler.end().await;
}

#[tokio::test]
async fn leases_come_in_messages_that_clients_take_by_default() {
    let scheduler = Scheduler::start().await;
    let payload = format!(r#"{{"text":"{}"}}"#, "x".repeat(1_000_000));
    let spec = || v1::TaskSpec {
        input: Some(v1::task_spec::Input::PayloadJson(payload.clone().into())),
        ..crate::calls::spec()
    };
    for _ in 0..7 {
        crate::calls::submit(&scheduler, spec()).await;
    }
    // The client of these tests takes no more than 4 MiB in a message, as clients do by default.
    let mut worker = RawWorker::connect_as(&scheduler.channel, hello()).await;
    assert_eq!(worker.take(7).await.len(), 7);
    scheduler.end().await;
}

#[tokio::test]
async fn a_submit_that_repeats_some_tasks_and_brings_new_ones_stores_the_new_ones() {
    let scheduler = Scheduler::start().await;
    let spec = |payload: &str| v1::TaskSpec {
        task_id: uuid::Uuid::now_v7().to_string(),
        input: Some(v1::task_spec::Input::PayloadJson(payload.to_owned().into())),
        ..crate::calls::spec()
    };
    let (old, new) = (spec(r#"{"a":1,"b":2}"#), spec("{}"));
    let submit = |tasks: Vec<v1::TaskSpec>| async {
        let request = v1::SubmitTasksRequest { tasks };
        scheduler.tasks().submit_tasks(request).await
    };
    submit(vec![old.clone()]).await.unwrap();
    let rewritten = v1::TaskSpec {
        input: Some(v1::task_spec::Input::PayloadJson(r#"{ "b": 2, "a": 1 }"#.into())),
        ..old.clone()
    };
    let answer = submit(vec![rewritten, new.clone()]).await.unwrap().into_inner();
    assert_eq!(answer.task_ids, [old.task_id.clone(), new.task_id.clone()]);
    assert_eq!(state(&scheduler, &new.task_id).await, TaskState::Pending);
    let different = v1::TaskSpec {
        input: Some(v1::task_spec::Input::PayloadJson(r#"{"a":1}"#.into())),
        ..old.clone()
    };
    let third = spec("{}");
    let refused = submit(vec![different, third.clone()]).await;
    let metadata = crate::calls::refused(refused, tonic::Code::AlreadyExists, "TASK_EXISTS");
    assert_eq!(
        metadata.get("task_id"),
        Some(&old.task_id),
        "only the one that differs"
    );
    let request = v1::GetTaskRequest {
        task_id: third.task_id,
        ..Default::default()
    };
    let stored = scheduler.tasks().get_task(request).await;
    assert_eq!(
        stored.unwrap_err().code(),
        tonic::Code::NotFound,
        "all or nothing"
    );
    scheduler.end().await;
}

#[tokio::test]
async fn the_id_of_a_deleted_task_answers_for_itself() {
    let scheduler = Scheduler::start().await;
    let old = v1::TaskSpec {
        task_id: uuid::Uuid::now_v7().to_string(),
        input: Some(v1::task_spec::Input::PayloadJson(r#"{"n":1}"#.into())),
        ..crate::calls::spec()
    };
    crate::calls::submit(&scheduler, old.clone()).await;
    crate::calls::cancel(&scheduler, &old.task_id).await.unwrap();
    let request = v1::DeleteTaskRequest {
        task_id: old.task_id.clone(),
    };
    scheduler.tasks().delete_task(request).await.unwrap();
    let batch = |task: &v1::TaskSpec| {
        let tasks = vec![task.clone(), crate::calls::spec()];
        let mut client = scheduler.tasks();
        async move { client.submit_tasks(v1::SubmitTasksRequest { tasks }).await }
    };
    let repeated = batch(&old).await.unwrap().into_inner();
    assert_eq!(repeated.task_ids[0], old.task_id, "it came before");
    let other = v1::TaskSpec {
        input: None,
        ..old.clone()
    };
    crate::calls::refused(batch(&other).await, tonic::Code::AlreadyExists, "TASK_EXISTS");
    let request = v1::SubmitTaskRequest { task: Some(old) };
    let single = scheduler.tasks().submit_task(request).await;
    crate::calls::refused(single, tonic::Code::AlreadyExists, "TASK_DELETED");
    scheduler.end().await;
}

#[tokio::test]
async fn many_who_read_single_tasks_at_once_are_served_in_turn() {
    let scheduler = Scheduler::start().await;
    let id = submit_one(&scheduler).await;
    let states = join_all((0..400).map(|_| state(&scheduler, &id))).await;
    assert!(states.iter().all(|state| *state == TaskState::Pending));
    scheduler.end().await;
}
