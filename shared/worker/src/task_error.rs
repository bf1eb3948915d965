//! Why a run failed.

use std::{error::Error, fmt, io, time::Duration};

use crate::stop::{StopReason, Stopped};

/// The kind of an error that was converted with `?`.
const GENERIC_KIND: &str = "ERROR";
/// The most causes of an error that are examined.
const MAX_CAUSES: usize = 100;

/// Any error, owned.
type BoxError = Box<dyn Error + Send + Sync>;

/// Why a run failed: a word for programs, a sentence for people, and whether to try again.
///
/// Every error type converts into it with `?`, as do `Box<dyn Error + Send + Sync>`,
/// `anyhow::Error` and texts. It is deliberately no [`Error`] itself, so that the conversion can
/// exist; [`CodeError`] wraps it where one is needed.
#[derive(Debug, Clone)]
pub struct TaskError {
    pub(crate) kind: String,
    pub(crate) message: String,
    pub(crate) detail: String,
    pub(crate) retry: Retry,
    pub(crate) cause: Cause,
}

/// Whether and when to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// As the task's own policy says.
    ByPolicy,
    /// After this time.
    After(Duration),
    /// Never.
    Never,
}

/// Where an error comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Something went wrong.
    Fault,
    /// The code stopped because it was told to.
    Stopped,
    /// The runtime of the worker's author dropped the code, because that runtime is shutting down.
    Dropped,
}

impl TaskError {
    /// An error of a kind, such as `INPUT_TOO_LARGE`, with a sentence for people.
    pub fn new(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            message: message.into(),
            detail: String::new(),
            retry: Retry::ByPolicy,
            cause: Cause::Fault,
        }
    }

    /// An error of a kind with the message of another error, and the causes of that as detail.
    ///
    /// An error that was caused by [`Stopped`] stays a stop, whatever the kind.
    pub fn of(kind: impl Into<String>, error: &(dyn Error + 'static)) -> Self {
        match Self::found_in(error) {
            Some(found) if found.cause == Cause::Stopped => found,
            _ => Self::new(kind, error.to_string()).with_detail(causes_of(error)),
        }
    }

    /// The error of code that stops because it was told to, or because the worker is draining.
    ///
    /// It ends the run as cancelled, timed out or handed back, whatever the code was told. Code
    /// that nobody asked to stop has failed.
    pub fn cancelled() -> Self {
        Self {
            cause: Cause::Stopped,
            ..Self::new("CANCELLED", "the code stopped because it was told to")
        }
    }

    /// The error of code that was dropped before it returned.
    pub(crate) fn dropped() -> Self {
        Self {
            cause: Cause::Dropped,
            ..Self::new(
                "DROPPED",
                "the runtime of the worker ended before the code returned",
            )
        }
    }

    /// Says that no further attempt would help.
    #[must_use]
    pub fn non_retryable(mut self) -> Self {
        self.retry = Retry::Never;
        self
    }

    /// Asks for the next attempt after this time instead of the task's back-off.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry = Retry::After(delay);
        self
    }

    /// Adds a trace or other detail for people.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// The word for programs.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The sentence for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The trace or other detail for people; empty without one.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// False if the error says that no further attempt would help.
    pub fn is_retryable(&self) -> bool {
        self.retry != Retry::Never
    }

    /// True if it says that the code stopped because it was told to.
    pub fn is_cancelled(&self) -> bool {
        self.cause == Cause::Stopped
    }

    /// Converts an error: the [`CodeError`] or [`Stopped`] among its causes if there is one, or else
    /// an error of the generic kind.
    fn from_error(error: &(dyn Error + 'static)) -> Self {
        Self::found_in(error)
            .unwrap_or_else(|| Self::new(GENERIC_KIND, error.to_string()).with_detail(causes_of(error)))
    }

    /// The first of an error and its causes that is a [`CodeError`] or [`Stopped`], under the
    /// message of the whole.
    fn found_in(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut cause = Some(error);
        for depth in 0..MAX_CAUSES {
            let current = cause?;
            if let Some(mut found) = Self::carried_by(current) {
                let outer = error.to_string();
                if depth > 0 && !found.message.starts_with(&outer) {
                    found.message = format!("{outer}: {}", found.message);
                }
                return Some(found);
            }
            cause = current.source();
        }
        None
    }

    fn carried_by(error: &(dyn Error + 'static)) -> Option<Self> {
        if let Some(error) = error.downcast_ref::<CodeError>() {
            return Some(error.task_error().clone());
        }
        if let Some(Carried(error)) = error.downcast_ref() {
            return Some(error.clone());
        }
        if let Some(stopped) = error.downcast_ref::<Stopped>() {
            return Some(stopped.clone().into_task_error());
        }
        if let Some(reason) = error.downcast_ref::<StopReason>() {
            return Some(Stopped::new(reason.clone()).into_task_error());
        }
        // The source of an I/O error skips the error that it was made from.
        let inner = error.downcast_ref::<io::Error>()?.get_ref()?;
        Self::carried_by(inner)
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

/// All errors, boxed errors, `anyhow` errors and texts.
impl<E: Into<BoxError> + 'static> From<E> for TaskError {
    fn from(error: E) -> Self {
        // An `anyhow::Error` that is boxed hides its causes.
        #[cfg(feature = "anyhow")]
        if let Some(error) = (&error as &dyn std::any::Any).downcast_ref() {
            return Self::from_anyhow(error);
        }
        let error: BoxError = error.into();
        Self::from_error(error.as_ref())
    }
}

impl TaskError {
    #[cfg(feature = "anyhow")]
    fn from_anyhow(error: &anyhow::Error) -> Self {
        let converted = Self::from_error(error.as_ref());
        let backtrace = error.backtrace();
        if backtrace.status() != std::backtrace::BacktraceStatus::Captured {
            return converted;
        }
        let detail = format!("{}\n{backtrace}", converted.detail);
        converted.with_detail(detail.trim_start())
    }
}

/// What a task's code may fail with.
///
/// Implement it for an error type of your own to say which kind each of its errors is, and which
/// are worth another attempt:
///
/// ```
/// use tasklease_worker::{IntoTaskError, Stopped, TaskError};
///
/// #[derive(Debug, thiserror::Error)]
/// enum RenderError {
///     #[error("the template has no title")]
///     NoTitle,
///     #[error("the font server does not answer")]
///     Fonts(#[from] std::io::Error),
///     #[error(transparent)]
///     Stopped(#[from] Stopped),
/// }
///
/// impl IntoTaskError for RenderError {
///     fn into_task_error(self) -> TaskError {
///         match self {
///             RenderError::NoTitle => TaskError::of("NO_TITLE", &self).non_retryable(),
///             RenderError::Fonts(_) => TaskError::of("NO_FONTS", &self),
///             RenderError::Stopped(stopped) => stopped.into_task_error(),
///         }
///     }
/// }
/// ```
pub trait IntoTaskError {
    /// The error as it is reported.
    fn into_task_error(self) -> TaskError;
}

impl IntoTaskError for TaskError {
    fn into_task_error(self) -> TaskError {
        self
    }
}

impl IntoTaskError for Stopped {
    fn into_task_error(self) -> TaskError {
        TaskError {
            message: format!("{self}: {}", self.reason()),
            ..TaskError::cancelled()
        }
    }
}

impl IntoTaskError for CodeError {
    fn into_task_error(self) -> TaskError {
        self.0.0
    }
}

impl IntoTaskError for BoxError {
    fn into_task_error(self) -> TaskError {
        self.into()
    }
}

#[cfg(feature = "anyhow")]
impl IntoTaskError for anyhow::Error {
    fn into_task_error(self) -> TaskError {
        self.into()
    }
}

/// A [`TaskError`] as an [`Error`], so that it can pass through functions that return other errors.
///
/// Converted back, with `?` or wrapped in other errors, it is the same `TaskError` again.
#[derive(Debug, Clone)]
pub struct CodeError(Carried);

/// The source of [`CodeError`]: an error that wraps that one transparently hides it, but not its
/// source.
#[derive(Debug, Clone)]
struct Carried(TaskError);

impl CodeError {
    /// The error that it wraps.
    pub fn task_error(&self) -> &TaskError {
        &self.0.0
    }
}

impl From<TaskError> for CodeError {
    fn from(error: TaskError) -> Self {
        Self(Carried(error))
    }
}

impl fmt::Display for CodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.task_error().message)
    }
}

impl Error for CodeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.kind)
    }
}

impl Error for Carried {}

#[cfg(feature = "anyhow")]
impl From<TaskError> for anyhow::Error {
    fn from(error: TaskError) -> Self {
        CodeError::from(error).into()
    }
}

fn causes_of(error: &(dyn Error + 'static)) -> String {
    let mut causes = Vec::new();
    let mut source = error.source();
    while let Some(cause) = source
        && causes.len() < MAX_CAUSES
    {
        causes.push(format!("caused by: {cause}"));
        source = cause.source();
    }
    causes.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot load the model")]
    struct Outer(#[source] BoxError);

    #[derive(Debug, thiserror::Error)]
    enum Transparent {
        #[error(transparent)]
        Code(CodeError),
        #[error(transparent)]
        Stopped(Stopped),
    }

    fn hopeless() -> TaskError {
        TaskError::new("NO_MODEL", "there is no such model").non_retryable()
    }

    fn stopped() -> Stopped {
        Stopped::new(StopReason::Drained)
    }

    /// Converts as `?` does in the code of a task.
    fn converted<E>(error: E) -> TaskError
    where
        TaskError: From<E>,
    {
        let fail = || -> Result<(), TaskError> { Err(error)? };
        fail().expect_err("fails")
    }

    #[test]
    fn any_error_converts_with_its_message_and_its_causes() {
        let error = converted(Outer(io::Error::other("disk on fire").into()));
        assert_eq!(
            (error.kind(), error.message()),
            ("ERROR", "cannot load the model")
        );
        assert_eq!(error.detail, "caused by: disk on fire");
        let boxed: BoxError = Box::new(io::Error::other("disk on fire"));
        assert_eq!(converted(boxed).message(), "disk on fire");
        assert_eq!(converted("only a text").message(), "only a text");
    }

    #[test]
    fn kind_and_retryability_survive_every_wrapping() {
        let boxed: BoxError = CodeError::from(hopeless()).into();
        let wrapped = Outer(CodeError::from(hopeless()).into());
        let in_io = io::Error::other(CodeError::from(hopeless()));
        let transparent = Transparent::Code(hopeless().into());
        for error in [converted(boxed), converted(in_io), converted(transparent)] {
            assert_eq!(
                (error.kind(), error.message(), error.retry),
                ("NO_MODEL", "there is no such model", Retry::Never)
            );
        }
        let error = converted(wrapped);
        assert_eq!((error.kind(), error.retry), ("NO_MODEL", Retry::Never));
        assert_eq!(error.message(), "cannot load the model: there is no such model");
    }

    #[test]
    fn a_stop_is_found_however_deep_it_is_wrapped() {
        let boxed: BoxError = stopped().into();
        let deep = Outer(Outer(stopped().into()).into());
        let in_io = io::Error::other(stopped());
        let transparent = Transparent::Stopped(stopped());
        assert!(converted(transparent).is_cancelled());
        for error in [converted(stopped()), converted(boxed), converted(in_io)] {
            assert!(error.is_cancelled(), "{error}");
        }
        assert!(TaskError::of("NO_MODEL", &deep).is_cancelled());
        assert!(converted(deep).is_cancelled());
    }

    #[cfg(feature = "anyhow")]
    #[test]
    fn anyhow_errors_keep_what_they_are_made_of() {
        use anyhow::Context as _;

        let plain = anyhow::Error::msg("disk on fire").context("cannot load the model");
        let error = converted(plain);
        assert_eq!(
            (error.kind(), error.message()),
            ("ERROR", "cannot load the model")
        );
        assert!(
            error.detail.starts_with("caused by: disk on fire"),
            "{}",
            error.detail
        );

        assert!(converted(anyhow::Error::from(stopped())).is_cancelled());
        assert!(converted(anyhow::Error::from(stopped()).context("while loading")).is_cancelled());

        let inner = || -> anyhow::Result<()> { Err(hopeless())? };
        let outer = || inner().context("cannot load the model");
        assert_eq!(
            (converted(inner().expect_err("fails")).kind(), outer().is_err()),
            ("NO_MODEL", true)
        );
        let error = outer().expect_err("fails").into_task_error();
        assert_eq!((error.kind(), error.retry), ("NO_MODEL", Retry::Never));
    }
}
