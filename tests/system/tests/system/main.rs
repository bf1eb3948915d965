//! The whole system: real processes against a real Postgres, one file per promise.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "whatever is not as expected must fail the test"
)]

mod acceptance;
mod bad_input;
mod cancel;
mod command_line;
mod concurrency;
mod dev;
mod finished_tasks;
mod grpcurl;
mod lists;
mod old_streams;
mod order_and_retries;
mod outcomes;
mod postgres_restart;
mod replicas;
mod run_timeout;
mod scheduler_kill;
mod scheduler_stop;
mod schema;
mod submit;
mod watch;
mod worker_cut_off;
mod worker_death;
mod worker_freeze;
mod worker_stop;
