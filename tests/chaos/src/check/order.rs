//! Who goes first: priorities, and turns among lanes.

use std::collections::HashSet;

use crate::{fault_kind::Harm, history::Micros};

use super::{
    Breach, Invariant, breach,
    quiet::{windows, within},
    record::Record,
    waits::{Start, Wait, starts, waits},
};

/// How long after a task became due others may still go first: a claim under way, a notification on its way.
const SETTLE: Micros = 1_500_000;

/// How many tasks of other lanes, or later ones of its own, may start on one worker before a waiting task does.
const TURNS: usize = 40;

pub(super) fn check(record: &Record<'_>) -> Vec<Breach> {
    let Some(healed) = record.healed else {
        return Vec::new();
    };
    let (windows, starts) = (windows(record, Harm::None), starts(record));
    let mut told = HashSet::new();
    let mut breaches = Vec::new();
    for wait in waits(record) {
        let from = wait.due.max(healed) + SETTLE;
        if wait.until <= from {
            continue;
        }
        for (from, to) in within(&windows, from, wait.until) {
            for (name, worker) in &record.workers {
                if !worker.takes(&wait.submitted.task_type, &wait.submitted.queue) {
                    continue;
                }
                let slots = usize::try_from(worker.slots).unwrap_or(usize::MAX);
                let own = starts.get(name).map_or(&[][..], Vec::as_slice);
                let begin = own.partition_point(|start| start.at <= from);
                let end = own.partition_point(|start| start.at < to);
                let during = own.get(begin..end).unwrap_or_default();
                let text = passed_by(&wait, during, slots);
                // One task of a lane stands for all.
                if let Some(text) = text
                    && told.insert((wait.submitted.task_type.clone(), wait.submitted.queue.clone()))
                {
                    let text = format!("on {name}, {text}");
                    breaches.push(breach(Invariant::InTurn, wait.task, from, text));
                }
            }
        }
    }
    breaches
}

/// Who went before a waiting task though it was not their turn.
fn passed_by(wait: &Wait<'_>, starts: &[Start<'_>], slots: usize) -> Option<String> {
    let (priority, lane) = (wait.submitted.priority, lane_of(wait.submitted));
    let lower = starts
        .iter()
        .filter(|start| start.submitted.priority < priority)
        .count();
    if lower > 2 * slots + 5 {
        return Some(format!(
            "{lower} tasks of lower priority started before it, of {priority}"
        ));
    }
    let later = starts.iter().filter(|start| {
        lane_of(start.submitted) == lane
            && start.submitted.priority <= priority
            && start.due > wait.due + SETTLE
            && start.task != wait.task
    });
    let later = later.count();
    if later > TURNS + 3 * slots {
        return Some(format!(
            "{later} tasks of its own lane started before it, which became due later"
        ));
    }
    // Turns are taken among lanes of one priority; what starts in its own lane ends the count.
    let (mut turns, mut most) = (0, 0);
    for start in starts {
        let is_other = lane_of(start.submitted) != lane;
        turns = match is_other && start.submitted.priority <= priority {
            true => turns + 1,
            false if is_other => turns,
            false => 0,
        };
        most = most.max(turns);
    }
    (most > TURNS + 3 * slots)
        .then(|| format!("{most} tasks of other lanes started in a row while it waited"))
}

fn lane_of(submitted: &crate::history::Submitted) -> (&str, &str) {
    (&submitted.queue, &submitted.task_type)
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Sample, task};
    use crate::{
        check::Invariant,
        history::{Event, Submitted},
    };

    fn of(id: &str, task_type: &str, priority: i32) -> Submitted {
        Submitted {
            task_type: task_type.to_owned(),
            priority,
            ..task(id)
        }
    }

    /// A worker of one slot with a hundred tasks of type `t`, one started every 100 ms from 10 s on; another task comes
    /// at the same time and starts after so many of them.
    fn beside(other: Submitted, after: u64) -> Vec<Invariant> {
        let mut sample = Sample::new()
            .worker_of(0, "w", 1, &["t", "u"])
            .event(1, Event::Healed)
            .submit(9_900, other.clone());
        for number in 0..100_u64 {
            let id = format!("{number:03}");
            let at = 10_000 + number * 100;
            sample = sample
                .submit(9_900, of(&id, "t", 0))
                .lease(at, "w", &id, 1)
                .report(
                    (at + 90, at + 90),
                    "w",
                    (&id, 1),
                    crate::history::Reported::Succeeded,
                    crate::history::ReportAnswer::Stored,
                );
        }
        sample.lease(10_050 + after * 100, "w", &other.task, 1).breaks()
    }

    #[test]
    fn a_task_of_another_lane_gets_its_turn() {
        assert_eq!(beside(of("x", "u", 0), 30), []);
        assert_eq!(beside(of("x", "u", 0), 90), [Invariant::InTurn]);
    }

    #[test]
    fn a_task_of_higher_priority_goes_first() {
        assert_eq!(beside(of("x", "u", 50), 3), []);
        assert_eq!(beside(of("x", "u", 50), 40), [Invariant::InTurn]);
    }

    #[test]
    fn a_task_of_lower_priority_has_no_turn() {
        assert_eq!(beside(of("x", "u", -5), 99), []);
    }
}
