//! The root of the files that workers read and write.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Gives the folder's whole path; creates it if there is none.
pub(super) fn open(path: &Path) -> Result<PathBuf, Failure> {
    fs::create_dir_all(path)
        .and_then(|()| path.canonicalize())
        .map_err(|error| {
            Failure::usage(format!(
                "--files: cannot use {} as a folder: {error}",
                path.display()
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::open;

    #[test]
    fn a_missing_folder_is_created_and_a_file_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let new = home.path().join("a/b");
        let opened = open(&new).unwrap();
        assert!(opened.is_dir() && opened.is_absolute());
        assert_eq!(open(&new).unwrap(), opened);
        let file = home.path().join("file");
        std::fs::write(&file, "x").unwrap();
        for path in [file.clone(), file.join("below")] {
            let refusal = open(&path).unwrap_err();
            assert_eq!(refusal.exit().code(), 2);
            assert!(refusal.lines()[0].contains("--files"), "{refusal:?}");
        }
    }
}
