//! A file system of its own for Postgres, which can be full.

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::fs::statvfs;

/// How many bytes the file system takes while it is not full; memory is used for what is written only.
const ROOMY: u64 = 4 << 30;

/// A mounted file system in memory; it goes with its value, and with the harness, which has its own mounts.
#[derive(Debug)]
pub struct Volume {
    path: PathBuf,
}

impl Volume {
    /// Mounts a file system at a new folder.
    ///
    /// # Errors
    /// The folder is there already, or this process may not mount.
    pub fn mount(path: PathBuf) -> io::Result<Self> {
        std::fs::create_dir(&path)?;
        mount(&format!("mode=755,size={ROOMY}"), &path)?;
        Ok(Self { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves only so many bytes free.
    ///
    /// # Errors
    /// It cannot be mounted anew.
    pub fn fill(&self, free: u64) -> io::Result<()> {
        let now = statvfs(&self.path)?;
        let used = (now.f_blocks - now.f_bfree) * now.f_frsize;
        mount(&format!("remount,size={}", used + free), &self.path)
    }

    /// Makes room again.
    ///
    /// # Errors
    /// It cannot be mounted anew.
    pub fn empty(&self) -> io::Result<()> {
        mount(&format!("remount,size={ROOMY}"), &self.path)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Lazily, because a process that is about to end may still have a file open.
        let unmounted = run(Command::new("umount").arg("--lazy").arg(&self.path));
        if let Err(error) = unmounted {
            eprintln!("{} stays mounted: {error}", self.path.display());
        }
    }
}

fn mount(options: &str, path: &Path) -> io::Result<()> {
    run(Command::new("mount")
        .args(["-t", "tmpfs", "-o", options, "tmpfs"])
        .arg(path))
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(text.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::Volume;

    #[test]
    fn a_full_file_system_refuses_bytes_until_there_is_room_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let volume = match Volume::mount(folder.path().join("volume")) {
            Ok(volume) => volume,
            Err(error) => {
                eprintln!("skipped: this process may not mount: {error}");
                return;
            }
        };
        let file = volume.path().join("file");
        std::fs::write(&file, vec![1; 1 << 20]).expect("room");
        volume.fill(0).expect("filled");
        let refused = std::fs::write(volume.path().join("other"), vec![1; 1 << 20]);
        assert_eq!(refused.expect_err("full").kind(), ErrorKind::StorageFull);
        volume.empty().expect("emptied");
        std::fs::write(&file, vec![1; 2 << 20]).expect("room again");
    }
}
