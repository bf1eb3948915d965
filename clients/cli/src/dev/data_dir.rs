//! The folder that holds everything which must survive a restart.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The data folder, held by this process until the value is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    /// Its lock keeps a second `tasklease dev` out.
    _lock: File,
}

impl DataDir {
    /// Creates the folder if needed and takes hold of it.
    pub(crate) fn open(chosen: Option<PathBuf>) -> Result<Self, Failure> {
        let path = match chosen {
            Some(path) => path,
            None => default_path(
                rustix::process::geteuid().is_root(),
                std::env::var_os("XDG_DATA_HOME").map(PathBuf::from),
                std::env::var_os("HOME").map(PathBuf::from),
            )
            .ok_or_else(|| Failure::usage("no home folder is known; name a folder with --data-dir"))?,
        };
        create(&path)?;
        let path = path
            .canonicalize()
            .map_err(|error| cannot("find", &path, &error))?;
        let lock_path = path.join("dev.lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|error| cannot("open", &lock_path, &error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Failure::other(format!(
                "another `tasklease dev` uses the data directory {}; stop it, or choose another with --data-dir",
                path.display()
            ))),
            Err(TryLockError::Error(error)) => Err(cannot("lock", &lock_path, &error)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of the private cluster, which creates it itself.
    pub(crate) fn postgres(&self) -> PathBuf {
        self.path.join("postgres")
    }

    /// The folder of the logs.
    pub(crate) fn logs(&self) -> Result<PathBuf, Failure> {
        let path = self.path.join("logs");
        create(&path)?;
        Ok(path)
    }
}

/// Creates a folder. Root's can be entered by all, because Postgres below it runs as
/// another user; its own folder is private again.
fn create(path: &Path) -> Result<(), Failure> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(|error| cannot("create", parent, &error))?;
    }
    let mode = if rustix::process::geteuid().is_root() {
        0o755
    } else {
        0o700
    };
    DirBuilder::new()
        .mode(mode)
        .create(path)
        .map_err(|error| cannot("create", path, &error))
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::other(format!("cannot {what} {}: {error}", path.display()))
}

/// Where data goes unless the user says otherwise. Root's home is closed to the user
/// that Postgres runs as, so root's data does not go there.
fn default_path(is_root: bool, xdg_data_home: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    let absolute = |path: &PathBuf| path.is_absolute();
    match (xdg_data_home.filter(absolute), is_root, home.filter(absolute)) {
        (Some(xdg), _, _) => Some(xdg.join("tasklease")),
        (None, true, _) => Some(PathBuf::from("/var/lib/tasklease")),
        (None, false, Some(home)) => Some(home.join(".local/share/tasklease")),
        (None, false, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{DataDir, default_path};

    #[test]
    fn the_default_follows_the_xdg_rules_and_avoids_the_home_of_root() {
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(default_path(false, path("/x"), path("/h")), path("/x/tasklease"));
        assert_eq!(
            default_path(false, path("relative"), path("/h")),
            path("/h/.local/share/tasklease")
        );
        assert_eq!(
            default_path(true, None, path("/root")),
            path("/var/lib/tasklease")
        );
        assert_eq!(default_path(false, None, None), None);
    }

    #[test]
    fn a_second_owner_of_the_same_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let first = DataDir::open(Some(path.clone())).unwrap();
        let refusal = DataDir::open(Some(path.clone())).unwrap_err();
        assert!(
            refusal.lines()[0].contains("another `tasklease dev`"),
            "{refusal:?}"
        );
        drop(first);
        DataDir::open(Some(path)).unwrap();
    }
}
