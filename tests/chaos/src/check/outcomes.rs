//! One outcome per task, tokens without gaps, and the outcome that was acknowledged.

use crate::{
    behaviour::CodeEnd,
    history::{Gone, Micros, Outcome, ReportAnswer, Reported, RunFound, TaskFound},
};

use super::{
    Breach, Invariant, breach,
    record::{CodeSeen, Record, ReportSeen, TaskRecord},
};

/// Code that ended so shortly before its worker did ended while the worker was being stopped.
const DRAIN: Micros = 4_000_000;

/// The kind of error of a run that was taken away because it did not stop after a cancel.
const REVOKED: &str = "REVOKED";

pub(super) fn check(record: &Record<'_>) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (id, task) in &record.tasks {
        let Some(found) = task.found else {
            continue;
        };
        let mut tell = |invariant, text: String| breaches.push(breach(invariant, id, record.end, text));
        if let Some(text) = too_many_ends(found) {
            tell(Invariant::OneOutcome, text);
        }
        if let Some(text) = gap(found) {
            tell(Invariant::TokensGrow, text);
        }
        for report in &task.reports {
            if let Some(text) = contradiction(task, found, report) {
                tell(Invariant::AcknowledgedOutcome, text);
            }
        }
        for code in &task.codes {
            if let Some(text) = thrown_away(record, task, found, code) {
                tell(Invariant::AcknowledgedOutcome, text);
            }
        }
    }
    breaches
}

fn too_many_ends(found: &TaskFound) -> Option<String> {
    let ends: Vec<i64> = found
        .runs
        .iter()
        .filter(|run| run.ends_task)
        .map(|run| run.token)
        .collect();
    if ends.len() > 1 {
        return Some(format!(
            "it has {} final runs, of the leases {ends:?}",
            ends.len()
        ));
    }
    let last = found.runs.iter().map(|run| run.token).max();
    match (ends.first(), last) {
        (Some(&end), Some(last)) if end != last => {
            Some(format!("it ended with lease {end}, and lease {last} came later"))
        }
        _ => None,
    }
}

fn gap(found: &TaskFound) -> Option<String> {
    let mut tokens: Vec<i64> = found.runs.iter().map(|run| run.token).collect();
    tokens.sort_unstable();
    let wanted = 1..;
    let is_whole = tokens.iter().zip(wanted).all(|(token, wanted)| *token == wanted);
    (!is_whole).then(|| format!("its runs have the lease tokens {tokens:?}"))
}

/// What the tables hold against a report that was acknowledged as stored.
fn contradiction(task: &TaskRecord<'_>, found: &TaskFound, report: &ReportSeen<'_>) -> Option<String> {
    if !report.report.is_outcome() || report.answered?.1 != ReportAnswer::Stored {
        return None;
    }
    let (worker, token, told) = (report.worker, report.token, report.report);
    let Some(run) = found.runs.iter().find(|run| run.token == token) else {
        return Some(format!(
            "{told:?} of lease {token} was acknowledged to {worker}, and no run is stored"
        ));
    };
    let fits = match run.outcome {
        // Who deletes a task deletes its results.
        Outcome::Succeeded => {
            told == Reported::Succeeded && (task.delete_called.is_some() || names_its_token(run))
        }
        Outcome::Failed => told == Reported::Failed,
        // A cancel request turns every end into CANCELLED; but what was taken away before is answered as stale.
        Outcome::Cancelled => {
            told == Reported::Cancelled || task.was_cancelled() && run.error.as_deref() != Some(REVOKED)
        }
        Outcome::TimedOut => has_limit(task) && matches!(told, Reported::Failed | Reported::Cancelled),
        Outcome::Released => told == Reported::Released,
        Outcome::Lost | Outcome::CancelRequested => false,
    };
    (!fits).then(|| {
        format!(
            "{told:?} of lease {token} was acknowledged to {worker}, and {:?} is stored, with a result of lease {:?}",
            run.outcome, run.result_token
        )
    })
}

/// What a worker that was asked to stop did with code that had ended before: it must report the end, not hand the task
/// back as if nothing had been done.
fn thrown_away(
    record: &Record<'_>,
    task: &TaskRecord<'_>,
    found: &TaskFound,
    code: &CodeSeen<'_>,
) -> Option<String> {
    let run = found.runs.iter().find(|run| run.token == code.token)?;
    let (ended, Some(end)) = code.ended? else {
        return None;
    };
    let (gone, why) = record.workers.get(code.worker)?.gone?;
    let is_forgotten = task.forgotten.iter().any(|(_, token)| *token == code.token);
    let is_drained = why == Gone::Stopped && gone >= ended && gone - ended < DRAIN;
    let is_thrown_away =
        run.outcome == Outcome::Released && is_drained && !is_forgotten && end != CodeEnd::Stopped;
    is_thrown_away.then(|| {
        format!(
            "{} handed lease {} back although its code had ended: {end:?}",
            code.worker, code.token
        )
    })
}

fn names_its_token(run: &RunFound) -> bool {
    run.result_token == Some(run.token)
}

fn has_limit(task: &TaskRecord<'_>) -> bool {
    task.submitted
        .is_some_and(|submitted| submitted.run_timeout_ms.is_some())
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Sample, run, task};
    use crate::{
        check::Invariant,
        history::{Answer, Gone, Outcome, ReportAnswer, Reported, RunFound, State},
    };

    fn sample(runs: Vec<RunFound>) -> Sample {
        Sample::new().submit(1, task("a")).found(9, "a", &[], runs)
    }

    #[test]
    fn a_task_that_is_tried_again_and_then_succeeds_is_right() {
        let runs = vec![
            run(1, Outcome::Failed, false),
            run(2, Outcome::Lost, false),
            run(3, Outcome::Succeeded, true),
        ];
        assert_eq!(sample(runs).breaks(), []);
    }

    #[test]
    fn two_final_runs_are_one_too_many() {
        let runs = vec![run(1, Outcome::Succeeded, true), run(2, Outcome::Succeeded, true)];
        assert_eq!(sample(runs).breaks(), [Invariant::OneOutcome]);
    }

    #[test]
    fn no_run_may_follow_the_final_one() {
        let runs = vec![run(1, Outcome::Succeeded, true), run(2, Outcome::Lost, false)];
        assert!(sample(runs).breaks().contains(&Invariant::OneOutcome));
    }

    #[test]
    fn a_gap_between_lease_tokens_is_found() {
        let third = RunFound {
            attempt: 1,
            ..run(3, Outcome::Succeeded, true)
        };
        let runs = vec![run(1, Outcome::Released, false), third];
        assert_eq!(sample(runs).breaks(), [Invariant::TokensGrow]);
    }

    #[test]
    fn an_acknowledged_success_must_be_the_stored_outcome() {
        let report = |runs, answer| {
            sample(runs)
                .report((3, 4), "w", ("a", 1), Reported::Succeeded, answer)
                .breaks()
        };
        let succeeded = || vec![run(1, Outcome::Succeeded, true)];
        let lost = || vec![run(1, Outcome::Lost, false), run(2, Outcome::Succeeded, true)];
        assert_eq!(report(succeeded(), ReportAnswer::Stored), []);
        assert_eq!(report(lost(), ReportAnswer::Stale), []);
        assert_eq!(
            report(lost(), ReportAnswer::Stored),
            [Invariant::AcknowledgedOutcome]
        );
    }

    #[test]
    fn an_acknowledged_success_may_be_stored_as_cancelled_but_not_as_revoked() {
        let stored = |error: Option<&str>| {
            let cancelled = RunFound {
                error: error.map(str::to_owned),
                ..run(1, Outcome::Cancelled, true)
            };
            let answer = Answer::Task {
                state: State::Running,
                token: 1,
                cancel_requested: true,
            };
            let report = Reported::Succeeded;
            sample(vec![cancelled])
                .cancel(2, "a", answer)
                .report((3, 4), "w", ("a", 1), report, ReportAnswer::Stored)
                .breaks()
        };
        assert_eq!(stored(None), []);
        assert_eq!(stored(Some("REVOKED")), [Invariant::AcknowledgedOutcome]);
    }

    #[test]
    fn a_result_must_be_that_of_its_own_lease() {
        let mut other = run(1, Outcome::Succeeded, true);
        other.result_token = Some(7);
        let breaks = sample(vec![other])
            .report((3, 4), "w", ("a", 1), Reported::Succeeded, ReportAnswer::Stored)
            .breaks();
        assert_eq!(breaks, [Invariant::AcknowledgedOutcome]);
    }

    #[test]
    fn code_that_had_ended_may_not_be_handed_back() {
        let again = RunFound {
            attempt: 1,
            ..run(2, Outcome::Succeeded, true)
        };
        let runs = vec![run(1, Outcome::Released, false), again];
        let drained = |why| {
            let sample = sample(runs.clone()).worker(1, "w", 1);
            sample.code((2, 3), "w", "a", 1).gone(8, "w", why).breaks()
        };
        assert_eq!(drained(Gone::Stopped), [Invariant::AcknowledgedOutcome]);
        assert_eq!(drained(Gone::Killed), []);
    }
}
