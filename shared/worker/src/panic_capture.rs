//! Catching panics of task code, with the place and the trace.

use std::{
    any::Any,
    backtrace::Backtrace,
    cell::{Cell, RefCell},
    future::Future,
    panic::{self, AssertUnwindSafe},
    sync::Once,
    task::Poll,
};

use crate::task_error::TaskError;

thread_local! {
    /// True while this thread runs task code.
    static CAPTURING: Cell<bool> = const { Cell::new(false) };
    /// Place and trace of the last panic in task code on this thread.
    static TRACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// Makes panics in task code leave their trace here; panics elsewhere go where they went before.
pub(crate) fn install() {
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !CAPTURING.get() {
                return before(info);
            }
            let place = info
                .location()
                .map(|place| format!("at {place}\n"))
                .unwrap_or_default();
            let trace = format!("{place}{}", Backtrace::force_capture());
            TRACE.with(|slot| {
                if let Ok(mut slot) = slot.try_borrow_mut() {
                    *slot = Some(trace);
                }
            });
        }));
    });
}

/// Runs blocking task code; a panic becomes an error.
pub(crate) fn catch<T>(code: impl FnOnce() -> Result<T, TaskError>) -> Result<T, TaskError> {
    guarded(code).unwrap_or_else(Err)
}

/// Awaits task code; a panic in any of its polls becomes an error.
pub(crate) async fn catch_async<T>(code: impl Future<Output = Result<T, TaskError>>) -> Result<T, TaskError> {
    let mut code = std::pin::pin!(code);
    std::future::poll_fn(|cx| match guarded(|| code.as_mut().poll(cx)) {
        Ok(poll) => poll,
        Err(error) => Poll::Ready(Err(error)),
    })
    .await
}

fn guarded<R>(code: impl FnOnce() -> R) -> Result<R, TaskError> {
    let outer = CAPTURING.replace(true);
    // State that a panic left half-changed belongs to the run that ends here.
    let result = panic::catch_unwind(AssertUnwindSafe(code));
    CAPTURING.set(outer);
    result.map_err(|payload| {
        let trace = TRACE.with(|slot| slot.try_borrow_mut().ok().and_then(|mut slot| slot.take()));
        TaskError::new("PANIC", message_of(payload.as_ref())).with_detail(trace.unwrap_or_default())
    })
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "the code panicked with a value that is no text".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_that_names_the_place() {
        install();
        let error = catch::<()>(|| panic!("number {}", 7)).expect_err("panics");
        assert_eq!((error.kind(), error.message()), ("PANIC", "number 7"));
        assert!(error.detail.contains("panic_capture.rs"), "{}", error.detail);
    }

    #[tokio::test]
    async fn a_panic_after_an_await_is_caught_too() {
        install();
        let error = catch_async::<()>(async {
            tokio::task::yield_now().await;
            panic!("late")
        });
        assert_eq!(error.await.expect_err("panics").message(), "late");
    }
}
