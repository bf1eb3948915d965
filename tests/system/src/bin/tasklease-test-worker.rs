//! A worker over the real runtime whose tasks wait for files, so that a test can stop the world at any line.
//!
//! Every task gets a folder, `stage`, and appends `TASK TOKEN` to the file `started`, `cancelled` or `done` in it.
//! Code that waits at the gate goes on when the file `open`, or `open.TOKEN`, appears there.

use std::{
    fs::OpenOptions,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use serde_json::{Value, json};
use tasklease_worker::{Context, Task, TaskError, TaskResult};

/// How often code looks at its gate.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The parameters of all tasks.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    stage: PathBuf,
}

impl Params {
    /// Appends a line with one write, which other processes cannot tear.
    fn note(&self, event: &str, ctx: &Context) -> TaskResult<()> {
        let line = format!("{} {}\n", ctx.task_id(), ctx.lease_token());
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.stage.join(event))?;
        file.write_all(line.as_bytes())?;
        Ok(())
    }

    fn is_open(&self, ctx: &Context) -> bool {
        is_open(&self.stage, ctx)
    }
}

fn is_open(stage: &Path, ctx: &Context) -> bool {
    stage.join("open").exists() || stage.join(format!("open.{}", ctx.lease_token())).exists()
}

fn output(ctx: &Context) -> Value {
    json!({ "token": ctx.lease_token() })
}

/// Waits at the gate, and stops when it is told to.
struct Gate;

impl Task for Gate {
    const TYPE: &'static str = "gate";
    type Params = Params;
    type Output = Value;
    type Error = TaskError;

    async fn run(&self, params: Params, ctx: &Context) -> TaskResult<Value> {
        params.note("started", ctx)?;
        while !params.is_open(ctx) {
            if let Err(cancelled) = ctx.sleep(LOOK_AGAIN).await {
                params.note("cancelled", ctx)?;
                return Err(cancelled.into());
            }
        }
        params.note("done", ctx)?;
        Ok(output(ctx))
    }
}

/// Waits at the gate on a thread of its own, whatever it is told.
struct Stubborn;

impl Task for Stubborn {
    const TYPE: &'static str = "stubborn";
    type Params = Params;
    type Output = Value;
    type Error = TaskError;

    async fn run(&self, params: Params, ctx: &Context) -> TaskResult<Value> {
        params.note("started", ctx)?;
        let run = ctx.clone();
        ctx.blocking(move || {
            while !params.is_open(&run) {
                std::thread::sleep(LOOK_AGAIN);
            }
            params.note("done", &run)
        })
        .await?;
        Ok(output(ctx))
    }
}

/// Waits at the gate and blocks the runtime's own thread meanwhile, as no author should.
struct BlocksItsThread;

impl Task for BlocksItsThread {
    const TYPE: &'static str = "blocks_its_thread";
    type Params = Params;
    type Output = Value;
    type Error = TaskError;

    async fn run(&self, params: Params, ctx: &Context) -> TaskResult<Value> {
        params.note("started", ctx)?;
        while !params.is_open(ctx) {
            std::thread::sleep(LOOK_AGAIN);
        }
        params.note("done", ctx)?;
        Ok(output(ctx))
    }
}

/// Leaves a line and returns.
struct SideEffect;

impl Task for SideEffect {
    const TYPE: &'static str = "side_effect";
    type Params = Params;
    type Output = Value;
    type Error = TaskError;

    async fn run(&self, params: Params, ctx: &Context) -> TaskResult<Value> {
        params.note("done", ctx)?;
        Ok(output(ctx))
    }
}

/// Fails in a way that no retry mends.
struct Fail;

impl Task for Fail {
    const TYPE: &'static str = "fail";
    type Params = Params;
    type Output = Value;
    type Error = TaskError;

    async fn run(&self, params: Params, ctx: &Context) -> TaskResult<Value> {
        params.note("started", ctx)?;
        Err(TaskError::new("OUT_OF_PAPER", "the printer has no paper")
            .with_detail("tray 2")
            .non_retryable())
    }
}

/// Panics.
struct Panics;

impl Task for Panics {
    const TYPE: &'static str = "panics";
    type Params = Params;
    type Output = Value;
    type Error = TaskError;

    async fn run(&self, params: Params, ctx: &Context) -> TaskResult<Value> {
        params.note("started", ctx)?;
        panic!("the roof is on fire");
    }
}

/// Takes the whole process with it.
struct KillsItsWorker;

impl Task for KillsItsWorker {
    const TYPE: &'static str = "kills_its_worker";
    type Params = Params;
    type Output = Value;
    type Error = TaskError;

    async fn run(&self, params: Params, ctx: &Context) -> TaskResult<Value> {
        params.note("started", ctx)?;
        std::process::exit(9);
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    tasklease_worker::run_main(|worker| {
        worker
            .register(Gate)
            .register(Stubborn)
            .register(BlocksItsThread)
            .register(SideEffect)
            .register(Fail)
            .register(Panics)
            .register(KillsItsWorker)
    })
    .await
}
