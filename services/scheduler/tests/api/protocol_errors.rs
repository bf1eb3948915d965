//! Streams that do not keep to the protocol.

use tasklease_proto::v1::{
    self, claim_task_request::Message as ToClaim, report_progress_request::Message as ToReport,
    report_progress_response::Message as FromReport,
};
use tonic::Code;
use uuid::Uuid;

use crate::{
    calls::{invalid, refused},
    raw_worker::{ClaimStream, RawWorker, ReportStream, hello},
    scheduler::Scheduler,
};

#[tokio::test]
async fn the_first_message_of_each_stream_introduces_it() {
    let scheduler = Scheduler::start().await;
    let mut claim = ClaimStream::open(&scheduler.channel).await;
    claim.credit(1).await;
    refused(claim.next().await, Code::InvalidArgument, "PROTOCOL");
    let mut report = ReportStream::open(&scheduler.channel).await;
    report.say(ToReport::Heartbeat(v1::Heartbeat::default())).await;
    refused(report.next().await, Code::InvalidArgument, "PROTOCOL");
    scheduler.end().await;
}

#[tokio::test]
async fn an_introduction_comes_once() {
    let scheduler = Scheduler::start().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    let again = worker.report.open_session(&worker.session.clone()).await;
    refused(again, Code::InvalidArgument, "PROTOCOL");
    worker.claim.say(ToClaim::Hello(hello())).await;
    refused(worker.claim.next().await, Code::InvalidArgument, "PROTOCOL");
    scheduler.end().await;
}

#[tokio::test]
async fn a_hello_that_breaks_a_rule_names_the_field() {
    let scheduler = Scheduler::start().await;
    let cases = [
        (
            v1::WorkerHello {
                name: String::new(),
                ..hello()
            },
            "hello.name",
        ),
        (
            v1::WorkerHello {
                name: "x".repeat(201),
                ..hello()
            },
            "hello.name",
        ),
        (
            v1::WorkerHello {
                incarnation: String::new(),
                ..hello()
            },
            "hello.incarnation",
        ),
        (
            v1::WorkerHello {
                task_types: vec![],
                ..hello()
            },
            "hello.task_types",
        ),
        (
            v1::WorkerHello {
                task_types: vec!["a b".into()],
                ..hello()
            },
            "hello.task_types[0]",
        ),
        (
            v1::WorkerHello {
                queues: vec!["a b".into()],
                ..hello()
            },
            "hello.queues[0]",
        ),
        (
            v1::WorkerHello {
                queues: vec!["q".into(); 101],
                ..hello()
            },
            "hello.queues",
        ),
        (v1::WorkerHello { slots: 0, ..hello() }, "hello.slots"),
        (
            v1::WorkerHello {
                slots: 10_001,
                ..hello()
            },
            "hello.slots",
        ),
        (
            v1::WorkerHello {
                session_id: "nonsense".into(),
                ..hello()
            },
            "hello.session_id",
        ),
        (
            v1::WorkerHello {
                labels: [(" ".to_owned(), String::new())].into(),
                ..hello()
            },
            "hello.labels",
        ),
    ];
    for (hello, field) in cases {
        let mut claim = ClaimStream::open(&scheduler.channel).await;
        claim.say(ToClaim::Hello(hello)).await;
        assert_eq!(invalid(claim.next().await), [field]);
    }
    scheduler.end().await;
}

#[tokio::test]
async fn credit_has_bounds() {
    let scheduler = Scheduler::start().await;
    for tasks in [0, -1, 10_001] {
        let mut worker = RawWorker::connect(&scheduler.channel).await;
        worker.claim.credit(tasks).await;
        assert_eq!(invalid(worker.claim.next().await), ["credit.tasks"]);
    }
    scheduler.end().await;
}

#[tokio::test]
async fn reports_for_a_session_that_is_unknown_are_told_so() {
    let scheduler = Scheduler::start().await;
    let mut report = ReportStream::open(&scheduler.channel).await;
    let answer = report.open_session(&Uuid::new_v4().to_string()).await.unwrap();
    assert!(matches!(answer, Some(FromReport::Ended(_))), "{answer:?}");
    assert!(report.next().await.unwrap().is_none());
    let mut report = ReportStream::open(&scheduler.channel).await;
    assert_eq!(
        invalid(report.open_session("nonsense").await),
        ["open.session_id"]
    );
    scheduler.end().await;
}

#[tokio::test]
async fn too_many_reports_in_one_message_are_refused() {
    let scheduler = Scheduler::start().await;
    let mut worker = RawWorker::connect(&scheduler.channel).await;
    let reports = vec![v1::Report::default(); 5_001];
    worker
        .report
        .say(ToReport::Reports(v1::ReportBatch { reports }))
        .await;
    assert_eq!(invalid(worker.report.next().await), ["reports"]);
    scheduler.end().await;
}
