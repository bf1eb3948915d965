//! Work that a process cannot work without.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
};

use crate::Shutdown;

impl Shutdown {
    /// Wraps work that the process cannot work without, such as a background loop: if the work panics,
    /// the process ends with a failure instead of going on without it.
    ///
    /// The panic is logged with this name and passed to [`fail`](Self::fail). Spawn the returned future
    /// in place of the work itself.
    pub fn vital<F>(&self, name: &'static str, work: F) -> impl Future<Output = ()> + use<F>
    where
        F: Future<Output = ()>,
    {
        let shutdown = self.clone();
        async move {
            let mut work = pin!(work);
            poll_fn(|cx| {
                // What the panic left half-changed is not used any more: the process ends.
                let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx)));
                polled.unwrap_or_else(|_| {
                    shutdown.fail(name);
                    Poll::Ready(())
                })
            })
            .await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_in_vital_work_ends_the_process_hard_and_is_remembered() {
        let shutdown = Shutdown::manual();
        let work = shutdown.vital("dispatcher", async {
            tokio::task::yield_now().await;
            panic!("a fault");
        });
        tokio::spawn(work).await.expect("the panic does not pass on");
        assert!(shutdown.hard().is_cancelled());
        assert_eq!(shutdown.failure(), Some("dispatcher"));
        tokio::spawn(shutdown.vital("later", async { panic!("another") }))
            .await
            .expect("the panic does not pass on");
        assert_eq!(shutdown.failure(), Some("dispatcher"), "the first counts");
    }

    #[tokio::test]
    async fn vital_work_that_ends_in_order_changes_nothing() {
        let shutdown = Shutdown::manual();
        shutdown.vital("dispatcher", async {}).await;
        assert!(!shutdown.soft().is_cancelled() && shutdown.failure().is_none());
    }
}
