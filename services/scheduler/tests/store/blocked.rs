//! Waiting until a statement waits for a lock: how tests force an order between two transactions.

use tokio_postgres::Client;

use crate::world::PATIENCE;

/// Returns once a statement in this database waits for a lock. `observer` must not be inside a transaction.
pub(crate) async fn until_somebody_waits(observer: &Client) {
    until_so_many_wait(observer, 1).await;
}

/// Returns once at least so many statements in this database wait for locks.
pub(crate) async fn until_so_many_wait(observer: &Client, statements: i64) {
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let wait = async {
        while observer.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) < statements {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("the other statement must wait for the open transaction");
}
