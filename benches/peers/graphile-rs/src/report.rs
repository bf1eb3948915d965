//! The figures, as JSON.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Tells the harness when its clock starts and stops, so that CPU is counted for the same time.
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts the clock.
    pub fn start() -> Self {
        println!("clock starts");
        Self(Instant::now())
    }

    /// Stops the clock.
    pub fn stop(self) -> Duration {
        let took = self.0.elapsed();
        println!("clock stops");
        took
    }
}

/// The rate of so many tasks in this time.
pub fn rate(tasks: usize, took: Duration) -> Value {
    let seconds = took.as_secs_f64();
    json!({ "tasks": tasks, "seconds": seconds, "per_s": (tasks as f64 / seconds).round() })
}

/// The percentiles of latencies, in microseconds.
///
/// # Errors
/// There is no sample.
pub fn percentiles(mut samples: Vec<Duration>) -> Result<Value> {
    samples.sort_unstable();
    let count = samples.len();
    let at = |per_mille: usize| {
        let rank = (count * per_mille).div_ceil(1_000).max(1);
        let sample = samples.get(rank - 1).context("there is no sample")?;
        anyhow::Ok(sample.as_micros() as u64)
    };
    Ok(json!({
        "samples": count,
        "p50_us": at(500)?,
        "p95_us": at(950)?,
        "p99_us": at(990)?,
        "max_us": at(1_000)?,
    }))
}
