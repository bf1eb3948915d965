//! The user that the server runs as when this process is root.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::Error;

/// The uid and gid of `nobody`, which need no entry in the user database.
const NOBODY: u32 = 65534;

/// The user that the server runs as: our own, or an unprivileged one if we are root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerUser {
    /// The user of this process.
    Own,
    /// Another user, because Postgres refuses to run as root.
    Other { uid: u32, gid: u32 },
}

impl ServerUser {
    /// Decides for this process and a cluster's folder. An existing cluster keeps the
    /// user that it was made for, even if `postgres` came to exist since.
    ///
    /// # Errors
    ///
    /// When a cluster is there and its owner cannot be told.
    pub(crate) fn choose(cluster: &Path) -> Result<Self, Error> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Own);
        }
        let data = cluster.join("data");
        match fs::symlink_metadata(&data).and_then(|_| fs::metadata(&data)) {
            Ok(meta) if meta.uid() != 0 => {
                return Ok(Self::Other {
                    uid: meta.uid(),
                    gid: meta.gid(),
                });
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Error::file("look at", data)(error)),
        }
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let (uid, gid) = find_user(&users, "postgres").unwrap_or((NOBODY, NOBODY));
        Ok(Self::Other { uid, gid })
    }

    /// Makes `command` run as this user.
    pub(crate) fn run_as(self, command: &mut Command) {
        if let Self::Other { uid, gid } = self {
            command.uid(uid).gid(gid);
        }
    }

    /// Gives a file or folder of ours to this user.
    pub(crate) fn own(self, path: &Path) -> Result<(), Error> {
        match self {
            Self::Own => Ok(()),
            Self::Other { uid, gid } => {
                chown(path, Some(uid), Some(gid)).map_err(Error::file("change the owner of", path))
            }
        }
    }

    /// Checks that this user may enter every folder above `path`.
    pub(crate) fn check_can_reach(self, path: &Path) -> Result<(), Error> {
        let Self::Other { uid, gid } = self else {
            return Ok(());
        };
        for folder in path.ancestors().skip(1) {
            let meta = fs::metadata(folder).map_err(Error::file("look at", folder))?;
            let needed = if meta.uid() == uid {
                0o100
            } else if meta.gid() == gid {
                0o010
            } else {
                0o001
            };
            if meta.mode() & needed == 0 {
                return Err(Error::Unreachable {
                    folder: folder.to_owned(),
                    uid,
                });
            }
        }
        Ok(())
    }
}

/// Finds a user's uid and gid in the text of a user database.
fn find_user(users: &str, name: &str) -> Option<(u32, u32)> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::find_user;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let users = "root:x:0:0::/root:/bin/sh\npostgresql:x:7:8::/:/bin/sh\npostgres:x:101:104::/:/bin/sh\n";
        assert_eq!(find_user(users, "postgres"), Some((101, 104)));
        assert_eq!(find_user(users, "nobody"), None);
        assert_eq!(find_user("postgres:x:broken", "postgres"), None);
    }
}
