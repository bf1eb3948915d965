//! Code of a run that computes or blocks on a thread of its own.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::{panic_capture, run::Run, slot::Slot, task::TaskResult, task_error::TaskError};

/// A closure that waits for a thread, with the slot it holds.
///
/// The thread takes the closure out to begin. If the wait for a thread is given up, the closure is
/// taken out first, so that it never begins and its slot is free at once.
struct Queued<F>(Arc<Mutex<Option<Closure<F>>>>);

struct Closure<F> {
    code: F,
    slot: Option<Arc<Slot>>,
}

impl<F> Queued<F> {
    fn take(&self) -> Option<Closure<F>> {
        self.0.lock().take()
    }
}

impl<F> Drop for Queued<F> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// Runs a closure on a thread of its own, unless its run ends before a thread is free.
pub(crate) async fn run<T, F>(run: &Arc<Run>, code: F) -> TaskResult<T>
where
    F: FnOnce() -> TaskResult<T> + Send + 'static,
    T: Send + 'static,
{
    let slot = run.slot.upgrade();
    let waiting = Queued(Arc::new(Mutex::new(Some(Closure { code, slot }))));
    let (queued, owner) = (Queued(Arc::clone(&waiting.0)), Arc::clone(run));
    let running = run.host.runtime.spawn_blocking(move || {
        let Closure { code, slot } = queued.take().ok_or_else(not_begun)?;
        if owner.mailbox.is_closed() {
            return Err(not_begun());
        }
        let result = panic_capture::catch(code);
        drop(slot);
        result
    });
    // Panics are caught inside, so an error means that the runtime shuts down.
    let result = running.await.unwrap_or_else(|_| Err(TaskError::dropped()));
    drop(waiting);
    result
}

fn not_begun() -> TaskError {
    TaskError::new(
        "RUN_ENDED",
        "the code was not begun because its run had ended before",
    )
}
