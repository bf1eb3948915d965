//! The worker's side of the protocol: one actor owns all state, and the streams only carry messages.
//!
//! Everything that happens (a message, a stream that breaks, code that returns) reaches the actor
//! as an [`Event`]; the structures it works on ([`outbox`], [`leases`], [`credit`], [`heartbeats`],
//! [`kept_stream`]) are plain data and take the time as an argument.

mod actor;
mod claiming;
mod credit;
mod event;
mod fence;
mod heartbeats;
mod kept_stream;
mod leases;
mod outbox;
mod reporting;
mod stopping;
mod stream;

pub(crate) use actor::{Actor, Ended};
pub(crate) use event::Event;
pub(crate) use stopping::TELL_ALL;
