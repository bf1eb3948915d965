//! Self-clocked batching: a batch leaves when the one before it is done, never because a timer says so.
//!
//! Idle means no wait, load means large batches.

use std::{
    future::Future,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Mutex, Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::engine::Background;

/// How large a batch may become.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct BatchLimit {
    /// Most items that wait; senders beyond it wait for room.
    pub queue: usize,
    /// A batch is closed once its items weigh this much together.
    pub weight: usize,
    /// How many batches may be under way at once.
    pub in_flight: usize,
    /// While a batch is under way, another leaves only if it weighs as much as this; a lighter one costs more than the
    /// wait until the first is done, unless that takes longer than [`PATIENCE`].
    pub beside: usize,
}

/// How long a light batch waits for the one under way, which may be stuck behind somebody's lock.
const PATIENCE: Duration = Duration::from_millis(50);

/// The batches under way.
#[derive(Default)]
struct UnderWay {
    batches: AtomicUsize,
    one_is_done: Notify,
}

/// A batch that is under way until this is dropped.
struct Leaving<'a>(&'a UnderWay);

impl UnderWay {
    fn leave(&self) -> Leaving<'_> {
        self.batches.fetch_add(1, Ordering::Relaxed);
        Leaving(self)
    }

    fn is_empty(&self) -> bool {
        self.batches.load(Ordering::Relaxed) == 0
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.batches.fetch_sub(1, Ordering::Relaxed);
        self.0.one_is_done.notify_one();
    }
}

/// Starts flushing what is sent; `weigh` gives each item's share of [`BatchLimit::weight`].
///
/// After `stop`, what was accepted is still flushed; then the channel closes. A flush that breaks off is the last one:
/// what follows might rest on it.
pub(in crate::engine) fn start<T, F, Fut>(
    limit: BatchLimit,
    weigh: fn(&T) -> usize,
    flush: F,
    name: &'static str,
    background: &Background,
) -> mpsc::Sender<T>
where
    T: Send + 'static,
    F: Fn(Vec<T>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ControlFlow<()>> + Send,
{
    let (sender, receiver) = mpsc::channel::<T>(limit.queue);
    let receiver = Arc::new(Mutex::new(receiver));
    let under_way = Arc::new(UnderWay::default());
    for _ in 0..limit.in_flight {
        let (receiver, under_way) = (receiver.clone(), under_way.clone());
        let (flush, stop) = (flush.clone(), background.stopping().clone());
        background.spawn(name, async move {
            while let Some((batch, leaving)) = next_batch(&receiver, &under_way, limit, weigh, &stop).await {
                let flushed = flush(batch).await;
                drop(leaving);
                if flushed.is_break() {
                    receiver.lock().await.close();
                    return;
                }
            }
        });
    }
    sender
}

async fn next_batch<'a, T>(
    receiver: &Mutex<mpsc::Receiver<T>>,
    under_way: &'a UnderWay,
    limit: BatchLimit,
    weigh: fn(&T) -> usize,
    stop: &CancellationToken,
) -> Option<(Vec<T>, Leaving<'a>)> {
    let mut receiver = receiver.lock().await;
    let first = tokio::select! {
        biased;
        first = receiver.recv() => first?,
        () = stop.cancelled() => {
            receiver.close();
            receiver.recv().await?
        }
    };
    let mut weight = weigh(&first);
    let mut batch = vec![first];
    loop {
        while weight < limit.weight {
            let Ok(item) = receiver.try_recv() else { break };
            weight += weigh(&item);
            batch.push(item);
        }
        if weight >= limit.beside || under_way.is_empty() {
            // Counted before the next batch is looked at.
            return Some((batch, under_way.leave()));
        }
        let done = tokio::time::timeout(PATIENCE, under_way.one_is_done.notified());
        if done.await.is_err() {
            return Some((batch, under_way.leave()));
        }
    }
}

#[cfg(test)]
mod tests {
    use tasklease_lifecycle::Shutdown;
    use tokio::sync::{Semaphore, mpsc};

    use super::*;

    const LIMIT: BatchLimit = BatchLimit {
        queue: 100,
        weight: 4,
        in_flight: 1,
        beside: 0,
    };

    /// Sends batches out, and holds each flush until a permit is given.
    fn gated(
        limit: BatchLimit,
        background: &Background,
    ) -> (
        mpsc::Sender<u32>,
        mpsc::UnboundedReceiver<Vec<u32>>,
        Arc<Semaphore>,
    ) {
        let gate = Arc::new(Semaphore::new(0));
        let (seen, batches) = mpsc::unbounded_channel();
        let flush_gate = gate.clone();
        let sender = start(
            limit,
            |_| 1,
            move |batch| {
                let (seen, gate) = (seen.clone(), flush_gate.clone());
                async move {
                    seen.send(batch).expect("the test listens");
                    gate.acquire().await.expect("never closed").forget();
                    ControlFlow::Continue(())
                }
            },
            "a batcher",
            background,
        );
        (sender, batches, gate)
    }

    #[tokio::test]
    async fn the_first_item_leaves_alone_and_what_comes_meanwhile_leaves_together() {
        let background = Background::new(&Shutdown::manual());
        let (sender, mut batches, gate) = gated(LIMIT, &background);
        sender.send(0).await.expect("open");
        assert_eq!(batches.recv().await, Some(vec![0]));
        for item in 1..=6 {
            sender.send(item).await.expect("open");
        }
        gate.add_permits(1);
        assert_eq!(
            batches.recv().await,
            Some(vec![1, 2, 3, 4]),
            "closed at its weight"
        );
        gate.add_permits(1);
        assert_eq!(batches.recv().await, Some(vec![5, 6]));
    }

    #[tokio::test]
    async fn a_light_batch_waits_for_the_one_under_way_and_a_heavy_one_does_not() {
        let background = Background::new(&Shutdown::manual());
        let two = BatchLimit {
            in_flight: 2,
            beside: 3,
            ..LIMIT
        };
        let (sender, mut batches, gate) = gated(two, &background);
        sender.send(0).await.expect("open");
        assert_eq!(batches.recv().await, Some(vec![0]));
        // Sent before the second flusher can look, as a test runs on one thread.
        for item in [1, 2, 3] {
            sender.try_send(item).expect("there is room");
        }
        assert_eq!(batches.recv().await, Some(vec![1, 2, 3]), "heavy enough");
        gate.add_permits(2);
        sender.send(4).await.expect("open");
        assert_eq!(batches.recv().await, Some(vec![4]), "nothing is under way");
        for item in [5, 6] {
            sender.send(item).await.expect("open");
        }
        tokio::task::yield_now().await;
        assert!(batches.try_recv().is_err(), "too light to leave");
        gate.add_permits(1);
        assert_eq!(batches.recv().await, Some(vec![5, 6]));
        sender.send(7).await.expect("open");
        assert_eq!(batches.recv().await, Some(vec![7]), "the one under way is stuck");
    }

    #[tokio::test]
    async fn what_was_accepted_before_a_stop_is_still_flushed() {
        let background = Background::new(&Shutdown::manual());
        let (sender, mut batches, gate) = gated(LIMIT, &background);
        sender.send(0).await.expect("open");
        assert_eq!(batches.recv().await, Some(vec![0]));
        sender.send(1).await.expect("open");
        background.stop();
        gate.add_permits(2);
        assert_eq!(batches.recv().await, Some(vec![1]));
        background.stop();
        background.ended().await;
        assert!(sender.send(2).await.is_err());
    }

    #[tokio::test]
    async fn after_a_flush_that_breaks_off_nothing_is_flushed_any_more() {
        let background = Background::new(&Shutdown::manual());
        let (seen, mut batches) = mpsc::unbounded_channel();
        let flush = move |batch: Vec<u32>| {
            let seen = seen.clone();
            async move {
                seen.send(batch).expect("the test listens");
                ControlFlow::Break(())
            }
        };
        let sender = start(LIMIT, |_| 4, flush, "a batcher", &background);
        for item in 0..3 {
            let _ = sender.send(item).await;
        }
        background.stop();
        background.ended().await;
        assert_eq!(batches.recv().await, Some(vec![0]));
        assert_eq!(
            batches.recv().await,
            None,
            "the flush is gone, and nothing came after it"
        );
    }
}
