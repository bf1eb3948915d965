//! Telling a run's code to stop, and why.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

/// Raised once; code sees it through its context.
#[derive(Debug, Clone, Default)]
pub(crate) struct StopSignal {
    token: CancellationToken,
    reason: Arc<OnceLock<String>>,
}

impl StopSignal {
    /// Raises the signal; the first reason stays.
    pub(crate) fn raise(&self, reason: &str) {
        self.reason.get_or_init(|| reason.to_owned());
        self.token.cancel();
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.token.is_cancelled()
    }

    pub(crate) async fn raised(&self) {
        self.token.cancelled().await;
    }

    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }
}
