//! Connections to Postgres.

use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime, Timeouts};
use tokio_postgres::{Config, NoTls, Statement};

use super::{error::StoreError, reading::Reading};

/// How to reach Postgres, and with how many connections.
#[derive(Clone)]
pub struct DatabaseConfig {
    /// A Postgres URL. May hold a password: never logged.
    pub url: String,
    /// Connections for what callers list.
    pub list_connections: usize,
    /// Connections for claims.
    pub claim_connections: usize,
    /// Longest time a statement may take.
    pub statement_timeout: Duration,
}

/// Pools of connections; cheap to clone.
///
/// Each kind of work has its own, so that none can keep another waiting: a slow list does not hold up a heartbeat, a
/// locked table of events no outcome.
#[derive(Clone, Debug)]
pub struct Database {
    vital: Pool,
    submits: Pool,
    settlements: Pool,
    other_ends: Pool,
    claims: Pool,
    events: Pool,
    key_reads: Pool,
    lists: Pool,
    sessions: Pool,
    upkeep: Pool,
    listen: Config,
}

/// Heartbeats and ticks; one more for the end of sessions.
const VITAL_CONNECTIONS: usize = 3;
/// Two submits are under way at once.
const SUBMIT_CONNECTIONS: usize = 2;
/// One settlement of successes is under way at once.
const SETTLEMENT_CONNECTIONS: usize = 1;
/// A settlement of what is no success, and answers to reports that come again.
const OTHER_END_CONNECTIONS: usize = 3;
/// One append of events is under way at once.
const EVENT_CONNECTIONS: usize = 1;
/// Reads of single tasks by their keys, also for those who watch.
const KEY_READ_CONNECTIONS: usize = 4;
/// Sessions that begin, and look-ups of their leases.
const SESSION_CONNECTIONS: usize = 3;
/// Cancels, queues, notifications, and the jobs of the background.
const UPKEEP_CONNECTIONS: usize = 6;
/// Lists that may wait for a connection; more are refused.
const WAITING_LISTS: usize = 100;

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
            "tasklease listener",
        );
        Ok(Self {
            vital: pool(GENERAL, VITAL_CONNECTIONS, "tasklease vital")?,
            submits: pool(HOT, SUBMIT_CONNECTIONS, "tasklease submits")?,
            settlements: pool(HOT, SETTLEMENT_CONNECTIONS, "tasklease settlements")?,
            other_ends: pool(GENERAL, OTHER_END_CONNECTIONS, "tasklease other ends")?,
            claims: pool(CLAIMS, config.claim_connections, "tasklease claims")?,
            events: pool(GENERAL, EVENT_CONNECTIONS, "tasklease events")?,
            key_reads: pool(GENERAL, KEY_READ_CONNECTIONS, "tasklease key reads")?,
            lists: pool(GENERAL, config.list_connections, "tasklease lists")?,
            sessions: pool(GENERAL, SESSION_CONNECTIONS, "tasklease sessions")?,
            upkeep: pool(GENERAL, UPKEEP_CONNECTIONS, "tasklease upkeep")?,
            listen,
        })
    }

    /// Opens a connection as the pools do, and says whether something between here and Postgres refuses their settings,
    /// as PgBouncer does unless it is told to ignore them. Any other failure may pass, and is left to those who connect.
    ///
    /// # Errors
    /// [`StoreError::Pooler`].
    pub async fn check_settings(&self) -> Result<(), StoreError> {
        match self.vital_connection().await {
            Err(StoreError::Transient(text)) if text.contains("unsupported startup parameter") => {
                Err(StoreError::Pooler(text))
            }
            _ => Ok(()),
        }
    }

    /// A connection for what has no pool of its own.
    pub(super) async fn connection(&self) -> Result<Object, StoreError> {
        Ok(self.upkeep.get().await?)
    }

    /// A connection for what keeps sessions alive, and ends them.
    pub(super) async fn vital_connection(&self) -> Result<Object, StoreError> {
        Ok(self.vital.get().await?)
    }

    /// A connection for submits.
    pub(super) async fn submit_connection(&self) -> Result<Object, StoreError> {
        Ok(self.submits.get().await?)
    }

    /// A connection for settlements of successes.
    pub(super) async fn settlement_connection(&self) -> Result<Object, StoreError> {
        Ok(self.settlements.get().await?)
    }

    /// A connection for runs that end otherwise.
    pub(super) async fn other_ends_connection(&self) -> Result<Object, StoreError> {
        Ok(self.other_ends.get().await?)
    }

    /// A connection for progress and log lines.
    pub(super) async fn events_connection(&self) -> Result<Object, StoreError> {
        Ok(self.events.get().await?)
    }

    /// A connection whose planner settings suit claims.
    pub(super) async fn claim_connection(&self) -> Result<Object, StoreError> {
        Ok(self.claims.get().await?)
    }

    /// A connection for sessions that begin, and for their leases.
    pub(super) async fn session_connection(&self) -> Result<Object, StoreError> {
        Ok(self.sessions.get().await?)
    }

    /// A connection for what a caller lists, who may leave at any moment.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if too many wait for one.
    pub(super) async fn listing(&self) -> Result<Reading, StoreError> {
        if self.lists.status().waiting >= WAITING_LISTS {
            return Err(StoreError::Busy);
        }
        Ok(Reading::new(self.lists.get().await?))
    }

    /// A connection for what a caller reads by its key, who may leave at any moment. These are quick, so everybody has
    /// a turn soon.
    pub(super) async fn reading(&self) -> Result<Reading, StoreError> {
        Ok(Reading::new(self.key_reads.get().await?))
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
