//! Counts of ended tasks, added to the database once a second, outside the transactions that settle.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{ids::LaneId, state::TaskState},
    store::Database,
};

const INTERVAL: Duration = Duration::from_secs(1);

/// Ended tasks since the last flush.
#[derive(Default)]
pub(in crate::engine) struct Counters {
    ended: Mutex<HashMap<(LaneId, TaskState), i64>>,
}

impl Counters {
    /// Counts ended tasks of a lane.
    pub(in crate::engine) fn add(&self, lane: LaneId, state: TaskState, tasks: i64) {
        *self.ended.lock().entry((lane, state)).or_default() += tasks;
    }

    /// Adds what was counted to the database; what could not be added is kept for the next time.
    pub(in crate::engine) async fn flush(&self, db: &Database) {
        let counts: Vec<(LaneId, TaskState, i64)> = std::mem::take(&mut *self.ended.lock())
            .into_iter()
            .map(|((lane, state), tasks)| (lane, state, tasks))
            .collect();
        if counts.is_empty() {
            return;
        }
        if let Err(error) = db.add_ended(&counts).await {
            tracing::warn!(%error, "counts of ended tasks wait for the database");
            for (lane, state, tasks) in counts {
                self.add(lane, state, tasks);
            }
        }
    }
}

/// Flushes every second and once more at the end.
pub(in crate::engine) async fn run(counters: Arc<Counters>, db: Database, stop: CancellationToken) {
    while stop
        .run_until_cancelled(tokio::time::sleep(INTERVAL))
        .await
        .is_some()
    {
        counters.flush(&db).await;
    }
    counters.flush(&db).await;
}
