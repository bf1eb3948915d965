//! The worker runtime of Tasklease: write a task as a struct and a trait, the rest is done here.
//!
//! ```no_run
//! use tasklease_worker::{Context, Task, TaskResult};
//!
//! #[derive(serde::Deserialize)]
//! #[serde(default, deny_unknown_fields)]
//! struct Params {
//!     name: String,
//!     rounds: u64,
//! }
//!
//! impl Default for Params {
//!     fn default() -> Self {
//!         Self { name: "world".into(), rounds: 1_000 }
//!     }
//! }
//!
//! struct Greet;
//!
//! impl Task for Greet {
//!     const TYPE: &'static str = "greet";
//!     type Params = Params;
//!     type Output = serde_json::Value;
//!
//!     async fn run(&self, params: Params, ctx: &Context) -> TaskResult<Self::Output> {
//!         ctx.check_cancelled()?;
//!         ctx.update_progress(50.0, "Halfway");
//!         let sum = ctx.blocking(move || Ok((0..params.rounds).sum::<u64>())).await?;
//!         Ok(serde_json::json!({ "hello": params.name, "sum": sum }))
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> std::process::ExitCode {
//!     tasklease_worker::run_main!(|worker| worker.register(Greet)).await
//! }
//! ```
//!
//! Three habits make a good task: update the progress, check for cancellation, let errors propagate
//! with `?`. A task whose code returns has ended, a panic fails it, and a cancelled one never counts
//! as done. Work that computes or blocks for long belongs into [`Context::blocking`].
//!
//! The protocol runs on a thread of its own, so a task that blocks its thread does not silence the
//! worker's heartbeats. A worker that cannot reach any scheduler stops its own tasks before
//! somebody else may run them.

mod args;
mod clean_text;
mod context;
mod entry;
mod error;
mod lease_key;
mod news;
mod outcome;
mod panic_capture;
mod progress;
mod protocol;
mod registry;
mod run;
mod run_code;
mod slot;
mod stop;
mod task;
mod task_error;
mod worker;

pub use args::WorkerArgs;
pub use context::{Context, LogLevel};
pub use entry::{Program, run_main};
pub use error::WorkerError;
pub use progress::Progress;
pub use task::{Task, TaskResult};
pub use task_error::TaskError;
pub use worker::Worker;
