//! What every Tasklease program has in common: [`logging`], a two-step [`Shutdown`], and times as people type them
//! ([`time_span`]).

#![warn(missing_docs)]
// Their macros panic when the line cannot be written; `logging::print_line` does not.
#![deny(clippy::print_stderr, clippy::print_stdout)]

pub mod logging;
mod shutdown;
mod standard_error;
pub mod time_span;
mod vital;

pub use shutdown::Shutdown;
