//! A path that stays below the root by its form alone.

use std::fmt;

use crate::error::{FileError, FileErrorKind};

/// Longest path in bytes.
const MAX_PATH_BYTES: usize = 1024;
/// Longest name of one folder or file in bytes, the limit of common file systems.
const MAX_NAME_BYTES: usize = 255;

/// A path relative to the root: names joined by `/`, none of them `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePath(String);

impl FilePath {
    /// Checks the path in a parameter.
    ///
    /// # Errors
    /// Empty, absolute, too long, with `..`, an empty name, a backslash or a control character.
    pub fn parse(field: &str, text: &str) -> Result<FilePath, FileError> {
        let refuse = |why: &str| {
            let shown: String = text.chars().take(80).collect();
            Err(FileError::new(
                FileErrorKind::PathRefused,
                format!("field `{field}`: {shown:?} {why}; give a path relative to the files root"),
            ))
        };
        if text.is_empty() {
            return refuse("is empty");
        }
        if text.len() > MAX_PATH_BYTES {
            return refuse("is longer than 1024 bytes");
        }
        if text.starts_with('/') {
            return refuse("is absolute");
        }
        if text.contains('\\') {
            return refuse("contains a backslash");
        }
        if text.chars().any(char::is_control) {
            return refuse("contains a control character");
        }
        let mut names = Vec::new();
        for name in text.split('/') {
            match name {
                "" => return refuse("contains an empty name"),
                ".." => return refuse("contains `..`"),
                "." => {}
                _ if name.len() > MAX_NAME_BYTES => return refuse("contains a name longer than 255 bytes"),
                _ => names.push(name),
            }
        }
        if names.is_empty() {
            return refuse("names no file");
        }
        Ok(FilePath(names.join("/")))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folders above the file, outermost first, and the file's own name.
    pub(crate) fn folders_and_name(&self) -> (impl Iterator<Item = &str>, &str) {
        let (folders, name) = match self.0.rsplit_once('/') {
            Some((folders, name)) => (Some(folders), name),
            None => (None, self.0.as_str()),
        };
        (folders.into_iter().flat_map(|folders| folders.split('/')), name)
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}
