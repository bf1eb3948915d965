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
mod payload;
mod screen;
mod table;
mod terminal_text;
mod time_span;
mod whole_numbers;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::screen::Screen;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let screen = Screen::new(arguments.output);
    match commands::run(arguments, &screen).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report(&failure);
            failure.exit().into()
        }
    }
}

/// Tells why the command failed, where there is more to say than the exit code.
fn report(failure: &Failure) {
    for line in failure.lines() {
        eprintln!("{line}");
    }
}
