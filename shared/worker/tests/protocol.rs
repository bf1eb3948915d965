//! A worker against the scheduler's half of the protocol, over a real connection.

#![expect(clippy::expect_used, reason = "tests may fail loudly")]

mod peer;

use std::{sync::Arc, time::Duration};

use peer::{Answer, Peer, ReportStream, RunningWorker, Timing, lease_ref, within};
use tasklease_proto::v1::{
    Acknowledgement, Drain, SessionEnded, claim_task_response, report::Body, report_progress_response,
    succeeded::Output,
};
use tasklease_worker::{
    Context, LogLevel, Progress, StopReason, Task, TaskError, TaskResult, Worker, WorkerArgs, WorkerError,
};
use tokio::sync::{
    Semaphore,
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// What test code tells the test.
#[derive(Debug, PartialEq)]
enum Seen {
    Started,
    Stopped(StopReason),
    Dropped,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Params {
    number: u32,
}

/// Reports progress and a line, then returns its number.
struct Echo;

impl Task for Echo {
    const TYPE: &'static str = "echo";
    type Params = Params;
    type Output = serde_json::Value;
    type Error = TaskError;

    async fn run(&self, params: Params, ctx: &Context) -> TaskResult<Self::Output> {
        ctx.update_progress(50.0, "Halfway");
        ctx.log(LogLevel::Info, "a line");
        let number = ctx.blocking(move || Ok(params.number + 1)).await?;
        Ok(serde_json::json!({ "number": number }))
    }
}

/// Waits for a permit of the test; listens to cancellation.
struct Wait {
    go: Arc<Semaphore>,
    seen: UnboundedSender<Seen>,
}

impl Wait {
    fn new() -> (Self, Arc<Semaphore>, UnboundedReceiver<Seen>) {
        let (seen, told) = unbounded_channel();
        let go = Arc::new(Semaphore::new(0));
        (
            Self {
                go: Arc::clone(&go),
                seen,
            },
            go,
            told,
        )
    }
}

impl Task for Wait {
    const TYPE: &'static str = "wait";
    type Params = Params;
    type Output = &'static str;
    type Error = TaskError;

    async fn run(&self, _: Params, ctx: &Context) -> TaskResult<Self::Output> {
        let _ = self.seen.send(Seen::Started);
        tokio::select! {
            () = ctx.cancelled() => {
                let stopped = ctx.check_cancelled().expect_err("the signal came");
                let _ = self.seen.send(Seen::Stopped(stopped.reason().clone()));
                Err(stopped.into())
            }
            permit = self.go.acquire() => {
                permit?.forget();
                Ok("done")
            }
        }
    }
}

/// Never ends and never listens; tells when its future is dropped.
struct Deaf(UnboundedSender<Seen>);

struct TellsDrop(UnboundedSender<Seen>);

impl Drop for TellsDrop {
    fn drop(&mut self) {
        let _ = self.0.send(Seen::Dropped);
    }
}

impl Task for Deaf {
    const TYPE: &'static str = "deaf";
    type Params = Params;
    type Output = ();
    type Error = TaskError;

    async fn run(&self, _: Params, _: &Context) -> TaskResult<()> {
        let _tells = TellsDrop(self.0.clone());
        let _ = self.0.send(Seen::Started);
        std::future::pending().await
    }
}

struct Panics;

impl Task for Panics {
    const TYPE: &'static str = "panics";
    type Params = Params;
    type Output = ();
    type Error = TaskError;

    async fn run(&self, params: Params, _: &Context) -> TaskResult<()> {
        panic!("number {} is cursed", params.number)
    }
}

/// Blocks a thread of the author's runtime until the test lets it go.
struct BlocksThread(
    Arc<parking_lot::Mutex<std::sync::mpsc::Receiver<()>>>,
    UnboundedSender<Seen>,
);

impl Task for BlocksThread {
    const TYPE: &'static str = "blocks_thread";
    type Params = Params;
    type Output = ();
    type Error = TaskError;

    async fn run(&self, _: Params, _: &Context) -> TaskResult<()> {
        let _ = self.1.send(Seen::Started);
        let _ = self.0.lock().recv();
        Ok(())
    }
}

fn cancelled(reason: &str) -> Seen {
    Seen::Stopped(StopReason::Cancelled {
        reason: reason.into(),
    })
}

fn lost(why: &str) -> Seen {
    Seen::Stopped(StopReason::LeaseLost { why: why.into() })
}

async fn saw(told: &mut UnboundedReceiver<Seen>) -> Seen {
    within("a sign of the task's code", told.recv())
        .await
        .expect("the code is registered")
}

/// Returns a text of as many bytes as its number says.
struct Huge;

impl Task for Huge {
    const TYPE: &'static str = "huge";
    type Params = Params;
    type Output = String;
    type Error = TaskError;

    async fn run(&self, params: Params, _: &Context) -> TaskResult<String> {
        Ok("x".repeat(params.number as usize))
    }
}

/// Fails for good once it is told to stop.
struct FailsWhenTold;

impl Task for FailsWhenTold {
    const TYPE: &'static str = "fails_when_told";
    type Params = Params;
    type Output = ();
    type Error = TaskError;

    async fn run(&self, _: Params, ctx: &Context) -> TaskResult<()> {
        ctx.cancelled().await;
        Err(TaskError::new("NO_PAPER", "the printer has no paper").non_retryable())
    }
}

/// Asks to be handed back once the worker drains.
struct LeavesOnDrain;

impl Task for LeavesOnDrain {
    const TYPE: &'static str = "leaves_on_drain";
    type Params = Params;
    type Output = ();
    type Error = TaskError;

    async fn run(&self, _: Params, ctx: &Context) -> TaskResult<()> {
        ctx.draining().await;
        assert!(ctx.is_draining() && !ctx.is_cancelled());
        Err(TaskError::cancelled())
    }
}

/// Queues a closure that tells its number when it begins and waits at the gate.
struct Closures {
    gate: Arc<parking_lot::Mutex<std::sync::mpsc::Receiver<()>>>,
    begun: UnboundedSender<u32>,
}

impl Task for Closures {
    const TYPE: &'static str = "closures";
    type Params = Params;
    type Output = ();
    type Error = TaskError;

    async fn run(&self, params: Params, ctx: &Context) -> TaskResult<()> {
        let (gate, begun) = (Arc::clone(&self.gate), self.begun.clone());
        let closure = ctx.blocking(move || {
            let _ = begun.send(params.number);
            let _ = gate.lock().recv();
            Ok(())
        });
        let mut closure = std::pin::pin!(closure);
        // It stands in the queue once it was polled.
        std::future::poll_fn(|cx| {
            let _ = closure.as_mut().poll(cx);
            std::task::Poll::Ready(())
        })
        .await;
        ctx.report(Progress::unknown());
        Ok(closure.await?)
    }
}

/// Reports progress as often as its number says, and a line in the middle.
struct Chatty;

impl Task for Chatty {
    const TYPE: &'static str = "chatty";
    type Params = Params;
    type Output = ();
    type Error = TaskError;

    async fn run(&self, params: Params, ctx: &Context) -> TaskResult<()> {
        for number in 1..=params.number {
            ctx.update_progress(f64::from(number) * 100.0 / f64::from(params.number), "Talking");
            if number == params.number / 2 {
                ctx.log(LogLevel::Info, "halfway");
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

fn error_type(body: &Body) -> &str {
    match body {
        Body::Failed(failed) => failed.error.as_ref().map_or("", |error| error.kind.as_str()),
        other => panic!("expected failed, got {other:?}"),
    }
}

fn is_success(body: &Body) -> bool {
    matches!(body, Body::Succeeded(_))
}

async fn stop(worker: RunningWorker, reports: &mut ReportStream) {
    worker.shutdown.trigger_soft();
    reports.expect_goodbye().await;
    worker.ended().await.expect("a clean end");
}

#[tokio::test]
async fn a_leased_task_is_accepted_runs_and_its_outcome_is_reported_once() {
    let mut peer = Peer::start().await;
    let worker = RunningWorker::start(&[&peer], 30, |worker| worker.register(Echo));
    let (mut claim, mut reports, credit) = peer.session("s1", Timing::Usual).await;
    assert_eq!(credit, 2, "one per slot");
    claim.lease("t1", "echo", r#"{"number":41}"#);
    reports.expect_accepted("t1").await;
    let (progress, line) = (reports.body_of("t1").await, reports.body_of("t1").await);
    assert!(
        matches!(&progress, Body::Progress(p) if p.event_number == 1),
        "{progress:?}"
    );
    assert!(matches!(&line, Body::Log(l) if l.event_number == 2), "{line:?}");
    match reports.body_of("t1").await {
        Body::Succeeded(success) => assert_eq!(
            success.output,
            Some(Output::ResultJson(r#"{"number":42}"#.into()))
        ),
        other => panic!("expected succeeded, got {other:?}"),
    }
    assert_eq!(claim.credit().await, 1, "the slot is offered again");
    stop(worker, &mut reports).await;
}

#[tokio::test]
async fn an_outcome_that_was_not_acknowledged_is_sent_again_after_a_break() {
    let mut peer = Peer::start().await;
    let (wait, go, mut told) = Wait::new();
    let worker = RunningWorker::start(&[&peer], 30, |worker| worker.register(wait));
    let (claim, mut reports, _) = peer.session("s1", Timing::Usual).await;
    claim.lease("t1", "wait", "{}");
    reports.expect_accepted("t1").await;
    assert_eq!(saw(&mut told).await, Seen::Started);
    go.add_permits(1);
    let (_, lost) = reports.unacknowledged().await;
    assert!(is_success(&lost.body.expect("body")));
    drop((claim, reports));

    let (claim, hello) = peer.hello().await;
    assert_eq!(
        (hello.session_id.as_str(), hello.held.as_slice()),
        ("s1", &[lease_ref("t1")][..])
    );
    claim.open("s1", Timing::Usual, Answer::Resumed);
    let mut reports = peer.report_stream("s1").await;
    assert!(is_success(&reports.body_of("t1").await));
    stop(worker, &mut reports).await;
}

#[tokio::test]
async fn a_stale_lease_stops_its_code_and_drops_its_outcome() {
    let mut peer = Peer::start().await;
    let (wait, _go, mut told) = Wait::new();
    let worker = RunningWorker::start(&[&peer], 30, |worker| worker.register(wait));
    let (claim, mut reports, _) = peer.session("s1", Timing::Usual).await;
    claim.lease("t1", "wait", "{}");
    let (sequence, _) = reports.unacknowledged().await;
    assert_eq!(saw(&mut told).await, Seen::Started);
    reports.answer(Acknowledgement {
        sequences: vec![sequence],
        stale: vec![lease_ref("t1")],
        ..Acknowledgement::default()
    });
    assert_eq!(saw(&mut told).await, lost("the scheduler has given it up"));
    // `stop` fails on any report that comes before the goodbye.
    stop(worker, &mut reports).await;
}

#[tokio::test]
async fn a_cancel_request_reaches_the_code_and_ends_the_run_as_cancelled() {
    let mut peer = Peer::start().await;
    let (wait, _go, mut told) = Wait::new();
    let worker = RunningWorker::start(&[&peer], 30, |worker| worker.register(wait));
    let (claim, mut reports, _) = peer.session("s1", Timing::Usual).await;
    claim.lease("t1", "wait", "{}");
    reports.expect_accepted("t1").await;
    assert_eq!(saw(&mut told).await, Seen::Started);
    reports.cancel("t1", "by hand", Duration::from_secs(10));
    assert_eq!(saw(&mut told).await, cancelled("by hand"));
    match reports.body_of("t1").await {
        Body::Cancelled(cancelled) => assert_eq!(cancelled.message, "by hand"),
        other => panic!("expected cancelled, got {other:?}"),
    }
    stop(worker, &mut reports).await;
}

#[tokio::test]
async fn a_cancel_request_that_overtakes_its_lease_keeps_the_code_from_starting() {
    let mut peer = Peer::start().await;
    let (wait, _go, mut told) = Wait::new();
    let worker = RunningWorker::start(&[&peer], 30, |worker| worker.register(wait).register(Echo));
    let (claim, mut reports, _) = peer.session("s1", Timing::Usual).await;
    reports.cancel("t1", "early", Duration::from_secs(10));
    // Its answer proves that the worker has read the cancel request before it.
    claim.lease("t0", "echo", "{}");
    while !is_success(&reports.body_of("t0").await) {}
    claim.lease("t1", "wait", "{}");
    assert!(
        matches!(reports.body_of("t1").await, Body::Cancelled(_)),
        "an outcome says that the lease was accepted"
    );
    assert!(told.try_recv().is_err(), "the code must not have started");
    stop(worker, &mut reports).await;
}

#[tokio::test]
async fn code_that_ignores_a_cancel_request_is_dropped_when_its_grace_ends() {
    let mut peer = Peer::start().await;
    let (seen, mut told) = unbounded_channel();
    let worker = RunningWorker::start(&[&peer], 30, |worker| worker.register(Deaf(seen)));
    let (mut claim, mut reports, _) = peer.session("s1", Timing::Usual).await;
    claim.lease("t1", "deaf", "{}");
    reports.expect_accepted("t1").await;
    assert_eq!(saw(&mut told).await, Seen::Started);
    reports.cancel("t1", "timed out", Duration::from_millis(100));
    assert!(matches!(reports.body_of("t1").await, Body::Cancelled(_)));
    assert_eq!(saw(&mut told).await, Seen::Dropped);
    assert_eq!(claim.credit().await, 1, "the slot is free again");
    stop(worker, &mut reports).await;
}

#[tokio::test]
async fn tasks_leased_in_one_message_run_side_by_side_and_are_dropped_one_by_one() {
    let mut peer = Peer::start().await;
    let (seen, mut told) = unbounded_channel();
    let worker = RunningWorker::start(&[&peer], 30, |worker| worker.register(Deaf(seen)));
    let (mut claim, mut reports, _) = peer.session("s1", Timing::Usual).await;
    claim.leases(&["t1", "t2"], "deaf", "{}");
    reports.expect_accepted("t1").await;
    reports.expect_accepted("t2").await;
    assert_eq!(
        [saw(&mut told).await, saw(&mut told).await],
        [Seen::Started, Seen::Started]
    );
    for name in ["t2", "t1"] {
        reports.cancel(name, "by hand", Duration::ZERO);
        assert!(matches!(reports.body_of(name).await, Body::Cancelled(_)));
        assert_eq!(saw(&mut told).await, Seen::Dropped);
        assert_eq!(claim.credit().await, 1, "its slot is free again");
    }
    stop(worker, &mut reports).await;
}

#[tokio::test]
async fn on_drain_the_new_stream_is_opened_first_and_running_code_goes_on() {
    let mut peer = Peer::start().await;
    let (wait, go, mut told) = Wait::new();
    let worker = RunningWorker::start(&[&peer], 30, |worker| worker.register(wait));
    let (mut old, mut reports, _) = peer.session("s1", Timing::Usual).await;
    old.lease("t1", "wait", "{}");
    reports.expect_accepted("t1").await;
    assert_eq!(saw(&mut told).await, Seen::Started);
    old.send(claim_task_response::Message::Drain(Drain::default()));
    let (mut claim, hello) = peer.hello().await;
    assert_eq!(
        (hello.session_id.as_str(), hello.held.as_slice()),
        ("s1", &[lease_ref("t1")][..])
    );
    claim.open("s1", Timing::Usual, Answer::Resumed);
    assert_eq!(
        claim.credit().await,
        1,
        "credit starts anew: two slots, one taken"
    );
    assert_eq!(old.next().await, None, "the old stream ends once it is replaced");
    go.add_permits(1);
    let mut reports = peer.report_stream("s1").await;
    assert!(is_success(&reports.body_of("t1").await));
    stop(worker, &mut reports).await;
}

#[tokio::test]
async fn when_the_session_ends_its_code_is_cancelled_and_a_new_session_begins() {
    let mut peer = Peer::start().await;
    let (wait, _go, mut told) = Wait::new();
    let worker = RunningWorker::start(&[&peer], 30, |worker| worker.register(wait));
    let (claim, mut reports, _) = peer.session("s1", Timing::Usual).await;
    claim.lease("t1", "wait", "{}");
    reports.expect_accepted("t1").await;
    assert_eq!(saw(&mut told).await, Seen::Started);
    reports.send(report_progress_response::Message::Ended(SessionEnded {
        reason: "expired".into(),
    }));
    assert_eq!(saw(&mut told).await, lost("the scheduler ended it: expired"));
    let (_claim, mut reports, credit) = peer.session("s2", Timing::Usual).await;
    assert!(credit > 0);
    stop(worker, &mut reports).await;
}

#[tokio::test]
async fn without_acknowledged_heartbeats_the_worker_stops_its_own_code() {
    let mut peer = Peer::start().await;
    let (wait, go, mut told) = Wait::new();
    let (seen, mut deaf_told) = unbounded_channel();
    let worker = RunningWorker::start(&[&peer], 30, |worker| worker.register(wait).register(Deaf(seen)));
    let (claim, _silent, _) = peer.session("s1", Timing::Unheard).await;
    claim.lease("t1", "wait", "{}");
    claim.lease("t2", "deaf", "{}");
    assert_eq!(saw(&mut told).await, Seen::Started);
    assert_eq!(saw(&mut deaf_told).await, Seen::Started);
    assert_eq!(
        saw(&mut told).await,
        lost("no scheduler confirmed the session in time")
    );
    assert_eq!(saw(&mut deaf_told).await, Seen::Dropped);
    // Nobody knows whether the session is over. It is: nothing of it may be reported any more.
    let (claim, hello) = peer.hello().await;
    assert_eq!(hello.session_id, "s1");
    claim.open("s2", Timing::Usual, Answer::New);
    let mut reports = peer.report_stream("s2").await;
    go.add_permits(1);
    claim.lease("t3", "wait", "{}");
    assert!(is_success(&reports.outcome_of("t3").await));
    stop(worker, &mut reports).await;
}

#[tokio::test]
async fn when_a_scheduler_is_back_what_ran_is_handed_back_and_what_had_ended_is_reported() {
    let mut peer = Peer::start().await;
    let (wait, _go, mut told) = Wait::new();
    let worker = RunningWorker::start(&[&peer], 30, |worker| worker.register(wait).register(Echo));
    let (claim, _silent, _) = peer.session("s1", Timing::Unheard).await;
    claim.lease("t1", "wait", "{}");
    claim.lease("t2", "echo", "{}");
    assert_eq!(saw(&mut told).await, Seen::Started);
    assert_eq!(
        saw(&mut told).await,
        lost("no scheduler confirmed the session in time")
    );
    let (mut claim, hello) = peer.hello().await;
    assert_eq!(hello.session_id, "s1");
    let mut held = hello.held;
    held.sort_by(|one, other| one.task_id.cmp(&other.task_id));
    assert_eq!(held, [lease_ref("t1"), lease_ref("t2")]);
    claim.open("s1", Timing::Usual, Answer::Resumed);
    let mut reports = peer.report_stream("s1").await;
    let (mut handed_back, mut succeeded) = (None, None);
    while handed_back.is_none() || succeeded.is_none() {
        let report = reports.report().await;
        match report.body.expect("body") {
            Body::Released(_) => handed_back = Some(report.task_id),
            Body::Succeeded(_) => succeeded = Some(report.task_id),
            _ => {}
        }
    }
    assert_eq!(handed_back, Some(lease_ref("t1").task_id));
    assert_eq!(succeeded, Some(lease_ref("t2").task_id));
    assert_eq!(claim.credit().await, 2, "both slots are free again");
    stop(worker, &mut reports).await;
}

#[tokio::test]
async fn a_soft_stop_waits_for_running_code_and_says_goodbye() {
    let mut peer = Peer::start().await;
    let (wait, go, mut told) = Wait::new();
    let worker = RunningWorker::start(&[&peer], 30, |worker| worker.register(wait));
    let (mut claim, mut reports, _) = peer.session("s1", Timing::Usual).await;
    claim.lease("t1", "wait", "{}");
    reports.expect_accepted("t1").await;
    assert_eq!(saw(&mut told).await, Seen::Started);
    worker.shutdown.trigger_soft();
    assert_eq!(claim.next().await, None, "the worker asks for no more");
    claim.lease("t2", "wait", "{}");
    assert!(
        matches!(reports.body_of("t2").await, Body::Released(_)),
        "a late lease is handed back"
    );
    go.add_permits(1);
    assert!(is_success(&reports.body_of("t1").await));
    reports.expect_goodbye().await;
    worker.ended().await.expect("a clean end");
}

#[tokio::test]
async fn after_the_grace_period_unfinished_code_is_cancelled_and_released() {
    let mut peer = Peer::start().await;
    let (wait, _go, mut told) = Wait::new();
    let (seen, mut deaf_told) = unbounded_channel();
    let worker = RunningWorker::start(&[&peer], 0, |worker| worker.register(wait).register(Deaf(seen)));
    let (claim, mut reports, _) = peer.session("s1", Timing::Usual).await;
    claim.lease("t1", "wait", "{}");
    reports.expect_accepted("t1").await;
    claim.lease("t2", "deaf", "{}");
    reports.expect_accepted("t2").await;
    assert_eq!(
        (saw(&mut told).await, saw(&mut deaf_told).await),
        (Seen::Started, Seen::Started)
    );
    worker.shutdown.trigger_soft();
    assert_eq!(saw(&mut told).await, Seen::Stopped(StopReason::Drained));
    assert!(matches!(reports.body_of("t1").await, Body::Released(_)));
    assert!(matches!(reports.body_of("t2").await, Body::Released(_)));
    assert_eq!(saw(&mut deaf_told).await, Seen::Dropped);
    reports.expect_goodbye().await;
    worker.ended().await.expect("a clean end");
}

#[tokio::test]
async fn a_hard_stop_hands_everything_back_at_once() {
    let mut peer = Peer::start().await;
    let (seen, mut told) = unbounded_channel();
    let worker = RunningWorker::start(&[&peer], 30, |worker| worker.register(Deaf(seen)));
    let (claim, mut reports, _) = peer.session("s1", Timing::Usual).await;
    claim.lease("t1", "deaf", "{}");
    reports.expect_accepted("t1").await;
    assert_eq!(saw(&mut told).await, Seen::Started);
    worker.shutdown.trigger_hard();
    assert!(matches!(reports.body_of("t1").await, Body::Released(_)));
    reports.expect_goodbye().await;
    worker.ended().await.expect("a clean end");
}

#[tokio::test]
async fn a_worker_that_never_found_a_scheduler_can_be_stopped() {
    let gone = Peer::start().await;
    let worker = {
        let worker = RunningWorker::start(&[&gone], 30, |worker| worker.register(Echo));
        drop(gone);
        worker
    };
    worker.shutdown.trigger_soft();
    worker.ended().await.expect("a clean end");
}

#[tokio::test]
async fn panics_bad_parameters_and_unknown_types_fail_the_run_with_their_kind() {
    let mut peer = Peer::start().await;
    let worker = RunningWorker::start(&[&peer], 30, |worker| worker.register(Panics));
    let (claim, mut reports, _) = peer.session("s1", Timing::Usual).await;
    claim.lease("t1", "panics", r#"{"number":13}"#);
    let Body::Failed(failed) = reports.outcome_of("t1").await else {
        panic!("expected failed")
    };
    let error = failed.error.expect("an error");
    assert_eq!(
        (error.kind.as_str(), error.message.as_str()),
        ("PANIC", "number 13 is cursed")
    );
    assert!(
        error.detail.contains("protocol.rs") && !failed.non_retryable,
        "{}",
        error.detail
    );

    claim.lease("t2", "panics", r#"{"number":"x"}"#);
    let body = reports.outcome_of("t2").await;
    assert_eq!(error_type(&body), "INVALID_PARAMETERS");
    assert!(
        matches!(&body, Body::Failed(f) if f.non_retryable
        && f.error.as_ref().is_some_and(|error| error.message.contains("`number`"))),
        "{body:?}"
    );

    claim.lease("t3", "no_such_type", "{}");
    assert_eq!(
        error_type(&reports.body_of("t3").await),
        "UNKNOWN_TASK_TYPE",
        "an outcome says that the lease was accepted"
    );
    stop(worker, &mut reports).await;
}

#[tokio::test]
async fn a_refused_result_is_reported_as_a_failure() {
    let mut peer = Peer::start().await;
    let (wait, go, _told) = Wait::new();
    let worker = RunningWorker::start(&[&peer], 30, |worker| worker.register(wait));
    let (claim, mut reports, _) = peer.session("s1", Timing::Usual).await;
    claim.lease("t1", "wait", "{}");
    reports.expect_accepted("t1").await;
    go.add_permits(1);
    assert!(is_success(&reports.refuse("t1", "result: too large").await));
    assert_eq!(error_type(&reports.body_of("t1").await), "RESULT_REFUSED");
    stop(worker, &mut reports).await;
}

#[tokio::test]
async fn a_run_whose_every_outcome_is_refused_does_not_stay_with_the_worker() {
    let mut peer = Peer::start().await;
    let (wait, go, _told) = Wait::new();
    let worker = RunningWorker::start(&[&peer], 30, |worker| worker.register(wait));
    let (claim, mut reports, _) = peer.session("s1", Timing::Usual).await;
    claim.lease("t1", "wait", "{}");
    reports.expect_accepted("t1").await;
    go.add_permits(1);
    assert!(is_success(&reports.refuse("t1", "no").await));
    assert_eq!(error_type(&reports.refuse("t1", "no").await), "RESULT_REFUSED");
    assert!(matches!(reports.refuse("t1", "no").await, Body::Released(_)));
    drop((claim, reports));
    let (claim, hello) = peer.hello().await;
    assert_eq!(hello.held, [], "the scheduler may give it to another worker");
    claim.open("s1", Timing::Usual, Answer::Resumed);
    stop(worker, &mut peer.report_stream("s1").await).await;
}

#[tokio::test]
async fn a_result_that_no_message_can_carry_fails_its_run_and_other_reports_pass() {
    let mut peer = Peer::start().await;
    let (wait, go, _told) = Wait::new();
    let worker = RunningWorker::start(&[&peer], 30, |worker| worker.register(wait).register(Huge));
    let (claim, mut reports, _) = peer.session("s1", Timing::Usual).await;
    claim.lease("t1", "wait", "{}");
    reports.expect_accepted("t1").await;
    // More than the 4 MiB that the peer takes.
    claim.lease("t2", "huge", r#"{"number":5000000}"#);
    reports.breaks().await;
    go.add_permits(1);
    let mut reports = peer.report_stream("s1").await;
    let mut outcomes = Vec::new();
    while outcomes.len() < 2 {
        match reports.report().await.body {
            Some(Body::Accepted(_)) | None => {}
            Some(Body::Succeeded(_)) => outcomes.push("succeeded".to_owned()),
            Some(body) => outcomes.push(error_type(&body).to_owned()),
        }
    }
    outcomes.sort();
    assert_eq!(outcomes, ["RESULT_TOO_LARGE", "succeeded"]);
    drop(claim);
    worker.shutdown.trigger_hard();
    worker.ended().await.expect("a clean end");
}

#[tokio::test]
async fn a_result_that_is_larger_than_any_scheduler_stores_fails_without_being_sent() {
    let mut peer = Peer::start().await;
    let worker = RunningWorker::start(&[&peer], 30, |worker| worker.register(Huge));
    let (claim, mut reports, _) = peer.session("s1", Timing::Usual).await;
    claim.lease("t1", "huge", r#"{"number":20000000}"#);
    assert_eq!(error_type(&reports.outcome_of("t1").await), "RESULT_TOO_LARGE");
    stop(worker, &mut reports).await;
}

#[tokio::test]
async fn what_code_says_while_the_worker_drains_counts() {
    let mut peer = Peer::start().await;
    let worker = RunningWorker::start(&[&peer], 0, |worker| worker.register(FailsWhenTold));
    let (claim, mut reports, _) = peer.session("s1", Timing::Usual).await;
    claim.lease("t1", "fails_when_told", "{}");
    reports.expect_accepted("t1").await;
    worker.shutdown.trigger_soft();
    let body = reports.body_of("t1").await;
    assert_eq!(error_type(&body), "NO_PAPER");
    assert!(
        matches!(&body, Body::Failed(failed) if failed.non_retryable),
        "{body:?}"
    );
    reports.expect_goodbye().await;
    worker.ended().await.expect("a clean end");
}

#[tokio::test]
async fn code_learns_at_once_that_the_worker_drains_and_may_be_handed_back() {
    let mut peer = Peer::start().await;
    let (wait, go, mut told) = Wait::new();
    let worker = RunningWorker::start(&[&peer], 3_600, |worker| {
        worker.register(wait).register(LeavesOnDrain)
    });
    let (claim, mut reports, _) = peer.session("s1", Timing::Usual).await;
    claim.lease("t1", "leaves_on_drain", "{}");
    reports.expect_accepted("t1").await;
    claim.lease("t2", "wait", "{}");
    reports.expect_accepted("t2").await;
    assert_eq!(saw(&mut told).await, Seen::Started);
    worker.shutdown.trigger_soft();
    assert!(matches!(reports.body_of("t1").await, Body::Released(_)));
    go.add_permits(1);
    assert!(is_success(&reports.body_of("t2").await), "others may finish");
    reports.expect_goodbye().await;
    worker.ended().await.expect("a clean end");
}

#[tokio::test]
async fn a_closure_that_has_not_begun_when_its_run_ends_never_begins() {
    let mut peer = Peer::start().await;
    // One thread for closures, which the first task takes.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let args = WorkerArgs {
        addr: peer.address.to_string(),
        slots: Some(2),
        ..WorkerArgs::default()
    };
    let (go, gate) = std::sync::mpsc::channel();
    let (begun, mut begins) = unbounded_channel();
    let closures = Closures {
        gate: Arc::new(parking_lot::Mutex::new(gate)),
        begun,
    };
    let worker = Worker::new(args).expect("valid").register(closures);
    let worker = RunningWorker::start_on(runtime.handle(), worker);
    let (mut claim, mut reports, _) = peer.session("s1", Timing::Usual).await;
    let mut begins = async || within("a closure that begins", begins.recv()).await;
    claim.lease("t1", "closures", r#"{"number":1}"#);
    reports.expect_accepted("t1").await;
    assert_eq!(begins().await, Some(1));
    assert!(matches!(reports.body_of("t1").await, Body::Progress(_)));

    claim.lease("t2", "closures", r#"{"number":2}"#);
    reports.expect_accepted("t2").await;
    assert!(matches!(reports.body_of("t2").await, Body::Progress(_)));
    reports.cancel("t2", "by hand", Duration::ZERO);
    assert!(matches!(reports.body_of("t2").await, Body::Cancelled(_)));
    assert_eq!(claim.credit().await, 1, "its slot does not wait for a thread");

    claim.lease("t3", "closures", r#"{"number":3}"#);
    reports.expect_accepted("t3").await;
    assert!(matches!(reports.body_of("t3").await, Body::Progress(_)));
    for _ in 0..2 {
        go.send(()).expect("the closures wait");
    }
    assert_eq!(
        begins().await,
        Some(3),
        "closures begin in order, and not the second"
    );
    drop(claim);
    worker.shutdown.trigger_hard();
    worker.ended().await.expect("a clean end");
    runtime.shutdown_background();
}

#[tokio::test]
async fn a_run_that_is_out_of_time_is_stopped_without_a_word_from_the_scheduler() {
    let mut peer = Peer::start().await;
    let (wait, _go, mut told) = Wait::new();
    let worker = RunningWorker::start(&[&peer], 30, |worker| worker.register(wait));
    let (claim, mut reports, _) = peer.session("s1", Timing::Usual).await;
    claim.lease_for("t1", "wait", Duration::from_millis(50));
    reports.expect_accepted("t1").await;
    assert_eq!(saw(&mut told).await, Seen::Started);
    assert_eq!(saw(&mut told).await, Seen::Stopped(StopReason::TimedOut));
    assert_eq!(error_type(&reports.body_of("t1").await), "TIMED_OUT");
    stop(worker, &mut reports).await;
}

#[tokio::test]
async fn code_that_ignores_the_end_of_its_time_is_dropped_and_has_timed_out() {
    let mut peer = Peer::start().await;
    let (seen, mut told) = unbounded_channel();
    let worker = RunningWorker::start(&[&peer], 30, |worker| worker.register(Deaf(seen)));
    let (mut claim, mut reports, _) = peer.session("s1", Timing::Usual).await;
    claim.lease_for("t1", "deaf", Duration::from_millis(1));
    reports.expect_accepted("t1").await;
    assert_eq!(saw(&mut told).await, Seen::Started);
    // Shortens the grace.
    reports.cancel("t1", "timed out", Duration::ZERO);
    assert_eq!(error_type(&reports.body_of("t1").await), "TIMED_OUT");
    assert_eq!(saw(&mut told).await, Seen::Dropped);
    assert_eq!(claim.credit().await, 1, "the slot is free again");
    stop(worker, &mut reports).await;
}

#[tokio::test]
async fn progress_of_a_fast_task_is_thinned_out_and_the_last_is_never_lost() {
    let mut peer = Peer::start().await;
    let worker = RunningWorker::start(&[&peer], 30, |worker| worker.register(Chatty));
    let (claim, mut reports, _) = peer.session("s1", Timing::Usual).await;
    let start = std::time::Instant::now();
    claim.lease("t1", "chatty", r#"{"number":20000}"#);
    reports.expect_accepted("t1").await;
    let (mut progress, mut logs) = (Vec::new(), Vec::new());
    loop {
        match reports.body_of("t1").await {
            Body::Progress(report) => progress.extend(report.progress.and_then(|p| p.percent)),
            Body::Log(report) => logs.push(report.event_number),
            outcome => {
                assert!(is_success(&outcome), "{outcome:?}");
                break;
            }
        }
    }
    // However long the machine took, ten in a second and the first and the last are the most.
    let most = start.elapsed().as_millis() / 100 + 2;
    assert!(
        progress.len() as u128 <= most,
        "{} of at most {most}",
        progress.len()
    );
    assert_eq!((progress.last(), logs.len()), (Some(&100.0), 1));
    stop(worker, &mut reports).await;
}

#[tokio::test]
async fn heartbeats_go_on_while_code_blocks_the_only_thread_of_its_runtime() {
    let mut peer = Peer::start().await;
    let (seen, mut told) = unbounded_channel();
    let (go, wait) = std::sync::mpsc::channel();
    let task = BlocksThread(Arc::new(parking_lot::Mutex::new(wait)), seen);
    let address = peer.address;
    let shutdown = tasklease_lifecycle::Shutdown::manual();
    let stop = shutdown.clone();
    // The author's runtime: a single thread, which the code will hold.
    let author = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let args = tasklease_worker::WorkerArgs {
                addr: address.to_string(),
                ..Default::default()
            };
            tasklease_worker::Worker::new(args)
                .expect("valid")
                .register(task)
                .run_until(stop)
                .await
        })
    });
    let (claim, mut reports, _) = peer.session("s1", Timing::Short).await;
    claim.lease("t1", "blocks_thread", "{}");
    reports.expect_accepted("t1").await;
    assert_eq!(saw(&mut told).await, Seen::Started);
    let mut beats = 0;
    while beats < 5 {
        let message = reports.message().await.expect("the stream stays open");
        assert!(matches!(
            message.message,
            Some(tasklease_proto::v1::report_progress_request::Message::Heartbeat(
                _
            ))
        ));
        reports.acknowledge(message.sequence);
        beats += 1;
    }
    go.send(()).expect("the code waits");
    assert!(is_success(&reports.body_of("t1").await));
    shutdown.trigger_soft();
    reports.expect_goodbye().await;
    author.join().expect("no panic").expect("a clean end");
}

#[tokio::test]
async fn when_a_replica_dies_the_worker_goes_on_with_the_other() {
    let (mut first, mut second) = (Peer::start().await, Peer::start().await);
    let (wait, go, mut told) = Wait::new();
    let worker = RunningWorker::start(&[&first, &second], 30, |worker| worker.register(wait));
    let (claim, _hello) = tokio::select! {
        found = first.hello() => found,
        found = second.hello() => { std::mem::swap(&mut first, &mut second); found }
    };
    claim.open("s1", Timing::Usual, Answer::New);
    let mut reports = first.report_stream("s1").await;
    claim.lease("t1", "wait", "{}");
    reports.expect_accepted("t1").await;
    assert_eq!(saw(&mut told).await, Seen::Started);
    drop((claim, reports, first));

    let (claim, hello) = second.hello().await;
    assert_eq!(
        (hello.session_id.as_str(), hello.held.as_slice()),
        ("s1", &[lease_ref("t1")][..])
    );
    claim.open("s1", Timing::Usual, Answer::Resumed);
    let mut reports = second.report_stream("s1").await;
    go.add_permits(1);
    assert!(is_success(&reports.body_of("t1").await));
    stop(worker, &mut reports).await;
}

#[tokio::test]
async fn a_worker_whose_hello_breaks_a_rule_ends_with_the_reason() {
    let mut peer = Peer::start().await;
    let worker = RunningWorker::start(&[&peer], 30, |worker| worker.register(Echo));
    // Refused for another reason, it tries again.
    let (claim, _) = peer.hello().await;
    claim.refuse(Status::invalid_argument(
        "the first message, hello, did not come in time",
    ));
    let (claim, _) = peer.hello().await;
    let mut details = ErrorDetails::new();
    details.add_bad_request_violation("hello.queues", "not a queue name");
    let refusal = "hello.queues: not a queue name";
    claim.refuse(Status::with_error_details(
        Code::InvalidArgument,
        refusal,
        details,
    ));
    match worker.ended().await {
        Err(WorkerError::Refused(reason)) => assert_eq!(reason, refusal),
        other => panic!("expected a refusal, got {other:?}"),
    }
}
