//! The exit codes that scripts may rely on.

use std::process::ExitCode;

/// What `--help` says about exit codes.
pub(crate) const EXIT_CODES_HELP: &str = "\
Exit codes:
  0  done; with --watch or --wait: the task succeeded
  1  the task failed or was cancelled (--watch, --wait), or the request could not be carried out
  2  wrong usage: the command line or the input breaks a rule
  3  the server cannot be reached
  4  no such task or queue
They hold even if nobody reads the output; --watch and --wait then go on in silence.";

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All went well.
    Done,
    /// The watched task did not succeed, or the request could not be carried out.
    Failed,
    /// The command line or the input breaks a rule.
    Usage,
    /// No server answers.
    Unreachable,
    /// What was asked for does not exist.
    NotFound,
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::NotFound => 4,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
