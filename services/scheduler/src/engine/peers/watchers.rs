//! Who watches which task, and one reader that looks for changes of all of them.
//!
//! Nothing here carries data: a watcher is told that something is new and reads the database, so every watcher sees
//! everything. A task in which nothing changed costs its share of one statement, whoever watches it.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::notifier::Notifier;
use crate::{
    domain::{ids::TaskId, task::TaskVersion},
    store::{Database, StoreError},
};

/// Tasks that one statement looks at.
const LOOK_AT: usize = 1_000;

/// Shortest time between two looks; what happens meanwhile shares the second.
const GAP: Duration = Duration::from_millis(10);

/// The same for looks at all watched tasks.
const GAP_OF_ALL: Duration = Duration::from_millis(100);

/// How often to look at all watched tasks unasked while a notification of another replica may be lost.
const LOOK_WITH_PEERS: Duration = Duration::from_secs(1);
/// The same while this is the only replica.
const LOOK_ALONE: Duration = Duration::from_secs(15);

/// How long to wait for a database that cannot be reached.
const RETRY: Duration = Duration::from_secs(1);

/// What this replica saw of a watched task when it last looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It has not looked yet.
    NotYet,
    /// It is stored.
    Task(TaskVersion),
    /// It was deleted.
    Gone,
}

/// Watched tasks, and those of them that need a look.
#[derive(Default)]
pub struct Watchers {
    watched: Mutex<Watched>,
    due: Notify,
}

#[derive(Default)]
struct Watched {
    tasks: HashMap<TaskId, watch::Sender<Seen>>,
    watchers: usize,
    due: HashSet<TaskId>,
    all_due: bool,
}

/// One watcher of one task.
pub struct Watcher {
    watchers: Arc<Watchers>,
    task: TaskId,
    seen: watch::Receiver<Seen>,
}

impl Watchers {
    /// Begins to watch a task.
    pub fn watch(self: &Arc<Self>, task: TaskId) -> Watcher {
        let mut watched = self.lock();
        watched.watchers += 1;
        let seen = watched
            .tasks
            .entry(task)
            .or_insert_with(|| watch::Sender::new(Seen::NotYet))
            .subscribe();
        watched.due.insert(task);
        drop(watched);
        self.due.notify_one();
        Watcher {
            watchers: self.clone(),
            task,
            seen,
        }
    }

    /// Looks at these tasks soon, if somebody watches them.
    pub(in crate::engine) fn wake(&self, tasks: impl IntoIterator<Item = TaskId>) {
        let mut watched = self.lock();
        if watched.tasks.is_empty() {
            return;
        }
        let Watched {
            tasks: known, due, ..
        } = &mut *watched;
        due.extend(tasks.into_iter().filter(|task| known.contains_key(task)));
        if !due.is_empty() {
            self.due.notify_one();
        }
    }

    /// Looks at all watched tasks soon.
    pub(in crate::engine) fn wake_all(&self) {
        let mut watched = self.lock();
        if !watched.tasks.is_empty() {
            watched.all_due = true;
            self.due.notify_one();
        }
    }

    /// How many watchers there are here.
    pub fn len(&self) -> usize {
        self.lock().watchers
    }

    /// True if nobody watches a task here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock()
    }

    /// Makes every watched task due, if that was asked for; true if it was.
    fn make_all_due(&self) -> bool {
        let mut watched = self.lock();
        let asked = std::mem::take(&mut watched.all_due);
        if asked {
            let Watched { tasks, due, .. } = &mut *watched;
            due.extend(tasks.keys());
        }
        asked
    }

    fn is_all_due(&self) -> bool {
        self.lock().all_due
    }

    /// Some of the tasks that are due, which are not any more.
    fn take_due(&self) -> Vec<TaskId> {
        let mut watched = self.lock();
        let taken: Vec<TaskId> = watched.due.iter().take(LOOK_AT).copied().collect();
        for task in &taken {
            watched.due.remove(task);
        }
        taken
    }

    /// Tells the watchers of these tasks their versions, if they are new. Tasks without one are gone.
    fn publish(&self, looked_at: &[TaskId], versions: &HashMap<TaskId, TaskVersion>) {
        let watched = self.lock();
        for task in looked_at {
            let Some(sender) = watched.tasks.get(task) else {
                continue;
            };
            let now = versions.get(task).copied().map_or(Seen::Gone, Seen::Task);
            sender.send_if_modified(|seen| std::mem::replace(seen, now) != now);
        }
    }

    /// Looks at every task that is due.
    async fn look(&self, db: &Database) -> Result<(), StoreError> {
        loop {
            let tasks = self.take_due();
            if tasks.is_empty() {
                return Ok(());
            }
            match db.read_versions(&tasks).await {
                Ok(versions) => self.publish(&tasks, &versions.into_iter().collect()),
                Err(error) => {
                    self.wake(tasks);
                    return Err(error);
                }
            }
        }
    }
}

/// Looks at watched tasks whenever something may have happened to them, until `stop`.
pub(in crate::engine) async fn run(
    watchers: Arc<Watchers>,
    db: Database,
    notifier: Arc<Notifier>,
    stop: CancellationToken,
) {
    let mut last_of_all = Instant::now();
    loop {
        let unasked = if notifier.has_peers() {
            LOOK_WITH_PEERS
        } else {
            LOOK_ALONE
        };
        let wait = if watchers.is_all_due() {
            GAP_OF_ALL
        } else {
            unasked
        };
        let unasked = tokio::select! {
            () = stop.cancelled() => return,
            () = watchers.due.notified() => false,
            () = tokio::time::sleep_until(last_of_all + wait) => true,
        };
        if unasked {
            watchers.wake_all();
        }
        if last_of_all.elapsed() >= GAP_OF_ALL && (watchers.make_all_due() || unasked) {
            last_of_all = Instant::now();
        }
        let pause = match watchers.look(&db).await {
            Ok(()) => GAP,
            Err(error) => {
                tracing::warn!(%error, "watchers wait for the database");
                RETRY
            }
        };
        stop.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
}

impl Watcher {
    /// How the task stood when this replica last looked.
    pub fn seen(&mut self) -> Seen {
        *self.seen.borrow_and_update()
    }

    /// Waits until the task stands otherwise than when `seen` was last called.
    pub async fn changed(&mut self) {
        // The sender lives in [`Watchers`] for as long as this watcher does.
        let _ = self.seen.changed().await;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut watched = self.watchers.lock();
        watched.watchers -= 1;
        if let Entry::Occupied(entry) = watched.tasks.entry(self.task)
            && entry.get().receiver_count() <= 1
        {
            entry.remove();
            watched.due.remove(&self.task);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use uuid::Uuid;

    use super::*;
    use crate::domain::{ids::LeaseToken, state::TaskState, task::EventCursor};

    fn task(number: u128) -> TaskId {
        TaskId(Uuid::from_u128(number))
    }

    fn version(state: TaskState) -> TaskVersion {
        TaskVersion {
            state,
            lease_token: LeaseToken(1),
            cancel_requested: false,
            due_at: None,
            last_event: EventCursor::default(),
        }
    }

    #[test]
    fn every_watcher_is_told_of_a_change_once_and_of_nothing_else() {
        let watchers = Arc::new(Watchers::default());
        let (mut one, mut two) = (watchers.watch(task(1)), watchers.watch(task(1)));
        let running = HashMap::from([(task(1), version(TaskState::Running))]);
        watchers.publish(&[task(1), task(2)], &running);
        for watcher in [&mut one, &mut two] {
            assert!(watcher.changed().now_or_never().is_some());
            assert_eq!(watcher.seen(), Seen::Task(version(TaskState::Running)));
        }
        watchers.publish(&[task(1)], &running);
        assert!(
            one.changed().now_or_never().is_none(),
            "a look without news wakes nobody"
        );
        watchers.publish(&[task(1)], &HashMap::new());
        assert!(two.changed().now_or_never().is_some());
        assert_eq!(two.seen(), Seen::Gone);
        drop(one);
        assert_eq!(watchers.len(), 1);
        drop(two);
        assert!(watchers.is_empty() && watchers.lock().tasks.is_empty() && watchers.lock().due.is_empty());
    }

    #[test]
    fn a_look_sees_what_was_woken_and_is_watched_however_often() {
        let watchers = Arc::new(Watchers::default());
        watchers.wake([task(1)]);
        watchers.wake_all();
        let _watchers = [
            watchers.watch(task(1)),
            watchers.watch(task(1)),
            watchers.watch(task(2)),
        ];
        assert_eq!(watchers.take_due().len(), 2, "a new watcher asks for a look");
        assert!(watchers.take_due().is_empty());
        watchers.wake([task(2), task(2), task(3)]);
        assert_eq!(watchers.take_due(), [task(2)]);
        watchers.wake_all();
        assert!(watchers.make_all_due());
        assert_eq!(watchers.take_due().len(), 2);
        assert!(!watchers.make_all_due() && watchers.take_due().is_empty());
    }

    #[test]
    fn a_statement_looks_at_a_bounded_number_of_tasks() {
        let watchers = Arc::new(Watchers::default());
        let _watchers: Vec<Watcher> = (0..1_500).map(|number| watchers.watch(task(number))).collect();
        assert_eq!(
            [watchers.take_due().len(), watchers.take_due().len()],
            [LOOK_AT, 500]
        );
    }
}
