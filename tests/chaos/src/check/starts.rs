//! No slot stays free while a task waits that it could run.

use std::collections::BTreeMap;

use crate::{fault_kind::Harm, history::Micros};

use super::{
    Breach, Invariant, breach,
    quiet::{RECOVERY, windows, within},
    record::{Record, WorkerRecord},
    waits::{Start, free_times, is_saturated, starts, waits},
};

/// How long a task may wait beside a free slot when nothing is wrong.
const BOUND: Micros = 5_000_000;

pub(super) fn check(record: &Record<'_>) -> Vec<Breach> {
    let starts = starts(record);
    let free = long_free_times(record, &starts);
    let mut breaches = Vec::new();
    for wait in waits(record) {
        if wait.until - wait.due < BOUND {
            continue;
        }
        let found = free.iter().find_map(|(name, worker, free)| {
            if !worker.takes(&wait.submitted.task_type, &wait.submitted.queue) {
                return None;
            }
            let beside = within(free, wait.due, wait.until);
            let longest = beside.into_iter().max_by_key(|(from, to)| to - from)?;
            let is_long = longest.1 - longest.0 >= BOUND && !is_saturated(&starts, longest.0, longest.1);
            is_long.then_some((name, longest))
        });
        if let Some((worker, (from, to))) = found {
            let text = format!(
                "it waited in {}/{} for {} ms in which nothing was wrong and {worker} had a free slot",
                wait.submitted.queue,
                wait.submitted.task_type,
                (to - from) / 1_000
            );
            breaches.push(breach(Invariant::StartsInTime, wait.task, from, text));
        }
    }
    breaches
}

/// A worker, and the long times in which nothing was wrong and it had a free slot.
type Free<'r, 'a> = (&'a str, &'r WorkerRecord<'a>, Vec<(Micros, Micros)>);

fn long_free_times<'r, 'a>(
    record: &'r Record<'a>,
    starts: &BTreeMap<&'a str, Vec<Start<'a>>>,
) -> Vec<Free<'r, 'a>> {
    let windows = windows(record, Harm::None);
    let of_worker = |(name, worker): (&&'a str, &'r WorkerRecord<'a>)| {
        let own = starts.get(name).map_or(&[][..], Vec::as_slice);
        let begin = worker.started + RECOVERY;
        let end = worker.gone.map_or(record.end, |(at, _)| at);
        let quiet = within(&windows, begin, end).into_iter();
        let mut free: Vec<_> = quiet
            .flat_map(|(from, to)| free_times(own, worker.slots, from, to))
            .collect();
        free.retain(|(from, to)| to - from >= BOUND);
        (*name, worker, free)
    };
    record.workers.iter().map(of_worker).collect()
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Sample, task};
    use crate::{check::Invariant, fault_kind::FaultKind, history::Event};

    fn waiting() -> Sample {
        Sample::new().worker(0, "w", 1).submit(10_000, task("a"))
    }

    fn until(sample: Sample, ms: u64) -> Vec<Invariant> {
        sample
            .lease(ms, "w", "a", 1)
            .event(ms + 1, Event::RunEnds)
            .breaks()
    }

    #[test]
    fn a_task_that_waits_beside_a_free_slot_must_start() {
        assert_eq!(until(waiting(), 10_500), []);
        assert_eq!(until(waiting(), 16_000), [Invariant::StartsInTime]);
    }

    #[test]
    fn a_task_that_never_starts_is_found() {
        let sample = waiting().event(20_000, Event::RunEnds);
        assert_eq!(sample.breaks(), [Invariant::StartsInTime]);
    }

    #[test]
    fn a_task_may_wait_while_all_slots_are_taken() {
        let sample = waiting().submit(9_000, task("b")).lease(9_500, "w", "b", 1);
        assert_eq!(until(sample, 16_000), []);
    }

    #[test]
    fn a_task_may_wait_while_nobody_takes_its_type() {
        let mut other = task("a");
        other.task_type = "other".to_owned();
        let sample = Sample::new().worker(0, "w", 1).submit(10_000, other);
        assert_eq!(until(sample, 16_000), []);
    }

    #[test]
    fn a_task_may_wait_while_a_fault_lasts_and_shortly_after_unless_it_must_cost_nothing() {
        let fault = |kind| until(waiting().fault((11_000, 12_000), kind), 16_000);
        assert_eq!(fault(FaultKind::StopPostgres), []);
        assert_eq!(fault(FaultKind::NameFlood), [Invariant::StartsInTime]);
    }
}
