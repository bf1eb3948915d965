//! Names of lanes, remembered. A lane never changes, and is gone only once nobody used it for days.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parking_lot::RwLock;

use super::local_sessions::{LocalSessions, Serves};
use crate::{
    domain::{
        error::Error,
        ids::LaneId,
        name::{QueueName, TaskType},
        queue::QueueKey,
    },
    store::{Database, EnsuredLane, LaneSet, StoreError},
};

type LaneName = (QueueKey, TaskType);

/// Lanes by name and names by lane. Sessions are told of each lane that they serve as soon as it is known here.
pub(in crate::engine) struct LaneCache {
    db: Database,
    local_sessions: Arc<LocalSessions>,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    by_name: HashMap<LaneName, LaneId>,
    by_id: HashMap<LaneId, LaneName>,
}

impl LaneCache {
    pub(in crate::engine) fn new(db: Database, local_sessions: Arc<LocalSessions>) -> Self {
        Self {
            db,
            local_sessions,
            known: RwLock::default(),
        }
    }

    /// The lane of a queue and task type, made if it is new. If its queue is paused, the local_sessions knows before anybody
    /// here can take from it.
    pub(in crate::engine) async fn lane(
        &self,
        queue: &QueueKey,
        task_type: &TaskType,
    ) -> Result<LaneId, Error> {
        if let Some(lane) = self.known_lane(queue, task_type) {
            return Ok(lane);
        }
        let lane = self
            .db
            .ensure_lane(queue, task_type)
            .await?
            .ok_or(Error::Overloaded(
                "there are too many different queues and task types",
            ))?;
        let id = lane.id;
        self.add(lane);
        Ok(id)
    }

    /// The lane of a queue and task type, if it is known here.
    pub(in crate::engine) fn known_lane(&self, queue: &QueueKey, task_type: &TaskType) -> Option<LaneId> {
        let name = (queue.clone(), task_type.clone());
        self.known().by_name.get(&name).copied()
    }

    /// The lanes that a session serves, as far as there are any yet.
    pub(in crate::engine) async fn served(&self, serves: &Serves) -> Result<Vec<LaneId>, StoreError> {
        let queues: Vec<&str> = serves.queues.iter().map(QueueName::as_str).collect();
        let task_types: Vec<&str> = serves.task_types.iter().map(TaskType::as_str).collect();
        for lane in self
            .db
            .lanes_named(&serves.namespace, &queues, &task_types)
            .await?
        {
            self.add(lane);
        }
        Ok(self.served_and_known(serves))
    }

    /// The lanes that a session serves and that are known here.
    pub(in crate::engine) fn served_and_known(&self, serves: &Serves) -> Vec<LaneId> {
        let known = self.known();
        let serves = |(queue, task_type): &LaneName| serves.includes(queue, task_type);
        let lanes = known.by_id.iter().filter(|(_, name)| serves(name));
        lanes.map(|(lane, _)| *lane).collect()
    }

    /// Learns of lanes that another replica made.
    pub(in crate::engine) async fn load(&self, lanes: &[LaneId]) -> Result<(), StoreError> {
        let unknown: Vec<LaneId> = {
            let known = self.known();
            let is_new = |lane: &LaneId| !known.by_id.contains_key(lane);
            lanes.iter().copied().filter(is_new).collect()
        };
        if !unknown.is_empty() {
            for lane in self.db.lanes(Some(&unknown)).await? {
                self.add(lane);
            }
        }
        Ok(())
    }

    /// Forgets lanes that do not exist any more.
    pub(in crate::engine) fn forget(&self, gone: &[LaneId]) {
        self.forget_if(|lane| gone.contains(&lane));
    }

    fn forget_if(&self, is_gone: impl Fn(LaneId) -> bool) {
        let mut known = self.known.write();
        known.by_id.retain(|lane, _| !is_gone(*lane));
        known.by_name.retain(|_, lane| !is_gone(*lane));
    }

    /// Learns of all lanes, and forgets those that are gone, unless they are the ones that are known.
    pub(in crate::engine) async fn load_if_not(&self, lanes: LaneSet) -> Result<(), StoreError> {
        if LaneSet::of(self.known().by_id.keys().copied()) == lanes {
            return Ok(());
        }
        let lanes = self.db.lanes(None).await?;
        let ids: HashSet<LaneId> = lanes.iter().map(|lane| lane.id).collect();
        self.forget_if(|lane| !ids.contains(&lane));
        for lane in lanes {
            self.add(lane);
        }
        Ok(())
    }

    fn add(&self, lane: EnsuredLane) {
        let EnsuredLane {
            id,
            queue,
            task_type,
            paused,
        } = lane;
        if self.known().by_id.contains_key(&id) {
            return;
        }
        if paused {
            self.local_sessions.pause(&[id]);
        }
        {
            let mut known = self.known.write();
            known.by_name.insert((queue.clone(), task_type.clone()), id);
            known.by_id.insert(id, (queue.clone(), task_type.clone()));
        }
        // After it can be found by name: a session that attaches meanwhile sees it one way or the other.
        self.local_sessions.add_lane(id, &queue, &task_type);
    }

    /// Queue and task type of a lane that was asked for before.
    pub(in crate::engine) fn name(&self, lane: LaneId) -> Option<LaneName> {
        self.known().by_id.get(&lane).cloned()
    }

    fn known(&self) -> parking_lot::RwLockReadGuard<'_, Known> {
        self.known.read()
    }
}
