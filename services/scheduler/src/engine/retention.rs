//! Removes what ended long ago, a page at a time, in id order.

use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    domain::ids::TaskId,
    store::{Database, RetentionPolicy, StoreError},
};

/// Ids looked at in one statement.
const PAGE: i64 = 1_000;

/// Time between passes; tasks are kept for days.
const PASS_EVERY: Duration = Duration::from_secs(600);

/// Time between pages, so that a long pass leaves room for tasks.
const BREATH: Duration = Duration::from_millis(50);

/// Passes again and again until `stop`.
pub(super) async fn run(db: Database, policy: RetentionPolicy, stop: CancellationToken) {
    loop {
        let pause = PASS_EVERY.mul_f64(0.5 + rand::random::<f64>());
        if stop
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_none()
        {
            return;
        }
        match stop
            .run_until_cancelled(run_once(&db, &policy, SystemTime::now()))
            .await
        {
            Some(Ok(0)) => {}
            Some(Ok(removed)) => tracing::info!(removed, "removed old tasks and events"),
            Some(Err(error)) => tracing::warn!(%error, "retention waits for the database"),
            None => return,
        }
    }
}

/// One pass over everything that may be old enough; returns how many tasks and events it removed.
///
/// # Errors
/// A database that cannot be reached; the next pass begins anew.
pub async fn run_once(db: &Database, policy: &RetentionPolicy, now: SystemTime) -> Result<i64, StoreError> {
    let mut removed = 0;
    let mut above = Some(TaskId(Uuid::nil()));
    while let Some(start) = above {
        let page = db.retain_tasks(start, PAGE, policy, now).await?;
        removed += page.removed;
        above = page.next;
        tokio::time::sleep(BREATH).await;
    }
    above = Some(TaskId(Uuid::nil()));
    while let Some(start) = above {
        let page = db.retain_events(start, PAGE, policy, now).await?;
        removed += page.removed;
        above = page.next;
        tokio::time::sleep(BREATH).await;
    }
    Ok(removed)
}
