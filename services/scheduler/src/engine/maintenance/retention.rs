//! Removes what ended long ago, a page at a time, in id order.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    domain::ids::TaskId,
    store::{Database, RetentionBite, RetentionPage, RetentionPolicy, SpanCursor, StoreError},
};

/// What one statement removes: large enough that a pass is faster than tasks can end, small enough for seconds.
const BITE: RetentionBite = RetentionBite {
    tasks: 5_000,
    events: 50_000,
};

/// Spans that one statement looks at, and lanes that one deletes.
const SPANS: i64 = 1_000;
const LANES: i64 = 1_000;

/// Time between passes; tasks are kept for days.
const PASS_EVERY: Duration = Duration::from_secs(600);

/// How long a pass leaves half of the time to others. One that takes longer is behind, and goes on without a pause.
const AT_LEISURE: Duration = Duration::from_secs(120);

/// How long to wait after a page that failed.
const RETRY: Duration = Duration::from_secs(1);

/// What a pass removes.
#[derive(Debug, Clone, Copy)]
enum Old {
    Tasks,
    Events,
}

/// Passes again and again until `stop`.
pub(in crate::engine) async fn run(db: Database, policy: RetentionPolicy, stop: CancellationToken) {
    let mut took = Duration::ZERO;
    loop {
        let pause = PASS_EVERY
            .saturating_sub(took)
            .mul_f64(0.5 + rand::random::<f64>());
        if stop
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_none()
        {
            return;
        }
        let began = Instant::now();
        match stop
            .run_until_cancelled(run_once(&db, &policy, Timestamp::now()))
            .await
        {
            Some(Ok(0)) => {}
            Some(Ok(removed)) => tracing::info!(removed, "removed old tasks and events"),
            Some(Err(error)) => tracing::warn!(%error, "retention waits for the database"),
            None => return,
        }
        took = began.elapsed();
        if took > PASS_EVERY {
            tracing::warn!(
                seconds = took.as_secs(),
                "removing what is old takes longer than it should: tasks may end faster than they can be removed"
            );
        }
    }
}

/// One pass over everything that may be old enough; returns how many tasks and events it removed.
///
/// # Errors
/// A database that cannot be reached; the next pass begins anew.
pub async fn run_once(db: &Database, policy: &RetentionPolicy, now: Timestamp) -> Result<i64, StoreError> {
    let removed = pass(db, Old::Tasks, policy, now).await? + pass(db, Old::Events, policy, now).await?;
    forget_unused_lanes(db, policy.unused_spans()).await?;
    Ok(removed)
}

/// Deletes lanes whose last task is gone.
async fn forget_unused_lanes(db: &Database, unused: Duration) -> Result<(), StoreError> {
    let mut next = Some(SpanCursor::START);
    while let Some(after) = next {
        next = db.delete_empty_spans(after, unused, SPANS).await?.next;
    }
    let mut removed = 0;
    loop {
        let lanes = db.delete_unused_lanes(LANES).await?;
        removed += lanes;
        if lanes == 0 {
            break;
        }
    }
    if removed > 0 {
        tracing::info!(
            removed,
            "removed queues and task types that have no task any more"
        );
    }
    Ok(())
}

async fn pass(db: &Database, old: Old, policy: &RetentionPolicy, now: Timestamp) -> Result<i64, StoreError> {
    let began = Instant::now();
    let mut removed = 0;
    let mut above = TaskId(Uuid::nil());
    let mut bite = BITE;
    loop {
        let page_began = Instant::now();
        match remove(db, old, above, bite, policy, now).await {
            Ok(page) => {
                removed += page.removed;
                match page.next {
                    Some(next) => above = next,
                    None => return Ok(removed),
                }
                bite = larger(bite);
                if began.elapsed() < AT_LEISURE {
                    tokio::time::sleep(page_began.elapsed()).await;
                }
            }
            Err(StoreError::Transient(detail)) => return Err(StoreError::Transient(detail)),
            Err(error) if bite.tasks > 1 => {
                tracing::warn!(%error, tasks = bite.tasks, "old tasks cannot be removed together; trying fewer");
                bite = smaller(bite);
                tokio::time::sleep(RETRY).await;
            }
            Err(error) => {
                // One task must not keep all that come after it for ever.
                let Some(task) = db.next_task(above).await? else {
                    return Ok(removed);
                };
                tracing::error!(%error, %task, ?old, "an old task cannot be removed and is passed over");
                above = task;
            }
        }
    }
}

async fn remove(
    db: &Database,
    old: Old,
    above: TaskId,
    bite: RetentionBite,
    policy: &RetentionPolicy,
    now: Timestamp,
) -> Result<RetentionPage, StoreError> {
    match old {
        Old::Tasks => db.delete_old_tasks(above, bite, policy, now).await,
        Old::Events => db.delete_old_events(above, bite, policy, now).await,
    }
}

fn smaller(bite: RetentionBite) -> RetentionBite {
    RetentionBite {
        tasks: (bite.tasks / 16).max(1),
        events: (bite.events / 4).max(100),
    }
}

fn larger(bite: RetentionBite) -> RetentionBite {
    RetentionBite {
        tasks: (bite.tasks * 4).min(BITE.tasks),
        events: (bite.events * 2).min(BITE.events),
    }
}
