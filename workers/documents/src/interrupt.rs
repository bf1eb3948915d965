//! Work that ends soon after its run is told to stop.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::Failure;
use crate::steps::Steps;

/// A flag that tells code on another thread that nobody waits for it any more.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Raises the flag.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Fails with the cancelled failure once the flag is up.
    ///
    /// # Errors
    /// The flag is up.
    pub fn check(&self) -> Result<(), Failure> {
        if self.0.load(Ordering::Relaxed) {
            return Err(Failure::cancelled());
        }
        Ok(())
    }
}

/// Raises its flag when the future that owns it ends or is dropped.
struct RaiseOnDrop(StopFlag);

impl Drop for RaiseOnDrop {
    fn drop(&mut self) {
        self.0.raise();
    }
}

/// Runs blocking work that looks at the flag it is given, and leaves it as soon as the run is told
/// to stop.
///
/// # Errors
/// The work's failure, or the cancelled error.
pub async fn interruptible<S: Steps, T: Send + 'static>(
    steps: &S,
    work: impl FnOnce(&StopFlag) -> Result<T, Failure> + Send + 'static,
) -> Result<T, S::Error> {
    let flag = StopFlag::default();
    let _raise = RaiseOnDrop(flag.clone());
    tokio::select! {
        biased;
        () = steps.cancelled() => Err(Failure::cancelled().into()),
        result = steps.blocking(move || work(&flag)) => result,
    }
}

/// Waits for a file operation, but no longer than the run may go on.
///
/// # Errors
/// The operation's failure, or the cancelled error.
pub async fn unless_cancelled<S: Steps, T>(
    steps: &S,
    operation: impl Future<Output = Result<T, Failure>>,
) -> Result<T, S::Error> {
    tokio::select! {
        biased;
        () = steps.cancelled() => Err(Failure::cancelled().into()),
        result = operation => Ok(result?),
    }
}
