//! Names of lanes, remembered. A lane never changes, and is gone only once nobody used it for days.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::RwLock;

use super::local_sessions::{LocalSessions, Serves};
use crate::{
    domain::{
        error::Error,
        ids::LaneId,
        name::{QueueName, TaskType},
        queue::QueueKey,
        span::Span,
    },
    store::{Database, EnsuredLane, LaneSet, NOTE_HOLDS, StoreError},
};

/// How long to wait for others who note spans.
const NOTING_PATIENCE: Duration = Duration::from_secs(5);

/// Spans of lanes that are remembered at most.
const NOTED: usize = 50_000;

type LaneName = (QueueKey, TaskType);

/// Lanes by name and names by lane. Sessions are told of each lane that they serve as soon as it is known here.
pub(super) struct LaneCache {
    db: Database,
    local_sessions: Arc<LocalSessions>,
    known: RwLock<Known>,
    /// Spans of lanes that are stored for certain, and until when to rely on it.
    noted: RwLock<HashMap<(LaneId, Span), Instant>>,
    /// Held while spans are stored, so that callers who need the same one store it once.
    noting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    by_name: HashMap<LaneName, LaneId>,
    by_id: HashMap<LaneId, LaneName>,
}

impl LaneCache {
    pub(super) fn new(db: Database, local_sessions: Arc<LocalSessions>) -> Self {
        Self {
            db,
            local_sessions,
            known: RwLock::default(),
            noted: RwLock::default(),
            noting: tokio::sync::Mutex::default(),
        }
    }

    /// The lane of a queue and task type, made if it is new. If its queue is paused, the local_sessions knows before anybody
    /// here can take from it.
    pub(super) async fn lane(&self, queue: &QueueKey, task_type: &TaskType) -> Result<LaneId, Error> {
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
    pub(super) fn known_lane(&self, queue: &QueueKey, task_type: &TaskType) -> Option<LaneId> {
        let name = (queue.clone(), task_type.clone());
        self.known().by_name.get(&name).copied()
    }

    /// The lanes that a session serves, as far as there are any yet.
    pub(super) async fn served(&self, serves: &Serves) -> Result<Vec<LaneId>, StoreError> {
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
    pub(super) fn served_and_known(&self, serves: &Serves) -> Vec<LaneId> {
        let known = self.known();
        let serves = |(queue, task_type): &LaneName| serves.includes(queue, task_type);
        let lanes = known.by_id.iter().filter(|(_, name)| serves(name));
        lanes.map(|(lane, _)| *lane).collect()
    }

    /// Learns of lanes that another replica made.
    pub(super) async fn load(&self, lanes: &[LaneId]) -> Result<(), StoreError> {
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

    /// Of some lanes and spans, those that may not be stored.
    pub(super) fn not_noted(&self, spans: impl Iterator<Item = (LaneId, Span)>) -> Vec<(LaneId, Span)> {
        let noted = self.noted.read();
        let now = Instant::now();
        let mut missing = Vec::new();
        let mut before = None;
        for span in spans {
            // Most batches are of one lane and time.
            if before.replace(span) != Some(span) && noted.get(&span).is_none_or(|until| *until <= now) {
                missing.push(span);
            }
        }
        missing
    }

    /// Stores spans of lanes before tasks come that lists find by them. False if a lane is gone, and is forgotten.
    pub(super) async fn note(&self, spans: Vec<(LaneId, Span)>) -> Result<bool, StoreError> {
        // While the database takes nothing, those who wait must not do so one after the other.
        let one_at_a_time = tokio::time::timeout(NOTING_PATIENCE, self.noting.lock());
        let _one_at_a_time = one_at_a_time.await.map_err(|_| StoreError::TimedOut)?;
        let spans = self.not_noted(spans.into_iter());
        if spans.is_empty() {
            return Ok(true);
        }
        let until = Instant::now() + NOTE_HOLDS;
        let gone = self.db.ensure_spans(&spans).await?;
        if !gone.is_empty() {
            self.forget(|lane| gone.contains(&lane));
            return Ok(false);
        }
        let mut noted = self.noted.write();
        if noted.len() + spans.len() > NOTED {
            noted.clear();
        }
        noted.extend(spans.into_iter().map(|span| (span, until)));
        Ok(true)
    }

    fn forget(&self, is_gone: impl Fn(LaneId) -> bool) {
        let mut known = self.known.write();
        known.by_id.retain(|lane, _| !is_gone(*lane));
        known.by_name.retain(|_, lane| !is_gone(*lane));
    }

    /// Learns of all lanes, and forgets those that are gone, unless they are the ones that are known.
    pub(super) async fn load_if_not(&self, lanes: LaneSet) -> Result<(), StoreError> {
        if LaneSet::of(self.known().by_id.keys().copied()) == lanes {
            return Ok(());
        }
        let lanes = self.db.lanes(None).await?;
        let ids: HashSet<LaneId> = lanes.iter().map(|lane| lane.id).collect();
        self.forget(|lane| !ids.contains(&lane));
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
    pub(super) fn name(&self, lane: LaneId) -> Option<LaneName> {
        self.known().by_id.get(&lane).cloned()
    }

    fn known(&self) -> parking_lot::RwLockReadGuard<'_, Known> {
        self.known.read()
    }
}
