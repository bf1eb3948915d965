//! Telling a run's code to stop, and why.

use std::sync::OnceLock;

use tokio::sync::Notify;

/// Raised once; code sees it through its context.
#[derive(Debug, Default)]
pub(crate) struct StopSignal {
    /// Set once the signal is raised.
    reason: OnceLock<String>,
    on_raise: Notify,
}

impl StopSignal {
    /// Raises the signal; the first reason stays.
    pub(crate) fn raise(&self, reason: &str) {
        if self.reason.set(reason.to_owned()).is_ok() {
            self.on_raise.notify_waiters();
        }
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.reason.get().is_some()
    }

    pub(crate) async fn raised(&self) {
        // Made before the look: from here on it hears of every raise.
        let raised = self.on_raise.notified();
        if !self.is_raised() {
            raised.await;
        }
    }

    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn everybody_hears_of_the_signal_whenever_they_began_to_listen() {
        let signal = StopSignal::default();
        let (mut one, mut two) = (Box::pin(signal.raised()), Box::pin(signal.raised()));
        assert!((&mut one).now_or_never().is_none() && !signal.is_raised());
        signal.raise("by hand");
        signal.raise("again");
        assert!((&mut one).now_or_never().is_some(), "polled before");
        assert!((&mut two).now_or_never().is_some(), "made before");
        assert!(signal.raised().now_or_never().is_some(), "made after");
        assert_eq!(signal.reason(), Some("by hand"));
    }
}
