//! Waiting for things that happen elsewhere.

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// How long a test waits for anything before it fails: long enough for a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(45);

/// How often a condition without an event of its own is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Looks again and again until `check` gives something.
///
/// # Panics
/// After [`PATIENCE`], naming what was waited for.
pub async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for: {what}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Awaits a future that must complete.
///
/// # Panics
/// After [`PATIENCE`], naming what was waited for.
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited in vain for: {what}"),
    }
}
