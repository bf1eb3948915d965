//! What can go wrong between the scheduler and Postgres.

use deadpool_postgres::HookError;
use tokio_postgres::error::SqlState;

use crate::domain::error::Error;

/// Why a statement did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Postgres could not be reached, is restarting, or gave up on a conflict: the same statement may work later.
    #[error("the database is not available: {0}")]
    Transient(String),
    /// A key exists already.
    #[error("the row exists already")]
    Exists,
    /// The statement took too long.
    #[error("the statement took too long")]
    TimedOut,
    /// Too many callers list already.
    #[error("too many lists wait for a connection")]
    Busy,
    /// A connection pooler stands between the scheduler and Postgres and does not keep connections.
    #[error(
        "the connection pooler before the database gives each transaction another connection; let it pool sessions \
         (PgBouncer: pool_mode = session), or connect to Postgres itself"
    )]
    Pooler,
    /// The values cannot be stored.
    #[error("the values cannot be stored: {0}")]
    Data(String),
    /// A defect, in the statement or the schema.
    #[error("unexpected database error: {0}")]
    Defect(String),
}

impl StoreError {
    /// True if the same statement may work later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Transient(_) | Self::TimedOut)
    }

    /// True if a value or a key of the statement is what Postgres refused, so that repeating it is of no use. Every
    /// other error may pass, also one that nobody has seen before.
    pub fn blames_a_value(&self) -> bool {
        matches!(self, Self::Exists | Self::Data(_))
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(db) = error.as_db_error() else {
            // Without an answer from the server the connection is what failed, or a value had the wrong type.
            let text = describe(&error);
            return if error.to_string().contains("serializing") {
                Self::Data(text)
            } else {
                Self::Transient(text)
            };
        };
        let text = format!("{} ({})", db.message(), db.code().code());
        match db.code() {
            code if *code == SqlState::UNIQUE_VIOLATION => Self::Exists,
            code if *code == SqlState::QUERY_CANCELED || *code == SqlState::LOCK_NOT_AVAILABLE => {
                Self::TimedOut
            }
            code => match code.code().get(..2) {
                // 08 connection, 53 resources, 57 operator, 58 input and output, 40 rollback, 25006/25P0x read-only or
                // idle session.
                Some("08" | "53" | "57" | "58" | "40" | "25") => Self::Transient(text),
                // 21 a row twice in one statement, 22 data, 23 constraints, 54 sizes.
                Some("21" | "22" | "23" | "54") => Self::Data(text),
                _ => Self::Defect(text),
            },
        }
    }
}

impl From<deadpool_postgres::PoolError> for StoreError {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        match error {
            deadpool_postgres::PoolError::Backend(error)
            | deadpool_postgres::PoolError::PostCreateHook(HookError::Backend(error)) => {
                match Self::from(error) {
                    // Not being let in is a matter of configuration, which may be fixed while this runs.
                    Self::Defect(text) => Self::Transient(text),
                    other => other,
                }
            }
            other => Self::Transient(other.to_string()),
        }
    }
}

impl From<StoreError> for Error {
    /// What a caller hears; the detail goes to the log only.
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Transient(detail) => {
                tracing::warn!(detail, "the database is not available");
                Self::Unavailable("the database is not available")
            }
            StoreError::TimedOut => Self::Unavailable("the database took too long"),
            StoreError::Busy => Self::Overloaded("too many lists wait for the database"),
            StoreError::Exists | StoreError::Data(_) | StoreError::Pooler | StoreError::Defect(_) => {
                tracing::error!(%error, "a statement failed");
                Self::Internal
            }
        }
    }
}

fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
