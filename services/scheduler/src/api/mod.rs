//! The wire: one file per service, one per stream, and the checks and conversions between.
//!
//! Handlers convert, call one function of the engine or the store, and convert back. Deadlines, request ids and
//! oversized messages are the business of [`layers`].

mod attached;
mod claim_stream;
mod hello;
pub mod layers;
mod list;
mod page;
mod queue_service;
mod report;
mod report_stream;
mod spec;
mod status;
mod streams;
mod task;
mod task_service;
mod violations;
mod watch;
mod worker_service;

use self::streams::Lifetime;
pub use self::streams::Streams;
use crate::engine::Engine;

/// Bounds that the operator sets.
#[derive(Debug, Clone, Copy)]
pub struct ApiLimits {
    /// Of a payload or result as JSON text, in bytes.
    pub payload_bytes: usize,
    /// Of a message, in bytes.
    pub message_bytes: usize,
    /// Watchers at once on this replica.
    pub watched_tasks: usize,
}

/// All services; cheap to clone.
#[derive(Clone)]
pub struct Api {
    engine: Engine,
    limits: ApiLimits,
    streams: Streams,
}

impl Api {
    /// Services on top of an engine.
    pub fn new(engine: Engine, limits: ApiLimits, streams: Streams) -> Self {
        Self {
            engine,
            limits,
            streams,
        }
    }
}
