//! The checker: a pure function from a history to the promises that it breaks.
//!
//! One file per promise. Each judges only what the history proves: where a fault or the harness itself may be the
//! reason, it says nothing.

mod charges;
mod deletes;
mod invariant;
mod kept;
mod leases;
mod names;
mod order;
mod outcomes;
mod places;
mod processes;
mod quiet;
mod reads;
mod record;
mod repeats;
mod reports;
mod right_end;
mod sessions;
mod starts;
mod stops;
mod waits;
mod watches;

#[cfg(test)]
mod sample;

use serde::{Deserialize, Serialize};

pub use invariant::Invariant;
pub use places::misplaced;
use record::Record;

use crate::history::{Entry, Micros};

/// A promise that a history breaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breach {
    /// Which promise.
    pub invariant: Invariant,
    /// The task that shows it, if it is about one.
    pub task: Option<String>,
    /// When it was broken, as closely as can be said.
    pub at: Micros,
    /// What happened.
    pub text: String,
}

/// Finds all breaches in a history, in the order of the promises.
pub fn check(entries: &[Entry]) -> Vec<Breach> {
    let record = Record::of(entries);
    let checks = [
        kept::check,
        outcomes::check,
        reads::check,
        deletes::check,
        names::check,
        reports::check,
        stops::check,
        leases::check,
        places::check,
        repeats::check,
        starts::check,
        order::check,
        right_end::check,
        charges::check,
        sessions::check,
        watches::check,
        processes::check,
    ];
    let mut breaches: Vec<Breach> = checks.iter().flat_map(|check| check(&record)).collect();
    breaches.sort_by_key(|breach| (breach.invariant, breach.at));
    breaches
}

fn breach(invariant: Invariant, task: &str, at: Micros, text: impl Into<String>) -> Breach {
    Breach {
        invariant,
        task: Some(task.to_owned()),
        at,
        text: text.into(),
    }
}
