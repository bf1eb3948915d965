//! Moves scheduled tasks whose time has come to ready.

use super::{Job, JobParts, Reason};
use crate::{domain::error::Error, engine::peers::announcer::Announcer, store::Database};

/// Scheduled tasks moved in one statement.
const AT_ONCE: i64 = 1_000;

pub(super) struct Promotion {
    db: Database,
    announcer: Announcer,
}

impl Promotion {
    pub(super) fn new(parts: &JobParts) -> Self {
        Self {
            db: parts.db.clone(),
            announcer: parts.announcer.clone(),
        }
    }
}

impl Job for Promotion {
    const NAME: &'static str = "promoting scheduled tasks";

    fn is_wanted(reason: Reason<'_>) -> bool {
        match reason {
            Reason::Due => true,
            Reason::Tick(tick) => tick.next_due.is_some_and(|delay| delay.is_zero()),
            Reason::CancelRequested | Reason::NowAndThen => false,
        }
    }

    async fn run_once(&self) -> Result<(), Error> {
        loop {
            let promoted = self.db.promote(AT_ONCE).await?;
            if promoted.tasks.is_empty() {
                return Ok(());
            }
            self.announcer.tasks_changed(promoted.tasks.iter().copied());
            self.announcer.tasks_wait(promoted.lanes.iter().copied());
        }
    }
}
