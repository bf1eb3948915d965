//! The folder of a cluster: what lies where, and who holds it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::Error;
use crate::server_user::ServerUser;

/// A server log larger than this is put aside at the next start.
const LOG_LIMIT: u64 = 16 << 20;

/// How much of a log's end an error shows.
const TAIL_BYTES: u64 = 4 << 10;

/// A cluster's folder, held by this process until the value is dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    user: ServerUser,
    /// Its lock keeps every other process out.
    _lock: File,
}

impl Folder {
    /// Creates the folder if needed and takes hold of it.
    pub(crate) fn open(root: &Path, user: ServerUser) -> Result<Self, Error> {
        fs::create_dir_all(root.parent().unwrap_or(root))
            .map_err(Error::file("create the parent of", root))?;
        if !root.exists() {
            fs::DirBuilder::new()
                .mode(0o700)
                .create(root)
                .map_err(Error::file("create", root))?;
        }
        let root = root.canonicalize().map_err(Error::file("find", root))?;
        refuse_foreign(&root)?;
        user.check_can_reach(&root)?;
        user.own(&root)?;
        let lock_path = root.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(Error::file("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                root,
                user,
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(Error::InUse { data_dir: root }),
            Err(TryLockError::Error(source)) => Err(Error::file("lock", lock_path)(source)),
        }
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The server's own data.
    pub(crate) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// Where a new cluster is made before it becomes [`data`](Self::data).
    pub(crate) fn unfinished_data(&self) -> PathBuf {
        self.root.join("data.unfinished")
    }

    /// Where sockets go, if its path is short enough.
    pub(crate) fn sockets(&self) -> PathBuf {
        self.root.join("sockets")
    }

    /// What the server logs.
    pub(crate) fn log_path(&self) -> PathBuf {
        self.root.join("server.log")
    }

    /// The password's file, if the cluster has one.
    pub(crate) fn password_path(&self) -> PathBuf {
        self.root.join("password")
    }

    /// The major version that made the data; `None` if there is no data yet.
    pub(crate) fn version(&self) -> Option<u32> {
        fs::read_to_string(self.data().join("PG_VERSION"))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// The process that the data names as its server, dead or alive.
    pub(crate) fn recorded_server(&self) -> Option<i32> {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        text.lines().next()?.trim().parse().ok()
    }

    /// Opens the server's log to append to it.
    pub(crate) fn open_log(&self) -> Result<File, Error> {
        let path = self.log_path();
        if fs::metadata(&path).is_ok_and(|meta| meta.len() > LOG_LIMIT) {
            let aside = self.root.join("server.log.1");
            fs::rename(&path, aside).map_err(Error::file("put aside", &path))?;
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::file("open", &path))?;
        self.user.own(&path)?;
        Ok(log)
    }

    /// The end of the server's log.
    pub(crate) fn log_tail(&self) -> String {
        let read = || -> std::io::Result<String> {
            let mut log = File::open(self.log_path())?;
            let length = log.metadata()?.len();
            log.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
            let mut bytes = Vec::new();
            log.take(TAIL_BYTES).read_to_end(&mut bytes)?;
            Ok(last_lines(&String::from_utf8_lossy(&bytes)))
        };
        read().unwrap_or_default()
    }

    /// Makes a password and keeps it where only the server's user and root can read it.
    pub(crate) fn create_password(&self) -> Result<String, Error> {
        let path = self.password_path();
        let password = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::file("replace", path)(error));
            }
            _ => {}
        }
        let mut file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::file("create", &path))?;
        file.write_all(password.as_bytes())
            .map_err(Error::file("write", &path))?;
        file.sync_all().map_err(Error::file("write", &path))?;
        self.user.own(&path)?;
        Ok(password)
    }

    /// The password that the cluster was made with, if it has one.
    pub(crate) fn read_password(&self) -> Result<Option<String>, Error> {
        let path = self.password_path();
        match fs::read_to_string(&path) {
            Ok(password) => Ok(Some(password.trim().to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file("read", path)(error)),
        }
    }
}

/// Refuses a folder with contents that this crate did not put there, because its owner
/// would be changed.
fn refuse_foreign(root: &Path) -> Result<(), Error> {
    let entries = root.read_dir().map_err(Error::file("list", root))?;
    for entry in entries {
        let entry = entry.map_err(Error::file("list", root))?;
        let name = entry.file_name();
        let ours = [
            "data",
            "data.unfinished",
            "server.log",
            "server.log.1",
            "password",
            "lock",
            "sockets",
        ];
        if !ours.iter().any(|known| name == *known) {
            return Err(Error::ForeignFolder {
                data_dir: root.to_owned(),
            });
        }
    }
    Ok(())
}

/// The last lines of a program's output, for people.
pub(crate) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let shown = &lines[lines.len().saturating_sub(15)..];
    shown
        .iter()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}
