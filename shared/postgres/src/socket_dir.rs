//! The folder of the server's Unix socket.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::Error;
use crate::folder::{Folder, is_absent};
use crate::server_user::ServerUser;

/// A socket's path may have about 100 bytes; its file name takes some of them.
const LENGTH_LIMIT: usize = 80;

/// A private folder whose path is short enough for sockets in it.
#[derive(Debug)]
pub(crate) enum SocketDir {
    /// In the cluster's folder, where it stays.
    Inside(PathBuf),
    /// Elsewhere, because the path of the cluster's folder is too long; removed with
    /// this value.
    Elsewhere(TempDir),
}

impl SocketDir {
    /// Creates the folder if needed.
    pub(crate) fn open(cluster: &Folder, user: ServerUser) -> Result<Self, Error> {
        let inside = cluster.sockets();
        if inside.as_os_str().len() <= LENGTH_LIMIT {
            if is_absent(&inside)? {
                DirBuilder::new()
                    .mode(0o700)
                    .create(&inside)
                    .map_err(Error::file("create", &inside))?;
            }
            user.own(&inside)?;
            return Ok(Self::Inside(inside));
        }
        let mut parent = std::env::temp_dir();
        if parent.as_os_str().len() > LENGTH_LIMIT || user.check_can_reach(&parent.join("x")).is_err() {
            parent = PathBuf::from("/tmp");
        }
        let dir = tempfile::Builder::new()
            .prefix("tasklease-")
            .tempdir_in(&parent)
            .map_err(Error::file("create a folder in", parent))?;
        user.own(dir.path())?;
        Ok(Self::Elsewhere(dir))
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Inside(path) => path,
            Self::Elsewhere(dir) => dir.path(),
        }
    }
}
