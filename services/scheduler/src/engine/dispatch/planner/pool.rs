//! Sessions that serve the same lanes, and how they divide their credit between those lanes.

use std::collections::VecDeque;

use foldhash::HashMap;

use crate::domain::ids::{LaneId, SessionId};

/// Sessions of this replica that serve the same lanes. Whatever is decided about lanes is decided once for all of them.
#[derive(Default)]
pub(super) struct Pool {
    /// In ascending order.
    pub(super) lanes: Vec<LaneId>,
    pub(super) members: usize,
    /// The open credit of all members.
    pub(super) credit: usize,
    /// Members with credit, in the order in which they get the next tasks. One that left, or has none any more, is
    /// skipped when its turn comes.
    pub(super) turns: VecDeque<SessionId>,
    /// Of its lanes, those that may hold tasks.
    pub(super) waiting: Vec<LaneId>,
    /// How many tasks each waiting lane was given, on a scale on which lanes that begin to wait start at the level of
    /// the others: the lane with the least is next. It is the deficit of a round-robin, seen from the other side.
    served: HashMap<LaneId, u64>,
    level: u64,
}

impl Pool {
    pub(super) fn new(lanes: Vec<LaneId>) -> Self {
        Self {
            lanes,
            ..Self::default()
        }
    }

    /// A lane may hold tasks from now on.
    pub(super) fn begins_to_wait(&mut self, lane: LaneId) {
        if self.waiting.contains(&lane) {
            return;
        }
        self.waiting.push(lane);
        // Who waited elsewhere has not saved up turns here.
        let served = self.served.entry(lane).or_default();
        *served = (*served).max(self.level);
    }

    /// A lane holds no tasks any more.
    pub(super) fn has_drained(&mut self, lane: LaneId) {
        self.waiting.retain(|waiting| *waiting != lane);
        if self.waiting.is_empty() {
            self.served.clear();
            self.level = 0;
        }
    }

    /// Divides `credit` between lanes that are of equal rank: one task at a time to the lane that was given the least,
    /// at most `most` to each. Later, weights of lanes belong here.
    pub(super) fn divide(&mut self, credit: usize, lanes: &[LaneId], most: usize) -> Vec<(LaneId, usize)> {
        if let [lane] = lanes {
            let tasks = credit.min(most);
            self.charge(*lane, tasks);
            return vec![(*lane, tasks)];
        }
        let mut queue: std::collections::BinaryHeap<_> = lanes
            .iter()
            .map(|lane| std::cmp::Reverse((self.served.get(lane).copied().unwrap_or(self.level), *lane)))
            .collect();
        let mut given: HashMap<LaneId, usize> = HashMap::default();
        for _ in 0..credit {
            let Some(std::cmp::Reverse((served, lane))) = queue.pop() else {
                break;
            };
            self.level = self.level.max(served);
            let tasks = given.entry(lane).or_default();
            *tasks += 1;
            if *tasks < most {
                queue.push(std::cmp::Reverse((served + 1, lane)));
            }
        }
        let mut given: Vec<(LaneId, usize)> = given.into_iter().collect();
        given.sort_unstable();
        for (lane, tasks) in &given {
            self.charge(*lane, *tasks);
        }
        given
    }

    fn charge(&mut self, lane: LaneId, tasks: usize) {
        *self.served.entry(lane).or_insert(self.level) += tasks as u64;
    }

    /// A lane did not need all that it was given.
    pub(super) fn refund(&mut self, lane: LaneId, tasks: usize) {
        if let Some(served) = self.served.get_mut(&lane) {
            *served = served.saturating_sub(tasks as u64);
        }
    }
}
