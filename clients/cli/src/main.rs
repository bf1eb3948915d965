//! The command `tasklease`: submits, follows and steers tasks, and runs a whole
//! Tasklease on one machine.

mod arguments;
mod commands;
mod describe;
mod dev;
mod exit;
mod failure;
mod follow;
mod json;
mod param;
mod payload;
mod screen;
mod standard_error;
mod table;
mod terminal_text;
mod whole_numbers;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches};

use crate::arguments::{Arguments, Command};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::screen::Screen;
use crate::standard_error::tell;

fn main() -> ExitCode {
    // A defect of ours must not look like an answer: scripts rely on the documented codes alone.
    let exit = catch_unwind(AssertUnwindSafe(run)).unwrap_or(Exit::Failed);
    exit.into()
}

fn run() -> Exit {
    let outcome = parse().and_then(|arguments| {
        let screen = Screen::new(arguments.output);
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::other(format!("cannot start: {error}")))?
            .block_on(commands::run(arguments, &screen))
    });
    match outcome {
        Ok(()) => Exit::Done,
        Err(failure) => {
            failure.lines().iter().for_each(tell);
            failure.exit()
        }
    }
}

/// Reads the command line; ends the process with the documented codes after help and wrong usage.
fn parse() -> Result<Arguments, Failure> {
    let matches = Arguments::command().get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let names_address = matches.value_source("addr") == Some(ValueSource::CommandLine);
    if names_address && matches!(arguments.command, Command::Dev(_)) {
        return Err(Failure::usage(
            "--addr: `tasklease dev` runs a scheduler of its own; choose its address with --listen",
        ));
    }
    Ok(arguments)
}
