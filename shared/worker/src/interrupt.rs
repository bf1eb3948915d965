//! Work that ends soon after its run is told to stop.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{task::TaskResult, task_error::TaskError};

/// A flag that tells code on another thread that nobody waits for its result any more.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Raises the flag; it stays up.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// True once the flag is up.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Fails once the flag is up, for use with `?`.
    ///
    /// # Errors
    /// The error of code that stops because it was told to.
    pub fn check(&self) -> TaskResult<()> {
        if self.is_raised() {
            return Err(TaskError::cancelled());
        }
        Ok(())
    }
}

/// Raises its flag when the future that owns it ends or is dropped.
pub(crate) struct RaiseOnDrop(pub(crate) StopFlag);

impl Drop for RaiseOnDrop {
    fn drop(&mut self) {
        self.0.raise();
    }
}
