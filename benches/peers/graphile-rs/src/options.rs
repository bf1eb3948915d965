//! The command line that every peer program shares.

use clap::{Parser, ValueEnum};

/// What to measure.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Command {
    /// Creates the schema in an empty database.
    Prepare,
    /// Submits tasks in batches.
    Enqueue,
    /// Works off the tasks that wait.
    Drain,
    /// Submits tasks to a running worker.
    Life,
    /// Submits one task per call.
    Unary,
    /// Measures submit to start, one task at a time.
    Latency,
}

/// The command and its parameters.
#[derive(Clone, Debug, Parser)]
pub struct Options {
    /// What to measure.
    pub command: Command,
    /// The database.
    #[arg(long)]
    pub url: String,
    /// How many tasks.
    #[arg(long, default_value_t = 200_000)]
    pub tasks: usize,
    /// Tasks in one call.
    #[arg(long, default_value_t = 1_000)]
    pub batch: usize,
    /// Producers of batches at once.
    #[arg(long, default_value_t = 4)]
    pub producers: usize,
    /// Bytes of a payload, about.
    #[arg(long, default_value_t = 100)]
    pub payload: usize,
    /// Callers of single tasks at once.
    #[arg(long, default_value_t = 64)]
    pub callers: usize,
    /// Samples of the latency.
    #[arg(long, default_value_t = 1_000)]
    pub samples: usize,
}
