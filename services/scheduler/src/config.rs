//! What the operator decides, parsed once.

use std::{net::SocketAddr, time::Duration};

use clap::Parser;
use tasklease_lifecycle::logging::LogFormat;

use crate::{
    api::ApiLimits,
    domain::{limits, verdict::LossLimit},
    engine::Timing,
    store::{DatabaseConfig, RetentionPolicy},
};

/// The Tasklease scheduler: stores tasks in Postgres and leases them to workers over gRPC.
///
/// It keeps no state of its own: any number of replicas may share one database. There is no authentication yet, so it
/// listens on loopback unless told otherwise.
#[derive(Debug, Parser)]
#[command(name = "tasklease-scheduler", version, max_term_width = 110)]
pub struct Config {
    /// Address to serve gRPC on; port 0 takes a free port, which the line on standard output names.
    #[arg(
        long,
        env = "TASKLEASE_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:7070"
    )]
    pub listen: SocketAddr,

    /// Postgres 15 or newer, as a URL. The schema `tasklease` in it is made and migrated at start.
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: String,

    /// Name of this replica in lists and logs; the listening address by default.
    #[arg(long, env = "TASKLEASE_REPLICA", value_name = "NAME")]
    pub replica: Option<String>,

    /// Connections to Postgres for what callers list. Everything else has connections of its own: 24 more beside those
    /// for claims, most of them idle.
    #[arg(long, env = "TASKLEASE_DB_CONNECTIONS", value_name = "N", default_value_t = 8,
          value_parser = clap::value_parser!(u16).range(2..=200))]
    pub db_connections: u16,

    /// Connections to Postgres for claims.
    #[arg(long, env = "TASKLEASE_DB_CLAIM_CONNECTIONS", value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u16).range(1..=50))]
    pub db_claim_connections: u16,

    /// Longest time one statement may take, in seconds.
    #[arg(long, env = "TASKLEASE_DB_STATEMENT_TIMEOUT", value_name = "SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(1..=600))]
    pub db_statement_timeout: u64,

    /// Largest payload or result as JSON text, in bytes, up to 14 MiB. Every worker must be able to take it.
    #[arg(long, env = "TASKLEASE_MAX_PAYLOAD", value_name = "BYTES", default_value_t = limits::PAYLOAD_BYTES as u64,
          value_parser = clap::value_parser!(u64).range(1_024..=limits::LARGEST_PAYLOAD_BYTES as u64))]
    pub max_payload: u64,

    /// How long a worker lives after its last heartbeat, in seconds; it sends three in that time.
    #[arg(long, env = "TASKLEASE_LEASE", value_name = "SECONDS", default_value_t = 15,
          value_parser = clap::value_parser!(u64).range(3..=3_600))]
    pub lease: u64,

    /// How long streams stay before their workers and watchers are asked to reconnect, in seconds, give or take a
    /// fifth. Lets fleets spread over new replicas. Keep it well above 10, the time a lease has to be accepted.
    #[arg(long, env = "TASKLEASE_STREAM_AGE", value_name = "SECONDS", default_value_t = 600,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub stream_age: u64,

    /// How long a stop may take after SIGTERM, in seconds, before everything is dropped.
    #[arg(long, env = "TASKLEASE_GRACE", value_name = "SECONDS", default_value_t = 20,
          value_parser = clap::value_parser!(u64).range(0..=600))]
    pub grace: u64,

    /// How many workers may die with nothing but one task in hand before the task is quarantined as FAILED, POISONED;
    /// 0 for any number. A death counts half if the task had company in which it was the only one that had been lost
    /// before, and not at all if there were others of that kind.
    #[arg(long, env = "TASKLEASE_QUARANTINE_AFTER", value_name = "LOSSES", default_value_t = limits::LOSSES,
          value_parser = clap::value_parser!(i32).range(0..=1_000))]
    pub quarantine_after: i32,

    /// How long succeeded and cancelled tasks are kept, in hours.
    #[arg(long, env = "TASKLEASE_KEEP_ENDED", value_name = "HOURS", default_value_t = 72,
          value_parser = clap::value_parser!(u64).range(1..=87_600))]
    pub keep_ended: u64,

    /// How long failed tasks are kept, in hours.
    #[arg(long, env = "TASKLEASE_KEEP_FAILED", value_name = "HOURS", default_value_t = 720,
          value_parser = clap::value_parser!(u64).range(1..=87_600))]
    pub keep_failed: u64,

    /// How long progress and log lines are kept, in hours.
    #[arg(long, env = "TASKLEASE_KEEP_EVENTS", value_name = "HOURS", default_value_t = 168,
          value_parser = clap::value_parser!(u64).range(1..=87_600))]
    pub keep_events: u64,

    /// Whether to serve gRPC reflection, which lets grpcurl work without the .proto files.
    #[arg(long, env = "TASKLEASE_REFLECTION", value_name = "BOOL", default_value_t = true,
          action = clap::ArgAction::Set)]
    pub reflection: bool,

    /// How log lines look.
    #[arg(
        long,
        env = "TASKLEASE_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub log_format: LogFormat,
}

/// Watchers at once on one replica.
const WATCHED_TASKS: usize = 10_000;

const HOUR: Duration = Duration::from_secs(3_600);

impl Config {
    /// How to reach the database.
    pub fn database(&self) -> DatabaseConfig {
        DatabaseConfig {
            url: self.database_url.clone(),
            list_connections: usize::from(self.db_connections),
            claim_connections: usize::from(self.db_claim_connections),
            statement_timeout: Duration::from_secs(self.db_statement_timeout),
        }
    }

    /// Times of the worker protocol.
    pub fn timing(&self) -> Timing {
        let lease = Duration::from_secs(self.lease);
        Timing {
            lease,
            heartbeat: lease / 3,
            ..Timing::default()
        }
    }

    /// When a task that kills workers is quarantined.
    pub fn loss_limit(&self) -> LossLimit {
        LossLimit(Some(self.quarantine_after).filter(|limit| *limit > 0))
    }

    /// How long to keep what has ended.
    pub fn retention(&self) -> RetentionPolicy {
        let hours = |hours: u64| HOUR * u32::try_from(hours).unwrap_or(u32::MAX);
        RetentionPolicy {
            ended: hours(self.keep_ended),
            failed: hours(self.keep_failed),
            events: hours(self.keep_events),
        }
    }

    /// Bounds of the wire.
    pub fn limits(&self) -> ApiLimits {
        let payload_bytes = usize::try_from(self.max_payload).unwrap_or(limits::PAYLOAD_BYTES);
        ApiLimits {
            payload_bytes,
            message_bytes: limits::ACCEPTED_BYTES.max(payload_bytes + limits::BESIDE_PAYLOAD_BYTES),
            watched_tasks: WATCHED_TASKS,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Config;

    #[test]
    fn the_command_line_is_well_formed() {
        Config::command().debug_assert();
    }
}
