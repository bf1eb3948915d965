//! Why a file could not be read or written.

use std::fmt;

use tasklease_worker::TaskError;

/// What kind of error it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileErrorKind {
    /// There is no file at the path.
    NotFound,
    /// The path leaves the root, cannot be a file here, or is no regular file.
    PathRefused,
    /// The operating system or the store denies access.
    PermissionDenied,
    /// The file is larger than the worker accepts.
    TooLarge,
    /// Reading or writing failed for a reason that may pass.
    Io,
}

impl FileErrorKind {
    /// The word for programs, the kind of the task's error.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "FILE_NOT_FOUND",
            Self::PathRefused => "PATH_REFUSED",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::TooLarge => "INPUT_TOO_LARGE",
            Self::Io => "IO_ERROR",
        }
    }

    /// True if the same task may succeed when it runs again unchanged.
    pub fn is_retryable(self) -> bool {
        self == Self::Io
    }
}

/// Why a file could not be read or written.
///
/// It is deliberately no [`std::error::Error`]: the worker runtime turns every such error into one of
/// the kind `ERROR`, and the kind would be lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    kind: FileErrorKind,
    message: String,
}

impl FileError {
    pub(crate) fn new(kind: FileErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// What kind of error it is.
    pub fn kind(&self) -> FileErrorKind {
        self.kind
    }

    /// A sentence for people, with the path that it is about.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<FileError> for TaskError {
    fn from(error: FileError) -> Self {
        let task_error = Self::new(error.kind.as_str(), error.message);
        if error.kind.is_retryable() {
            task_error
        } else {
            task_error.non_retryable()
        }
    }
}
