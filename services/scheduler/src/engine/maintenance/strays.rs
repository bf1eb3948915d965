//! Finds tasks that are in no place: not ended, not waiting, and leased to nobody.
//!
//! There should be none, ever: every move from one place to the next is one transaction. If a defect, or somebody with
//! a database client, made one nevertheless, it is said loudly, and the task goes on.

use std::time::Duration;

use parking_lot::Mutex;
use uuid::Uuid;

use super::{Job, JobParts, Reason};
use crate::{
    domain::{error::Error, ids::TaskId},
    engine::peers::announcer::Announcer,
    store::Database,
};

/// Tasks looked at in one statement.
const PAGE: i64 = 5_000;

/// Pages of one run.
const PAGES: usize = 10;

/// Tasks younger than this are left alone; they are found the next time.
const YOUNGEST: Duration = Duration::from_secs(60);

pub(super) struct Strays {
    db: Database,
    announcer: Announcer,
    /// The next page is below this id.
    next: Mutex<TaskId>,
}

impl Strays {
    pub(super) fn new(parts: &JobParts) -> Self {
        Self {
            db: parts.db.clone(),
            announcer: parts.announcer.clone(),
            next: Mutex::new(NEWEST),
        }
    }
}

/// Above all ids.
const NEWEST: TaskId = TaskId(Uuid::max());

impl Job for Strays {
    const NAME: &'static str = "looking for strays";

    fn is_wanted(reason: Reason<'_>) -> bool {
        matches!(reason, Reason::NowAndThen)
    }

    /// Looks at the next tasks, newest first; the run after the oldest begins with the newest again.
    async fn run_once(&self) -> Result<(), Error> {
        for _ in 0..PAGES {
            let below = *self.next.lock();
            let page = self.db.rescue_strays(below, PAGE, YOUNGEST).await?;
            for stray in &page.rescued {
                tracing::error!(
                    task = %stray.task,
                    "a task was in no place and waits again; this is a defect, please report it"
                );
            }
            let rescued = page.rescued.iter();
            self.announcer
                .tasks_changed(rescued.clone().map(|stray| stray.task));
            self.announcer
                .tasks_wait(rescued.map(|stray| (stray.lane, stray.place)));
            *self.next.lock() = page.next.unwrap_or(NEWEST);
            if page.next.is_none() {
                return Ok(());
            }
        }
        Ok(())
    }
}
