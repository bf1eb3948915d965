//! Finds tasks that are in no place: not ended, not waiting, and leased to nobody.
//!
//! There should be none, ever: every move from one place to the next is one transaction. If a defect, or somebody with
//! a database client, made one nevertheless, it is said loudly, and the task goes on.

use std::time::Duration;

use uuid::Uuid;

use super::Engine;
use crate::{
    domain::ids::TaskId,
    store::{StoreError, notify::Hints},
};

/// Tasks looked at in one statement.
const PAGE: i64 = 5_000;

/// Pages of one run.
const PAGES: usize = 10;

/// Tasks younger than this are left alone; they are found the next time.
const YOUNGEST: Duration = Duration::from_secs(60);

/// Looks at the next tasks, newest first, and goes on from the newest when the oldest is reached.
pub(super) async fn run_once(engine: Engine) {
    for _ in 0..PAGES {
        match look(&engine).await {
            Ok(Next::Page) => {}
            Ok(Next::Newest) => return,
            Err(error) => {
                tracing::warn!(%error, "the search for strays waits for the database");
                return;
            }
        }
    }
}

enum Next {
    Page,
    Newest,
}

async fn look(engine: &Engine) -> Result<Next, StoreError> {
    let parts = &engine.parts;
    let below = parts.next_stray_page();
    let page = parts.db.rescue_strays(below, PAGE, YOUNGEST).await?;
    for stray in &page.rescued {
        tracing::error!(task = %stray.task, "a task was in no place and waits again; this is a defect, please report it");
    }
    parts.hub.wake(page.rescued.iter().map(|stray| stray.task));
    let places = page.rescued.iter().map(|stray| (stray.lane, stray.place));
    parts.notifier.notify(Hints::lanes(places.clone()));
    parts.local_sessions.wake_lanes(places);
    parts.set_next_stray_page(page.next.unwrap_or(TaskId(Uuid::max())));
    Ok(if page.next.is_some() {
        Next::Page
    } else {
        Next::Newest
    })
}
