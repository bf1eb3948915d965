//! Tells everybody concerned what has changed: watchers and sessions here, and the other replicas.

use std::sync::Arc;

use super::{notifier::Notifier, watchers::Watchers};
use crate::{
    domain::ids::{LaneId, TaskId},
    engine::dispatch::local_sessions::LocalSessions,
    store::{Mark, notify::Hints},
};

/// What everybody uses who commits a change.
#[derive(Clone)]
pub(in crate::engine) struct Announcer {
    pub(in crate::engine) local_sessions: Arc<LocalSessions>,
    pub(in crate::engine) watchers: Arc<Watchers>,
    pub(in crate::engine) notifier: Arc<Notifier>,
}

impl Announcer {
    /// Tasks stand otherwise than before: whoever watches them looks again.
    pub(in crate::engine) fn tasks_changed(&self, tasks: impl Iterator<Item = TaskId> + Clone) {
        self.watchers.wake(tasks.clone());
        if self.notifier.has_peers() {
            self.notifier.notify(Hints::tasks(tasks));
        }
    }

    /// Tasks may wait in lanes, from these places on: whoever has credit for them claims.
    pub(in crate::engine) fn tasks_wait(&self, lanes: impl Iterator<Item = (LaneId, Mark)> + Clone) {
        if self.notifier.has_peers() {
            self.notifier.notify(Hints::lanes(lanes.clone()));
        }
        self.local_sessions.wake_lanes(lanes);
    }

    /// The same of a lane in which this replica has no use for them.
    pub(in crate::engine) fn tasks_wait_for_peers(&self, lane: LaneId, place: Mark) {
        self.notifier.notify(Hints::lane(lane, place));
    }

    /// Somebody asked for a running task to be cancelled, which its worker may hear through another replica.
    pub(in crate::engine) fn cancel_requested(&self, task: TaskId) {
        self.notifier.notify(Hints {
            cancels: true,
            ..Hints::tasks([task])
        });
        self.watchers.wake([task]);
    }

    /// A queue was paused or resumed; this replica knows.
    pub(in crate::engine) fn pauses_changed(&self) {
        self.notifier.notify(Hints {
            pauses: true,
            ..Hints::default()
        });
    }
}
