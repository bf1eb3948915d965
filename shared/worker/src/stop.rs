//! Telling a run's code to stop, and why.

use std::{error::Error, fmt, sync::OnceLock};

use tokio::sync::Notify;

/// Why a run was told to stop; the source of [`Stopped`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// Somebody cancelled the task.
    Cancelled {
        /// Why, as the caller said; may be empty.
        reason: String,
    },
    /// The run has taken longer than the task's run timeout.
    TimedOut,
    /// The worker stops and its grace period is over; the task will run again elsewhere, and this
    /// run does not count as an attempt.
    Drained,
    /// The lease is lost, so nothing that the run does counts any more; the task may run elsewhere
    /// already.
    LeaseLost {
        /// How it was lost.
        why: String,
    },
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled { reason } if reason.is_empty() => f.write_str("cancelled"),
            Self::Cancelled { reason } => write!(f, "cancelled: {reason}"),
            Self::TimedOut => f.write_str("the run timeout is over"),
            Self::Drained => f.write_str("the worker is stopping"),
            Self::LeaseLost { why } => write!(f, "the lease is lost: {why}"),
        }
    }
}

impl Error for StopReason {}

/// The error of code that stops because its run was told to.
///
/// The runtime finds this error however deep it is wrapped in others, and the run then ends as
/// stopped instead of failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    reason: StopReason,
}

impl Stopped {
    /// The error of code that stops for this reason.
    pub fn new(reason: StopReason) -> Self {
        Self { reason }
    }

    /// Why the run was told to stop.
    pub fn reason(&self) -> &StopReason {
        &self.reason
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the run was told to stop")
    }
}

impl Error for Stopped {
    /// The reason. An error that wraps this one transparently hides it, but not its source.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.reason)
    }
}

/// Raised once; code sees it through its context.
#[derive(Debug, Default)]
pub(crate) struct StopSignal {
    /// Set once the signal is raised.
    reason: OnceLock<StopReason>,
    on_raise: Notify,
}

impl StopSignal {
    /// Raises the signal; the first reason stays.
    pub(crate) fn raise(&self, reason: StopReason) {
        if self.reason.set(reason).is_ok() {
            self.on_raise.notify_waiters();
        }
    }

    /// Completes once the signal is raised.
    pub(crate) async fn raised(&self) -> &StopReason {
        loop {
            // Created before the check, so that a raise between the two is not missed.
            let raised = self.on_raise.notified();
            if let Some(reason) = self.reason() {
                return reason;
            }
            raised.await;
        }
    }

    pub(crate) fn reason(&self) -> Option<&StopReason> {
        self.reason.get()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn everybody_is_notified_of_the_signal_whenever_they_began_to_listen() {
        let signal = StopSignal::default();
        let (mut one, mut two) = (Box::pin(signal.raised()), Box::pin(signal.raised()));
        assert!((&mut one).now_or_never().is_none() && signal.reason().is_none());
        signal.raise(StopReason::Drained);
        signal.raise(StopReason::TimedOut);
        assert!((&mut one).now_or_never().is_some(), "polled before");
        assert!((&mut two).now_or_never().is_some(), "made before");
        assert!(signal.raised().now_or_never().is_some(), "made after");
        assert_eq!(signal.reason(), Some(&StopReason::Drained));
    }
}
