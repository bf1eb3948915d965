//! A folder of this machine as root.
//!
//! Every path is walked one name at a time from the root's descriptor, and no symbolic link is
//! followed below it. Unlike comparing resolved paths, this leaves no moment in which somebody
//! could swap a folder for a link.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{FileError, FileErrorKind};
use crate::path::FilePath;
use crate::run_name::RunName;

const TEMPORARY_PREFIX: &str = ".tasklease-";
const TEMPORARY_SUFFIX: &str = ".part";

/// A folder that all paths stay below.
#[derive(Debug)]
pub struct Folder {
    root: OwnedFd,
}

/// What to do about a folder on the way that does not exist.
#[derive(Clone, Copy)]
enum Parents {
    Require,
    Create,
}

impl Folder {
    /// Opens the folder, which must exist.
    ///
    /// # Errors
    /// It does not exist or is no folder.
    pub fn open(path: &Path) -> Result<Folder, FileError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
            Ok(root) => Ok(Folder { root }),
            Err(errno) => Err(FileError::new(
                FileErrorKind::PathRefused,
                format!("cannot use {} as files root: {errno}", path.display()),
            )),
        }
    }

    /// Reads a whole regular file of at most `limit` bytes.
    pub(crate) fn read(&self, path: &FilePath, limit: u64) -> Result<Vec<u8>, FileError> {
        let fail = |errno: Errno| failure(path, "read", errno);
        let parent = self.parent(path, Parents::Require)?;
        let (_, name) = path.folders_and_name();
        // Asked before opening, because opening a device can have effects of its own.
        let found = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        require_regular(path, FileType::from_raw_mode(found.st_mode))?;
        // NONBLOCK: a FIFO that took the file's place meanwhile must not hold the thread.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent, name, flags, Mode::empty()).map_err(fail)?;
        let opened = rustix::fs::fstat(&file).map_err(fail)?;
        require_regular(path, FileType::from_raw_mode(opened.st_mode))?;
        let size = u64::try_from(opened.st_size).unwrap_or(u64::MAX);
        check_size(path, size, limit)?;
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        // One byte more than allowed shows that the file has grown since it was measured.
        File::from(file)
            .take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| io_failure(path, "read", &error))?;
        check_size(path, bytes.len() as u64, limit)?;
        Ok(bytes)
    }

    /// Writes the content to a temporary file in the target's folder.
    pub(crate) fn stage(
        &self,
        path: &FilePath,
        run: &RunName,
        content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<StagedFile, FileError> {
        let parent = self.parent(path, Parents::Create)?;
        let (_, name) = path.folders_and_name();
        match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => require_regular(path, FileType::from_raw_mode(found.st_mode))?,
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(failure(path, "write", errno)),
        }
        remove_older_runs(&parent, run);
        let temporary = temporary_name(run);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent, temporary.as_str(), flags, Mode::from_raw_mode(0o666))
            .map_err(|errno| failure(path, "write", errno))?;
        // From here on dropping `staged` removes the temporary file, whatever goes wrong.
        let staged = StagedFile {
            parent,
            temporary,
            path: path.clone(),
            committed: false,
        };
        let mut out = BufWriter::new(File::from(file));
        content(&mut out)
            .and_then(|()| out.into_inner().map_err(io::IntoInnerError::into_error))
            .and_then(|file| file.sync_all())
            .map_err(|error| io_failure(path, "write", &error))?;
        Ok(staged)
    }

    /// Opens the folder that holds the file.
    fn parent(&self, path: &FilePath, parents: Parents) -> Result<OwnedFd, FileError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut folder =
            rustix::io::dup(&self.root).map_err(|errno| failure(path, "open the folder of", errno))?;
        let (names, _) = path.folders_and_name();
        for name in names {
            if let Parents::Create = parents {
                match rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(0o777)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(failure(path, "create the folder of", errno)),
                }
            }
            folder = rustix::fs::openat(&folder, name, flags, Mode::empty())
                .map_err(|errno| failure(path, "open the folder of", errno))?;
        }
        Ok(folder)
    }
}

/// A temporary file that becomes the target, or is removed when dropped.
#[derive(Debug)]
pub struct StagedFile {
    parent: OwnedFd,
    temporary: String,
    path: FilePath,
    committed: bool,
}

impl StagedFile {
    /// Renames it to the target.
    pub(crate) fn commit(mut self) -> Result<(), FileError> {
        let (_, name) = self.path.folders_and_name();
        rustix::fs::renameat(&self.parent, self.temporary.as_str(), &self.parent, name).map_err(|errno| {
            match errno {
                // The folder was deleted meanwhile, or a later run has taken over.
                Errno::NOENT => FileError::new(
                    FileErrorKind::Io,
                    format!("cannot write {}: its temporary file is gone", self.path),
                ),
                _ => failure(&self.path, "write", errno),
            }
        })?;
        self.committed = true;
        // Some file systems cannot sync a folder; the file itself is safe already.
        let _ = rustix::fs::fsync(&self.parent);
        Ok(())
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.committed {
            let _ = rustix::fs::unlinkat(&self.parent, self.temporary.as_str(), AtFlags::empty());
        }
    }
}

/// The temporary name of a run: a later run of the same task has another one, so that two of them
/// never write into the same file.
fn temporary_name(run: &RunName) -> String {
    format!("{}{}{TEMPORARY_SUFFIX}", temporary_prefix(run), run.lease_token)
}

fn temporary_prefix(run: &RunName) -> String {
    let id: String = run
        .task_id
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .take(64)
        .collect();
    format!("{TEMPORARY_PREFIX}{id}-")
}

/// Removes what a killed earlier run of the same task left behind.
///
/// Should that run live on against all expectation, its rename finds nothing and it fails, which
/// is right: it has lost its lease.
fn remove_older_runs(folder: &OwnedFd, run: &RunName) {
    let prefix = temporary_prefix(run);
    let Ok(entries) = rustix::fs::Dir::read_from(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let token = entry
            .file_name()
            .to_str()
            .ok()
            .and_then(|name| name.strip_prefix(prefix.as_str()))
            .and_then(|rest| rest.strip_suffix(TEMPORARY_SUFFIX))
            .and_then(|token| token.parse::<u64>().ok());
        if token.is_some_and(|token| token < run.lease_token) {
            let _ = rustix::fs::unlinkat(folder, entry.file_name(), AtFlags::empty());
        }
    }
}

fn require_regular(path: &FilePath, found: FileType) -> Result<(), FileError> {
    let what = match found {
        FileType::RegularFile => return Ok(()),
        FileType::Directory => "a folder",
        FileType::Symlink => "a symbolic link, which is not followed",
        _ => "not a regular file",
    };
    Err(FileError::new(
        FileErrorKind::PathRefused,
        format!("{path} is {what}"),
    ))
}

fn check_size(path: &FilePath, size: u64, limit: u64) -> Result<(), FileError> {
    if size > limit {
        return Err(crate::files::too_large(path, size, limit));
    }
    Ok(())
}

fn failure(path: &FilePath, action: &str, errno: Errno) -> FileError {
    match errno {
        Errno::NOENT => FileError::new(
            FileErrorKind::NotFound,
            format!("{path} does not exist below the files root"),
        ),
        Errno::LOOP | Errno::NOTDIR => FileError::new(
            FileErrorKind::PathRefused,
            format!("{path}: a part of it is not a folder, or is a symbolic link, which is not followed"),
        ),
        Errno::NAMETOOLONG | Errno::ISDIR | Errno::NXIO | Errno::INVAL | Errno::ILSEQ => FileError::new(
            FileErrorKind::PathRefused,
            format!("{path} cannot be a file here: {errno}"),
        ),
        Errno::ACCESS | Errno::PERM | Errno::ROFS => FileError::new(
            FileErrorKind::PermissionDenied,
            format!("may not {action} {path}: {errno}"),
        ),
        _ => FileError::new(FileErrorKind::Io, format!("cannot {action} {path}: {errno}")),
    }
}

fn io_failure(path: &FilePath, action: &str, error: &io::Error) -> FileError {
    match Errno::from_io_error(error) {
        Some(errno) => failure(path, action, errno),
        None => FileError::new(FileErrorKind::Io, format!("cannot {action} {path}: {error}")),
    }
}
