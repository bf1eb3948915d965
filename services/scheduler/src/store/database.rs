//! Connections to Postgres.

use std::{sync::Arc, time::Duration};

use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime, Timeouts,
};
use tokio_postgres::{Config, NoTls, SimpleQueryMessage, Statement};

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
    listen_settings: String,
}

/// Heartbeats and ticks; one more for the end of sessions.
const VITAL_CONNECTIONS: usize = 3;
/// Two submits are under way at once, and what comes with new ones is noted.
const SUBMIT_CONNECTIONS: usize = 3;
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
///
/// A connection sets them once it is open, rather than asking for them as it opens: poolers refuse or ignore that.
const GENERAL: &str = "SET enable_seqscan = off; SET jit = off";

/// Postgres would plan some statements anew for each call, which costs more than to run them for a single task.
const HOT: &str = "SET enable_seqscan = off; SET jit = off; SET plan_cache_mode = force_generic_plan";

/// A claim must walk its two indexes in order, whatever the planner believes about them.
const CLAIMS: &str = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off; \
                      SET enable_mergejoin = off; SET jit = off; SET plan_cache_mode = force_generic_plan";

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
        let pool = |planner: &str, size: usize, name: &str| {
            let mut pg = base.clone();
            tune(&mut pg, name);
            let settings: Arc<str> = settings(planner, config.statement_timeout).into();
            let apply = Hook::async_fn(move |client: &mut ClientWrapper, _| {
                let settings = settings.clone();
                Box::pin(async move {
                    let applied = client.batch_execute(&settings);
                    match tokio::time::timeout(CONNECT_TIMEOUT, applied).await {
                        Ok(applied) => applied.map_err(HookError::Backend),
                        Err(_) => Err(HookError::message("the settings of a connection took too long")),
                    }
                })
            });
            let manager = Manager::from_config(
                pg,
                NoTls,
                ManagerConfig {
                    recycling_method: RecyclingMethod::Fast,
                },
            );
            Pool::builder(manager)
                .max_size(size)
                .post_create(apply)
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
        tune(&mut listen, "tasklease listener");
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
            listen_settings: settings(GENERAL, config.statement_timeout),
        })
    }

    /// Makes sure that a connection stays the same for as long as it is open, as prepared statements, settings and
    /// notifications need. A pooler may give each transaction another one.
    ///
    /// # Errors
    /// [`StoreError::Pooler`], or a database that cannot be reached.
    pub async fn check_connections(&self) -> Result<(), StoreError> {
        let (one, other) = (self.vital_connection().await?, self.vital_connection().await?);
        let before = backend(&one).await?;
        // Takes whatever connection is free between the two questions.
        other.batch_execute("BEGIN").await?;
        let taken = backend(&other).await;
        let after = backend(&one).await;
        other.batch_execute("ROLLBACK").await?;
        taken?;
        if before == after? {
            Ok(())
        } else {
            Err(StoreError::Pooler)
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

    /// How to open a connection outside the pools, and what to say on it first.
    pub(super) fn listen_config(&self) -> (&Config, &str) {
        (&self.listen, &self.listen_settings)
    }
}

/// Which process of Postgres serves a connection. A simple query: a prepared one may not be there any more, which is
/// what this is to find out.
async fn backend(connection: &Object) -> Result<Option<String>, StoreError> {
    let messages = connection.simple_query("SELECT pg_backend_pid()").await?;
    Ok(messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}

/// Prepares a statement once per connection.
pub(super) async fn prepared(connection: &Object, sql: &str) -> Result<Statement, StoreError> {
    Ok(connection.prepare_cached(sql).await?)
}

fn tune(pg: &mut Config, name: &str) {
    pg.application_name(name)
        .connect_timeout(CONNECT_TIMEOUT)
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(10))
        .keepalives_interval(Duration::from_secs(5))
        .keepalives_retries(3)
        .tcp_user_timeout(TCP_USER_TIMEOUT);
}

/// The statements that a new connection begins with.
fn settings(planner: &str, statement_timeout: Duration) -> String {
    format!(
        "{planner}; SET statement_timeout = {}; SET lock_timeout = {}; SET idle_in_transaction_session_timeout = {}",
        statement_timeout.as_millis(),
        LOCK_TIMEOUT.as_millis(),
        IDLE_IN_TRANSACTION.as_millis(),
    )
}
