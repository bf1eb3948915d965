//! Why a task of this worker failed; no failure of these kinds goes away by trying again.

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
    /// The image is larger than the worker accepts.
    InputTooLarge,
    /// The text is not UTF-8.
    InvalidUtf8,
    /// The image cannot be decoded or encoded.
    InvalidImage,
}

impl Kind {
    /// The word that goes over the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::InvalidParameter => "INVALID_PARAMETERS",
            Kind::UnknownEncoding => "UNKNOWN_ENCODING",
            Kind::UnsupportedFormat => "UNSUPPORTED_FORMAT",
            Kind::InputTooLarge => "INPUT_TOO_LARGE",
            Kind::InvalidUtf8 => "INVALID_UTF8",
            Kind::InvalidImage => "INVALID_IMAGE",
        }
    }
}

/// One failure: its kind and a message for people.
///
/// It is deliberately no `std::error::Error`: the runtime turns any such error into a retryable
/// `ERROR`, and the kind would be lost on the way.
#[derive(Debug, Clone)]
pub struct Failure {
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
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.kind.as_str(), self.message)
    }
}

impl From<Failure> for TaskError {
    fn from(failure: Failure) -> TaskError {
        TaskError::new(failure.kind.as_str(), failure.message).non_retryable()
    }
}
