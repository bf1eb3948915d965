//! The life of streams: how long one may stay, and how all of them end when the scheduler does.

use std::{future::Future, time::Duration};

use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long streams may take to end when the scheduler stops; longer than a drained stream waits for its worker.
const STOP_PATIENCE: Duration = Duration::from_secs(6);

/// Everything that streams share.
#[derive(Clone)]
pub struct Streams {
    tasks: TaskTracker,
    soft: CancellationToken,
    hard: CancellationToken,
    age: Duration,
}

/// How long one stream may stay.
pub(super) struct Lifetime {
    until: Instant,
    soft: CancellationToken,
}

impl Streams {
    /// Streams that live for about `age`, are asked to leave at `soft` and are dropped at `hard`.
    pub fn new(age: Duration, soft: CancellationToken, hard: CancellationToken) -> Self {
        Self {
            tasks: TaskTracker::new(),
            soft,
            hard,
            age,
        }
    }

    /// Begins the life of a stream; jitter keeps a local_sessions from moving all at once.
    pub(super) fn begin(&self) -> Lifetime {
        let age = self.age.mul_f64(0.8 + 0.4 * rand::random::<f64>());
        Lifetime {
            until: Instant::now() + age,
            soft: self.soft.clone(),
        }
    }

    /// Runs a stream apart from its handler, which tonic drops when the client goes away. When the scheduler stops,
    /// a stream has some time to end by itself; one whose client does not read never would.
    pub(super) fn spawn(&self, stream: impl Future<Output = ()> + Send + 'static) {
        let (soft, hard) = (self.soft.clone(), self.hard.clone());
        self.tasks.spawn(async move {
            let patience = async {
                soft.cancelled().await;
                tokio::time::sleep(STOP_PATIENCE).await;
            };
            tokio::select! {
                () = stream => {}
                () = patience => {}
                () = hard.cancelled() => {}
            }
        });
    }

    /// Waits until all streams have ended.
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Lifetime {
    /// Resolves when the stream should end, with how long the client should wait before the next one.
    pub(super) async fn over(&mut self) -> Duration {
        tokio::select! {
            () = self.soft.cancelled() => {}
            () = tokio::time::sleep_until(self.until) => {}
        }
        // Spread over a moment, so that the replica that is left does not meet a whole local_sessions at once.
        Duration::from_millis(200).mul_f64(rand::random())
    }
}
