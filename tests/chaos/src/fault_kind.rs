//! The kinds of faults: what each does, and what must go on in spite of it.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::ability::Need;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// A scheduler is killed (SIGKILL) and started again.
    KillScheduler,
    /// A scheduler is asked to stop (SIGTERM) and started again.
    StopScheduler,
    /// A scheduler is frozen (SIGSTOP) and goes on later.
    FreezeScheduler,
    /// A worker dies without a word (SIGKILL) and another takes its place.
    KillWorker,
    /// A worker is asked to stop (SIGTERM) and another takes its place.
    StopWorker,
    /// A worker is frozen (SIGSTOP) and goes on later.
    FreezeWorker,
    /// A worker goes on with its session and has forgotten its leases.
    ForgetLeases,
    /// A worker opens both its streams anew, each on another replica than before.
    MoveStreams,
    /// Postgres crashes (immediate shutdown) and starts at once.
    CrashPostgres,
    /// Postgres stays away for seconds.
    StopPostgres,
    /// All processes of Postgres are frozen (SIGSTOP) and go on later.
    FreezePostgres,
    /// The file system of Postgres is full: data and log cannot grow (ENOSPC).
    FillDisk,
    /// Postgres is killed and never comes back; its synchronous standby is promoted, and everybody connects to that.
    FailOver,
    /// PgBouncer between schedulers and Postgres, with a connection for each of theirs, is killed and started again.
    CrashPooler,
    /// The clock of Postgres jumps: forward by up to ten minutes, or back by up to four seconds.
    JumpDatabaseClock,
    /// The clock of one scheduler or worker jumps by up to ten minutes, and back later.
    JumpClock,
    /// The clocks of all schedulers and workers jump, each by other minutes, up to ten, and back later.
    SkewClocks,
    /// All connections to Postgres are ended by an administrator.
    EndConnections,
    /// All that schedulers and Postgres say to each other is held up.
    StallDatabase,
    /// The connections of a scheduler to Postgres break.
    CutDatabase,
    /// Each message between schedulers and Postgres is late.
    DelayDatabase,
    /// Postgres commits, and the answers never arrive: they are swallowed, then the connections break.
    LoseAnswers,
    /// All that a worker and its schedulers say to each other is held up.
    StallWorker,
    /// A worker's connections break, and no new one is made.
    CutWorker,
    /// A worker can speak and hears nothing.
    DeafenWorker,
    /// A worker hears and cannot speak.
    SilenceWorker,
    /// A worker has little bandwidth.
    NarrowWorker,
    /// The connections of clients break.
    CutClients,
    /// Statements on one table fail as if the disk were broken (58030).
    FailIo,
    /// Statements on one table fail as if the disk were full (53100).
    FailDiskFull,
    /// Statements on one table fail as if two transactions had met (40001).
    FailSerialization,
    /// Statements on one table fail with a code that nobody expects (XX000).
    FailInternal,
    /// Statements on one table take a third of a second longer.
    SlowStatements,
    /// Somebody holds an exclusive lock on the table of ended runs.
    LockRuns,
    /// Somebody holds an exclusive lock on a table of waiting tasks.
    LockWaiting,
    /// Somebody holds an exclusive lock on the table of tasks.
    LockTasks,
    /// Somebody holds an exclusive lock on the table of sessions.
    LockSessions,
    /// Somebody holds an exclusive lock on the table of progress and log lines.
    LockEvents,
    /// The same, and clients read with short deadlines, again and again.
    AbandonedReads,
    /// The same, and many clients read with patience.
    PatientReads,
    /// Watchers of large tasks do not read what they are sent.
    DeafWatchers,
    /// A worker comes that takes twenty thousand kinds of tasks.
    NameFlood,
    /// Clients submit tasks of invented types to invented queues until there may be no more of them.
    InventNames,
    /// Many large tasks come at once.
    LargeTasks,
    /// The reader of a scheduler's log goes away, so that no line can be written any more.
    CloseLog,
}

/// What a kind of fault may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// Work may stand still, and sessions may end.
    Any,
    /// Workers keep their sessions; tasks may wait.
    SparesSessions,
    /// Workers keep their sessions, and tasks that wait are started.
    None,
}

impl FaultKind {
    /// What must go on while the fault lasts.
    pub fn harm(self) -> Harm {
        match self {
            Self::LockEvents | Self::AbandonedReads | Self::PatientReads | Self::LargeTasks => {
                Harm::SparesSessions
            }
            Self::DeafWatchers
            | Self::NameFlood
            | Self::InventNames
            | Self::CloseLog
            | Self::JumpClock
            | Self::SkewClocks => Harm::None,
            _ => Harm::Any,
        }
    }

    /// What it needs of the machine, if that is not a matter of course.
    pub fn need(self) -> Option<Need> {
        match self {
            Self::FillDisk => Some(Need::Mounts),
            Self::FailOver => Some(Need::Copies),
            Self::CrashPooler => Some(Need::Pooler),
            Self::JumpDatabaseClock | Self::JumpClock | Self::SkewClocks => Some(Need::Clocks),
            _ => None,
        }
    }

    /// True if a worker may die of it, or seem to.
    pub fn strikes_a_worker(self) -> bool {
        matches!(
            self,
            Self::KillWorker
                | Self::StopWorker
                | Self::FreezeWorker
                | Self::ForgetLeases
                | Self::MoveStreams
                | Self::StallWorker
                | Self::CutWorker
                | Self::DeafenWorker
                | Self::SilenceWorker
                | Self::NarrowWorker
        )
    }

    /// One sentence about it.
    pub fn about(self) -> String {
        self.to_possible_value()
            .and_then(|value| value.get_help().map(ToString::to_string))
            .unwrap_or_default()
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("?", |value| value.get_name()))
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::FaultKind;

    #[test]
    fn every_kind_has_a_name_and_says_what_it_does() {
        for kind in FaultKind::value_variants() {
            assert!(!kind.about().is_empty(), "{kind:?}");
            let json = serde_json::to_value(kind).expect("JSON");
            assert_eq!(
                json,
                kind.to_string(),
                "histories and the command line use one name"
            );
        }
    }
}
