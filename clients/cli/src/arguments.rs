//! The command line.

use clap::{Parser, Subcommand};
use tasklease_lifecycle::time_span::TIME_SPAN_HELP;

use crate::commands::{
    cancel::Cancel, delete::Delete, get::Get, list::List, queue::Queue, retry::Retry, stats::Stats,
    submit::Submit, watch::Watch, workers::Workers,
};
use crate::dev::Dev;
use crate::exit::EXIT_CODES_HELP;
use crate::screen::OutputFormat;

/// Where a scheduler listens unless the user says otherwise.
pub(crate) const DEFAULT_ADDRESS: &str = "127.0.0.1:7070";

/// Submits, follows and steers background tasks.
#[derive(Debug, Parser)]
#[command(name = "tasklease", version, after_help = format!("{EXIT_CODES_HELP}\n\n{TIME_SPAN_HELP}"),
          subcommand_required = true)]
pub(crate) struct Arguments {
    /// Address of the scheduler: HOST:PORT or http://HOST:PORT; several replicas separated by commas;
    /// empty means the default
    #[arg(
        long,
        env = "TASKLEASE_ADDR",
        default_value = DEFAULT_ADDRESS,
        global = true,
        value_name = "ADDR"
    )]
    pub(crate) addr: String,

    /// Output format: tables for people, or canonical proto JSON for programs
    #[arg(
        short,
        long,
        value_enum,
        default_value_t,
        global = true,
        value_name = "FORMAT"
    )]
    pub(crate) output: OutputFormat,

    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything on this machine: Postgres, scheduler and workers
    ///
    /// Uses the database of DATABASE_URL if that is set, else a private Postgres cluster in the data directory.
    /// Prints one line when everything is ready, or one JSON document with -o json. Ctrl-C stops everything cleanly,
    /// a second Ctrl-C at once. Tasks survive a restart. The programs tasklease-scheduler and tasklease-documents must be next to
    /// this one, or in the folder TASKLEASE_BIN_DIR.
    Dev(Dev),
    /// Submit a task
    Submit(Submit),
    /// Show one task and its runs
    Get(Get),
    /// List tasks, newest first
    List(List),
    /// Follow a task live until it ends
    Watch(Watch),
    /// Cancel a task
    Cancel(Cancel),
    /// Submit a failed or cancelled task again, as a new task
    Retry(Retry),
    /// Delete a finished task, its runs and its events
    Delete(Delete),
    /// Count tasks by queue, type and state
    Stats(Stats),
    /// List the workers that are alive
    Workers(Workers),
    /// List, pause and resume queues
    #[command(subcommand)]
    Queue(Queue),
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::Arguments;

    fn parses(line: &str) -> bool {
        Arguments::try_parse_from(line.split(' ')).is_ok()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_documented_commands_are_understood() {
        for line in [
            "tasklease dev --data-dir /tmp/x --no-workers --listen 127.0.0.1:0 --files .",
            "tasklease submit greet --param name=Ada --priority -5 --delay 10s --max-attempts 3 --title T --watch",
            "tasklease submit greet --payload @in.json --wait -o json",
            "tasklease submit greet --payload - --queue slow",
            "tasklease submit greet --param-text version=1.10 --param-json sizes=[1,2]",
            "tasklease get 0193",
            "tasklease list --state running --state FAILED --type greet --queue default",
            "tasklease -o json watch 0193",
            "tasklease cancel 0193 --reason enough --grace 2s",
            "tasklease submit greet --delay 1h30m",
            "tasklease retry 0193",
            "tasklease delete 0193",
            "tasklease stats --addr 127.0.0.1:1,127.0.0.1:2",
            "tasklease workers",
            "tasklease queue list",
            "tasklease queue pause slow",
            "tasklease queue pause slow --create",
            "tasklease queue resume slow",
        ] {
            assert!(parses(line), "{line}");
        }
    }

    #[test]
    fn nonsense_is_refused_before_any_server_is_asked() {
        for line in [
            "tasklease",
            "tasklease submit",
            "tasklease submit greet --priority 101",
            "tasklease submit greet --max-attempts 0",
            "tasklease submit greet --delay 10",
            "tasklease submit greet --delay 367d",
            "tasklease cancel 0193 --grace 61m",
            "tasklease submit greet --param x",
            "tasklease submit greet --param-json x=y",
            "tasklease submit greet --watch --wait",
            "tasklease list --state sleeping",
            "tasklease list --limit 0",
            "tasklease -o yaml stats",
            "tasklease dev --listen 7070",
        ] {
            assert!(!parses(line), "{line}");
        }
    }
}
