//! The whole `main` of a worker without options of its own.

use std::{env, path::Path, process::ExitCode};

use clap::{Args as _, Command, FromArgMatches as _};
use tasklease_lifecycle::logging;

use crate::{args::WorkerArgs, error::WorkerError, worker::Worker};

/// The texts of a worker program's `--version` and `--help`; [`run_main!`](crate::run_main!) fills
/// them in.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// The program's name.
    pub name: &'static str,
    /// The program's version.
    pub version: &'static str,
    /// One line that says what the program does; may be empty.
    pub about: &'static str,
}

impl Program {
    /// Reads the command line and runs the worker until SIGTERM or SIGINT. The exit code is 0 after
    /// a clean stop, 2 if an option cannot be used, and 1 for every other error.
    pub async fn run_main(self, register: impl FnOnce(Worker) -> Worker) -> ExitCode {
        let matches = self.command().get_matches();
        let args = match WorkerArgs::from_arg_matches(&matches) {
            Ok(args) => args,
            Err(error) => error.exit(),
        };
        logging::init(args.log_format);
        let worker = match Worker::new(args) {
            Ok(worker) => register(worker),
            Err(error) => return explain(&error, 2),
        };
        match worker.run().await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => explain(&error, 1),
        }
    }

    fn command(self) -> Command {
        let about = if self.about.is_empty() {
            "Runs tasks of a Tasklease scheduler"
        } else {
            self.about
        };
        // `WorkerArgs` has a description of its own, which would replace this one.
        WorkerArgs::augment_args(Command::new(self.name).version(self.version))
            .about(about)
            .long_about(None)
    }
}

/// The whole `main` of a worker without options of its own; see [`Program::run_main`].
///
/// `--version` shows the name under which the program was started and the version of this library;
/// the macro [`run_main!`](crate::run_main!) knows the program's own version.
pub async fn run_main(register: impl FnOnce(Worker) -> Worker) -> ExitCode {
    let path = env::args_os().next().unwrap_or_default();
    let name = Path::new(&path).file_name().unwrap_or_default().to_string_lossy();
    let program = Program {
        // Once per process.
        name: Box::leak(name.into_owned().into_boxed_str()),
        version: concat!("(tasklease-worker ", env!("CARGO_PKG_VERSION"), ")"),
        about: "",
    };
    program.run_main(register).await
}

/// The whole `main` of a worker without options of its own; see [`Program::run_main`].
///
/// Unlike the function [`run_main`](crate::run_main()) it knows the name, the version and the
/// description of the crate that calls it.
#[macro_export]
macro_rules! run_main {
    ($register:expr $(,)?) => {
        $crate::Program {
            name: match ::core::option_env!("CARGO_BIN_NAME") {
                ::core::option::Option::Some(name) => name,
                ::core::option::Option::None => ::core::env!("CARGO_PKG_NAME"),
            },
            version: ::core::env!("CARGO_PKG_VERSION"),
            about: ::core::env!("CARGO_PKG_DESCRIPTION"),
        }
        .run_main($register)
    };
}

fn explain(error: &WorkerError, code: u8) -> ExitCode {
    tracing::error!(%error, "the worker ends");
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::Program;

    #[test]
    fn a_program_shows_its_own_name_and_version() {
        let program = Program {
            name: "greeter",
            version: "7.2.0",
            about: "Greets people",
        };
        let mut command = program.command();
        assert_eq!(command.render_version(), "greeter 7.2.0\n");
        let help = command.render_help().to_string();
        assert!(
            help.contains("Greets people") && help.contains("--slots") && help.contains("A TIME is"),
            "{help}"
        );
    }
}
