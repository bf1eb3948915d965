//! The programs that children run.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The folder with the other programs of Tasklease.
#[derive(Clone, Debug)]
pub(crate) struct BinDir(PathBuf);

impl BinDir {
    /// `TASKLEASE_BIN_DIR`, or the folder of this program.
    pub(crate) fn find() -> Result<Self, Failure> {
        if let Some(dir) = std::env::var_os("TASKLEASE_BIN_DIR").filter(|dir| !dir.is_empty()) {
            return Ok(Self(PathBuf::from(dir)));
        }
        std::env::current_exe()
            .ok()
            .and_then(|exe| exe.canonicalize().ok())
            .and_then(|exe| exe.parent().map(Path::to_owned))
            .map(Self)
            .ok_or_else(|| Failure::other("cannot find the folder of this program; set TASKLEASE_BIN_DIR"))
    }

    /// The path of a program in it.
    pub(crate) fn program(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.0.join(name);
        if path.is_file() {
            return Ok(path);
        }
        Err(Failure::other(format!(
            "{name} is not in {}; build it there (cargo build -p {name}), or name its folder in TASKLEASE_BIN_DIR",
            self.0.display()
        )))
    }
}

/// Where the standard error of a child goes.
#[derive(Clone, Debug)]
pub(crate) enum LogTarget {
    /// To the end of a file.
    File(PathBuf),
    /// To our own standard error, each line with the child's name in front.
    Shown,
}

impl LogTarget {
    /// Where a user finds it.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::File(path) => format!("see {}", path.display()),
            Self::Shown => "see above".to_owned(),
        }
    }
}

/// A program with its arguments and environment; kept, so that the child can be started again.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// Its short name, for people.
    pub(crate) name: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    /// Variables on top of our own environment. Secrets go here and not into the
    /// arguments, which everybody on the machine can read.
    pub(crate) environment: Vec<(&'static str, OsString)>,
    /// Where its log goes.
    pub(crate) log: LogTarget,
}
