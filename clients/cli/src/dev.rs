//! `tasklease dev`: Postgres, scheduler and workers as children of one process.
//!
//! Start order: Postgres, scheduler, workers; the stop goes the other way round. Every
//! child has its own process group, so a terminal's Ctrl-C reaches this process alone,
//! which then stops the others one after the other.

mod data_dir;
mod files_dir;
mod log_file;
mod orphan_reaper;
mod process;
mod program;
mod restarter;
mod stack;

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tasklease_lifecycle::Shutdown;
use tasklease_proto::limits;

use crate::dev::data_dir::DataDir;
use crate::dev::program::BinDir;
use crate::dev::stack::{Database, Plan, Stack, WorkerPlan};
use crate::failure::Failure;
use crate::screen::{OutputFormat, Screen};
use crate::standard_error::tell;
use crate::terminal_text::safe_text;

/// How long a stop may take before everything is killed.
const STOP_GRACE: Duration = Duration::from_secs(60);

/// How long a stop may take when nothing else bounds it.
const STOP_DEADLINE: Duration = Duration::from_secs(75);

/// `tasklease dev`
#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// Folder of data and logs [default: tasklease in the XDG data folder, for root /var/lib/tasklease]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Address of the scheduler; with port 0 the system chooses a free port. There is no authentication: keep it on loopback
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:7070")]
    listen: SocketAddr,

    /// Root folder of the files that tasks read and write; created if it does not exist
    #[arg(long, value_name = "DIR", default_value = ".")]
    files: PathBuf,

    /// Do not start a worker
    #[arg(long)]
    no_workers: bool,

    /// How many tasks the worker runs at once [default: the worker's own]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::WORKER_SLOTS)))]
    worker_slots: Option<u32>,

    /// Show the logs of scheduler and workers here instead of writing them to files
    #[arg(long)]
    verbose: bool,
}

impl Dev {
    /// Runs everything until a signal asks it to stop.
    pub(crate) async fn run(self, screen: &Screen) -> Result<(), Failure> {
        // Before anything is started, so that no signal is missed.
        let shutdown = Shutdown::on_signals(STOP_GRACE)
            .map_err(|error| Failure::other(format!("cannot listen for signals: {error}")))?;
        let existing = database_url(std::env::var_os("DATABASE_URL"))?;
        let files = files_dir::open(&self.files)?;
        warn_if_open(self.listen.ip());
        let data_dir = DataDir::open(self.data_dir)?;
        let database = match existing {
            Some(url) => Database::Existing(url),
            None => Database::Private(data_dir.postgres()),
        };
        let plan = Plan {
            data_in: match &database {
                Database::Existing(_) => "the database of DATABASE_URL".to_owned(),
                Database::Private(_) => data_dir.path().display().to_string(),
            },
            database,
            listen: self.listen,
            bin_dir: BinDir::find()?,
            logs: if self.verbose {
                None
            } else {
                Some(data_dir.logs()?)
            },
            workers: (!self.no_workers).then_some(WorkerPlan {
                files: files.clone(),
                slots: self.worker_slots,
            }),
        };
        let mut stack = Stack::new();
        let started = tokio::select! {
            biased;
            () = shutdown.soft().cancelled() => Ok(None),
            started = stack.start(&plan) => started.map(Some),
        };
        let outcome = match started {
            Ok(Some(address)) => {
                // Nobody needs to read it.
                let _ = screen.line(&ready_line(screen.format(), address, &plan.data_in, &files));
                stack.keep(&shutdown).await;
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(failure) => Err(failure),
        };
        if outcome.is_ok() {
            say("stopping");
        }
        // A failed start begins no shutdown, whose grace would end a stop that hangs;
        // what is left after this deadline is killed as it is dropped.
        if tokio::time::timeout(STOP_DEADLINE, stack.stop(&shutdown))
            .await
            .is_err()
        {
            say("not everything stopped in time; killing the rest");
        }
        outcome
    }
}

/// The URL of a database that runs already, if one is named.
///
/// A URL that cannot be read must not count as none: tasks would go to another database.
fn database_url(value: Option<OsString>) -> Result<Option<String>, Failure> {
    let url = value
        .map(OsString::into_string)
        .transpose()
        .map_err(|_| Failure::usage("DATABASE_URL is not UTF-8"))?;
    Ok(url.filter(|url| !url.is_empty()))
}

/// What standard output says once everything runs: where the scheduler listens, and where data and
/// files are.
fn ready_line(format: OutputFormat, address: SocketAddr, data: &str, files: &Path) -> String {
    let files = files.display().to_string();
    match format {
        OutputFormat::Json => {
            serde_json::json!({ "address": address.to_string(), "data": data, "files": files }).to_string()
        }
        OutputFormat::Table => format!(
            "tasklease is ready on {address} (data in {}, files in {})",
            safe_text(data),
            safe_text(&files)
        ),
    }
}

/// Tells the user what goes on; standard output is for the one line that says "ready".
fn say(message: impl std::fmt::Display) {
    tell(format_args!("tasklease dev: {message}"));
}

fn warn_if_open(ip: IpAddr) {
    if !ip.is_loopback() {
        say(format_args!(
            "warning: other machines can reach {ip}, and there is no authentication: anybody who connects can \
             submit, read and delete tasks"
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    use std::path::Path;

    use super::{database_url, ready_line};
    use crate::screen::OutputFormat;

    #[test]
    fn the_ready_line_is_one_document_for_programs_and_one_line_for_people() {
        let line = |format| {
            ready_line(
                format,
                ([127, 0, 0, 1], 7070).into(),
                "/d",
                Path::new("/f\u{1b}[2J"),
            )
        };
        assert_eq!(
            line(OutputFormat::Table),
            "tasklease is ready on 127.0.0.1:7070 (data in /d, files in /f�[2J)"
        );
        let json: serde_json::Value = serde_json::from_str(&line(OutputFormat::Json)).unwrap();
        assert_eq!(json["address"], "127.0.0.1:7070");
    }

    #[test]
    fn a_database_url_is_read_left_out_or_refused_but_never_passed_over() {
        let url = |bytes: &[u8]| database_url(Some(OsString::from_vec(bytes.to_vec())));
        assert_eq!(database_url(None).unwrap(), None);
        assert_eq!(url(b"").unwrap(), None);
        assert_eq!(url(b"postgres://h/d").unwrap().as_deref(), Some("postgres://h/d"));
        assert!(url(b"postgres://h/\xFF").is_err());
    }
}
