//! Why a cluster could not be started, used or stopped.

use std::io;
use std::path::PathBuf;

/// Why a cluster could not be started, used or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No suitable server is installed.
    #[error(
        "no Postgres server of version 15 or newer found; install one (Debian: apt-get install postgresql) \
         or name the folder that holds `postgres` and `initdb` in TASKLEASE_PG_BIN"
    )]
    NoBinaries,
    /// `TASKLEASE_PG_BIN` names a folder that holds no usable server.
    #[error("TASKLEASE_PG_BIN is {dir}, which holds no `postgres` and `initdb` of version 15 or newer")]
    BadBinaries {
        /// The folder that the variable names.
        dir: PathBuf,
    },
    /// The data was made by a server version that is not installed.
    #[error(
        "the data in {data_dir} was made by Postgres {major}, which is not installed; install that version \
         or choose another data directory"
    )]
    WrongVersion {
        /// The cluster's folder.
        data_dir: PathBuf,
        /// The version that made it.
        major: u32,
    },
    /// The folder is not empty, and its contents are not a cluster of this crate.
    #[error("{data_dir} is not empty and holds no cluster of Tasklease; choose another data directory")]
    ForeignFolder {
        /// The folder with the foreign contents.
        data_dir: PathBuf,
    },
    /// The folder of the data holds something that is not a whole cluster.
    #[error(
        "the data directory {data_dir} is not empty and holds no usable Postgres cluster: {path}: {reason}; \
         nothing was changed; make it readable again, restore it from a backup, or choose another data directory"
    )]
    DamagedData {
        /// The folder of the data.
        data_dir: PathBuf,
        /// The file or folder that is not as it should be.
        path: PathBuf,
        /// What is wrong with that file or folder.
        reason: String,
    },
    /// The file of the password is empty.
    #[error(
        "the password file {path} is empty, so the cluster beside it cannot be used; restore the file, or choose \
         another data directory"
    )]
    NoPassword {
        /// The empty file.
        path: PathBuf,
    },
    /// The server does not take the password in the folder, or asks for one and there is none.
    #[error(
        "the cluster in {data_dir} refuses the password in {path}: {reason}; restore the file, or choose another \
         data directory"
    )]
    WrongPassword {
        /// The cluster's folder.
        data_dir: PathBuf,
        /// The password's file.
        path: PathBuf,
        /// The error of the server.
        reason: String,
    },
    /// The server's user cannot reach the folder.
    #[error(
        "Postgres cannot run as root and runs as uid {uid} instead, which may not enter {folder}; choose a \
         data directory that every user can reach"
    )]
    Unreachable {
        /// The folder that the server's user may not enter.
        folder: PathBuf,
        /// The numeric id of the server's user.
        uid: u32,
    },
    /// Another process uses the cluster.
    #[error("the data directory {data_dir} is in use by another process; stop that one first")]
    InUse {
        /// The cluster's folder.
        data_dir: PathBuf,
    },
    /// A program of the server did not run to its end.
    #[error("{program} failed: {reason}\n{output}")]
    Failed {
        /// The program's name.
        program: &'static str,
        /// How the program ended.
        reason: String,
        /// The last lines that it wrote.
        output: String,
    },
    /// The cluster was stopped before.
    #[error("the cluster in {data_dir} is stopped; restart it first")]
    Stopped {
        /// The cluster's folder.
        data_dir: PathBuf,
    },
    /// A file could not be used.
    #[error("cannot {what} {path}: {source}")]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The server refused a statement.
    #[error("cannot {what}: {source}")]
    Sql {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: tokio_postgres::Error,
    },
}

impl Error {
    /// Makes the conversion of an I/O error that says what was tried with which file.
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}
