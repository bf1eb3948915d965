//! What happened in a run, as it was seen from outside: one event per line of JSON, all by one clock.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, BufWriter, Write as _},
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::{
    behaviour::{Behaviour, CodeEnd},
    fault_kind::FaultKind,
};

/// Microseconds since the run began, by the monotonic clock of the harness.
pub type Micros = u64;

/// One event and its time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When the harness saw it.
    pub at: Micros,
    /// What it saw.
    #[serde(flatten)]
    pub event: Event,
}

/// What the harness saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The run begins.
    RunBegins(Parameters),
    /// A client calls.
    Called {
        /// Number of the call.
        call: u64,
        /// What it asks.
        request: Request,
    },
    /// The answer to a call.
    Answered {
        /// Number of the call.
        call: u64,
        /// The answer.
        answer: Answer,
    },
    /// A watcher got progress.
    WatchProgress {
        /// The number of the call that opened the watch.
        watch: u64,
        /// The lease token of the run that reported it.
        token: i64,
        /// Its number in that run.
        number: u32,
    },
    /// A watcher heard that its task ended.
    WatchEnded {
        /// The number of the call that opened the watch.
        watch: u64,
        /// The final state.
        state: State,
    },
    /// A worker exists from now on.
    WorkerStarted {
        /// Its name; a worker that starts anew has a new one.
        worker: String,
        /// The task types that it takes.
        task_types: Vec<String>,
        /// The queues that it serves.
        queues: Vec<String>,
        /// How many tasks it runs at once.
        slots: u32,
        /// True if it speaks the bare protocol, so that this history knows all that it sends and hears.
        bare: bool,
    },
    /// A worker is gone: killed, stopped, or dead by a task.
    WorkerGone {
        /// Its name.
        worker: String,
        /// Why.
        why: Gone,
    },
    /// A worker has been told that its session lives; the session lives `lease` longer than `sent`.
    SessionAlive {
        /// The worker.
        worker: String,
        /// The session.
        session: String,
        /// When it sent what was answered.
        sent: Micros,
    },
    /// A worker has been told that its session is over, while it had neither stopped nor died.
    SessionLost {
        /// The worker.
        worker: String,
        /// The session.
        session: String,
        /// The last time that it sent what kept the session alive.
        last_sent: Micros,
        /// What the scheduler said.
        reason: String,
    },
    /// A worker got a lease.
    LeaseReceived {
        /// The worker.
        worker: String,
        /// The session.
        session: String,
        /// The task.
        task: String,
        /// The lease token.
        token: i64,
        /// The number of the attempt.
        attempt: u32,
    },
    /// A worker drops a lease: it was told that the lease is lost, or it forgot it on purpose.
    LeaseDropped {
        /// The worker.
        worker: String,
        /// The task.
        task: String,
        /// The lease token.
        token: i64,
    },
    /// A worker sends a report for the first time.
    ReportSent {
        /// The worker.
        worker: String,
        /// The task.
        task: String,
        /// The lease token.
        token: i64,
        /// What it reports.
        report: Reported,
    },
    /// The answer to a report.
    ReportAnswered {
        /// The worker.
        worker: String,
        /// The task.
        task: String,
        /// The lease token.
        token: i64,
        /// What it had reported.
        report: Reported,
        /// The answer.
        answer: ReportAnswer,
    },
    /// A worker is told to stop the code of a lease.
    StopReceived {
        /// The worker.
        worker: String,
        /// The task.
        task: String,
        /// The lease token.
        token: i64,
    },
    /// The code of a task begins.
    CodeStarted {
        /// The worker.
        worker: String,
        /// The task.
        task: String,
        /// The lease token.
        token: i64,
        /// The number of the attempt.
        attempt: u32,
    },
    /// The code of a task has ended.
    CodeEnded {
        /// The worker.
        worker: String,
        /// The task.
        task: String,
        /// The lease token.
        token: i64,
        /// How; `None` if the worker dropped it.
        end: Option<CodeEnd>,
    },
    /// The code of a task asked the outside system for a change, with its lease token.
    Effect {
        /// The worker.
        worker: String,
        /// The task.
        task: String,
        /// The lease token.
        token: i64,
        /// False if the outside system had seen a higher token of this task.
        accepted: bool,
    },
    /// A fault begins.
    FaultBegins {
        /// Number of the fault in the run.
        fault: u64,
        /// Its kind.
        kind: FaultKind,
        /// What it strikes.
        target: String,
    },
    /// A fault could not be played, or not whole: others were in its way.
    FaultMissed {
        /// Number of the fault in the run.
        fault: u64,
        /// Why.
        reason: String,
    },
    /// A fault has ended.
    FaultEnds {
        /// Number of the fault in the run.
        fault: u64,
    },
    /// No fault comes any more, and everything that was stopped runs again.
    Healed,
    /// The harness itself was not run by the machine for so long.
    HarnessStalled {
        /// Milliseconds.
        ms: u64,
    },
    /// A scheduler process has ended.
    SchedulerEnded {
        /// Its number.
        scheduler: usize,
        /// True if the harness killed it or asked it to end.
        asked: bool,
        /// Its exit code; `None` if a signal ended it.
        code: Option<i32>,
    },
    /// The largest memory of a scheduler so far.
    SchedulerMemory {
        /// Its number.
        scheduler: usize,
        /// MiB of resident memory.
        mib: u64,
    },
    /// Postgres logged that it broke a deadlock.
    Deadlock,
    /// A look into the tables while the run goes on found these tasks where they must not be.
    Misplaced {
        /// The tasks, with where they were found.
        tasks: Vec<TaskFound>,
    },
    /// What the tables say of a task at the end.
    TaskFound(TaskFound),
    /// The run is over.
    RunEnds,
}

/// With what a run was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// The seed.
    pub seed: u64,
    /// How long load and faults last, in milliseconds.
    pub load_ms: u64,
    /// How many tasks the load has.
    pub tasks: usize,
    /// How many schedulers there are.
    pub replicas: usize,
    /// How many workers there are.
    pub workers: usize,
    /// The kinds of faults that may come.
    pub faults: Vec<FaultKind>,
    /// How long a session lives after its last heartbeat, in milliseconds.
    pub lease_ms: u64,
    /// True if the run ends without the part that shows whose turn comes when.
    #[serde(default)]
    pub is_short: bool,
}

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case")]
pub enum Request {
    /// Stores tasks.
    Submit {
        /// The tasks.
        tasks: Vec<Submitted>,
    },
    /// Reads a task.
    Get {
        /// The task.
        task: String,
    },
    /// Cancels a task.
    Cancel {
        /// The task.
        task: String,
    },
    /// Follows a task to its end.
    Watch {
        /// The task.
        task: String,
    },
    /// Removes a task that has ended.
    Delete {
        /// The task.
        task: String,
    },
    /// Stores a task again that was removed, as it was.
    Revive {
        /// The task.
        task: String,
    },
    /// Names queues and task types that nobody has named before, and stores nothing.
    Invent {
        /// How many pairs of them.
        names: usize,
    },
}

/// A task as a client submits it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// Its id.
    pub task: String,
    /// Its type.
    pub task_type: String,
    /// Its queue.
    pub queue: String,
    /// Its priority; higher goes first.
    pub priority: i32,
    /// How long it waits before its first run, in milliseconds.
    pub delay_ms: u64,
    /// How many counted runs it may have.
    pub max_attempts: u32,
    /// The longest wait between two runs, in milliseconds.
    pub backoff_ms: u64,
    /// The longest time that a run may take, in milliseconds.
    pub run_timeout_ms: Option<u64>,
    /// What its code does.
    pub behaviour: Behaviour,
    /// How many bytes its payload is filled up with.
    pub padding: usize,
}

/// What a call gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// The tasks are stored.
    Stored,
    /// A task as it stands.
    Task {
        /// Its state.
        state: State,
        /// Its latest lease token.
        token: i64,
        /// True if it can only end CANCELLED.
        cancel_requested: bool,
    },
    /// The task is removed.
    Deleted,
    /// There is no such task.
    NotFound,
    /// The task's state does not allow it.
    WrongState,
    /// Refused for another reason: nothing was done.
    Refused {
        /// The status.
        status: String,
    },
    /// No answer: it may have been done or not.
    Unknown {
        /// The status.
        status: String,
    },
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waits for a time.
    Scheduled,
    /// Waits for a dependency.
    Blocked,
    /// Waits for a worker.
    Pending,
    /// Leased.
    Running,
    /// Has a result.
    Succeeded,
    /// Has failed.
    Failed,
    /// Was cancelled.
    Cancelled,
}

impl State {
    /// True if it never changes again.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// What a worker reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reported {
    /// It has the task.
    Accepted,
    /// Progress, by its number in the run.
    Progress(u32),
    /// A result.
    Succeeded,
    /// An error.
    Failed,
    /// It stopped as it was told.
    Cancelled,
    /// It hands the task back.
    Released,
}

impl Reported {
    /// True if it ends the lease.
    pub fn is_outcome(self) -> bool {
        !matches!(self, Self::Accepted | Self::Progress(_))
    }
}

/// What the scheduler says to a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportAnswer {
    /// It is durable.
    Stored,
    /// The lease is not the worker's any more.
    Stale,
    /// It breaks a rule.
    Refused,
}

/// Why a worker is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gone {
    /// The harness killed it.
    Killed,
    /// The harness asked it to stop.
    Stopped,
    /// A task killed it.
    ByTask,
    /// It ended by itself.
    ByItself,
}

/// What the tables hold about one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFound {
    /// The task.
    pub task: String,
    /// Where it waits or runs.
    pub places: Vec<Place>,
    /// Its ended runs by lease token.
    pub runs: Vec<RunFound>,
}

/// A row that holds an unfinished task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The kind of row.
    pub kind: PlaceKind,
    /// The lease token that the row gives or has given.
    pub token: i64,
}

/// The kinds of rows that hold an unfinished task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlaceKind {
    /// It waits for a worker.
    Ready,
    /// It waits for a time.
    Scheduled,
    /// It is leased.
    Grant,
}

/// One ended run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFound {
    /// The lease token.
    pub token: i64,
    /// How it ended.
    pub outcome: Outcome,
    /// True if the task ended with it.
    pub ends_task: bool,
    /// The number of the attempt.
    pub attempt: u32,
    /// The lease token that the result names, if there is a result.
    pub result_token: Option<i64>,
    /// The kind of error, if there is one.
    pub error: Option<String>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A cancel request that waits for its run.
    CancelRequested,
    /// Result.
    Succeeded,
    /// Error.
    Failed,
    /// Cancelled.
    Cancelled,
    /// Took too long.
    TimedOut,
    /// The worker died.
    Lost,
    /// Handed back.
    Released,
}

/// Writes a history, one entry a line.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, entries: &[Entry]) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for entry in entries {
        serde_json::to_writer(&mut file, entry)?;
        file.write_all(b"\n")?;
    }
    file.flush()
}

/// Reads a history.
///
/// # Errors
/// The file cannot be read, or a line of it is no entry.
pub fn read(path: &Path) -> anyhow::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for (number, line) in BufReader::new(File::open(path)?).lines().enumerate() {
        let entry = serde_json::from_str(&line?)
            .map_err(|error| anyhow::anyhow!("line {} of {}: {error}", number + 1, path.display()))?;
        entries.push(entry);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::{Entry, Event, Request, read, write};

    #[test]
    fn a_history_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("history.jsonl");
        let entries = vec![
            Entry {
                at: 1,
                event: Event::Called {
                    call: 7,
                    request: Request::Get { task: "a".to_owned() },
                },
            },
            Entry {
                at: 2,
                event: Event::Healed,
            },
        ];
        write(&path, &entries).expect("written");
        assert_eq!(read(&path).expect("read"), entries);
    }
}
