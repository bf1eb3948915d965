//! What authors write: tasks with each kind of error, tested as authors test them.

#![expect(clippy::expect_used, reason = "tests may fail loudly")]

use std::{error::Error, fs, io, time::Duration};

use serde_json::{Value, json};
use tasklease_worker::{
    Context, IntoTaskError, LogLevel, Progress, StopReason, Stopped, Task, TaskError,
    testing::{TestEvent, TestOutcome, TestRun},
};
use tokio::sync::mpsc;

#[derive(serde::Deserialize)]
struct Params {
    /// Which way to fail; none means to wait until it is told to stop.
    fail: Option<String>,
}

/// An error type that says more than a text.
#[derive(Debug, thiserror::Error)]
enum PrintError {
    #[error("the printer has no paper")]
    NoPaper,
    #[error("cannot read the page")]
    Page(#[from] io::Error),
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl IntoTaskError for PrintError {
    fn into_task_error(self) -> TaskError {
        match self {
            Self::NoPaper => TaskError::of("NO_PAPER", &self).non_retryable(),
            Self::Page(_) | Self::Stopped(_) => TaskError::of("PAGE", &self),
        }
    }
}

async fn print(params: Params, ctx: &Context) -> Result<Value, PrintError> {
    match params.fail.as_deref() {
        Some("paper") => Err(PrintError::NoPaper),
        Some(path) => Ok(json!({ "page": fs::read_to_string(path)? })),
        None => {
            ctx.sleep(Duration::from_secs(3_600)).await?;
            Ok(json!({}))
        }
    }
}

/// A task whose errors are of a certain type, and whose code is the same otherwise.
macro_rules! task {
    ($name:ident, $error:ty, |$print:ident, $ctx:ident| $code:expr) => {
        struct $name;

        impl Task for $name {
            const TYPE: &'static str = stringify!($name);
            type Params = Params;
            type Output = Value;
            type Error = $error;

            async fn run(&self, params: Params, $ctx: &Context) -> Result<Value, $error> {
                let $print = print(params, $ctx).await;
                $code
            }
        }
    };
}

task!(Own, PrintError, |printed, ctx| printed);
task!(Converted, TaskError, |printed, ctx| {
    let printed = printed.map_err(IntoTaskError::into_task_error)?;
    Ok(ctx.blocking(move || Ok(printed)).await?)
});
task!(Boxed, Box<dyn Error + Send + Sync>, |printed, ctx| {
    let printed = printed?;
    Ok(ctx.blocking(move || Ok(printed)).await?)
});
#[cfg(feature = "anyhow")]
task!(Anyhow, anyhow::Error, |printed, ctx| {
    let printed = anyhow::Context::context(printed, "while printing")?;
    Ok(ctx.blocking(move || Ok(printed)).await?)
});

async fn failure<T: Task>(task: T, payload: Value) -> TaskError {
    let outcome = TestRun::new(task).run(payload).await;
    outcome.error().expect("a failure").clone()
}

#[tokio::test]
async fn an_error_type_of_the_author_keeps_kind_and_retryability() {
    for error in [
        failure(Own, json!({ "fail": "paper" })).await,
        failure(Converted, json!({ "fail": "paper" })).await,
    ] {
        assert_eq!((error.kind(), error.is_retryable()), ("NO_PAPER", false));
    }
    let error = failure(Own, json!({ "fail": "/no/such/page" })).await;
    assert_eq!((error.kind(), error.is_retryable()), ("PAGE", true));
    assert!(error.detail().contains("No such file"), "{}", error.detail());
}

#[tokio::test]
async fn other_errors_become_failures_that_may_be_tried_again() {
    let error = failure(Boxed, json!({ "fail": "paper" })).await;
    assert_eq!(
        (error.kind(), error.message(), error.is_retryable()),
        ("ERROR", "the printer has no paper", true)
    );
    #[cfg(feature = "anyhow")]
    {
        let error = failure(Anyhow, json!({ "fail": "paper" })).await;
        assert_eq!((error.kind(), error.message()), ("ERROR", "while printing"));
        assert!(error.detail().contains("no paper"), "{}", error.detail());
    }
}

/// Ends a run in this way while its code sleeps.
async fn ended<T: Task>(task: T, end: impl FnOnce(&TestRun<T>)) -> TestOutcome {
    let run = TestRun::new(task);
    let ending = async { end(&run) };
    let (outcome, ()) = tokio::join!(run.run(json!({})), ending);
    outcome
}

#[tokio::test]
async fn a_stop_is_no_failure_whatever_error_type_it_passes_through() {
    let released = |outcome| matches!(outcome, TestOutcome::Released);
    assert!(released(ended(Own, TestRun::end_drain).await));
    assert!(released(ended(Converted, TestRun::end_drain).await));
    assert!(released(ended(Boxed, TestRun::end_drain).await));
    #[cfg(feature = "anyhow")]
    assert!(released(ended(Anyhow, TestRun::end_drain).await));
}

#[tokio::test]
async fn each_way_to_stop_a_run_has_its_outcome() {
    let outcome = ended(Own, |run| run.cancel("not needed")).await;
    assert!(matches!(&outcome, TestOutcome::Cancelled(reason) if reason == "not needed"));
    let outcome = ended(Own, TestRun::time_out).await;
    assert_eq!(outcome.error().map(TaskError::kind), Some("TIMED_OUT"));
    let outcome = ended(Own, |run| run.lose_lease("no scheduler")).await;
    assert!(matches!(outcome, TestOutcome::Discarded));
}

/// Reports what it is, in every way there is.
struct Speaks;

impl Task for Speaks {
    const TYPE: &'static str = "speaks";
    type Params = Value;
    type Output = String;
    type Error = TaskError;

    async fn run(&self, _: Value, ctx: &Context) -> Result<String, TaskError> {
        for percent in 0..100 {
            ctx.update_progress(f64::from(percent), "Speaking");
        }
        ctx.log(LogLevel::Warn, "hoarse");
        ctx.report(Progress::percent(100.0).heading("Done"));
        let deadline = ctx.deadline().ok_or("no deadline")?;
        ctx.cancelled().await;
        let is_over = std::time::Instant::now() >= deadline;
        let reason = ctx.stop_reason() == Some(&StopReason::TimedOut);
        Ok(format!(
            "{} {} {is_over} {reason}",
            ctx.attempt(),
            ctx.lease_token()
        ))
    }
}

#[tokio::test]
async fn a_test_sees_every_report_and_chooses_who_the_run_is() {
    let run = TestRun::new(Speaks)
        .attempt(3)
        .lease_token(7)
        .run_timeout(Duration::from_millis(20));
    let outcome = run.run(json!({})).await;
    assert_eq!(outcome.result(), Some(&json!({ "value": "3 7 true true" })));
    let progress = run.progress();
    assert_eq!((progress.len(), progress[100].heading.as_str()), (101, "Done"));
    assert_eq!(run.logs(), ["hoarse"]);
    let warned =
        |event: &TestEvent| matches!(event, TestEvent::Log { level, .. } if *level == LogLevel::Warn);
    assert_eq!(run.events().iter().position(warned), Some(100));
}

struct Panics;

impl Task for Panics {
    const TYPE: &'static str = "panics";
    type Params = Params;
    type Output = ();
    type Error = TaskError;

    async fn run(&self, params: Params, _: &Context) -> Result<(), TaskError> {
        panic!("{:?}", params.fail)
    }
}

#[tokio::test]
async fn parameters_and_panics_are_treated_as_by_the_runtime() {
    assert_eq!(
        failure(Panics, json!({ "fail": 7 })).await.kind(),
        "INVALID_PARAMETERS"
    );
    assert_eq!(failure(Panics, json!({})).await.kind(), "PANIC");
}

/// Computes for ever on a thread of its own, and says when it has seen that nobody waits any more.
struct Computes(mpsc::UnboundedSender<&'static str>);

impl Task for Computes {
    const TYPE: &'static str = "computes";
    type Params = Value;
    type Output = ();
    type Error = TaskError;

    async fn run(&self, _: Value, ctx: &Context) -> Result<(), TaskError> {
        let said = self.0.clone();
        ctx.interruptible(move |stop| {
            let _ = said.send("begun");
            // A test that has failed must not leave it computing.
            while stop.check().is_ok() && !said.is_closed() {
                std::thread::yield_now();
            }
            let _ = said.send("stopped");
            stop.check()
        })
        .await?;
        Ok(())
    }
}

/// The next thing that the computing code says.
async fn next(heard: &mut mpsc::UnboundedReceiver<&'static str>) -> Option<&'static str> {
    let said = tokio::time::timeout(Duration::from_secs(30), heard.recv()).await;
    said.expect("the code says something within its time")
}

#[tokio::test]
async fn interruptible_code_is_left_at_once_when_its_run_must_stop_and_sees_its_flag() {
    let (said, mut heard) = mpsc::unbounded_channel();
    let run = TestRun::new(Computes(said));
    let cancel = async {
        assert_eq!(next(&mut heard).await, Some("begun"));
        run.cancel("enough");
    };
    let (outcome, ()) = tokio::join!(run.run(json!({})), cancel);
    assert!(outcome.is_cancelled(), "{outcome:?}");
    assert_eq!(next(&mut heard).await, Some("stopped"));
}

#[tokio::test]
async fn interruptible_code_sees_its_flag_when_its_future_is_dropped() {
    let (said, mut heard) = mpsc::unbounded_channel();
    let run = TestRun::new(Computes(said));
    tokio::select! {
        outcome = run.run(json!({})) => panic!("ended: {outcome:?}"),
        begun = next(&mut heard) => assert_eq!(begun, Some("begun")),
    }
    assert_eq!(next(&mut heard).await, Some("stopped"));
}

/// Looks three times, sleeps in between, and awaits what never comes if it is asked to.
struct Looks;

impl Task for Looks {
    const TYPE: &'static str = "looks";
    type Params = Params;
    type Output = ();
    type Error = TaskError;

    async fn run(&self, params: Params, ctx: &Context) -> Result<(), TaskError> {
        for percent in [25.0, 50.0, 75.0] {
            ctx.update_progress(percent, "Looking");
            ctx.check_cancelled()?;
            ctx.sleep(Duration::from_secs(3_600)).await?;
        }
        if params.fail.is_some() {
            ctx.unless_stopped(std::future::pending::<()>()).await?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_test_stops_a_task_at_each_of_its_looks_or_marks_without_waiting_for_its_sleeps() {
    let run = TestRun::new(Looks).without_sleeping();
    assert!(run.run(json!({})).await.result().is_some());
    assert_eq!(run.slept(), Duration::from_secs(3 * 3_600));

    let mut looks = 0;
    loop {
        let run = TestRun::new(Looks)
            .without_sleeping()
            .cancel_at_check(looks)
            .attempt(2);
        if !run.run(json!({})).await.is_cancelled() {
            break;
        }
        looks += 1;
    }
    assert_eq!(looks, 3);

    let run = TestRun::new(Looks).without_sleeping().cancel_at_progress(50.0);
    assert!(run.run(json!({})).await.is_cancelled());
    assert_eq!(
        (run.progress().len(), run.slept()),
        (2, Duration::from_secs(3_600))
    );
}

#[tokio::test]
async fn what_a_run_awaits_is_dropped_when_it_must_stop() {
    let run = TestRun::new(Looks).without_sleeping();
    let cancel_at_the_end = async {
        run.until(|events| events.len() == 3).await;
        run.cancel("enough");
    };
    let (outcome, ()) = tokio::join!(run.run(json!({ "fail": "never" })), cancel_at_the_end);
    assert!(outcome.is_cancelled(), "{outcome:?}");
}
