//! A connection on which a caller reads.

use std::sync::atomic::{AtomicBool, Ordering};

use deadpool_postgres::Object;
use tokio_postgres::{NoTls, Row, types::ToSql};

use super::error::StoreError;

/// How long the attempt to cancel a statement may take; the statement's own timeout ends it otherwise.
const CANCEL_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// A connection for statements whose caller may leave while they run.
///
/// A future that is dropped leaves its statement running, and the next user of the connection would wait for it. So
/// the statement is cancelled then, and the connection is closed instead of going back to its pool.
pub(super) struct Reading {
    connection: Option<Object>,
    is_waiting: AtomicBool,
}

impl Reading {
    pub(super) fn new(connection: Object) -> Self {
        Self {
            connection: Some(connection),
            is_waiting: AtomicBool::new(false),
        }
    }

    /// Runs a statement, prepared once per connection.
    pub(super) async fn query(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreError> {
        let Some(connection) = &self.connection else {
            return Err(StoreError::Transient("the connection is closed".into()));
        };
        self.is_waiting.store(true, Ordering::Relaxed);
        let rows = async {
            let statement = connection.prepare_cached(sql).await?;
            connection.query(&statement, parameters).await
        };
        let rows = rows.await;
        self.is_waiting.store(false, Ordering::Relaxed);
        Ok(rows?)
    }

    /// Runs a statement that gives one row or none.
    pub(super) async fn query_opt(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.query(sql, parameters).await?.into_iter().next())
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if !self.is_waiting.load(Ordering::Relaxed) {
            return;
        }
        let Some(connection) = self.connection.take() else {
            return;
        };
        // Out of the pool first: nobody else may get it.
        let client = Object::take(connection);
        let cancel = client.cancel_token();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let cancelled = tokio::time::timeout(CANCEL_TIMEOUT, cancel.cancel_query(NoTls)).await;
                if !matches!(cancelled, Ok(Ok(()))) {
                    tracing::debug!("a statement whose caller left could not be cancelled");
                }
                drop(client);
            });
        }
    }
}
