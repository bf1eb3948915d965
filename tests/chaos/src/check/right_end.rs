//! A task ends as its code decided.

use crate::{
    behaviour::End,
    history::{Gone, Micros, Outcome, RunFound, State, Submitted},
};

use super::{
    Breach, Invariant, breach,
    record::{Record, TaskRecord},
};

/// The kind of error of a task that seems to kill its workers.
const POISONED: &str = "POISONED";

/// How many of its workers must have died before a task may be called poisoned.
const DEATHS: usize = 3;

pub(super) fn check(record: &Record<'_>) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (id, task) in &record.tasks {
        let (Some(submitted), Some(state), Some(found)) = (task.submitted, task.final_state(), task.found)
        else {
            continue;
        };
        let Some(last) = found.runs.iter().find(|run| run.ends_task) else {
            continue;
        };
        if state == State::Cancelled && task.was_cancelled() {
            continue;
        }
        // Who deletes a task deletes the reason why it was given up.
        if last.outcome == Outcome::Lost && task.delete_called.is_some() {
            continue;
        }
        if let Some(text) = wrong(record, task, submitted, state, last) {
            breaches.push(breach(Invariant::RightEnd, id, record.end, text));
        }
    }
    breaches
}

fn wrong(
    record: &Record<'_>,
    task: &TaskRecord<'_>,
    submitted: &Submitted,
    state: State,
    last: &RunFound,
) -> Option<String> {
    let is_poisoned = last.error.as_deref() == Some(POISONED);
    if is_poisoned && submitted.behaviour.end != End::KillWorker {
        let deaths = deaths(record, task);
        return (deaths < DEATHS).then(|| {
            format!("it was called poisoned, and faults had struck {deaths} of the workers that had it")
        });
    }
    let is_right = match submitted.behaviour.end {
        End::Succeed | End::IgnoreStop | End::FailUntil(_) => state == State::Succeeded,
        End::FailAlways => last.outcome == Outcome::Failed && last.attempt == submitted.max_attempts,
        End::FailForGood => last.outcome == Outcome::Failed,
        End::Hang => submitted.run_timeout_ms.is_some() && last.outcome == Outcome::TimedOut,
        End::KillWorker => last.outcome == Outcome::Lost,
    };
    // The loss of its last worker may have been the last attempt.
    let is_right = is_right || last.outcome == Outcome::Lost && last.attempt == submitted.max_attempts;
    (!is_right).then(|| {
        format!(
            "its code does {:?} with {} attempts, and it ended {state:?} with {:?} in attempt {}, error {:?}",
            submitted.behaviour.end, submitted.max_attempts, last.outcome, last.attempt, last.error
        )
    })
}

/// How many of its runs were on workers that a fault struck meanwhile.
fn deaths(record: &Record<'_>, task: &TaskRecord<'_>) -> usize {
    let leases = task
        .leases
        .iter()
        .map(|lease| (lease.worker, lease.token, lease.at));
    let codes = task
        .codes
        .iter()
        .map(|code| (code.worker, code.token, code.started));
    let mut runs: Vec<(&str, i64, Micros)> = leases.chain(codes).collect();
    runs.sort_by_key(|(_, token, at)| (*token, *at));
    runs.dedup_by_key(|(_, token, _)| *token);
    let struck = runs.iter().filter(|(worker, _, at)| {
        let was_killed = record
            .workers
            .get(worker)
            .and_then(|worker| worker.gone)
            .is_some_and(|(gone, why)| matches!(why, Gone::Killed | Gone::Stopped) && gone > *at);
        let faults = record.faults.iter();
        let mut faults = faults.filter(|fault| fault.kind.strikes_a_worker() && fault.target == *worker);
        was_killed || faults.any(|fault| fault.ends > *at)
    });
    struck.count()
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Sample, run, task};
    use crate::{
        behaviour::End,
        check::Invariant,
        history::{Answer, Gone, Outcome, RunFound, State, Submitted},
    };

    fn ended(end: End, max_attempts: u32, runs: Vec<RunFound>) -> Vec<Invariant> {
        let mut own = Submitted {
            max_attempts,
            ..task("a")
        };
        own.behaviour.end = end;
        Sample::new().submit(1, own).found(9, "a", &[], runs).breaks()
    }

    fn poisoned() -> RunFound {
        RunFound {
            error: Some("POISONED".to_owned()),
            ..run(3, Outcome::Lost, true)
        }
    }

    #[test]
    fn a_task_whose_code_succeeds_must_succeed() {
        assert_eq!(ended(End::Succeed, 9, vec![run(1, Outcome::Succeeded, true)]), []);
        let failed = vec![run(1, Outcome::Failed, true)];
        assert_eq!(ended(End::Succeed, 9, failed), [Invariant::RightEnd]);
    }

    #[test]
    fn a_failing_task_uses_all_its_attempts() {
        let both = vec![run(1, Outcome::Failed, false), run(2, Outcome::Failed, true)];
        assert_eq!(ended(End::FailAlways, 2, both.clone()), []);
        assert_eq!(ended(End::FailAlways, 3, both), [Invariant::RightEnd]);
    }

    #[test]
    fn only_a_task_that_somebody_cancelled_may_end_cancelled() {
        let cancelled = vec![run(1, Outcome::Cancelled, true)];
        assert_eq!(ended(End::Succeed, 9, cancelled.clone()), [Invariant::RightEnd]);
        let answer = Answer::Task {
            state: State::Running,
            token: 1,
            cancel_requested: true,
        };
        let sample = Sample::new().submit(1, task("a")).cancel(2, "a", answer);
        assert_eq!(sample.found(9, "a", &[], cancelled).breaks(), []);
    }

    #[test]
    fn a_task_is_poisoned_only_after_three_of_its_workers_died() {
        let lost = || {
            vec![
                run(1, Outcome::Lost, false),
                run(2, Outcome::Lost, false),
                poisoned(),
            ]
        };
        assert_eq!(ended(End::Succeed, 9, lost()), [Invariant::RightEnd]);
        assert_eq!(ended(End::KillWorker, 9, lost()), []);
        let mut sample = Sample::new().submit(1, task("a"));
        for (at, worker, token) in [(2, "u", 1), (4, "v", 2), (6, "w", 3)] {
            sample = sample.worker(at, worker, 1).lease(at, worker, "a", token);
            sample = sample.gone(at + 1, worker, Gone::Killed);
        }
        assert_eq!(sample.found(9, "a", &[], lost()).breaks(), []);
    }
}
