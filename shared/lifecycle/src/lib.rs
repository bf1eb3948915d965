//! How every Tasklease process begins and ends: [`logging`], and a two-step [`Shutdown`].

#![warn(missing_docs)]
// Their macros panic when the line cannot be written; `logging::print_line` does not.
#![deny(clippy::print_stderr, clippy::print_stdout)]

pub mod logging;
mod shutdown;
mod standard_error;
mod vital;

pub use shutdown::Shutdown;
