//! A worker for measurements: one type that does nothing, and one that says when its code started.

use std::{
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Deserialize;
use tasklease_worker::{Context, Task, TaskError, TaskResult};

#[derive(Default, Deserialize)]
#[serde(default)]
struct Anything {}

/// Does nothing.
struct Noop;

impl Task for Noop {
    const TYPE: &'static str = "noop";
    type Params = Anything;
    type Output = serde_json::Value;
    type Error = TaskError;

    async fn run(&self, _: Anything, _: &Context) -> TaskResult<Self::Output> {
        Ok(serde_json::json!({}))
    }
}

/// Returns how long ago it was submitted when its code starts.
struct Stamp;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Submitted {
    /// Microseconds since 1970, as text because a JSON number from a `Struct` is a double.
    at_us: String,
}

impl Task for Stamp {
    const TYPE: &'static str = "stamp";
    type Params = Submitted;
    type Output = serde_json::Value;
    type Error = TaskError;

    async fn run(&self, params: Submitted, _: &Context) -> TaskResult<Self::Output> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
        let submitted: u128 = params.at_us.parse()?;
        Ok(serde_json::json!({ "us": u64::try_from(now.saturating_sub(submitted))? }))
    }
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    tasklease_worker::run_main(|worker| worker.register(Noop).register(Stamp)).await
}
