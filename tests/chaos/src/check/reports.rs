//! Reports under an old lease token are refused, and no others.

use crate::history::{Micros, ReportAnswer};

use super::{Breach, Invariant, breach, record::Record};

pub(super) fn check(record: &Record<'_>) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (id, task) in &record.tasks {
        for report in &task.reports {
            if let Some((at, ReportAnswer::Refused)) = report.answered {
                let text = format!(
                    "{:?} of lease {} was refused, and all that workers of a run report can be stored",
                    report.report, report.token
                );
                breaches.push(breach(Invariant::AcknowledgedOutcome, id, at, text));
            }
            let Some((at, ReportAnswer::Stored)) = report.answered else {
                continue;
            };
            // A worker had the next lease before this was sent, so this one had ended in the database.
            let next = task
                .leases
                .iter()
                .filter(|lease| lease.token > report.token && lease.at < report.sent)
                .map(|lease| lease.token)
                .min();
            let Some(next) = next else {
                continue;
            };
            // The winning outcome may be repeated as often as a worker likes; `outcomes` compares it with the tables.
            if report.report.is_outcome() {
                continue;
            }
            let text = format!(
                "{:?} of lease {} was stored for {} although lease {next} had been given {} ms before it was sent",
                report.report,
                report.token,
                report.worker,
                age(
                    task.leases
                        .iter()
                        .filter(|lease| lease.token == next)
                        .map(|lease| lease.at),
                    report.sent
                ),
            );
            breaches.push(breach(Invariant::StaleRefused, id, at, text));
        }
    }
    breaches
}

fn age(times: impl Iterator<Item = Micros>, now: Micros) -> Micros {
    now.saturating_sub(times.min().unwrap_or(now)) / 1_000
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Sample, task};
    use crate::{
        check::Invariant,
        history::{ReportAnswer, Reported},
    };

    fn late_progress(sent: u64, answer: ReportAnswer) -> Vec<Invariant> {
        Sample::new()
            .submit(1, task("a"))
            .lease(2, "w", "a", 1)
            .lease(5, "v", "a", 2)
            .report((sent, 8), "w", ("a", 1), Reported::Progress(1), answer)
            .breaks()
    }

    #[test]
    fn progress_under_an_old_token_must_be_stale() {
        assert_eq!(late_progress(6, ReportAnswer::Stale), []);
        assert_eq!(late_progress(6, ReportAnswer::Stored), [Invariant::StaleRefused]);
    }

    #[test]
    fn an_outcome_of_a_run_is_never_refused_for_what_it_says() {
        let answered = |answer| {
            let sample = Sample::new().submit(1, task("a")).lease(2, "w", "a", 1);
            let report = Reported::Succeeded;
            sample.report((3, 4), "w", ("a", 1), report, answer).breaks()
        };
        assert_eq!(answered(ReportAnswer::Stale), []);
        assert_eq!(answered(ReportAnswer::Refused), [Invariant::AcknowledgedOutcome]);
    }

    #[test]
    fn progress_that_was_sent_in_time_may_be_answered_late() {
        assert_eq!(late_progress(4, ReportAnswer::Stored), []);
    }
}
