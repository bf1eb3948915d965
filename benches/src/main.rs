//! Measures a real scheduler with real workers over a private Postgres with `fsync` on.
//!
//! Everything runs on this machine, so figures of different machines or days cannot be compared: compare ratios taken
//! in one run. The last line of output is one JSON object. `benches/README.md` says what each subcommand measures.

mod bench;
mod cpu;
mod idle_workers;
mod load;
mod machine;
mod nats;
mod peer;
mod phases;
mod preload;
mod progress;
mod report;
mod server;
mod sql_path;
mod stand;
mod steady;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

/// Measures Tasklease. Build with --release.
#[derive(Parser)]
#[command(version, max_term_width = 110)]
struct Args {
    #[command(subcommand)]
    bench: bench::Bench,
    /// Also writes the result into this file, as indented JSON.
    #[arg(long, global = true, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    measure(Args::parse()).await.unwrap_or_else(|error| {
        progress::tell(format_args!("error: {error:#}"));
        ExitCode::FAILURE
    })
}

async fn measure(args: Args) -> anyhow::Result<ExitCode> {
    let machine = machine::facts()?;
    let report = args.bench.run().await?;
    report.publish(machine, args.out.as_deref())
}
