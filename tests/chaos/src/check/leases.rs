//! No two leases of one task at once.

use crate::{
    fault_kind::FaultKind,
    history::{Gone, Micros, ReportAnswer, Reported},
};

use super::{
    Breach, Invariant, breach,
    quiet::strikes,
    record::{CodeSeen, LeaseSeen, Record, TaskRecord},
};

/// How long code may go on after its lease passed to another worker, though nothing hindered its own: the time of a
/// busy machine.
const SLACK: Micros = 1_500_000;

pub(super) fn check(record: &Record<'_>) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (id, task) in &record.tasks {
        for (number, lease) in task.leases.iter().enumerate() {
            let others = task.leases.iter().skip(number + 1);
            for other in others {
                if other.token == lease.token && other.session != lease.session {
                    let text = format!(
                        "lease {} was given to {} and to {}",
                        lease.token, lease.worker, other.worker
                    );
                    breaches.push(breach(Invariant::TokensGrow, id, other.at, text));
                }
            }
            let Some((from, to)) = validity(record, task, lease) else {
                continue;
            };
            let during =
                |other: &&LeaseSeen<'_>| other.token != lease.token && from < other.at && other.at < to;
            if let Some(other) = task.leases.iter().find(during) {
                let text = format!(
                    "{} got lease {} while {} held lease {}, which was valid for another {} ms",
                    other.worker,
                    other.token,
                    lease.worker,
                    lease.token,
                    (to - other.at) / 1_000
                );
                breaches.push(breach(Invariant::OneLease, id, other.at, text));
            }
        }
        check_code(id, task, record, &mut breaches);
    }
    breaches
}

/// From when to when a worker could rely on a lease: from its accepted acceptance until it reported an outcome, heard
/// that it is to stop or is too late, or its session's time ran out.
fn validity(record: &Record<'_>, task: &TaskRecord<'_>, lease: &LeaseSeen<'_>) -> Option<(Micros, Micros)> {
    let worker = record.workers.get(lease.worker)?;
    let own = || {
        task.reports
            .iter()
            .filter(|report| report.worker == lease.worker && report.token == lease.token)
    };
    let from = own()
        .filter(|report| report.report == Reported::Accepted)
        .filter_map(|report| report.answered)
        .find(|(_, answer)| *answer == ReportAnswer::Stored)?
        .0;
    let outcome = own()
        .filter(|report| report.report.is_outcome())
        .map(|report| report.sent);
    let stale = own()
        .filter_map(|report| report.answered)
        .filter(|(_, answer)| *answer != ReportAnswer::Stored)
        .map(|(at, _)| at);
    let of_token = |times: &[(Micros, i64)]| {
        let first = times.iter().find(|(_, token)| *token == lease.token);
        first.map(|(at, _)| *at)
    };
    let cancelled = task.cancels.iter().map(|cancel| cancel.called);
    // Leases end by the clock of Postgres, so they end early when that jumps.
    let jumps = record
        .faults
        .iter()
        .filter(|fault| fault.kind == FaultKind::JumpDatabaseClock && fault.ends > lease.at)
        .map(|fault| fault.begins);
    let to = outcome
        .chain(stale)
        .chain(cancelled)
        .chain(jumps)
        .chain(of_token(&task.stops))
        .chain(of_token(&task.forgotten))
        .chain(worker.gone.map(|(at, _)| at))
        .chain(worker.lost.iter().map(|(at, ..)| *at).filter(|at| *at > lease.at))
        .chain(expiry(record, lease, from))
        .min()
        .unwrap_or(record.end);
    Some((from, to))
}

/// When the session ran out for the first time after `from`, as its worker knows it.
fn expiry(record: &Record<'_>, lease: &LeaseSeen<'_>, from: Micros) -> Option<Micros> {
    let worker = record.workers.get(lease.worker)?;
    let own = || {
        worker
            .alive
            .iter()
            .filter(|(_, session, _)| *session == lease.session)
    };
    let mut until = own()
        .filter(|(at, ..)| *at <= from)
        .map(|(_, _, sent)| *sent)
        .max()?
        + record.lease();
    for (at, _, sent) in own().filter(|(at, ..)| *at > from) {
        if *at > until {
            break;
        }
        until = until.max(sent + record.lease());
    }
    Some(until)
}

/// Code that goes on under an old token although nothing has hindered its worker.
fn check_code(id: &str, task: &TaskRecord<'_>, record: &Record<'_>, breaches: &mut Vec<Breach>) {
    for (number, code) in task.codes.iter().enumerate() {
        let next = task
            .codes
            .iter()
            .skip(number + 1)
            .find(|next| next.token > code.token);
        let Some(next) = next else {
            continue;
        };
        let last = last_sign(task, code);
        let is_late = last > next.started + SLACK;
        let from = next.started.saturating_sub(2 * record.lease());
        let is_gone = record
            .workers
            .get(code.worker)
            .and_then(|worker| worker.gone)
            .is_some_and(|(at, why)| why != Gone::ByItself && at < last);
        if is_late && !is_gone && !strikes(record, from, last) {
            let text = format!(
                "code of lease {} was still at work on {} {} ms after lease {} began on {}",
                code.token,
                code.worker,
                (last - next.started) / 1_000,
                next.token,
                next.worker
            );
            breaches.push(breach(Invariant::OneLease, id, last, text));
        }
    }
}

fn last_sign(task: &TaskRecord<'_>, code: &CodeSeen<'_>) -> Micros {
    let effects = task
        .effects
        .iter()
        .filter(|effect| effect.worker == code.worker && effect.token == code.token)
        .map(|effect| effect.at);
    let ended = code.ended.map(|(at, _)| at);
    effects.chain(ended).max().unwrap_or(code.started)
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Sample, task};
    use crate::{
        check::Invariant,
        fault_kind::FaultKind,
        history::{Gone, ReportAnswer, Reported},
    };

    /// A worker that holds a lease since 100 ms, with a session that lives until 3,100 ms.
    fn held() -> Sample {
        Sample::new()
            .submit(1, task("a"))
            .worker(50, "w", 1)
            .alive(100, 110, "w")
            .lease(150, "w", "a", 1)
            .report(
                (160, 170),
                "w",
                ("a", 1),
                Reported::Accepted,
                ReportAnswer::Stored,
            )
    }

    #[test]
    fn a_second_lease_while_the_first_is_valid_is_found() {
        assert_eq!(held().lease(3_000, "v", "a", 2).breaks(), [Invariant::OneLease]);
    }

    #[test]
    fn a_second_lease_after_the_session_ran_out_is_right() {
        assert_eq!(held().lease(3_200, "v", "a", 2).breaks(), []);
    }

    #[test]
    fn a_lease_may_end_early_when_the_clock_of_postgres_jumps() {
        let jump = |kind| {
            held()
                .fault((1_000, 1_100), kind)
                .lease(2_000, "v", "a", 2)
                .breaks()
        };
        assert_eq!(jump(FaultKind::JumpDatabaseClock), []);
        assert_eq!(jump(FaultKind::JumpClock), [Invariant::OneLease]);
    }

    #[test]
    fn a_heartbeat_prolongs_all_leases_of_its_session() {
        let sample = held().alive(2_000, 2_010, "w").lease(4_900, "v", "a", 2);
        assert_eq!(sample.breaks(), [Invariant::OneLease]);
    }

    #[test]
    fn a_lease_ends_with_its_outcome_or_with_its_worker() {
        let report = held().report((500, 510), "w", ("a", 1), Reported::Failed, ReportAnswer::Stored);
        assert_eq!(report.lease(600, "v", "a", 2).breaks(), []);
        let gone = held().gone(500, "w", Gone::Stopped);
        assert_eq!(gone.lease(600, "v", "a", 2).breaks(), []);
    }

    #[test]
    fn one_token_may_not_be_given_to_two_sessions() {
        let sample = held().lease(3_500, "v", "a", 1);
        assert_eq!(sample.breaks(), [Invariant::TokensGrow]);
    }

    #[test]
    fn code_that_goes_on_beside_the_next_run_is_found_unless_a_fault_explains_it() {
        let both = || {
            Sample::new()
                .submit(1, task("a"))
                .worker(50, "w", 1)
                .code((100, 9_000), "w", "a", 1)
                .code((5_000, 5_100), "v", "a", 2)
        };
        assert_eq!(both().breaks(), [Invariant::OneLease]);
        assert_eq!(both().fault((2_000, 6_000), FaultKind::FreezeWorker).breaks(), []);
    }
}
