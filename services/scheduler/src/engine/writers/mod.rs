//! Everything that writes what callers and workers say, many of them in one statement.
//!
//! Each kind of write has a queue, connections and memory of its own, so that none can hold up another.

mod batcher;
mod budget;
pub(super) mod claimer;
pub(super) mod counters;
pub(super) mod event_log;
pub(super) mod heartbeats;
pub(super) mod noted_spans;
pub(super) mod settler;
pub(super) mod submitter;
pub(super) mod undelivered;
