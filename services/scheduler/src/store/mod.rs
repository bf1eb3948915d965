//! Everything that talks to Postgres: one file per concept, one named `.sql` file per statement, in folders by noun.
//!
//! Rows become domain values here (`rows`, `columns`); nothing outside sees a row or a driver error.

mod cancel;
mod claim;
mod columns;
mod database;
mod error;
mod events;
mod json_text;
mod lanes;
mod list;
mod mark;
mod migrate;
pub mod notify;
mod queues;
mod read;
mod reading;
mod retention;
mod rows;
mod sessions;
mod settle;
mod spans;
mod strays;
mod submit;
mod tick;

pub use cancel::{CancelStep, StopOrder};
pub use claim::{Claim, Claimed, ClaimedTask, Found};
pub use database::{Database, DatabaseConfig};
pub use error::StoreError;
pub use events::{EventPage, StoredEvent};
pub use lanes::{EnsuredLane, LaneSet};
pub use list::{ListQuery, ListSource, ListStep};
pub use mark::Mark;
pub use migrate::{MigrateError, migrate};
pub use queues::{LaneStats, QueueRecord, WorkerRecord};
pub use read::Detail;
pub use retention::{RetentionBite, RetentionPage, RetentionPolicy};
pub use sessions::{EndedSessions, KnownLease};
pub use settle::{EndedRun, Fenced};
pub use spans::{IdRanges, NOTE_HOLDS, SpanCursor, SpanPage};
pub use strays::{Rescued, StrayPage};
pub use submit::{BUNDLE, Existing, StoredPayload, SubmitBatch};
pub use tick::{Promoted, Tick, TickQuestion};
