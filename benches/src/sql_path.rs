//! The scheduler's own statements on its own connections, without gRPC, sessions and workers: the local limit.

use std::{
    sync::atomic::{AtomicI64, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use parking_lot::Mutex;
use tasklease_scheduler::{
    domain::{
        ids::{GrantId, GrantKey, LaneId, SessionId, TaskId},
        name::{QueueName, TaskType},
        new_task::{NewTask, Start},
        queue::QueueKey,
        report::ReportedOutcome,
        task_spec::{TaskOptions, TaskSpec},
        verdict::{self, TimedOut, Verdict},
    },
    store::{BUNDLE, Claim, ClaimedTask, Database, DatabaseConfig, Mark, SubmitBatch, migrate},
};
use tokio::sync::{Notify, mpsc};
use uuid::Uuid;

use crate::{
    load::{self, Load},
    phases::now_us,
};

/// Tasks of one claim, as in the scheduler.
const CLAIM: usize = 1_000;

/// Claims that wait for a connection to be settled.
const WAITING_CLAIMS: usize = 4;

/// How many connections run each statement at once.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Connections {
    /// Connections that submit.
    #[arg(long, default_value_t = 2)]
    pub(crate) submitters: usize,
    /// Connections that claim.
    #[arg(long, default_value_t = 1)]
    pub(crate) claimers: usize,
    /// Connections that settle.
    #[arg(long, default_value_t = 1)]
    pub(crate) settlers: usize,
}

/// A database with the scheduler's schema and one lane, and the connections that use it.
pub(crate) struct SqlPath {
    db: Database,
    lane: LaneId,
    session: SessionId,
    load: Load,
    connections: Connections,
}

/// What the loops share.
struct Progress {
    to_submit: AtomicUsize,
    settled: AtomicUsize,
    /// Where each claimer's next claim begins.
    marks: Vec<Mutex<Mark>>,
    submitted: Notify,
    /// Tells claimers that everything is settled.
    done: Notify,
    grants: AtomicI64,
}

impl SqlPath {
    /// Prepares an empty database.
    pub(crate) async fn prepare(url: String, load: Load, connections: Connections) -> anyhow::Result<Self> {
        let config = DatabaseConfig {
            url,
            list_connections: 1,
            claim_connections: connections.claimers,
            statement_timeout: Duration::from_secs(30),
        };
        migrate(&config).await?;
        let db = Database::new(&config)?;
        let (queue, task_type) = names()?;
        let lane = db
            .ensure_lane(&queue, &task_type)
            .await?
            .context("there is room for a lane")?
            .id;
        Ok(Self {
            db,
            lane,
            session: SessionId(Uuid::now_v7()),
            load,
            connections,
        })
    }

    /// Stores all tasks; returns tasks per second.
    pub(crate) async fn enqueue(&self) -> anyhow::Result<f64> {
        let progress = self.progress(self.load.tasks)?;
        let start = Instant::now();
        self.submit_all(&progress).await?;
        Ok(self.rate(start))
    }

    /// Claims and settles all tasks; returns tasks per second.
    pub(crate) async fn drain(&self) -> anyhow::Result<f64> {
        let progress = self.progress(0)?;
        let start = Instant::now();
        self.work_off(&progress).await?;
        Ok(self.rate(start))
    }

    /// Stores, claims and settles at the same time; returns tasks per second.
    pub(crate) async fn whole_life(&self) -> anyhow::Result<f64> {
        let progress = self.progress(self.load.tasks)?;
        let start = Instant::now();
        tokio::try_join!(self.submit_all(&progress), self.work_off(&progress))?;
        Ok(self.rate(start))
    }

    fn progress(&self, to_submit: usize) -> anyhow::Result<Progress> {
        Ok(Progress {
            to_submit: AtomicUsize::new(to_submit),
            settled: AtomicUsize::new(0),
            marks: (0..self.connections.claimers)
                .map(|_| Mutex::new(Mark::START))
                .collect(),
            submitted: Notify::new(),
            done: Notify::new(),
            grants: AtomicI64::new(now_us()?),
        })
    }

    fn rate(&self, start: Instant) -> f64 {
        (self.load.tasks as f64 / start.elapsed().as_secs_f64()).round()
    }

    async fn submit_all(&self, progress: &Progress) -> anyhow::Result<()> {
        all(self.connections.submitters, |_| self.submit(progress)).await
    }

    async fn work_off(&self, progress: &Progress) -> anyhow::Result<()> {
        let (claimed, to_settle) = mpsc::channel(WAITING_CLAIMS);
        let to_settle = tokio::sync::Mutex::new(to_settle);
        let claims = async {
            let result = all(self.connections.claimers, |n| {
                self.claim(progress, &progress.marks[n], claimed.clone())
            })
            .await;
            drop(claimed);
            result
        };
        let settles = all(self.connections.settlers, |_| self.settle(progress, &to_settle));
        tokio::try_join!(claims, settles)?;
        let settled = progress.settled.load(Ordering::Relaxed);
        ensure!(
            settled == self.load.tasks,
            "{settled} tasks settled, expected {}",
            self.load.tasks
        );
        Ok(())
    }

    async fn submit(&self, progress: &Progress) -> anyhow::Result<()> {
        loop {
            let count = load::take(&progress.to_submit, self.load.batch);
            if count == 0 {
                return Ok(());
            }
            let tasks = self.new_tasks(count)?;
            let mut batch = SubmitBatch::default();
            for task in &tasks {
                batch.push(task, self.lane);
            }
            let commit = self.db.submit(&batch).await?;
            // A commit may become visible after a later one was claimed.
            progress.lower_marks(Mark::before(0, commit.as_microsecond()));
            progress.submitted.notify_waiters();
            progress.submitted.notify_one();
        }
    }

    async fn claim(
        &self,
        progress: &Progress,
        mark: &Mutex<Mark>,
        claimed: mpsc::Sender<Vec<ClaimedTask>>,
    ) -> anyhow::Result<()> {
        let mut claim = Claim {
            lane: self.lane,
            mark: Mark::START,
            up_to: i16::MAX,
            slots: vec![self.session; CLAIM],
            grant: GrantId(0),
            bundles: CLAIM.div_ceil(BUNDLE) + 1,
        };
        loop {
            claim.grant = GrantId(progress.grants.fetch_add(1, Ordering::Relaxed));
            claim.mark = take(mark);
            let found = self.db.claim(&claim).await?;
            if let Some(last) = found.found.last {
                lower(mark, last);
                claimed.send(found.tasks).await?;
                continue;
            }
            tokio::select! {
                () = progress.done.notified() => {
                    // The next claimer that waits.
                    progress.done.notify_one();
                    return Ok(());
                }
                () = progress.submitted.notified() => {}
            }
        }
    }

    async fn settle(
        &self,
        progress: &Progress,
        to_settle: &tokio::sync::Mutex<mpsc::Receiver<Vec<ClaimedTask>>>,
    ) -> anyhow::Result<()> {
        loop {
            let Some(tasks) = to_settle.lock().await.recv().await else {
                return Ok(());
            };
            let verdicts: Vec<Verdict> = tasks.iter().map(succeeded).collect();
            let emptied: Vec<GrantKey> = tasks
                .first()
                .map(|task| GrantKey {
                    session: task.session,
                    grant: task.lease.grant,
                })
                .into_iter()
                .collect();
            let won = self.db.settle(&verdicts, &emptied).await?;
            let settled = progress.settled.fetch_add(won.len(), Ordering::Relaxed) + won.len();
            if settled == self.load.tasks {
                progress.done.notify_one();
            }
        }
    }

    fn new_tasks(&self, count: usize) -> anyhow::Result<Vec<NewTask>> {
        let (queue, task_type) = names()?;
        let task = || NewTask {
            id: TaskId(Uuid::now_v7()),
            spec: TaskSpec {
                task_type: task_type.clone(),
                queue: queue.clone(),
                priority: 0,
                max_attempts: 3,
                options: TaskOptions::default(),
            },
            payload: load::payload(self.load.payload),
            start: Start::Now,
        };
        Ok(std::iter::repeat_with(task).take(count).collect())
    }
}

impl Progress {
    fn lower_marks(&self, to: Mark) {
        for mark in &self.marks {
            lower(mark, to);
        }
    }
}

/// Takes the place where the next claim begins, and puts back the place where it ended.
fn take(mark: &Mutex<Mark>) -> Mark {
    let mut mark = mark.lock();
    std::mem::replace(&mut *mark, Mark::before(i16::MAX, i64::MAX))
}

fn lower(mark: &Mutex<Mark>, to: Mark) {
    let mut mark = mark.lock();
    *mark = to.min(*mark);
}

fn names() -> anyhow::Result<(QueueKey, TaskType)> {
    let bad = |violation| anyhow::anyhow!("a name is refused: {violation:?}");
    Ok((
        QueueKey::in_default(QueueName::parse_or_default("", "queue").map_err(bad)?),
        TaskType::parse("noop", "task_type").map_err(bad)?,
    ))
}

fn succeeded(task: &ClaimedTask) -> Verdict {
    let ending = ReportedOutcome::Succeeded {
        result: "{}".to_owned(),
    };
    verdict::reported(&task.lease, "floor", ending, TimedOut::No, 0.0)
}

/// Runs `count` futures of the same kind at once.
async fn all<F>(count: usize, start: impl Fn(usize) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    futures_util::future::try_join_all((0..count).map(start)).await?;
    Ok(())
}
