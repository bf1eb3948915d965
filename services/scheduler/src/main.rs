//! Starts the scheduler.

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;
use tasklease_lifecycle::{Shutdown, logging};
use tasklease_scheduler::{App, AppError, Config};

#[tokio::main]
async fn main() -> ExitCode {
    let config = Config::parse();
    logging::init(config.log_format);
    match run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> Result<(), AppError> {
    let listen = config.listen;
    let shutdown = Shutdown::on_signals(config.grace).map_err(|error| AppError::Listen {
        address: listen,
        error,
    })?;
    let app = tokio::select! {
        app = App::bind(config) => app?,
        () = shutdown.soft().cancelled() => return Ok(()),
    };
    // For whoever started this process with port 0; a closed standard output is no reason to stop.
    let _ = writeln!(
        std::io::stdout(),
        "tasklease-scheduler listening on {}",
        app.address()
    );
    let _ = std::io::stdout().flush();
    app.serve(shutdown).await
}
