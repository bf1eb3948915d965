//! Notes when lanes have tasks, before the tasks are stored: lists find them by that.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::RwLock;
use tokio::sync::Mutex;

use crate::{
    domain::{ids::LaneId, span::Span},
    store::{Database, NOTE_HOLDS, StoreError},
};

/// How long to wait for others who note spans.
const PATIENCE: Duration = Duration::from_secs(5);

/// Spans of lanes that are remembered at most.
const REMEMBERED: usize = 50_000;

/// The spans of lanes that are stored for certain.
pub(in crate::engine) struct NotedSpans {
    db: Database,
    /// Until when to rely on each.
    noted: RwLock<HashMap<(LaneId, Span), Instant>>,
    /// Held while spans are stored, so that callers who need the same one store it once.
    noting: Mutex<()>,
}

impl NotedSpans {
    pub(in crate::engine) fn new(db: Database) -> Self {
        Self {
            db,
            noted: RwLock::default(),
            noting: Mutex::default(),
        }
    }

    /// Those of some spans that may not be stored.
    pub(in crate::engine) fn missing(
        &self,
        spans: impl Iterator<Item = (LaneId, Span)>,
    ) -> Vec<(LaneId, Span)> {
        let noted = self.noted.read();
        let now = Instant::now();
        let mut missing = Vec::new();
        let mut before = None;
        for span in spans {
            // Most batches are of one lane and time.
            if before.replace(span) != Some(span) && noted.get(&span).is_none_or(|until| *until <= now) {
                missing.push(span);
            }
        }
        missing
    }

    /// Stores spans. Returns the lanes that do not exist any more; if there are any, nothing else counts as noted.
    ///
    /// # Errors
    /// A database that cannot be reached, or that takes nothing.
    pub(in crate::engine) async fn note(
        &self,
        spans: Vec<(LaneId, Span)>,
    ) -> Result<Vec<LaneId>, StoreError> {
        // While the database takes nothing, those who wait must not do so one after the other.
        let one_at_a_time = tokio::time::timeout(PATIENCE, self.noting.lock());
        let _one_at_a_time = one_at_a_time.await.map_err(|_| StoreError::TimedOut)?;
        let spans = self.missing(spans.into_iter());
        if spans.is_empty() {
            return Ok(Vec::new());
        }
        let until = Instant::now() + NOTE_HOLDS;
        let gone = self.db.ensure_spans(&spans).await?;
        if gone.is_empty() {
            let mut noted = self.noted.write();
            if noted.len() + spans.len() > REMEMBERED {
                noted.clear();
            }
            noted.extend(spans.into_iter().map(|span| (span, until)));
        }
        Ok(gone)
    }
}
