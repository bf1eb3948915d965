//! What the operator decides, parsed once.

use std::{net::SocketAddr, time::Duration};

use clap::Parser;
use tasklease_lifecycle::{
    logging::LogFormat,
    time_span::{TIME_SPAN_HELP, time_span_within},
};

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
#[command(name = "tasklease-scheduler", version, max_term_width = 110, after_help = TIME_SPAN_HELP)]
pub struct Config {
    /// Address to serve gRPC on; with port 0 the system chooses a free port, which is printed on standard output.
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

    /// Connections to Postgres for lists. Everything else has connections of its own: those for claims, and 24 more,
    /// most of them idle.
    #[arg(long, env = "TASKLEASE_DB_CONNECTIONS", value_name = "N", default_value_t = 8,
          value_parser = clap::value_parser!(u16).range(2..=200))]
    pub db_connections: u16,

    /// Connections to Postgres for claims.
    #[arg(long, env = "TASKLEASE_DB_CLAIM_CONNECTIONS", value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u16).range(1..=50))]
    pub db_claim_connections: u16,

    /// Longest time one statement may take, 1s to 10m.
    #[arg(long, env = "TASKLEASE_DB_STATEMENT_TIMEOUT", value_name = "TIME", default_value = "30s",
          value_parser = time_span_within(SECOND..=MINUTE.saturating_mul(10)))]
    pub db_statement_timeout: Duration,

    /// Largest payload or result as JSON text, in bytes, up to 14 MiB. Every worker must be able to take it.
    #[arg(long, env = "TASKLEASE_MAX_PAYLOAD", value_name = "BYTES", default_value_t = limits::PAYLOAD_BYTES as u64,
          value_parser = clap::value_parser!(u64).range(1_024..=limits::LARGEST_PAYLOAD_BYTES as u64))]
    pub max_payload: u64,

    /// How long a worker lives after its last heartbeat, 3s to 1h; it sends three in that time.
    #[arg(long, env = "TASKLEASE_LEASE", value_name = "TIME", default_value = "15s",
          value_parser = time_span_within(SECOND.saturating_mul(3)..=HOUR))]
    pub lease: Duration,

    /// How long streams stay before their workers and watchers are asked to reconnect, 1s to 1d, give or take a fifth.
    /// Lets fleets spread over new replicas. Keep it well above 10s, the time a lease has to be accepted.
    #[arg(long, env = "TASKLEASE_STREAM_AGE", value_name = "TIME", default_value = "10m",
          value_parser = time_span_within(SECOND..=DAY))]
    pub stream_age: Duration,

    /// How long a stop may take after SIGTERM before everything is dropped, up to 10m.
    #[arg(long, env = "TASKLEASE_GRACE", value_name = "TIME", default_value = "20s",
          value_parser = time_span_within(Duration::ZERO..=MINUTE.saturating_mul(10)))]
    pub grace: Duration,

    /// How many workers may die with nothing but one task in hand before the task is quarantined as FAILED, POISONED;
    /// 0 for any number. A death counts half if the task had company in which it was the only one that had been lost
    /// before, and not at all if there were others of that kind.
    #[arg(long, env = "TASKLEASE_QUARANTINE_AFTER", value_name = "LOSSES", default_value_t = limits::LOSSES,
          value_parser = clap::value_parser!(i32).range(0..=1_000))]
    pub quarantine_after: i32,

    /// How long succeeded and cancelled tasks are kept, 1h to ten years.
    #[arg(long, env = "TASKLEASE_KEEP_ENDED", value_name = "TIME", default_value = "3d",
          value_parser = time_span_within(HOUR..=DAY.saturating_mul(3_650)))]
    pub keep_ended: Duration,

    /// How long failed tasks are kept, 1h to ten years.
    #[arg(long, env = "TASKLEASE_KEEP_FAILED", value_name = "TIME", default_value = "30d",
          value_parser = time_span_within(HOUR..=DAY.saturating_mul(3_650)))]
    pub keep_failed: Duration,

    /// How long progress and log lines are kept, 1h to ten years.
    #[arg(long, env = "TASKLEASE_KEEP_EVENTS", value_name = "TIME", default_value = "7d",
          value_parser = time_span_within(HOUR..=DAY.saturating_mul(3_650)))]
    pub keep_events: Duration,

    /// Whether to serve gRPC reflection, which lets grpcurl work without the .proto files.
    #[arg(long, env = "TASKLEASE_REFLECTION", value_name = "BOOL", default_value_t = true,
          action = clap::ArgAction::Set)]
    pub reflection: bool,

    /// Form of the log lines on standard error.
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

// The units of the bounds above.
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

impl Config {
    /// How to reach the database.
    pub fn database(&self) -> DatabaseConfig {
        DatabaseConfig {
            url: self.database_url.clone(),
            list_connections: usize::from(self.db_connections),
            claim_connections: usize::from(self.db_claim_connections),
            statement_timeout: self.db_statement_timeout,
        }
    }

    /// Times of the worker protocol.
    pub fn timing(&self) -> Timing {
        Timing {
            lease: self.lease,
            heartbeat: self.lease / 3,
            ..Timing::default()
        }
    }

    /// When a task that kills workers is quarantined.
    pub fn loss_limit(&self) -> LossLimit {
        LossLimit(Some(self.quarantine_after).filter(|limit| *limit > 0))
    }

    /// How long to keep what has ended.
    pub fn retention(&self) -> RetentionPolicy {
        RetentionPolicy {
            ended: self.keep_ended,
            failed: self.keep_failed,
            events: self.keep_events,
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

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Config, clap::Error> {
        let program = ["tasklease-scheduler", "--database-url", "postgres://h/d"];
        Config::try_parse_from(program.iter().chain(arguments))
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Config::command().debug_assert();
    }

    #[test]
    fn times_are_typed_with_their_units_and_bounded() {
        let config = parse(&["--lease", "1m 30s", "--keep-failed", "2w"]).expect("valid");
        assert_eq!(config.timing().heartbeat, Duration::from_secs(30));
        assert_eq!(config.retention().failed, 14 * DAY);
        for refused in [
            ["--lease", "15"],
            ["--lease", "2s"],
            ["--grace", "11m"],
            ["--keep-ended", "59m"],
        ] {
            assert!(parse(&refused).is_err(), "{refused:?}");
        }
        let why = parse(&["--stream-age", "600"]).expect_err("no unit").to_string();
        assert!(why.contains("write 600s for seconds"), "{why}");
    }
}
