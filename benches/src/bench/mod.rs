//! The subcommands, one file each.

mod backlog;
mod compare;
mod floor;
mod latency;
mod peers;
mod replicas;
mod sessions;
mod snapshot;
mod throughput;
mod unary;

use clap::Subcommand;

use crate::report::Report;

/// What to measure.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Batches in, everything worked off, and both at once; counts only durable outcomes.
    Throughput(throughput::Throughput),
    /// One task per call, many callers.
    Unary(unary::Unary),
    /// From submit to the start of the task's code.
    Latency(latency::Latency),
    /// Throughput with millions of tasks that wait, and millions that have ended.
    Backlog(backlog::Backlog),
    /// Throughput or latency while somebody holds an old snapshot of the database.
    Snapshot(snapshot::Snapshot),
    /// Many idle workers at one scheduler.
    Sessions(sessions::Sessions),
    /// Throughput of several schedulers over one database.
    Replicas(replicas::Replicas),
    /// The scheduler's SQL alone, without gRPC, and how near to it the whole system comes.
    Floor(floor::Floor),
    /// Other queues and ours, in turn on the same machine.
    Peers(peers::Peers),
    /// Compares two results and fails if something became worse.
    Compare(compare::Compare),
}

impl Bench {
    pub(crate) async fn run(self) -> anyhow::Result<Report> {
        match self {
            Self::Throughput(bench) => bench.run().await,
            Self::Unary(bench) => bench.run().await,
            Self::Latency(bench) => bench.run().await,
            Self::Backlog(bench) => bench.run().await,
            Self::Snapshot(bench) => bench.run().await,
            Self::Sessions(bench) => bench.run().await,
            Self::Replicas(bench) => bench.run().await,
            Self::Floor(bench) => bench.run().await,
            Self::Peers(bench) => bench.run().await,
            Self::Compare(bench) => bench.run(),
        }
    }
}
