//! The worker process for text and image files.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use tasklease_documents::dummy::{DummyLong, DummyShort, DummyVeryLong};
use tasklease_documents::image_process::{ImageProcess, PixelLimit};
use tasklease_documents::tokenize::Tokenize;
use tasklease_files::Files;
use tasklease_worker::{Worker, WorkerArgs};

/// Runs the task types dummy_short, dummy_long, dummy_very_long, tokenize and image_process.
#[derive(Parser)]
#[command(name = "tasklease-documents", version)]
struct Args {
    #[command(flatten)]
    worker: WorkerArgs,

    /// Root of all paths in tasks: a folder, or a URL such as s3://bucket/prefix
    #[arg(long, env = "TASKLEASE_FILES", value_name = "DIR_OR_URL", default_value = ".")]
    files: String,

    /// Largest input file in bytes; a larger one fails its task
    #[arg(long, env = "TASKLEASE_MAX_INPUT_BYTES", value_name = "BYTES", default_value_t = 64 << 20)]
    max_input_bytes: u64,

    /// Largest image in pixels, read or written; decoding takes 3 to 16 bytes of memory per pixel
    #[arg(long, env = "TASKLEASE_MAX_PIXELS", value_name = "PIXELS", default_value_t = 64 << 20)]
    max_pixels: u64,
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Writes a line to standard error; the exit code tells the same to a caller that does not read.
fn say(message: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "tasklease-documents: {message}");
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let files = match Files::open(&args.files, args.max_input_bytes) {
        Ok(files) => files,
        Err(error) => {
            say(format_args!("--files: {error}"));
            return ExitCode::from(2);
        }
    };
    let worker = match Worker::new(args.worker) {
        Ok(worker) => worker,
        Err(error) => {
            say(error);
            return ExitCode::from(2);
        }
    };
    let done = worker
        .register(DummyShort)
        .register(DummyLong)
        .register(DummyVeryLong)
        .register(Tokenize::new(files.clone()))
        .register(ImageProcess::new(files, PixelLimit(args.max_pixels)))
        .run()
        .await;
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(error);
            ExitCode::FAILURE
        }
    }
}
