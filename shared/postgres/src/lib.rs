//! Private Postgres clusters for development and tests.
//!
//! A [`Cluster`] is a `postgres` process that this process started, on a folder that
//! nobody else uses, reachable over loopback only. It ends with its owner: by
//! [`Cluster::stop`], when the value is dropped, and even when the owner is killed.
//!
//! ```no_run
//! # async fn example() -> Result<(), tasklease_postgres::Error> {
//! use tasklease_postgres::{Cluster, ClusterOptions};
//!
//! let mut cluster = Cluster::start(ClusterOptions::durable("/var/lib/tasklease/postgres")).await?;
//! cluster.create_database("tasklease").await?;
//! let url = cluster.url("tasklease");
//! cluster.stop().await
//! # }
//! ```
//!
//! Postgres refuses to run as root. A process with uid 0 therefore runs the server as
//! the user `postgres`, or as uid 65534 where no such user exists, and hands the
//! cluster's folder to that user.

#![warn(missing_docs)]

mod binaries;
mod cluster;
mod error;
mod folder;
mod options;
mod orphan_reaper;
mod server;
mod server_user;
mod socket_dir;

pub use binaries::{Binaries, find_binaries};
pub use cluster::Cluster;
pub use error::Error;
pub use options::{Access, ClusterOptions, Durability, Port};
