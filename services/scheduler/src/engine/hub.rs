//! Who waits for news of which task.
//!
//! The hub carries no news: a watcher that is woken reads the database, so every watcher sees everything.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use crate::domain::ids::TaskId;

/// Watched tasks and their wake-up channels.
#[derive(Default)]
pub struct WatchHub {
    watched: Mutex<HashMap<TaskId, watch::Sender<()>>>,
}

/// One watcher of one task.
pub struct Watcher {
    hub: Arc<WatchHub>,
    task: TaskId,
    wake: watch::Receiver<()>,
}

impl WatchHub {
    /// Begins to watch a task.
    pub fn watch(self: &Arc<Self>, task: TaskId) -> Watcher {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let wake = watched
            .entry(task)
            .or_insert_with(|| watch::Sender::new(()))
            .subscribe();
        Watcher {
            hub: self.clone(),
            task,
            wake,
        }
    }

    /// Wakes the watchers of these tasks.
    pub(super) fn wake(&self, tasks: impl IntoIterator<Item = TaskId>) {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.is_empty() {
            return;
        }
        for task in tasks {
            if let Some(sender) = watched.get(&task) {
                sender.send_replace(());
            }
        }
    }

    /// Wakes all watchers.
    pub(super) fn wake_all(&self) {
        for sender in self
            .watched
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
        {
            sender.send_replace(());
        }
    }

    /// How many tasks are watched here.
    pub fn len(&self) -> usize {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// True if no task is watched here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Watcher {
    /// Waits until there may be news since the last call.
    pub async fn woken(&mut self) {
        // The sender lives in the hub for as long as this watcher does.
        let _ = self.wake.changed().await;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut watched = self.hub.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(entry) = watched.entry(self.task)
            && entry.get().receiver_count() <= 1
        {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn every_watcher_is_woken_and_the_last_one_leaves_nothing_behind() {
        let hub = Arc::new(WatchHub::default());
        let task = TaskId(Uuid::from_u128(1));
        let (mut one, mut two) = (hub.watch(task), hub.watch(task));
        assert!(one.woken().now_or_never().is_none());
        hub.wake([task, TaskId(Uuid::from_u128(2))]);
        assert!(one.woken().now_or_never().is_some() && two.woken().now_or_never().is_some());
        assert!(two.woken().now_or_never().is_none(), "a wake-up is used once");
        drop(one);
        assert_eq!(hub.len(), 1);
        drop(two);
        assert!(hub.is_empty());
    }
}
