//! The worker runtime of Tasklease: write a task as a struct and a trait, the rest is done here.
//!
//! ```no_run
//! use tasklease_worker::{Context, Task, TaskError, TaskResult};
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
//!     type Error = TaskError;
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
//! as done. Work that computes or blocks for long belongs into [`Context::blocking`], and into
//! [`Context::interruptible`] if it can stop halfway; [`Context::unless_stopped`] awaits what others do.
//!
//! # Errors
//!
//! [`TaskError`] takes every error with `?`, and says with its kind what went wrong and whether
//! another attempt would help. `anyhow::Error` and `Box<dyn Error + Send + Sync>` may stand in its
//! place as [`Task::Error`], and so may an error type of your own that implements [`IntoTaskError`].
//! Code that is told to stop fails with [`Stopped`], which is found again however it is wrapped.
//!
//! # Features
//!
//! - `anyhow` (default): what an `anyhow::Error` is made of is looked at, so that kinds and stops
//!   survive in it, and a [`TaskError`] converts into one.
//! - `testing`: the module `testing`, for tests of tasks without a scheduler.
//!
//! The protocol runs on a thread of its own, so a task that blocks its thread does not silence the
//! worker's heartbeats. A worker that cannot reach any scheduler stops its own tasks before
//! somebody else may run them.

#![warn(missing_docs)]
// Their macros panic when the line cannot be written.
#![deny(clippy::print_stderr, clippy::print_stdout)]

mod args;
mod blocking;
mod context;
mod entry;
mod error;
mod interrupt;
mod lease_key;
mod outcome;
mod panic_capture;
mod progress;
mod protocol;
mod registry;
mod run;
mod run_code;
mod run_events;
mod slot;
mod stop;
mod task;
mod task_error;
#[cfg(feature = "testing")]
pub mod testing;
mod worker;

pub use args::WorkerArgs;
pub use context::{Context, LogLevel};
pub use entry::{Program, run_main};
pub use error::WorkerError;
pub use interrupt::StopFlag;
pub use progress::Progress;
pub use stop::{StopReason, Stopped};
pub use task::{Task, TaskResult};
pub use task_error::{CodeError, IntoTaskError, TaskError};
pub use worker::Worker;
