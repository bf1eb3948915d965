//! The tasks of a worker that died run again soon.

use crate::history::{Gone, Micros, Outcome, ReportAnswer, RunFound};

use super::{
    Breach, Invariant, breach,
    quiet::is_undisturbed,
    record::{Record, TaskRecord},
    waits::{is_saturated, starts},
};

/// How long after the end of its lease a task may wait for its next run: the scheduler's look for dead workers, and a
/// worker that runs nothing else, if the task may be what kills them.
const BOUND: Micros = 6_000_000;

/// The same for tasks that were lost with many others, which need many slots.
const BOUND_FOR_MANY: Micros = 30_000_000;

/// Tasks that were lost before come back apart from each other, over twice the time with every loss.
const APART: Micros = 1_000_000;
const LONGEST_APART: Micros = 600_000_000;

/// A worker that holds more tasks than this holds many.
const FEW: usize = 10;

pub(super) fn check(record: &Record<'_>) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let starts = starts(record);
    for (name, worker) in &record.workers {
        let Some((died, Gone::Killed | Gone::ByTask | Gone::ByItself)) = worker.gone else {
            continue;
        };
        let in_hand: Vec<(&str, &TaskRecord<'_>, i64)> = record
            .tasks
            .iter()
            .filter_map(|(id, task)| Some((*id, task, in_hand(task, name, died)?)))
            .collect();
        let bound = if in_hand.len() > FEW {
            BOUND_FOR_MANY
        } else {
            BOUND
        };
        let limit = died + record.lease() + bound;
        // A worker that dies meanwhile cannot take them, and its own tasks want to run again, too.
        let deaths = record.workers.values().filter_map(|worker| worker.gone);
        let deaths = deaths.filter(|(at, _)| *at > died && *at < limit).count() as u64;
        if deaths > 1 {
            continue;
        }
        let limit = limit + deaths * record.lease();
        if limit > record.end || !is_undisturbed(record, died, limit) || is_saturated(&starts, died, limit) {
            continue;
        }
        for (id, task, token) in in_hand {
            let leases = task.leases.iter().map(|lease| (lease.token, lease.at));
            let codes = task.codes.iter().map(|code| (code.token, code.started));
            let next = leases.chain(codes).filter(|(other, _)| *other > token);
            let next = next.map(|(_, at)| at).min();
            let has_ended = task
                .found
                .is_some_and(|found| found.runs.iter().any(|run| run.ends_task && run.token == token));
            let losses = task.found.map_or(0, |found| {
                found.runs.iter().filter(|run| is_loss_before(run, token)).count()
            });
            let limit = limit + apart(losses);
            if !has_ended && !task.was_cancelled() && limit <= record.end && next.is_none_or(|at| at > limit)
            {
                let after = next.map_or_else(
                    || "never".to_owned(),
                    |at| format!("{} ms later", (at - died) / 1_000),
                );
                let text = format!("{name} died with it in hand, and it ran again {after}");
                breaches.push(breach(Invariant::LostRunsRepeat, id, died, text));
            }
        }
    }
    breaches
}

/// The longest time until a task comes back that was lost so often before.
fn apart(losses: usize) -> Micros {
    match u32::try_from(losses).unwrap_or(u32::MAX) {
        0 => 0,
        losses => APART
            .saturating_mul(2_u64.saturating_pow(losses))
            .min(LONGEST_APART),
    }
}

fn is_loss_before(run: &RunFound, token: i64) -> bool {
    run.outcome == Outcome::Lost && run.token < token
}

/// The token under which a worker had a task in hand when it died.
fn in_hand(task: &TaskRecord<'_>, worker: &str, died: Micros) -> Option<i64> {
    let leases = task
        .leases
        .iter()
        .map(|lease| (lease.worker, lease.token, lease.at));
    let codes = task
        .codes
        .iter()
        .map(|code| (code.worker, code.token, code.started));
    let (_, token, _) = leases
        .chain(codes)
        .filter(|(own, _, at)| *own == worker && *at <= died)
        .max_by_key(|(_, token, _)| *token)?;
    let code = task
        .codes
        .iter()
        .find(|code| code.worker == worker && code.token == token);
    let has_ended = code.is_some_and(|code| code.ended.is_some_and(|(at, _)| at <= died));
    let is_answered = task.reports.iter().any(|report| {
        report.worker == worker
            && report.token == token
            && report
                .answered
                .is_some_and(|(_, answer)| report.report.is_outcome() || answer == ReportAnswer::Stale)
    });
    let is_dropped = task.forgotten.iter().any(|(_, own)| *own == token);
    (!has_ended && !is_answered && !is_dropped).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Sample, run, task};
    use crate::{
        check::Invariant,
        fault_kind::FaultKind,
        history::{Event, Gone, Outcome},
    };

    /// A worker that dies at 20 s with a task in hand, which runs again later.
    fn died(again: u64) -> Sample {
        Sample::new()
            .worker(0, "w", 1)
            .submit(19_000, task("a"))
            .lease(19_100, "w", "a", 1)
            .gone(20_000, "w", Gone::ByTask)
            .lease(again, "v", "a", 2)
            .event(60_000, Event::RunEnds)
    }

    #[test]
    fn the_task_of_a_dead_worker_runs_again_soon_after_its_lease() {
        assert_eq!(died(24_000).breaks(), []);
        assert_eq!(died(30_000).breaks(), [Invariant::LostRunsRepeat]);
    }

    #[test]
    fn a_task_that_was_lost_before_may_wait_apart_from_others_longer_with_every_loss() {
        let again = |losses: i64, ms| {
            let mut runs: Vec<_> = (1..=losses + 1)
                .map(|token| run(token, Outcome::Lost, false))
                .collect();
            runs.push(run(losses + 2, Outcome::Succeeded, true));
            let sample = Sample::new()
                .worker(0, "w", 1)
                .submit(19_000, task("a"))
                .lease(19_100, "w", "a", losses + 1)
                .gone(20_000, "w", Gone::ByTask);
            let sample = sample
                .lease(ms, "v", "a", losses + 2)
                .found(90_000, "a", &[], runs);
            sample.event(90_000, Event::RunEnds).breaks()
        };
        assert_eq!(again(1, 30_000), []);
        assert_eq!(again(1, 34_000), [Invariant::LostRunsRepeat]);
        assert_eq!(again(4, 44_000), []);
        assert_eq!(again(4, 48_000), [Invariant::LostRunsRepeat]);
    }

    #[test]
    fn it_may_take_longer_while_more_workers_die() {
        let sample = died(31_000).worker(0, "u", 1).gone(25_000, "u", Gone::ByTask);
        assert_eq!(sample.breaks(), []);
    }

    #[test]
    fn it_may_take_longer_while_a_fault_lasts() {
        let sample = died(30_000).fault((21_000, 22_000), FaultKind::StopPostgres);
        assert_eq!(sample.breaks(), []);
    }
    #[test]
    fn many_tasks_that_were_lost_together_may_take_half_a_minute() {
        let lost = |count: u64, again: u64| {
            let mut sample = Sample::new().worker(0, "w", 20);
            for number in 0..count {
                let id = format!("{number}");
                sample = sample.submit(19_000, task(&id)).lease(19_100, "w", &id, 1);
                sample = sample.lease(again, "v", &id, 2);
            }
            let sample = sample.gone(20_000, "w", Gone::ByTask);
            sample.event(90_000, Event::RunEnds).breaks()
        };
        assert_eq!(lost(3, 40_000), [Invariant::LostRunsRepeat]);
        assert_eq!(lost(15, 40_000), []);
        assert_eq!(lost(15, 60_000), [Invariant::LostRunsRepeat]);
    }
}
