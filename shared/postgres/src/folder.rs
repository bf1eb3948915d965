//! The folder of a cluster: its files, and the lock of the process that uses it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use uuid::Uuid;

use crate::Error;
use crate::server_user::ServerUser;

/// A server log larger than this is put aside at the next start.
const LOG_LIMIT: u64 = 16 << 20;

/// How much of a log's end an error shows.
const TAIL_BYTES: u64 = 4 << 10;

/// How much of a small text file is read; a version and a password take less.
const SMALL_FILE_BYTES: u64 = 4 << 10;

/// How the name of a folder starts in which a cluster is being created.
const UNFINISHED: &str = "data.unfinished";

/// The state of the server's data before a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    /// There is none: no entry of that name, or a folder with nothing in it.
    Absent,
    /// A cluster that this major version made.
    Cluster { major: u32 },
}

/// A cluster's folder, held by this process until the value is dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    user: ServerUser,
    /// Its lock keeps every other process out.
    lock: File,
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Closing the file is not enough: a process that another thread is just starting has a copy of it until it
        // runs its program.
        let _ = self.lock.unlock();
    }
}

impl Folder {
    /// Creates the folder if needed and locks it.
    pub(crate) fn open(root: &Path, user: ServerUser) -> Result<Self, Error> {
        fs::create_dir_all(root.parent().unwrap_or(root))
            .map_err(Error::file("create the parent of", root))?;
        if is_absent(root)? {
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
            Ok(()) => Ok(Self { root, user, lock }),
            Err(TryLockError::WouldBlock) => Err(Error::InUse { data_dir: root }),
            Err(TryLockError::Error(source)) => Err(Error::file("lock", lock_path)(source)),
        }
    }

    /// The path of the cluster's folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of the server's data.
    pub(crate) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// Creates a folder in which a new cluster is made before it becomes [`data`](Self::data).
    ///
    /// Every creation has a folder of its own, so none has to remove what an interrupted one left.
    pub(crate) fn create_unfinished(&self) -> Result<TempDir, Error> {
        let unfinished = tempfile::Builder::new()
            .prefix(&format!("{UNFINISHED}-"))
            .tempdir_in(&self.root)
            .map_err(Error::file("create a folder in", &self.root))?;
        self.user.own(unfinished.path())?;
        Ok(unfinished)
    }

    /// Gives a finished cluster its name.
    ///
    /// The name is on disk before this returns. Otherwise a power failure could leave data that a
    /// server has written to under the name of an unfinished creation.
    pub(crate) fn name_finished(&self, unfinished: TempDir) -> Result<(), Error> {
        // Fails if something has appeared under that name meanwhile, unless it is an empty folder.
        fs::rename(unfinished.path(), self.data()).map_err(Error::file("name", self.data()))?;
        // Its content is the cluster now, and nothing is left to remove.
        let _ = unfinished.keep();
        File::open(&self.root)
            .and_then(|root| root.sync_all())
            .map_err(Error::file("write", &self.root))
    }

    /// Where sockets go, if its path is short enough.
    pub(crate) fn sockets(&self) -> PathBuf {
        self.root.join("sockets")
    }

    /// The file of the server's log.
    pub(crate) fn log_path(&self) -> PathBuf {
        self.root.join("server.log")
    }

    /// The password's file, if the cluster has one.
    pub(crate) fn password_path(&self) -> PathBuf {
        self.root.join("password")
    }

    /// Looks at the server's data.
    ///
    /// # Errors
    ///
    /// [`Error::DamagedData`] if there is anything but a whole cluster: it may be a cluster that
    /// cannot be read at the moment, so nothing may take its place.
    pub(crate) fn look_at_data(&self) -> Result<Data, Error> {
        let data = self.data();
        let damaged = |path: PathBuf, reason: String| Error::DamagedData {
            data_dir: data.clone(),
            path,
            reason,
        };
        if is_absent(&data)? {
            return Ok(Data::Absent);
        }
        let cannot = |error: io::Error| damaged(data.clone(), format!("it cannot be listed: {error}"));
        let mut entries = data.read_dir().map_err(cannot)?;
        // A link to an empty folder may be that of a volume which is not mounted.
        let is_link = fs::symlink_metadata(&data).map_err(cannot)?.is_symlink();
        match entries.next() {
            None if is_link => {
                let reason = "it is a link to an empty folder".to_owned();
                return Err(damaged(data.clone(), reason));
            }
            None => return Ok(Data::Absent),
            Some(Err(error)) => return Err(cannot(error)),
            Some(Ok(_)) => {}
        }
        let path = data.join("PG_VERSION");
        let text = match read_small(&path) {
            Ok(text) => text,
            Err(error) => return Err(damaged(path, format!("it cannot be read: {error}"))),
        };
        match text.trim().parse() {
            Ok(major) => Ok(Data::Cluster { major }),
            Err(_) if text.trim().is_empty() => Err(damaged(path, "it is empty".to_owned())),
            Err(_) => Err(damaged(path, "it names no version".to_owned())),
        }
    }

    /// The process that the data names as its server, dead or alive.
    pub(crate) fn recorded_server(&self) -> Option<i32> {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        text.lines().next()?.trim().parse().ok()
    }

    /// Whether the data's own server accepts connections: the last line of its record says so.
    pub(crate) fn server_is_ready(&self) -> bool {
        read_small(&self.data().join("postmaster.pid"))
            .is_ok_and(|text| text.lines().nth(7).is_some_and(|status| status.trim() == "ready"))
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

    /// Gives the password for a new cluster: the one in the folder, or a new one, which only the
    /// server's user and root can read.
    ///
    /// A password without data may belong to data that its owner has moved elsewhere.
    pub(crate) fn keep_or_create_password(&self) -> Result<(), Error> {
        let path = self.password_path();
        if !is_absent(&path)? {
            let password = read_small(&path).map_err(Error::file("read", &path))?;
            if !password.trim().is_empty() {
                return Ok(());
            }
        }
        let password = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let mut file = tempfile::Builder::new()
            .prefix("password.unfinished-")
            .tempfile_in(&self.root)
            .map_err(Error::file("create a file in", &self.root))?;
        file.write_all(password.as_bytes())
            .and_then(|()| file.as_file().sync_all())
            .map_err(Error::file("write", file.path()))?;
        self.user.own(file.path())?;
        // Complete or not there at all; it takes the place of an empty file at most.
        file.persist(&path)
            .map(drop)
            .map_err(|error| Error::file("create", path)(error.error))
    }

    /// The password that the cluster was made with, if it has one.
    pub(crate) fn read_password(&self) -> Result<Option<String>, Error> {
        let path = self.password_path();
        if is_absent(&path)? {
            return Ok(None);
        }
        let password = read_small(&path).map_err(Error::file("read", &path))?;
        match password.trim() {
            "" => Err(Error::NoPassword { path }),
            password => Ok(Some(password.to_owned())),
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
            "server.log",
            "server.log.1",
            "password",
            "lock",
            "sockets",
        ];
        let unfinished = [UNFINISHED, "password.unfinished-"];
        let is_ours = ours.iter().any(|known| name == *known)
            || name
                .to_str()
                .is_some_and(|name| unfinished.iter().any(|prefix| name.starts_with(prefix)));
        if !is_ours {
            return Err(Error::ForeignFolder {
                data_dir: root.to_owned(),
            });
        }
    }
    Ok(())
}

/// Whether nothing of that name exists; a link that leads nowhere does exist.
///
/// # Errors
///
/// When that cannot be told: what cannot be looked at may well be there.
pub(crate) fn is_absent(path: &Path) -> Result<bool, Error> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(Error::file("look at", path)(error)),
    }
}

/// Reads a text file that is small unless something is wrong with it.
fn read_small(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(SMALL_FILE_BYTES)
        .read_to_string(&mut text)?;
    Ok(text)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_was_let_go_can_be_taken_while_a_process_is_being_started() {
        let root = TempDir::new().expect("a folder");
        let user = || ServerUser::choose(root.path()).expect("a user");
        let folder = Folder::open(root.path(), user()).expect("nobody else holds it");
        let in_starting_process = folder.lock.try_clone().expect("a copy");
        drop(folder);
        assert!(Folder::open(root.path(), user()).is_ok());
        drop(in_starting_process);
    }
}
