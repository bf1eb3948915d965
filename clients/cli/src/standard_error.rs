//! Lines on standard error.

use std::fmt::Display;
use std::io::{self, Write};

use crate::terminal_text::safe_block;

/// Tells the user something on standard error.
///
/// A line that cannot be written is dropped: a caller that has closed standard error does not want it,
/// and the exit code tells the rest. Names and paths in it cannot steer the terminal.
pub(crate) fn tell(line: impl Display) {
    let _ = writeln!(io::stderr(), "{}", safe_block(&line.to_string()));
}
