//! The two steps of a shutdown.

use std::{
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Tells every part of a process when to end.
///
/// Soft: take nothing new, and finish what runs. Hard: stop now. The hard step follows the soft one
/// after the grace period or at the second signal, and always implies it.
#[derive(Debug, Clone)]
pub struct Shutdown {
    soft: CancellationToken,
    hard: CancellationToken,
    failure: Arc<OnceLock<&'static str>>,
}

impl Shutdown {
    /// A shutdown that begins at SIGTERM or SIGINT, and becomes hard after `grace` or at the next
    /// signal.
    ///
    /// Needs a running tokio runtime.
    ///
    /// # Errors
    /// The operating system refuses to register a signal handler.
    pub fn on_signals(grace: Duration) -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = Self::manual();
        let steps = shutdown.clone();
        tokio::spawn(async move {
            either(&mut terminate, &mut interrupt).await;
            tracing::info!(
                grace_seconds = grace.as_secs_f64(),
                "shutting down; a second signal ends at once"
            );
            steps.trigger_soft();
            tokio::select! {
                () = either(&mut terminate, &mut interrupt) => tracing::warn!("second signal, leaving now"),
                () = tokio::time::sleep(grace) => tracing::warn!("grace period over, leaving now"),
            }
            steps.trigger_hard();
        });
        Ok(shutdown)
    }

    /// A shutdown that only code begins.
    pub fn manual() -> Self {
        Self {
            soft: CancellationToken::new(),
            hard: CancellationToken::new(),
            failure: Arc::default(),
        }
    }

    /// Begins the soft step.
    pub fn trigger_soft(&self) {
        self.soft.cancel();
    }

    /// Begins the hard step, and the soft one if it has not begun.
    pub fn trigger_hard(&self) {
        self.soft.cancel();
        self.hard.cancel();
    }

    /// Begins the hard step because a part has failed, named here, that the process cannot work
    /// without. `main` then ends with a failure; see [`failure`](Self::failure).
    pub fn fail(&self, part: &'static str) {
        tracing::error!(part, "a vital part has failed, ending the process");
        // Only the first counts; the others may follow from it.
        let _ = self.failure.set(part);
        self.trigger_hard();
    }

    /// The part whose failure ends the process; `main` must return a non-zero exit code if there is
    /// one, and health must say so meanwhile.
    pub fn failure(&self) -> Option<&'static str> {
        self.failure.get().copied()
    }

    /// Cancelled when nothing new may be taken.
    pub fn soft(&self) -> &CancellationToken {
        &self.soft
    }

    /// Cancelled when the process must stop at once.
    pub fn hard(&self) -> &CancellationToken {
        &self.hard
    }
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::Shutdown;

    #[test]
    fn hard_implies_soft_but_not_the_other_way_round() {
        let soft = Shutdown::manual();
        soft.trigger_soft();
        assert!(soft.soft().is_cancelled() && !soft.hard().is_cancelled());
        let hard = Shutdown::manual();
        hard.trigger_hard();
        assert!(hard.soft().is_cancelled() && hard.hard().is_cancelled());
    }
}
