//! Names of lanes, remembered: a lane never changes once it exists.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use super::fleet::Fleet;
use crate::{
    domain::{
        ids::LaneId,
        name::{QueueName, TaskType},
    },
    store::{Database, EnsuredLane, StoreError},
};

type LaneName = (QueueName, TaskType);

/// Lanes by name and names by lane.
pub(super) struct LaneCache {
    db: Database,
    fleet: Arc<Fleet>,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    by_name: HashMap<LaneName, LaneId>,
    by_id: HashMap<LaneId, LaneName>,
}

impl LaneCache {
    pub(super) fn new(db: Database, fleet: Arc<Fleet>) -> Self {
        Self {
            db,
            fleet,
            known: RwLock::default(),
        }
    }

    /// The lane of a queue and task type, made if it is new. If its queue is paused, the fleet knows before anybody
    /// here can take from it.
    pub(super) async fn lane(&self, queue: &QueueName, task_type: &TaskType) -> Result<LaneId, StoreError> {
        let name = (queue.clone(), task_type.clone());
        if let Some(lane) = self
            .known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .by_name
            .get(&name)
        {
            return Ok(*lane);
        }
        let EnsuredLane { id: lane, paused } = self.db.ensure_lane(queue, task_type).await?;
        if paused {
            self.fleet.pause(&[lane]);
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.by_name.insert(name.clone(), lane);
        known.by_id.insert(lane, name);
        Ok(lane)
    }

    /// Queue and task type of a lane that was asked for before.
    pub(super) fn name(&self, lane: LaneId) -> Option<LaneName> {
        self.known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .by_id
            .get(&lane)
            .cloned()
    }
}
