//! Progress and log lines.

use jiff::Timestamp;

use super::{
    database::{Database, prepared},
    error::StoreError,
    rows,
};
use crate::domain::{
    ids::TaskId,
    limits,
    report::{EventKind, TaskEvent},
    task::EventCursor,
};

pub(super) const PROGRESS: i16 = 1;
pub(super) const LOG: i16 = 2;

/// Old events of a run that one append removes at most; the next ones remove the rest.
const REMOVED_AT_ONCE: i64 = 5_000;

/// An event as it was stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEvent {
    pub event: TaskEvent,
    pub stored_at: Timestamp,
    /// Number of the run that reported it, if that is counted.
    pub attempt: i32,
}

/// Some events of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct EventPage {
    /// The events, oldest first.
    pub events: Vec<StoredEvent>,
    /// True if there may be more after them.
    pub more: bool,
}

/// Years before those of Postgres would spoil the whole statement; a clock that is so wrong tells nobody anything.
fn storable(worker_time: Option<Timestamp>) -> Option<Timestamp> {
    worker_time.filter(|time| *time >= Timestamp::UNIX_EPOCH)
}

impl StoredEvent {
    /// Where a reader stands after it.
    pub fn cursor(&self) -> EventCursor {
        EventCursor {
            lease_token: self.event.lease.token.0,
            number: self.event.number,
        }
    }
}

impl Database {
    /// Appends events of leases that have not ended; others, and those that were appended before, are dropped.
    /// Removes the oldest of a run that has more than [`limits::RUN_EVENTS`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn append_events(&self, events: &[TaskEvent]) -> Result<(), StoreError> {
        let mut tasks = Vec::with_capacity(events.len());
        let (mut leases, mut numbers, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
        let (mut percents, mut messages, mut levels, mut cards) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut worker_times = Vec::with_capacity(events.len());
        for event in events {
            tasks.push(event.lease.task);
            leases.push(event.lease.token);
            numbers.push(event.number);
            match &event.kind {
                EventKind::Progress {
                    percent,
                    message,
                    card,
                    worker_time,
                } => {
                    kinds.push(PROGRESS);
                    percents.push(*percent);
                    messages.push(message.as_str());
                    levels.push(None);
                    cards.push(card.as_deref());
                    worker_times.push(storable(*worker_time));
                }
                EventKind::Log {
                    level,
                    message,
                    worker_time,
                } => {
                    kinds.push(LOG);
                    percents.push(None);
                    messages.push(message.as_str());
                    levels.push(Some(level.as_str()));
                    cards.push(None);
                    worker_times.push(storable(*worker_time));
                }
            }
        }
        let connection = self.events_connection().await?;
        let statement = prepared(&connection, include_str!("sql/events/append_events.sql")).await?;
        connection
            .execute(
                &statement,
                &[
                    &tasks,
                    &leases,
                    &numbers,
                    &kinds,
                    &percents,
                    &messages,
                    &levels,
                    &cards,
                    &worker_times,
                    &limits::RUN_EVENTS,
                    &REMOVED_AT_ONCE,
                ],
            )
            .await?;
        Ok(())
    }

    /// Events of a task after `cursor`, oldest first: at most `at_most`, and none that begins after `bytes` bytes.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn read_events(
        &self,
        task: TaskId,
        cursor: EventCursor,
        at_most: i64,
        bytes: i64,
    ) -> Result<EventPage, StoreError> {
        let connection = self.reading().await?;
        let rows = connection
            .query(
                include_str!("sql/events/read_events.sql"),
                &[&task, &cursor.lease_token, &cursor.number, &at_most, &bytes],
            )
            .await?;
        let found: i64 = rows.first().map_or(Ok(0), |row| row.try_get("found"))?;
        let events = rows
            .iter()
            .map(|row| rows::stored_event(task, row))
            .collect::<Result<_, _>>()?;
        Ok(EventPage {
            events,
            more: found >= at_most || i64::try_from(rows.len()).is_ok_and(|read| read < found),
        })
    }
}
