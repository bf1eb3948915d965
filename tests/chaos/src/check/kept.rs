//! Nothing acknowledged is lost, nothing is invented.

use crate::fault_kind::Harm;

use super::{Breach, Invariant, breach, quiet::windows, record::Record};

pub(super) fn check(record: &Record<'_>) -> Vec<Breach> {
    let windows = windows(record, Harm::None);
    let mut breaches = Vec::new();
    for (id, task) in &record.tasks {
        // Clients of a run repeat a submit with the very same words only.
        let refusal = task
            .refusals
            .iter()
            .find(|(_, words)| words.contains("AlreadyExists"));
        let failure = task.refusals.iter().find(|(at, words)| {
            let is_quiet = windows.iter().any(|(from, to)| from <= at && at < to);
            words.starts_with("Internal") && is_quiet
        });
        if let Some((at, words)) = failure {
            let text = format!("nothing was wrong, and a submit failed: {words}");
            breaches.push(breach(Invariant::RepeatIsSafe, id, *at, text));
        }
        if let Some((at, words)) = refusal {
            breaches.push(breach(
                Invariant::RepeatIsSafe,
                id,
                *at,
                format!("a repeated submit was refused: {words}"),
            ));
        }
    }
    if !record.was_audited {
        return breaches;
    }
    for (id, task) in &record.tasks {
        if let (Some(stored), None) = (task.stored, task.found) {
            let text = "the submit was acknowledged, and the database does not hold the task at the end";
            breaches.push(breach(Invariant::AcknowledgedKept, id, stored, text));
        }
        if task.found.is_some() && task.called.is_none() {
            let text = "the database holds a task that no client submitted";
            breaches.push(breach(Invariant::NothingInvented, id, record.end, text));
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Sample, run, task};
    use crate::{
        check::Invariant,
        history::{Answer, Event, Outcome, Request},
    };

    #[test]
    fn a_stored_task_that_is_there_at_the_end_is_kept() {
        let runs = vec![run(1, Outcome::Succeeded, true)];
        assert_eq!(
            Sample::new()
                .submit(1, task("a"))
                .found(9, "a", &[], runs)
                .breaks(),
            []
        );
    }

    #[test]
    fn a_stored_task_that_is_gone_at_the_end_is_lost() {
        let runs = vec![run(1, Outcome::Succeeded, true)];
        let sample = Sample::new().submit(1, task("a")).submit(1, task("b"));
        assert_eq!(
            sample.found(9, "b", &[], runs).breaks(),
            [Invariant::AcknowledgedKept]
        );
    }

    #[test]
    fn a_task_whose_submit_was_not_answered_may_be_there_or_not() {
        let unknown = Answer::Unknown {
            status: "unavailable".to_owned(),
        };
        let request = Request::Submit {
            tasks: vec![task("a")],
        };
        let runs = || vec![run(1, Outcome::Succeeded, true)];
        let sample = || {
            Sample::new()
                .submit(1, task("b"))
                .found(9, "b", &[], runs())
                .call(1, 2, request.clone(), unknown.clone())
        };
        assert_eq!(sample().breaks(), []);
        assert_eq!(sample().found(9, "a", &[], runs()).breaks(), []);
    }

    #[test]
    fn a_repeated_submit_is_not_refused_as_another_task() {
        let refused = |words: &str| {
            let answer = Answer::Refused {
                status: words.to_owned(),
            };
            let request = Request::Submit {
                tasks: vec![task("a")],
            };
            Sample::new()
                .submit(1, task("a"))
                .call(2, 3, request, answer)
                .breaks()
        };
        assert_eq!(refused("ResourceExhausted: too much"), []);
        assert_eq!(refused("AlreadyExists: another task"), [Invariant::RepeatIsSafe]);
    }

    #[test]
    fn a_submit_never_fails_for_an_inner_reason_while_nothing_is_wrong() {
        let failed = |ms, words: &str| {
            let answer = Answer::Unknown {
                status: words.to_owned(),
            };
            let request = Request::Submit {
                tasks: vec![task("a")],
            };
            let sample = Sample::new().submit(1, task("a"));
            let sample = sample.call(ms, ms, request, answer);
            sample.event(20_000, Event::RunEnds).breaks()
        };
        assert_eq!(failed(9_000, "Internal: an error"), [Invariant::RepeatIsSafe]);
        assert_eq!(failed(9_000, "Unavailable: come again"), []);
        // A run begins with connections that are not made yet.
        assert_eq!(failed(2_000, "Internal: an error"), []);
    }

    #[test]
    fn a_task_that_nobody_submitted_is_invented() {
        let runs = vec![run(1, Outcome::Succeeded, true)];
        let sample = Sample::new().found(9, "a", &[], runs);
        assert_eq!(sample.breaks(), [Invariant::NothingInvented]);
    }
}
