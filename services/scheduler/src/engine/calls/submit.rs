//! Submitting tasks: finds their lanes, and hands them to the submitter.

use super::Engine;
use crate::{
    domain::{error::Error, ids::LaneId, new_task::NewTask, span::Span},
    engine::Stored,
};

/// How often the lanes of tasks are made again that are removed meanwhile.
const ROUNDS: usize = 10;

impl Engine {
    /// Stores tasks, all or none, and answers once that is durable. Tasks that the same submit stored before are left
    /// as they are.
    ///
    /// # Errors
    /// An id that another task has, too much under way, or a database that cannot be reached.
    pub async fn submit(&self, tasks: Vec<NewTask>) -> Result<Stored, Error> {
        let submitter = &self.parts.submitter;
        // Before anything that may wait for the database.
        let spent = submitter.spend(tasks.iter().map(NewTask::weight).sum())?;
        let mut placed = self.in_lanes(tasks).await?;
        for _ in 0..ROUNDS {
            let spans = placed.iter().map(|(task, lane)| (*lane, Span::of(task.id)));
            let missing = self.parts.noted_spans.missing(spans);
            if missing.is_empty() {
                return submitter.submit(placed, spent).await;
            }
            let engine = self.clone();
            let note = async move { engine.parts.noted_spans.note(missing).await };
            let gone = self.parts.background.complete(note).await??;
            if !gone.is_empty() {
                // Lanes were deleted because nobody had used them for long.
                self.parts.lanes.forget(&gone);
                placed = self.in_lanes(placed.into_iter().map(|(task, _)| task)).await?;
            }
        }
        Err(Error::Unavailable("the queues of the tasks are being removed"))
    }

    async fn in_lanes(
        &self,
        tasks: impl IntoIterator<Item = NewTask, IntoIter: ExactSizeIterator>,
    ) -> Result<Vec<(NewTask, LaneId)>, Error> {
        let tasks = tasks.into_iter();
        let mut placed = Vec::with_capacity(tasks.len());
        for task in tasks {
            let lane = match placed.last() {
                // Most batches are of one lane.
                Some((before, lane)) if is_same_lane(before, &task) => *lane,
                _ => self.lane(&task).await?,
            };
            placed.push((task, lane));
        }
        Ok(placed)
    }

    async fn lane(&self, task: &NewTask) -> Result<LaneId, Error> {
        let spec = &task.spec;
        if let Some(lane) = self.parts.lanes.known_lane(&spec.queue, &spec.task_type) {
            return Ok(lane);
        }
        let engine = self.clone();
        let (queue, task_type) = (spec.queue.clone(), spec.task_type.clone());
        let make = async move { engine.parts.lanes.lane(&queue, &task_type).await };
        self.parts.background.complete(make).await?
    }
}

fn is_same_lane(one: &NewTask, other: &NewTask) -> bool {
    one.spec.queue == other.spec.queue && one.spec.task_type == other.spec.task_type
}
