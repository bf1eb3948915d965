//! The options that every worker has.

use std::time::Duration;

use tasklease_lifecycle::{
    logging::LogFormat,
    time_span::{TIME_SPAN_HELP, time_span_within},
};
use tasklease_proto::limits;

use crate::error::WorkerError;

/// How long running tasks may take to finish, unless an option says otherwise.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);
const LONGEST_GRACE: Duration = Duration::from_secs(24 * 3_600);

const MOST_SLOTS: u32 = limits::WORKER_SLOTS.unsigned_abs();

/// Options of a worker binary; flatten it into a clap parser to add your own.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = TIME_SPAN_HELP)]
pub struct WorkerArgs {
    /// Scheduler replicas, host:port or http://host:port, several separated by commas
    #[arg(
        long,
        env = "TASKLEASE_ADDR",
        value_name = "ADDR",
        default_value = "127.0.0.1:7070"
    )]
    pub addr: String,

    /// Name of this worker in lists and logs [default: the host's name and the process id]
    #[arg(long, env = "TASKLEASE_WORKER_NAME", value_name = "NAME")]
    pub name: Option<String>,

    /// How many tasks run at once [default: the number of CPUs, at least 4]
    #[arg(long, env = "TASKLEASE_SLOTS", value_name = "N",
          help = format!("How many tasks run at once, 1 to {} [default: the number of CPUs, at least 4]", MOST_SLOTS),
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_SLOTS)))]
    pub slots: Option<u32>,

    /// Queue to take tasks from; may be given several times
    #[arg(long = "queue", value_name = "NAME", default_value = "default")]
    pub queues: Vec<String>,

    /// A fact about this worker that people see in lists, key=value; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,

    /// How long running tasks may take to finish after SIGTERM, before they are handed back, up to 1d
    #[arg(long, env = "TASKLEASE_GRACE", value_name = "TIME", default_value = "30s",
          value_parser = time_span_within(Duration::ZERO..=LONGEST_GRACE))]
    pub grace: Duration,

    /// Form of the log lines on standard error
    #[arg(
        long,
        env = "TASKLEASE_LOG_FORMAT",
        value_name = "FORMAT",
        value_enum,
        default_value_t
    )]
    pub log_format: LogFormat,
}

impl Default for WorkerArgs {
    fn default() -> Self {
        Self {
            addr: "127.0.0.1:7070".to_owned(),
            name: None,
            slots: None,
            queues: vec!["default".to_owned()],
            labels: Vec::new(),
            grace: DEFAULT_GRACE,
            log_format: LogFormat::default(),
        }
    }
}

/// Options that have been checked.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) endpoints: tasklease_client::Endpoints,
    pub(crate) name: String,
    pub(crate) slots: u32,
    pub(crate) queues: Vec<String>,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) grace: Duration,
    pub(crate) log_format: LogFormat,
}

impl TryFrom<WorkerArgs> for Settings {
    type Error = WorkerError;

    fn try_from(args: WorkerArgs) -> Result<Self, WorkerError> {
        let name = args.name.unwrap_or_else(default_name);
        if name.is_empty() || name.chars().count() > limits::LINE_CHARS || name.contains(char::is_control) {
            return Err(WorkerError::Option {
                option: "--name",
                why: format!(
                    "must have 1 to {} characters and no control characters",
                    limits::LINE_CHARS
                ),
            });
        }
        let slots = args.slots.unwrap_or_else(default_slots);
        if !(1..=MOST_SLOTS).contains(&slots) {
            return Err(WorkerError::Option {
                option: "--slots",
                why: format!("must be 1 to {MOST_SLOTS}, got {slots}"),
            });
        }
        if args.queues.len() > limits::WORKER_QUEUES {
            return Err(WorkerError::Option {
                option: "--queue",
                why: format!(
                    "must be given at most {} times, got {}",
                    limits::WORKER_QUEUES,
                    args.queues.len()
                ),
            });
        }
        let labels = args
            .labels
            .iter()
            .map(|label| parse_label(label))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            endpoints: args.addr.parse()?,
            name,
            slots,
            queues: args.queues,
            labels,
            grace: args.grace,
            log_format: args.log_format,
        })
    }
}

fn parse_label(label: &str) -> Result<(String, String), WorkerError> {
    match label.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(WorkerError::Option {
            option: "--label",
            why: format!("`{}` is not of the form key=value", label.escape_debug()),
        }),
    }
}

fn default_name() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host: String = host.chars().filter(|c| !c.is_control()).take(180).collect();
    format!(
        "{}-{}",
        if host.is_empty() { "worker" } else { &host },
        std::process::id()
    )
}

fn default_slots() -> u32 {
    let cpus = std::thread::available_parallelism().map_or(4, std::num::NonZero::get);
    u32::try_from(cpus).unwrap_or(4).clamp(4, MOST_SLOTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        let settings = Settings::try_from(WorkerArgs::default()).expect("valid");
        assert!(settings.slots >= 4 && settings.name.ends_with(&std::process::id().to_string()));
    }

    #[test]
    fn an_empty_command_line_gives_the_defaults() {
        #[derive(clap::Parser)]
        struct Program {
            #[command(flatten)]
            args: WorkerArgs,
        }
        let program = <Program as clap::Parser>::try_parse_from(["worker"]).expect("valid");
        assert_eq!(program.args.grace, WorkerArgs::default().grace);
        assert!(<Program as clap::Parser>::try_parse_from(["worker", "--grace", "30"]).is_err());
    }

    #[test]
    fn a_malformed_option_is_refused_by_name() {
        let args = WorkerArgs {
            labels: vec!["oops".into()],
            ..WorkerArgs::default()
        };
        let error = Settings::try_from(args).expect_err("no key=value");
        assert!(error.to_string().contains("--label") && error.to_string().contains("oops"));
        let args = WorkerArgs {
            slots: Some(0),
            ..WorkerArgs::default()
        };
        assert!(Settings::try_from(args).is_err());
    }
}
