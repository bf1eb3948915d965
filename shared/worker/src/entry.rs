//! The whole `main` of a worker without options of its own.

use std::process::ExitCode;

use clap::Parser;

use crate::{args::WorkerArgs, error::WorkerError, worker::Worker};

/// Runs the registered tasks of a scheduler.
#[derive(Parser)]
#[command(version)]
struct CommandLine {
    #[command(flatten)]
    worker: WorkerArgs,
}

/// Reads the command line, runs the worker until SIGTERM or SIGINT, and says how it went: 0 after a
/// clean stop, 2 for options that cannot be used, 1 for everything else.
pub async fn run_main(register: impl FnOnce(Worker) -> Worker) -> ExitCode {
    let args = CommandLine::parse().worker;
    tasklease_lifecycle::logging::init(args.log_format);
    let worker = match Worker::new(args) {
        Ok(worker) => register(worker),
        Err(error) => return explain(&error, 2),
    };
    match worker.run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => explain(&error, 1),
    }
}

fn explain(error: &WorkerError, code: u8) -> ExitCode {
    tracing::error!(%error, "the worker ends");
    ExitCode::from(code)
}
