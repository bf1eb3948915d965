//! What happens to workers and machines is not charged to tasks: neither an attempt nor a loss.

use crate::{
    fault_kind::{FaultKind, Harm},
    history::{Micros, Outcome, RunFound},
};

use super::{
    Breach, Invariant, breach,
    quiet::{STALL, is_worse},
    record::{Record, TaskRecord},
};

/// An outage of this length is one that schedulers notice, whatever the lease.
const OUTAGE: Micros = 3_500_000;

pub(super) fn check(record: &Record<'_>) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (id, task) in &record.tasks {
        let Some(found) = task.found else {
            continue;
        };
        if let Some(text) = too_late_attempt(&found.runs) {
            breaches.push(breach(Invariant::RightEnd, id, record.end, text));
        }
        for run in &found.runs {
            if let Some((at, text)) = lost_by_outage(record, task, run) {
                breaches.push(breach(Invariant::RightEnd, id, at, text));
            }
        }
    }
    breaches
}

/// A run that was handed back uses up no attempt.
fn too_late_attempt(runs: &[RunFound]) -> Option<String> {
    runs.iter().find_map(|run| {
        let uses_one = |before: &&RunFound| before.token < run.token && before.outcome != Outcome::Released;
        let used = runs.iter().filter(uses_one).count();
        let most = u32::try_from(used + 1).unwrap_or(u32::MAX);
        (run.attempt > most).then(|| {
            format!(
                "lease {} was attempt {}, and only {used} runs before it had used up an attempt",
                run.token, run.attempt
            )
        })
    })
}

/// While Postgres is away no heartbeat can be stored. A worker that lives on may lose its session by that, and then
/// its tasks are handed back; they are not counted as lost.
fn lost_by_outage(record: &Record<'_>, task: &TaskRecord<'_>, run: &RunFound) -> Option<(Micros, String)> {
    if run.outcome != Outcome::Lost {
        return None;
    }
    let leases = task
        .leases
        .iter()
        .map(|lease| (lease.token, lease.worker, lease.at));
    let codes = task
        .codes
        .iter()
        .map(|code| (code.token, code.worker, code.started));
    let seen: Vec<(i64, &str, Micros)> = leases.chain(codes).collect();
    let (_, worker, from) = seen
        .iter()
        .filter(|(token, ..)| *token == run.token)
        .min_by_key(|(.., at)| *at)?;
    let next = seen.iter().filter(|(token, ..)| *token > run.token);
    let to = next.map(|(.., at)| *at).min().unwrap_or(record.end);
    let gone = record.workers.get(worker)?.gone;
    if gone.is_some_and(|(at, _)| at <= to) {
        return None;
    }
    let from = from.saturating_sub(record.lease());
    let stalls = record
        .stalls
        .iter()
        .any(|(begins, ends)| ends - begins >= STALL && *begins <= to && *ends >= from);
    let mut harmful = record
        .faults
        .iter()
        .filter(|fault| is_worse(fault.kind.harm(), Harm::SparesSessions))
        // Workers do not feel it.
        .filter(|fault| fault.kind != FaultKind::CutClients)
        .filter(|fault| fault.begins <= to && fault.ends >= from);
    let is_long = |fault: &super::record::FaultRecord<'_>| {
        fault.kind == FaultKind::StopPostgres
            && fault.ends.saturating_sub(fault.begins) > OUTAGE.max(record.lease() / 2)
    };
    let (Some(outage), None) = (harmful.next(), harmful.next()) else {
        return None;
    };
    (is_long(outage) && !stalls).then(|| {
        let text = format!(
            "lease {} on {worker} was counted as lost, and nothing had happened but that Postgres was away",
            run.token
        );
        (outage.begins, text)
    })
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Sample, run, task};
    use crate::{
        check::Invariant,
        fault_kind::FaultKind,
        history::{Gone, Outcome, RunFound},
    };

    fn attempts(runs: &[(Outcome, u32)]) -> Vec<Invariant> {
        let last = runs.len();
        let runs = runs.iter().zip(1..).map(|((outcome, attempt), token)| RunFound {
            attempt: *attempt,
            ..run(token, *outcome, usize::try_from(token) == Ok(last))
        });
        Sample::new()
            .submit(1, task("a"))
            .found(9, "a", &[], runs.collect())
            .breaks()
    }

    #[test]
    fn a_run_that_was_handed_back_uses_up_no_attempt() {
        let (released, succeeded) = (Outcome::Released, Outcome::Succeeded);
        assert_eq!(attempts(&[(released, 1), (succeeded, 1)]), []);
        assert_eq!(attempts(&[(Outcome::Failed, 1), (succeeded, 2)]), []);
        assert_eq!(attempts(&[(released, 1), (succeeded, 2)]), [Invariant::RightEnd]);
    }

    /// A worker that has a task in hand while a fault lasts, and again later.
    fn outage(outcome: Outcome, kind: FaultKind) -> Sample {
        let runs = vec![run(1, outcome, false), run(2, Outcome::Succeeded, true)];
        let runs = runs.into_iter().map(|run| RunFound { attempt: 1, ..run });
        Sample::new()
            .worker(0, "w", 1)
            .submit(9_000, task("a"))
            .lease(9_100, "w", "a", 1)
            .fault((10_000, 15_000), kind)
            .lease(20_000, "w", "a", 2)
            .found(30_000, "a", &[], runs.collect())
    }

    #[test]
    fn a_run_that_only_an_outage_ended_is_not_counted_as_lost() {
        assert_eq!(outage(Outcome::Released, FaultKind::StopPostgres).breaks(), []);
        assert_eq!(outage(Outcome::Lost, FaultKind::FreezeWorker).breaks(), []);
        assert_eq!(
            outage(Outcome::Lost, FaultKind::StopPostgres).breaks(),
            [Invariant::RightEnd]
        );
    }

    #[test]
    fn a_run_whose_worker_died_during_an_outage_may_be_lost() {
        let sample = outage(Outcome::Lost, FaultKind::StopPostgres);
        assert_eq!(sample.gone(12_000, "w", Gone::Killed).breaks(), []);
    }
}
