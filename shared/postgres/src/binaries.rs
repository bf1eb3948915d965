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

    /// Looks at one folder.
    fn in_dir(dir: &Path) -> Option<Self> {
        if !dir.join("initdb").is_file() || !dir.join("postgres").is_file() {
            return None;
        }
        let output = Command::new(dir.join("postgres"))
            .arg("--version")
            .output()
            .ok()?;
        let major = parse_major(&String::from_utf8_lossy(&output.stdout))?;
        (major >= OLDEST_MAJOR).then(|| Self {
            dir: dir.to_owned(),
            major,
        })
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
    installed()?.into_iter().next().ok_or(Error::NoBinaries)
}

/// Finds the server that can open a cluster made by version `major`.
pub(crate) fn find_binaries_of(major: u32, data_dir: &Path) -> Result<Binaries, Error> {
    installed()?
        .into_iter()
        .find(|binaries| binaries.major == major)
        .ok_or_else(|| Error::WrongVersion {
            data_dir: data_dir.to_owned(),
            major,
        })
}

/// All usable servers, the preferred one first.
fn installed() -> Result<Vec<Binaries>, Error> {
    if let Some(dir) = env::var_os("TASKLEASE_PG_BIN").filter(|dir| !dir.is_empty()) {
        let dir = PathBuf::from(dir);
        return match Binaries::in_dir(&dir) {
            Some(binaries) => Ok(vec![binaries]),
            None => Err(Error::BadBinaries { dir }),
        };
    }
    let mut found: Vec<Binaries> = env::var_os("PATH")
        .map(|path| {
            env::split_paths(&path)
                .filter_map(|dir| Binaries::in_dir(&dir))
                .collect()
        })
        .unwrap_or_default();
    let mut packaged: Vec<Binaries> = PACKAGE_ROOTS
        .iter()
        .flat_map(|(root, below)| package_dirs(Path::new(root), below))
        .filter_map(|dir| Binaries::in_dir(&dir))
        .collect();
    packaged.sort_by_key(|binaries| std::cmp::Reverse(binaries.major));
    found.append(&mut packaged);
    if let Some(tools) = env::var_os("TASKLEASE_TOOLS_DIR") {
        found.extend(Binaries::in_dir(&Path::new(&tools).join("postgres/bin")));
    }
    Ok(found)
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
    use super::parse_major;

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
