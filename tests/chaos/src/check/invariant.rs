//! The promises that are checked.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A promise to clients, workers or operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Invariant {
    /// A submit that was acknowledged is never lost.
    AcknowledgedKept,
    /// A submit may be repeated: it is answered with the task that is stored.
    RepeatIsSafe,
    /// No task exists that nobody submitted.
    NothingInvented,
    /// A task has exactly one final outcome.
    OneOutcome,
    /// A final state never changes, and no read goes back in time.
    FinalStays,
    /// An outcome that was acknowledged to a worker is the one that is stored.
    AcknowledgedOutcome,
    /// A report under an old lease token changes nothing and is answered as stale.
    StaleRefused,
    /// No two workers hold a lease of one task at once.
    OneLease,
    /// Lease tokens of a task grow by one with every lease, and none is given twice.
    TokensGrow,
    /// A cancel that was acknowledged wins over every later completion.
    CancelWins,
    /// A cancel reaches the code that runs, before its grace is over.
    CancelReachesCode,
    /// A task that was deleted stays so: nobody reads it, and its id is never run again.
    DeletedStays,
    /// Names that clients invent are refused once there are too many; tasks of known names are not.
    NamesBounded,
    /// An unfinished task is in exactly one place of the database; a finished one waits nowhere.
    OnePlace,
    /// Once the faults are over, every task ends.
    AllEnd,
    /// The tasks of a worker that died run again within seconds of the end of its lease.
    LostRunsRepeat,
    /// A waiting task starts within seconds while a worker that takes it has a free slot.
    StartsInTime,
    /// Higher priorities go first, and no kind of task waits for ever behind others.
    InTurn,
    /// A task ends as its code decided; faults of machines are not charged to it.
    RightEnd,
    /// A worker whose heartbeats arrive keeps its session, whatever else is slow.
    SessionsKept,
    /// A watcher gets all progress once, in order, and the end.
    WatchersHearAll,
    /// A scheduler ends only when it is told to.
    SchedulersLive,
    /// A scheduler's memory stays bounded.
    BoundedMemory,
    /// No two statements wait for each other.
    NoDeadlock,
}

impl Invariant {
    /// The promise as a sentence.
    pub fn promise(self) -> String {
        self.to_possible_value()
            .and_then(|value| value.get_help().map(ToString::to_string))
            .unwrap_or_default()
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("?", |value| value.get_name()))
    }
}
