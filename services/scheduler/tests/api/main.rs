//! The wire: a scheduler in this process on a real Postgres, and clients that talk gRPC to it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should fail at once"
)]

#[path = "../fixture/test_database.rs"]
mod test_database;

mod calls;
mod database_faults;
mod health;
mod large_reads;
mod lists;
mod protocol_errors;
mod queue_calls;
mod raw_worker;
mod reflection;
mod refusals;
mod resuming;
mod scheduler;
mod stopping;
mod task_calls;
mod watches;
mod worker_protocol;
