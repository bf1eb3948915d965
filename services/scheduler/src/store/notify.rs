//! Notifications between replicas: hints that something changed, never data.
//!
//! They are sent in a transaction of their own, because the lock that a NOTIFY takes at commit would serialise the
//! transactions that carry tasks. A notification that is lost costs at most the time until the next tick.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    future::poll_fn,
};

use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, NoTls};
use uuid::Uuid;

use super::{database::Database, error::StoreError, mark::Mark};
use crate::domain::ids::{LaneId, ReplicaId, TaskId};

const CHANNEL: &str = "tasklease_hints";

/// Lanes that one notification names at most; Postgres takes 8,000 bytes.
const MOST_LANES: usize = 80;
/// Tasks that one notification names at most.
const MOST_TASKS: usize = 80;

/// What changed elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hints {
    /// Lanes in which tasks may wait, and the lowest place of each.
    pub lanes: BTreeMap<LaneId, Mark>,
    /// Tasks that moved, made progress or logged something.
    pub tasks: BTreeSet<TaskId>,
    /// A running task was cancelled.
    pub cancels: bool,
    /// A queue was paused or resumed.
    pub pauses: bool,
    /// Tasks may wait in lanes that are not named.
    pub any_lane: bool,
    /// Tasks that are not named changed, too.
    pub any_task: bool,
}

impl Hints {
    /// Everything, for when notifications may have been missed.
    pub fn everything() -> Self {
        Self {
            cancels: true,
            pauses: true,
            any_lane: true,
            any_task: true,
            ..Self::default()
        }
    }

    /// Tasks may wait in a lane from a place on.
    pub fn lane(lane: LaneId, place: Mark) -> Self {
        Self::lanes([(lane, place)])
    }

    /// Tasks may wait in lanes from these places on.
    pub fn lanes(lanes: impl IntoIterator<Item = (LaneId, Mark)>) -> Self {
        let mut hints = Self::default();
        for (lane, place) in lanes {
            hints.add_lane(lane, place);
        }
        hints
    }

    /// Tasks changed.
    pub fn tasks(tasks: impl IntoIterator<Item = TaskId>) -> Self {
        let mut hints = Self::default();
        hints.add_tasks(tasks);
        hints
    }

    fn add_lane(&mut self, lane: LaneId, place: Mark) {
        if self.any_lane {
            return;
        }
        let lowest = self.lanes.entry(lane).or_insert(place);
        *lowest = place.min(*lowest);
        if self.lanes.len() > MOST_LANES {
            self.lanes.clear();
            self.any_lane = true;
        }
    }

    fn add_tasks(&mut self, tasks: impl IntoIterator<Item = TaskId>) {
        for task in tasks {
            if self.any_task {
                return;
            }
            self.tasks.insert(task);
            if self.tasks.len() > MOST_TASKS {
                self.tasks.clear();
                self.any_task = true;
            }
        }
    }

    /// Adds other hints.
    pub fn add(&mut self, other: Self) {
        self.cancels |= other.cancels;
        self.pauses |= other.pauses;
        if other.any_lane {
            self.lanes.clear();
            self.any_lane = true;
        }
        if other.any_task {
            self.tasks.clear();
            self.any_task = true;
        }
        for (lane, place) in other.lanes {
            self.add_lane(lane, place);
        }
        self.add_tasks(other.tasks);
    }

    /// True if they say nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Words after the sender's id, one for each hint: a letter, and what it names.
    fn encode(&self, from: ReplicaId) -> String {
        let mut text = from.to_string();
        for (set, word) in [
            (self.cancels, " c"),
            (self.pauses, " p"),
            (self.any_lane, " L"),
            (self.any_task, " T"),
        ] {
            if set {
                text.push_str(word);
            }
        }
        for (lane, place) in &self.lanes {
            let _ = write!(text, " l{}:{}:{}", lane.0, place.rank, place.order_key);
        }
        for task in &self.tasks {
            let _ = write!(text, " t{}", task.0.simple());
        }
        text
    }

    /// `None` if `me` sent them. Words of a newer replica that nobody here knows mean that anything may have changed.
    fn decode(text: &str, me: ReplicaId) -> Option<Self> {
        let mut words = text.split(' ');
        if words.next()? == me.to_string() {
            return None;
        }
        let mut hints = Self::default();
        for word in words {
            if hints.add_word(word).is_none() {
                return Some(Self::everything());
            }
        }
        Some(hints)
    }

    /// `None` if nobody here knows the word.
    fn add_word(&mut self, word: &str) -> Option<()> {
        match (word.get(..1)?, word.get(1..)?) {
            ("c", "") => self.cancels = true,
            ("p", "") => self.pauses = true,
            ("L", "") => self.any_lane = true,
            ("T", "") => self.any_task = true,
            ("l", named) => {
                let (lane, place) = named_lane(named)?;
                self.lanes.insert(lane, place);
            }
            ("t", named) => {
                self.tasks.insert(TaskId(Uuid::try_parse(named).ok()?));
            }
            _ => return None,
        }
        Some(())
    }
}

fn named_lane(text: &str) -> Option<(LaneId, Mark)> {
    let mut parts = text.split(':');
    let lane = LaneId(parts.next()?.parse().ok()?);
    let place = Mark::before(parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some((lane, place))
}

impl Database {
    /// Notifies the other replicas.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn notify(&self, from: ReplicaId, hints: &Hints) -> Result<(), StoreError> {
        let connection = self.connection().await?;
        let statement = connection.prepare_cached("SELECT pg_notify($1, $2)").await?;
        connection
            .execute(&statement, &[&CHANNEL, &hints.encode(from)])
            .await?;
        Ok(())
    }

    /// Listens on a connection of its own until that breaks, and passes on what other replicas say.
    ///
    /// # Errors
    /// The connection cannot be made or broke.
    pub async fn listen(&self, me: ReplicaId, hints: mpsc::Sender<Hints>) -> Result<(), StoreError> {
        let (config, settings) = self.listen_config();
        let (client, mut connection) = config.connect(NoTls).await?;
        let (messages_in, mut messages) = mpsc::channel(64);
        let driver = tokio::spawn(async move {
            while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
                match message {
                    Ok(AsyncMessage::Notification(note)) => {
                        if messages_in.send(note.payload().to_owned()).await.is_err() {
                            break;
                        }
                    }
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
        });
        let listening = client
            .batch_execute(&format!("{settings}; LISTEN {CHANNEL}"))
            .await;
        if let Err(error) = listening {
            driver.abort();
            return Err(error.into());
        }
        // Whatever was said while nobody listened.
        let _ = hints.send(Hints::everything()).await;
        while let Some(text) = messages.recv().await {
            if let Some(heard) = Hints::decode(&text, me)
                && hints.send(heard).await.is_err()
            {
                break;
            }
        }
        driver.abort();
        Err(StoreError::Transient("the listening connection ended".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(n: u128) -> ReplicaId {
        ReplicaId(Uuid::from_u128(n))
    }

    fn everything_named() -> Hints {
        Hints {
            lanes: [
                (LaneId(3), Mark::before(-5, 1_700)),
                (LaneId(9), Mark::before(7, 12)),
            ]
            .into(),
            tasks: [TaskId(Uuid::from_u128(77)), TaskId(Uuid::max())].into(),
            cancels: true,
            pauses: true,
            ..Hints::default()
        }
    }

    #[test]
    fn hints_reach_others_as_they_were_but_not_the_sender() {
        for hints in [everything_named(), Hints::everything(), Hints::default()] {
            assert_eq!(
                Hints::decode(&hints.encode(replica(2)), replica(1)),
                Some(hints.clone())
            );
            assert_eq!(Hints::decode(&hints.encode(replica(1)), replica(1)), None);
        }
    }

    #[test]
    fn what_nobody_here_understands_may_mean_anything() {
        for word in ["x", "l1", "l1:2", "l1:2:3:4", "tno", "é"] {
            let text = format!("{} c {word}", replica(2));
            assert_eq!(
                Hints::decode(&text, replica(1)),
                Some(Hints::everything()),
                "{word}"
            );
        }
    }

    #[test]
    fn the_lowest_place_of_a_lane_counts_and_a_notification_has_a_largest_size() {
        let mut hints = Hints::lane(LaneId(1), Mark::before(4, 4));
        hints.add(Hints::lane(LaneId(1), Mark::before(-4, 9)));
        hints.add(Hints::lane(LaneId(1), Mark::before(0, 0)));
        assert_eq!(hints.lanes[&LaneId(1)], Mark::before(-4, 9));
        let longest = i32::MIN;
        for n in 0..10_000 {
            hints.add(Hints::lane(LaneId(longest + n), Mark::before(i16::MIN, i64::MIN)));
            hints.add(Hints::tasks([TaskId(Uuid::from_u128(n as u128))]));
            assert!(hints.encode(replica(1)).len() < 8_000);
        }
        assert!(hints.any_lane && hints.lanes.is_empty() && hints.any_task && hints.tasks.is_empty());
    }
}
