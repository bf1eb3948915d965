//! Finding a Postgres server on this machine.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;

/// The oldest major version whose features Tasklease may use.
const OLDEST_MAJOR: u32 = 15;

/// Where system packages put their servers: a folder with one folder per version, and
/// the path from there to the programs.
const PACKAGE_ROOTS: [(&str, &str); 3] = [
    ("/usr/lib/postgresql", "bin"),
    ("/opt/homebrew/opt", "bin"),
    ("/usr/local/opt", "bin"),
];

/// The programs of one installed server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    dir: PathBuf,
    major: u32,
}

impl Binaries {
    /// The folder that holds them.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The server's major version, such as 15.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The server program.
    pub fn postgres(&self) -> PathBuf {
        self.dir.join("postgres")
    }

    /// The program that creates a cluster.
    pub fn initdb(&self) -> PathBuf {
        self.dir.join("initdb")
    }

    /// Looks at one folder; `None` if it holds no usable server.
    ///
    /// # Errors
    ///
    /// When there is a server and it cannot be run, which says nothing about its version.
    fn in_dir(dir: &Path) -> Result<Option<Self>, Error> {
        let postgres = dir.join("postgres");
        if !dir.join("initdb").is_file() || !postgres.is_file() {
            return Ok(None);
        }
        let output = Command::new(&postgres)
            .arg("--version")
            .output()
            .map_err(Error::file("run", postgres))?;
        let major =
            parse_major(&String::from_utf8_lossy(&output.stdout)).filter(|major| *major >= OLDEST_MAJOR);
        Ok(major.map(|major| Self {
            dir: dir.to_owned(),
            major,
        }))
    }
}

/// The result of a search.
#[derive(Default)]
struct Search {
    /// All usable servers, the preferred one first.
    found: Vec<Binaries>,
    /// Why a server could not be examined; it may be the wanted one.
    failed: Option<Error>,
}

impl Search {
    fn look_in(&mut self, dirs: impl IntoIterator<Item = PathBuf>) {
        for dir in dirs {
            match Binaries::in_dir(&dir) {
                Ok(binaries) => self.found.extend(binaries),
                Err(error) => self.failed = self.failed.take().or(Some(error)),
            }
        }
    }

    /// The first server that fits.
    fn first(self, fits: impl Fn(&Binaries) -> bool, none: Error) -> Result<Binaries, Error> {
        let found = self.found.into_iter().find(|binaries| fits(binaries));
        found.ok_or_else(|| self.failed.unwrap_or(none))
    }
}

/// Finds the server that new clusters are made with.
///
/// Looks in this order: the folder in `TASKLEASE_PG_BIN`, and nowhere else if that is
/// set; `PATH`; the folders of system packages, newest version first; the folder
/// `postgres/bin` below `TASKLEASE_TOOLS_DIR`.
///
/// # Errors
///
/// [`Error::NoBinaries`] or [`Error::BadBinaries`] when there is none of version 15 or
/// newer.
pub fn find_binaries() -> Result<Binaries, Error> {
    installed()?.first(|_| true, Error::NoBinaries)
}

/// Finds the server that can open a cluster made by version `major`.
pub(crate) fn find_binaries_of(major: u32, data_dir: &Path) -> Result<Binaries, Error> {
    let none = Error::WrongVersion {
        data_dir: data_dir.to_owned(),
        major,
    };
    installed()?.first(|binaries| binaries.major == major, none)
}

/// Looks in all places where a server may be.
fn installed() -> Result<Search, Error> {
    let mut search = Search::default();
    if let Some(dir) = env::var_os("TASKLEASE_PG_BIN").filter(|dir| !dir.is_empty()) {
        let dir = PathBuf::from(dir);
        search.look_in([dir.clone()]);
        return match search.found.is_empty() {
            true => Err(search.failed.unwrap_or(Error::BadBinaries { dir })),
            false => Ok(search),
        };
    }
    if let Some(path) = env::var_os("PATH") {
        search.look_in(env::split_paths(&path));
    }
    let in_path = search.found.len();
    for (root, below) in PACKAGE_ROOTS {
        search.look_in(package_dirs(Path::new(root), below));
    }
    search.found[in_path..].sort_by_key(|binaries| std::cmp::Reverse(binaries.major));
    if let Some(tools) = env::var_os("TASKLEASE_TOOLS_DIR") {
        search.look_in([Path::new(&tools).join("postgres/bin")]);
    }
    Ok(search)
}

/// The program folders of every version below `root`.
fn package_dirs(root: &Path, below: &str) -> Vec<PathBuf> {
    let Ok(entries) = root.read_dir() else {
        return Vec::new();
    };
    entries.flatten().map(|entry| entry.path().join(below)).collect()
}

/// Reads the major version from the answer to `postgres --version`.
fn parse_major(answer: &str) -> Option<u32> {
    let version = answer
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Search, parse_major};
    use crate::Error;

    #[test]
    fn a_server_that_cannot_be_run_is_told_and_not_taken_for_missing() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["postgres", "initdb"] {
            std::fs::write(dir.path().join(name), "not executable").unwrap();
        }
        let mut search = Search::default();
        search.look_in([dir.path().join("nothing here"), dir.path().to_owned()]);
        let error = search.first(|_| true, Error::NoBinaries).unwrap_err();
        assert!(
            error.to_string().contains("postgres: Permission denied"),
            "{error}"
        );
    }

    #[test]
    fn the_major_version_is_read_from_every_known_form() {
        assert_eq!(
            parse_major("postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)\n"),
            Some(15)
        );
        assert_eq!(parse_major("postgres (PostgreSQL) 18.4\n"), Some(18));
        assert_eq!(parse_major("postgres (PostgreSQL) 19beta1\n"), Some(19));
        assert_eq!(parse_major("something else"), None);
    }
}
