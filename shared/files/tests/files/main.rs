//! Files below a root, on real folders and a store in memory.

#![allow(
    clippy::unwrap_used,
    reason = "what surrounds a test may fail as loudly as the test"
)]

mod bucket;
mod folder;
mod paths;
mod task_errors;
mod workspace;
