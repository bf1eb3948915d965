//! When tasks waited, and when slots were free.

use std::collections::BTreeMap;

use crate::{
    behaviour::End,
    history::{Micros, ReportAnswer, Reported, Submitted},
};

use super::record::{Record, TaskRecord};

/// How many starts a second are many for one machine that all parts of the system share.
const SATURATED: u64 = 100;

/// A time in which a task waited for a worker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait<'a> {
    /// The task.
    pub(super) task: &'a str,
    /// What was submitted.
    pub(super) submitted: &'a Submitted,
    /// Since when it could run, at the latest.
    pub(super) due: Micros,
    /// When it started, or could not start any more.
    pub(super) until: Micros,
}

/// A start of a task on a worker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start<'a> {
    /// The task.
    pub(super) task: &'a str,
    /// What was submitted.
    pub(super) submitted: &'a Submitted,
    /// When.
    pub(super) at: Micros,
    /// Since when it could run, at the earliest.
    pub(super) due: Micros,
    /// When its slot was free again.
    pub(super) until: Micros,
}

/// All waits that the history proves.
pub(super) fn waits<'a>(record: &Record<'a>) -> Vec<Wait<'a>> {
    let mut waits = Vec::new();
    for (id, task) in &record.tasks {
        let (Some(submitted), Some(stored)) = (task.submitted, task.stored) else {
            continue;
        };
        let cancelled = task.cancels.iter().map(|cancel| cancel.called).min();
        let mut add = |due: Micros, last_token: i64| {
            let start = seen(task)
                .filter(|start| start.2 > last_token)
                .map(|start| start.0)
                .min();
            let ends = [start, cancelled, Some(record.end)];
            let until = ends.into_iter().flatten().min().unwrap_or(record.end);
            if until > due {
                waits.push(Wait {
                    task: id,
                    submitted,
                    due,
                    until,
                });
            }
        };
        add(stored + submitted.delay_ms * 1_000, 0);
        for report in &task.reports {
            let goes_on = report.report == Reported::Failed && submitted.behaviour.end != End::FailForGood;
            if let (true, Some((at, ReportAnswer::Stored))) = (goes_on, report.answered) {
                let ended = task
                    .found
                    .and_then(|found| found.runs.iter().find(|run| run.ends_task));
                if ended.is_none_or(|run| run.token > report.token) {
                    add(at + submitted.backoff_ms * 1_000, report.token);
                }
            }
        }
    }
    waits
}

/// All starts by worker, in the order of their times.
pub(super) fn starts<'a>(record: &Record<'a>) -> BTreeMap<&'a str, Vec<Start<'a>>> {
    let mut starts: BTreeMap<&str, Vec<Start<'_>>> = BTreeMap::new();
    for (id, task) in &record.tasks {
        let Some(submitted) = task.submitted else {
            continue;
        };
        for (at, worker, token) in seen(task) {
            let is_bare = record.workers.get(worker).is_some_and(|worker| worker.bare);
            let before = seen(task)
                .filter(|start| start.2 < token)
                .map(|start| start.0)
                .max();
            let until = if is_bare {
                freed(record, task, worker, token, at)
            } else {
                let code = task
                    .codes
                    .iter()
                    .find(|code| code.worker == worker && code.token == token);
                code.and_then(|code| code.ended).map_or(record.end, |(at, _)| at)
            };
            starts.entry(worker).or_default().push(Start {
                task: id,
                submitted,
                at,
                due: before.or(task.called).unwrap_or(0),
                until,
            });
        }
    }
    for starts in starts.values_mut() {
        starts.sort_by_key(|start| start.at);
    }
    starts
}

/// True if so many tasks started that the speed of the machine, and not the scheduler, may decide who waits.
pub(super) fn is_saturated(starts: &BTreeMap<&str, Vec<Start<'_>>>, from: Micros, to: Micros) -> bool {
    let count = |own: &Vec<Start<'_>>| {
        own.partition_point(|start| start.at < to) - own.partition_point(|start| start.at < from)
    };
    let all = starts.values().map(count).sum::<usize>() as u64;
    all * 1_000_000 > SATURATED * to.saturating_sub(from)
}

/// The times within `from` and `to` in which a worker had a free slot.
pub(super) fn free_times(
    starts: &[Start<'_>],
    slots: u32,
    from: Micros,
    to: Micros,
) -> Vec<(Micros, Micros)> {
    let mut steps: Vec<(Micros, i64)> = Vec::new();
    for start in starts.iter().filter(|start| start.at < to && start.until > from) {
        steps.push((start.at.max(from), 1));
        steps.push((start.until.min(to), -1));
    }
    steps.sort_unstable();
    let mut free = Vec::new();
    let (mut busy, mut since) = (0_i64, Some(from));
    for (at, step) in steps {
        busy += step;
        match (busy < i64::from(slots), since) {
            (false, Some(begin)) => {
                free.push((begin, at));
                since = None;
            }
            (true, None) => since = Some(at),
            _ => {}
        }
    }
    free.extend(since.map(|begin| (begin, to)));
    free.retain(|(begin, end)| begin < end);
    free
}

/// Starts of a task: when, where, and under which token.
fn seen<'a: 'b, 'b>(task: &'b TaskRecord<'a>) -> impl Iterator<Item = (Micros, &'a str, i64)> + use<'a, 'b> {
    let leases = task
        .leases
        .iter()
        .map(|lease| (lease.at, lease.worker, lease.token));
    let codes = task
        .codes
        .iter()
        .map(|code| (code.started, code.worker, code.token));
    // A worker of the bare protocol shows both.
    let codes = codes.filter(|code| !task.leases.iter().any(|lease| lease.token == code.2));
    leases.chain(codes)
}

/// When a worker of the bare protocol had the slot of a lease free again.
fn freed(record: &Record<'_>, task: &TaskRecord<'_>, worker: &str, token: i64, since: Micros) -> Micros {
    let answers = task
        .reports
        .iter()
        .filter(|report| report.worker == worker && report.token == token)
        .filter_map(|report| {
            let (at, answer) = report.answered?;
            (report.report.is_outcome() || answer == ReportAnswer::Stale).then_some(at)
        });
    let forgotten = task
        .forgotten
        .iter()
        .filter(|(_, own)| *own == token)
        .map(|(at, _)| *at);
    let lost = record.workers.get(worker).into_iter().flat_map(|worker| {
        let lost = worker.lost.iter().map(|(at, ..)| *at);
        lost.chain(worker.gone.map(|(at, _)| at)).filter(|at| *at > since)
    });
    answers.chain(forgotten).chain(lost).min().unwrap_or(record.end)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Start, free_times, is_saturated};
    use crate::check::sample::task;

    #[test]
    fn a_slot_is_free_while_fewer_tasks_run_than_there_are_slots() {
        let submitted = task("a");
        let start = |at, until| Start {
            task: "a",
            submitted: &submitted,
            at,
            due: 0,
            until,
        };
        let starts = [start(10, 30), start(20, 40), start(25, 26)];
        assert_eq!(free_times(&starts, 2, 0, 50), [(0, 20), (30, 50)]);
        assert_eq!(free_times(&starts, 1, 0, 50), [(0, 10), (40, 50)]);
        assert_eq!(free_times(&starts, 1, 12, 18), []);
    }
    #[test]
    fn a_machine_on_which_a_hundred_tasks_start_a_second_is_saturated() {
        let submitted = task("a");
        let start = |number: u64| Start {
            task: "a",
            submitted: &submitted,
            at: number * 5_000,
            due: 0,
            until: number * 5_000,
        };
        let starts = BTreeMap::from([("v", (0..200).map(start).collect()), ("w", Vec::new())]);
        assert!(is_saturated(&starts, 0, 1_000_000));
        assert!(!is_saturated(&starts, 0, 3_000_000), "less than seventy a second");
        assert!(!is_saturated(&starts, 2_000_000, 3_000_000));
    }
}
