//! Why a task of this worker failed, and whether another try could help.

use std::fmt;

use tasklease_worker::TaskError;

/// The reason of a failure, a stable word that callers may match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A parameter is missing or outside its range.
    InvalidParameter,
    /// The named encoding does not exist here.
    UnknownEncoding,
    /// The image format is none of those read or written, or the image is of a kind of its format
    /// that is not read here.
    UnsupportedFormat,
    /// No file at the path.
    FileNotFound,
    /// The path leaves the root, or is no regular file.
    PathRefused,
    /// The operating system or the store denies access.
    PermissionDenied,
    /// The file, or the image in it, is larger than the worker accepts.
    InputTooLarge,
    /// The text is not UTF-8.
    InvalidUtf8,
    /// The image cannot be decoded or encoded.
    InvalidImage,
    /// Reading or writing failed for a reason that may pass.
    Io,
    /// The task was cancelled.
    Cancelled,
}

impl Kind {
    /// The word that goes over the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::InvalidParameter => "INVALID_PARAMETERS",
            Kind::UnknownEncoding => "UNKNOWN_ENCODING",
            Kind::UnsupportedFormat => "UNSUPPORTED_FORMAT",
            Kind::FileNotFound => "FILE_NOT_FOUND",
            Kind::PathRefused => "PATH_REFUSED",
            Kind::PermissionDenied => "PERMISSION_DENIED",
            Kind::InputTooLarge => "INPUT_TOO_LARGE",
            Kind::InvalidUtf8 => "INVALID_UTF8",
            Kind::InvalidImage => "INVALID_IMAGE",
            Kind::Io => "IO_ERROR",
            Kind::Cancelled => "CANCELLED",
        }
    }

    /// Whether the same task may succeed when it runs again unchanged.
    pub fn is_retryable(self) -> bool {
        self == Kind::Io
    }
}

/// One failure: its kind and a message for people.
///
/// It is deliberately no `std::error::Error`: the runtime turns any such error into a retryable
/// `ERROR`, and the kind would be lost on the way.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The reason.
    pub kind: Kind,
    /// What happened, with the field or path it concerns.
    pub message: String,
}

impl Failure {
    /// A failure of the given kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Failure {
        Failure {
            kind,
            message: message.into(),
        }
    }

    /// The failure of a task that was told to stop.
    pub fn cancelled() -> Failure {
        Failure::new(Kind::Cancelled, "the task was cancelled")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.kind.as_str(), self.message)
    }
}

impl From<Failure> for TaskError {
    fn from(failure: Failure) -> TaskError {
        if failure.kind == Kind::Cancelled {
            return TaskError::cancelled();
        }
        let error = TaskError::new(failure.kind.as_str(), failure.message);
        if failure.kind.is_retryable() {
            error
        } else {
            error.non_retryable()
        }
    }
}
