//! When nothing but the scheduler can be the reason.

use crate::{
    fault_kind::Harm,
    history::{Gone, Micros},
};

use super::record::Record;

/// How long after a fault everything must be as before: connections are made anew, sessions of the dead have run out.
pub(super) const RECOVERY: Micros = 6_000_000;

/// The harness was not run for so long: the machine is too busy to judge anything by time.
pub(super) const STALL: Micros = 500_000;

/// The times in which only faults were active that cost no more than `allowed`, and others had been over for a while.
pub(super) fn windows(record: &Record<'_>, allowed: Harm) -> Vec<(Micros, Micros)> {
    let mut blocked: Vec<(Micros, Micros)> = vec![(0, RECOVERY)];
    for fault in &record.faults {
        if is_worse(fault.kind.harm(), allowed) {
            blocked.push((fault.begins, fault.ends.saturating_add(RECOVERY)));
        }
    }
    // Tasks that were with a worker that a task killed run apart from others for a while.
    for worker in record.workers.values() {
        if let Some((at, Gone::ByTask)) = worker.gone {
            blocked.push((at, at + RECOVERY));
        }
    }
    for (from, to) in &record.stalls {
        if to - from >= STALL {
            blocked.push((*from, to + RECOVERY));
        }
    }
    blocked.sort_unstable();
    let mut quiet = Vec::new();
    let mut at = 0;
    for (from, to) in blocked {
        if from > at {
            quiet.push((at, from));
        }
        at = at.max(to);
    }
    if at < record.end {
        quiet.push((at, record.end));
    }
    quiet
}

/// True if a fault that may cost sessions, or a pause of the machine, touches this time.
pub(super) fn strikes(record: &Record<'_>, from: Micros, to: Micros) -> bool {
    let faults = record
        .faults
        .iter()
        .filter(|fault| is_worse(fault.kind.harm(), Harm::SparesSessions))
        .map(|fault| (fault.begins, fault.ends));
    let stalls = record
        .stalls
        .iter()
        .copied()
        .filter(|(from, to)| to - from >= STALL);
    let mut all = faults.chain(stalls);
    all.any(|(begins, ends)| begins <= to && ends >= from)
}

/// True if no fault that anybody may feel, or its after-effects, and no pause of the machine touches this time.
pub(super) fn is_undisturbed(record: &Record<'_>, from: Micros, to: Micros) -> bool {
    let faults = record
        .faults
        .iter()
        .filter(|fault| is_worse(fault.kind.harm(), Harm::None))
        .map(|fault| (fault.begins, fault.ends));
    let stalls = record
        .stalls
        .iter()
        .copied()
        .filter(|(from, to)| to - from >= STALL);
    let mut all = faults.chain(stalls);
    !all.any(|(begins, ends)| begins <= to && ends.saturating_add(RECOVERY) >= from)
}

/// What of an interval lies in the windows.
pub(super) fn within(windows: &[(Micros, Micros)], from: Micros, to: Micros) -> Vec<(Micros, Micros)> {
    windows
        .iter()
        .map(|(begin, end)| (from.max(*begin), to.min(*end)))
        .filter(|(from, to)| from < to)
        .collect()
}

/// True if a fault of one harm may cost more than one of another.
pub(super) fn is_worse(harm: Harm, allowed: Harm) -> bool {
    let rank = |harm| match harm {
        Harm::None => 0,
        Harm::SparesSessions => 1,
        Harm::Any => 2,
    };
    rank(harm) > rank(allowed)
}

#[cfg(test)]
mod tests {
    use super::{RECOVERY, strikes, windows, within};
    use crate::{
        check::record::{FaultRecord, Record},
        fault_kind::{FaultKind, Harm},
    };

    fn record(kind: FaultKind) -> Record<'static> {
        Record {
            end: 60_000_000,
            faults: vec![FaultRecord {
                number: 0,
                kind,
                target: "",
                begins: 20_000_000,
                ends: 22_000_000,
            }],
            ..Record::default()
        }
    }

    #[test]
    fn a_fault_and_the_time_after_it_are_no_quiet_time() {
        let record = record(FaultKind::KillScheduler);
        let quiet = [(RECOVERY, 20_000_000), (22_000_000 + RECOVERY, 60_000_000)];
        assert_eq!(windows(&record, Harm::None), quiet);
        assert!(strikes(&record, 0, 20_000_000) && !strikes(&record, 23_000_000, 60_000_000));
    }

    #[test]
    fn a_fault_that_must_cost_nothing_leaves_the_time_quiet() {
        let record = record(FaultKind::NameFlood);
        assert_eq!(windows(&record, Harm::None), [(RECOVERY, 60_000_000)]);
        assert!(!strikes(&record, 0, 60_000_000));
    }

    #[test]
    fn an_interval_is_cut_at_the_windows() {
        assert_eq!(within(&[(0, 5), (7, 9)], 3, 8), [(3, 5), (7, 8)]);
    }
}
