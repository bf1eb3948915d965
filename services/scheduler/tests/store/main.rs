//! The store against a real Postgres: what each statement promises, alone and against the others.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should fail at once"
)]

#[path = "../fixture/test_database.rs"]
mod test_database;

mod blocked;
mod bundles;
mod cancel_races;
mod cancels;
mod claims;
mod deletes;
mod events;
mod interleavings;
mod lists;
mod lock_order;
mod migrations;
mod plans;
mod promotes;
mod queues;
mod reads_at_size;
mod retention;
mod sessions;
mod settles;
mod spans;
mod strays;
mod submits;
mod task_now;
mod waiting_places;
mod world;
