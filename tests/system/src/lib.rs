//! What the whole-system tests stand on: real processes, a real Postgres, and a worker whose every step is a call.
//!
//! Races are forced by order, never by time: a test waits until a thing has happened and then does the next. Every
//! wait has a generous deadline, after which the test fails and shows what the processes logged.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a harness of tests: whatever is not as expected must fail the test"
)]

mod bytes_codec;
mod client_without_deadline;
mod command_line;
mod database;
mod patience;
mod process;
mod program;
mod raw_worker;
mod scheduler;
mod stage;
mod tasks;
mod worker_process;

pub use bytes_codec::BytesCodec;
pub use client_without_deadline::{BareConnection, client_without_deadline};
pub use command_line::{Finished, run, run_with};
pub use database::{Database, OwnCluster};
pub use patience::{PATIENCE, eventually, in_time};
pub use process::{Process, Signal};
pub use program::{in_path, program};
pub use raw_worker::{Answer, Hello, RawWorker, SessionOver};
pub use scheduler::Scheduler;
pub use stage::Stage;
pub use tasks::{
    attempts, cancel_request, cancelled, ended, failed, millis, new_task_id, outcomes, reached, result_of,
    spec, state_of, succeeded, to_struct, with_payload,
};
pub use worker_process::WorkerProcess;
