//! Pausing and resuming queues.

use super::Engine;
use crate::{
    domain::{error::Error, queue::QueueKey},
    store::QueueRecord,
};

impl Engine {
    /// Pauses a queue or resumes it. Here that holds once this returns; other replicas are told, and find out with
    /// their next tick if they do not hear it.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn set_paused(&self, queue: &QueueKey, paused: bool) -> Result<QueueRecord, Error> {
        let (engine, queue) = (self.clone(), queue.clone());
        let set = async move { engine.set_paused_now(&queue, paused).await };
        self.parts.background.complete(set).await?
    }

    async fn set_paused_now(&self, queue: &QueueKey, paused: bool) -> Result<QueueRecord, Error> {
        let parts = &self.parts;
        let (queue, lanes) = parts.db.set_paused(queue, paused).await?;
        if paused {
            parts.local_sessions.pause(&lanes);
        } else {
            parts.local_sessions.resume(&lanes);
        }
        parts.announcer.pauses_changed();
        Ok(queue)
    }
}
