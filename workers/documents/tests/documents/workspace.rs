//! A temporary folder as root.

use std::fs;
use std::path::{Path, PathBuf};

use tasklease_files::Files;
use tempfile::TempDir;

pub(crate) struct Workspace {
    dir: TempDir,
    pub(crate) files: Files,
}

impl Workspace {
    pub(crate) fn new() -> Workspace {
        Workspace::with_limit(64 << 20)
    }

    pub(crate) fn with_limit(max_input_bytes: u64) -> Workspace {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path().to_str().unwrap(), max_input_bytes).unwrap();
        Workspace { dir, files }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// Every file below the root, temporary ones included, in order.
    pub(crate) fn all_files(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect(self.dir.path(), self.dir.path(), &mut found);
        found.sort();
        found
    }
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            collect(root, &entry.path(), found);
        } else {
            found.push(
                entry
                    .path()
                    .strip_prefix(root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned(),
            );
        }
    }
}
