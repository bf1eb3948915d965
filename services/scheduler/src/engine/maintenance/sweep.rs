//! Removes grants that a moved session left behind although all their tasks have ended.

use super::{Job, JobParts, Reason};
use crate::{domain::error::Error, store::Database};

pub(super) struct Sweep {
    db: Database,
}

impl Sweep {
    pub(super) fn new(parts: &JobParts) -> Self {
        Self { db: parts.db.clone() }
    }
}

impl Job for Sweep {
    const NAME: &'static str = "sweeping grants";

    fn is_wanted(reason: Reason<'_>) -> bool {
        matches!(reason, Reason::NowAndThen)
    }

    async fn run_once(&self) -> Result<(), Error> {
        self.db.sweep_grants().await?;
        Ok(())
    }
}
