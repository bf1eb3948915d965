//! Connections to Postgres.

use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime, Timeouts};
use tokio_postgres::{Config, NoTls, Statement};

use super::error::StoreError;

/// How to reach Postgres, and with how many connections.
#[derive(Clone)]
pub struct DatabaseConfig {
    /// A Postgres URL. May hold a password: never logged.
    pub url: String,
    /// Connections for everything but what follows.
    pub connections: usize,
    /// Connections for what comes with every task: submits and settlements of successes.
    pub hot_connections: usize,
    /// Connections for claims.
    pub claim_connections: usize,
    /// Longest time a statement may take.
    pub statement_timeout: Duration,
}

/// Pools of connections; cheap to clone.
#[derive(Clone, Debug)]
pub struct Database {
    general: Pool,
    hot: Pool,
    claims: Pool,
    listen: Config,
}

/// Settings of every session. Hot statements must not depend on statistics, which are missing or stale just when a
/// table grows fastest, so sequential scans are a last resort; compiling plans costs more than these statements.
const GENERAL: &str = "-c enable_seqscan=off -c jit=off";

/// Postgres would plan some statements anew for each call, which costs more than to run them for a single task.
const HOT: &str = "-c enable_seqscan=off -c jit=off -c plan_cache_mode=force_generic_plan";

/// A claim must walk its two indexes in order, whatever the planner believes about them.
const CLAIMS: &str = "-c enable_seqscan=off -c enable_bitmapscan=off -c enable_hashjoin=off \
                      -c enable_mergejoin=off -c jit=off -c plan_cache_mode=force_generic_plan";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(10);
/// How long sent bytes may stay unacknowledged before a failed-over server is given up.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);

impl Database {
    /// Prepares the pools; connects at first use.
    ///
    /// # Errors
    /// A URL that cannot be parsed.
    pub fn new(config: &DatabaseConfig) -> Result<Self, StoreError> {
        let base: Config = config.url.parse()?;
        let pool = |options: &str, size: usize, name: &str| {
            let mut pg = base.clone();
            tune(&mut pg, options, config.statement_timeout, name);
            let manager = Manager::from_config(
                pg,
                NoTls,
                ManagerConfig {
                    recycling_method: RecyclingMethod::Fast,
                },
            );
            Pool::builder(manager)
                .max_size(size)
                .runtime(Runtime::Tokio1)
                .timeouts(Timeouts {
                    wait: Some(CONNECT_TIMEOUT),
                    create: Some(CONNECT_TIMEOUT),
                    recycle: Some(CONNECT_TIMEOUT),
                })
                .build()
                .map_err(|error| StoreError::Defect(error.to_string()))
        };
        let mut listen = base.clone();
        tune(
            &mut listen,
            GENERAL,
            config.statement_timeout,
            "tasklease doorbell",
        );
        Ok(Self {
            general: pool(GENERAL, config.connections, "tasklease")?,
            hot: pool(HOT, config.hot_connections, "tasklease hot path")?,
            claims: pool(CLAIMS, config.claim_connections, "tasklease claims")?,
            listen,
        })
    }

    /// A connection for anything but claims.
    pub(super) async fn connection(&self) -> Result<Object, StoreError> {
        Ok(self.general.get().await?)
    }

    /// A connection for statements that come with every task and whose plan does not depend on their parameters.
    pub(super) async fn hot_connection(&self) -> Result<Object, StoreError> {
        Ok(self.hot.get().await?)
    }

    /// A connection whose planner settings suit claims.
    pub(super) async fn claim_connection(&self) -> Result<Object, StoreError> {
        Ok(self.claims.get().await?)
    }

    /// How to open a connection outside the pools.
    pub(super) fn listen_config(&self) -> &Config {
        &self.listen
    }
}

/// Prepares a statement once per connection.
pub(super) async fn prepared(connection: &Object, sql: &str) -> Result<Statement, StoreError> {
    Ok(connection.prepare_cached(sql).await?)
}

fn tune(pg: &mut Config, options: &str, statement_timeout: Duration, name: &str) {
    let given = pg
        .get_options()
        .map(|given| format!("{given} "))
        .unwrap_or_default();
    pg.application_name(name)
        .options(format!(
            "{given}{options} -c statement_timeout={} -c lock_timeout={} -c idle_in_transaction_session_timeout={}",
            statement_timeout.as_millis(),
            LOCK_TIMEOUT.as_millis(),
            IDLE_IN_TRANSACTION.as_millis(),
        ))
        .connect_timeout(CONNECT_TIMEOUT)
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(10))
        .keepalives_interval(Duration::from_secs(5))
        .keepalives_retries(3)
        .tcp_user_timeout(TCP_USER_TIMEOUT);
}

/// A duration as the microseconds that statements take.
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
