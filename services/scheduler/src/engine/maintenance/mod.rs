//! What nobody asks for and somebody has to do: one file for each job, started by the tick when there may be work.
//!
//! A new job is one file that implements [`Job`], and one line in [`jobs`].

mod cancels;
mod expiry;
mod lease_timeouts;
mod orphans;
mod promotion;
pub(super) mod retention;
mod strays;
mod sweep;
pub(super) mod tick;

use std::sync::Arc;

use super::{
    Timing,
    background::{Background, OneAtATime},
    dispatch::local_sessions::LocalSessions,
    peers::announcer::Announcer,
    wake::Wake,
    writers::{counters::Counters, settler::Settler},
};
use crate::{
    domain::{error::Error, verdict::LossLimit},
    store::{Database, Tick},
};

/// Why there may be work.
#[derive(Debug, Clone, Copy)]
enum Reason<'a> {
    /// What a tick found.
    Tick(&'a Tick),
    /// A scheduled task is due.
    Due,
    /// A running task was cancelled.
    CancelRequested,
    /// Every 30 seconds.
    NowAndThen,
}

/// A job that is done whenever there may be work for it; not by two at once, and in no tick's way.
trait Job: Send + Sync + 'static {
    /// What it does, for logs: "promoting scheduled tasks".
    const NAME: &'static str;

    /// True if the job should run now.
    fn is_wanted(reason: Reason<'_>) -> bool;

    /// Does all there is to do. After an error it is tried again when there is the next reason.
    fn run_once(&self) -> impl Future<Output = Result<(), Error>> + Send;
}

/// What jobs are made of.
#[derive(Clone)]
pub(super) struct JobParts {
    pub(super) db: Database,
    pub(super) timing: Timing,
    pub(super) loss_limit: LossLimit,
    pub(super) local_sessions: Arc<LocalSessions>,
    pub(super) announcer: Announcer,
    pub(super) settler: Settler,
    pub(super) counters: Arc<Counters>,
    pub(super) wake: Arc<Wake>,
}

/// All jobs that ticks start.
fn jobs(parts: &JobParts) -> Vec<Box<dyn Start>> {
    vec![
        started(promotion::Promotion::new(parts)),
        started(cancels::Cancels::new(parts)),
        started(expiry::Expiry::new(parts)),
        started(orphans::Orphans::new(parts)),
        started(lease_timeouts::LeaseTimeouts::new(parts)),
        started(sweep::Sweep::new(parts)),
        started(strays::Strays::new(parts)),
    ]
}

/// A job of any kind.
trait Start: Send + Sync {
    fn start_if_wanted(&self, reason: Reason<'_>, background: &Background);
}

struct Started<J> {
    job: Arc<J>,
    turn: OneAtATime,
}

fn started(job: impl Job) -> Box<dyn Start> {
    Box::new(Started {
        job: Arc::new(job),
        turn: OneAtATime::default(),
    })
}

impl<J: Job> Start for Started<J> {
    fn start_if_wanted(&self, reason: Reason<'_>, background: &Background) {
        if !J::is_wanted(reason) {
            return;
        }
        let job = self.job.clone();
        self.turn.start(background, J::NAME, move || {
            let job = job.clone();
            async move {
                if let Err(error) = job.run_once().await {
                    tracing::warn!(%error, job = J::NAME, "a background job will try again");
                }
            }
        });
    }
}
