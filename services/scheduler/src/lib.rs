//! The Tasklease scheduler: stores tasks in Postgres and leases them to workers over gRPC.
//!
//! `api` is the wire, `engine` the hot path and the background loops, `domain` the decisions, `store` the SQL; `app`
//! wires them. `domain` knows none of the others, `store` knows only `domain`.

pub mod api;
mod app;
pub mod config;
pub mod domain;
pub mod engine;
mod health;
pub mod store;

pub use app::{App, AppError};
pub use config::Config;
