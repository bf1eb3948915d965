//! Clocks that are wrong, each of one process and its children.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Where packages put the library that a program asks for the time instead of the system.
const FOLDERS: [&str; 3] = ["/usr/lib", "/usr/local/lib", "/usr/lib64"];

/// How the library is called there, also below a folder named after the machine.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// Where the library keeps what processes share, by their ids.
const SHARED: &str = "/dev/shm";

/// What their names begin with.
const SHARED_NAMES: [&str; 2] = ["faketime_shm_", "sem.faketime_sem_"];

/// A clock that can be set while processes read it. It shows the time of the machine and an offset; what measures
/// durations is not touched.
#[derive(Debug)]
pub struct Clock {
    file: PathBuf,
    library: PathBuf,
}

impl Clock {
    /// A clock that is right, kept in a file that all who read it may read.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(file: PathBuf, library: &Path) -> io::Result<Self> {
        let clock = Self {
            file,
            library: library.to_owned(),
        };
        clock.set(0)?;
        Ok(clock)
    }

    /// Sets it to so many milliseconds after the right time.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set(&self, offset_ms: i64) -> io::Result<()> {
        let sign = if offset_ms < 0 { '-' } else { '+' };
        let offset = offset_ms.unsigned_abs();
        let text = format!("{sign}{}.{:03}\n", offset / 1_000, offset % 1_000);
        // Nobody reads half of it.
        let next = self.file.with_extension("next");
        std::fs::write(&next, text)?;
        std::fs::rename(next, &self.file)
    }

    /// What a process needs in its environment to go by this clock.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        environment(&self.library, &self.file.display().to_string())
    }
}

/// What a process needs in its environment to go by the clock in a file.
pub fn environment(library: &Path, file: &str) -> Vec<(&'static str, String)> {
    vec![
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", file.to_owned()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
    ]
}

/// The library on this machine, if it is there.
pub fn library() -> Option<PathBuf> {
    FOLDERS.iter().find_map(|folder| {
        let below = Path::new(folder).read_dir().into_iter().flatten().flatten();
        let below = below.map(|entry| entry.path().join(LIBRARY));
        std::iter::once(Path::new(folder).join(LIBRARY))
            .chain(below)
            .find(|library| library.is_file())
    })
}

/// Removes what processes that were killed have left behind.
pub fn sweep() {
    for entry in Path::new(SHARED).read_dir().into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = SHARED_NAMES
            .iter()
            .find_map(|prefix| name.to_str()?.strip_prefix(prefix)?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // Another harness may have removed it just now.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{Clock, library};

    /// Seconds since 1970 by a clock.
    fn seconds(clock: Option<&Clock>) -> i64 {
        let mut date = Command::new("date");
        date.arg("+%s");
        if let Some(clock) = clock {
            date.envs(clock.environment());
        }
        let output = date.output().expect("date runs").stdout;
        String::from_utf8_lossy(&output).trim().parse().expect("seconds")
    }

    #[test]
    fn a_clock_is_as_wrong_as_it_was_set() {
        let Some(library) = library() else {
            eprintln!("skipped: there is no libfaketime");
            return;
        };
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Clock::create(folder.path().join("clock"), &library).expect("a clock");
        for offset in [0, 600_000, -600_000] {
            clock.set(offset).expect("set");
            let (shown, right) = (seconds(Some(&clock)), seconds(None));
            let error = shown - right - offset / 1_000;
            assert!(
                (-60..=60).contains(&error),
                "{offset}: {shown} instead of {right}"
            );
        }
        super::sweep();
    }
}
