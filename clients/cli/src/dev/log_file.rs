//! The file that a child's log goes to.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// A larger file is put aside at the next start.
const SIZE_LIMIT: u64 = 16 << 20;

/// How much of the end an error shows.
const TAIL_BYTES: u64 = 4 << 10;

/// Opens the file to append to it.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    if fs::metadata(path).is_ok_and(|meta| meta.len() > SIZE_LIMIT) {
        let mut aside = PathBuf::from(path).into_os_string();
        aside.push(".1");
        fs::rename(path, aside)?;
    }
    File::options().create(true).append(true).open(path)
}

/// The last lines, for an error message.
pub(crate) fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(10)..]
        .iter()
        .map(|line| format!("  {line}\n"))
        .collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{SIZE_LIMIT, open, tail};

    #[test]
    fn the_tail_is_the_last_ten_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        for number in 0..1_000 {
            writeln!(open(&path).unwrap(), "line {number}").unwrap();
        }
        let tail = tail(&path).unwrap();
        assert!(
            tail.starts_with("  line 990\n") && tail.ends_with("  line 999\n"),
            "{tail}"
        );
    }

    #[test]
    fn a_large_log_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        open(&path).unwrap().set_len(SIZE_LIMIT + 1).unwrap();
        assert_eq!(open(&path).unwrap().metadata().unwrap().len(), 0);
        assert!(folder.path().join("x.log.1").exists());
    }
}
