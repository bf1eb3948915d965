//! The options of a cluster.

use std::path::PathBuf;

/// Whether commits survive a crash of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A commit is on disk before it is acknowledged.
    Full,
    /// Nothing is flushed: fast, and lost in a power failure. For tests.
    Off,
}

/// Who may connect from this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody on this machine, without a password. For throw-away clusters.
    Trust,
    /// Who knows the random password in the file `password` of the cluster's folder.
    Password,
}

/// The loopback TCP port that the server listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// Any free port; a restart keeps it.
    Auto,
    /// This port, or the start fails.
    Fixed(u16),
}

/// Describes a cluster to start.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The cluster's own folder; created if missing, and refused if it holds anything
    /// that is not a cluster of this crate.
    pub data_dir: PathBuf,
    /// Whether commits survive a crash of the machine.
    pub durability: Durability,
    /// Who may connect; takes effect when the cluster is created.
    pub access: Access,
    /// Where the server listens.
    pub port: Port,
}

impl ClusterOptions {
    /// A cluster that keeps what it acknowledged, behind a password, on any port.
    pub fn durable(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            durability: Durability::Full,
            access: Access::Password,
            port: Port::Auto,
        }
    }

    /// A fast cluster for tests, without a password, on any port.
    pub fn throw_away(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            durability: Durability::Off,
            access: Access::Trust,
            port: Port::Auto,
        }
    }
}
