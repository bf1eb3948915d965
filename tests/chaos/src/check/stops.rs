//! A cancel reaches the code that runs.

use crate::{
    behaviour::End,
    fault_kind::Harm,
    history::{Answer, Micros, State},
};

use super::{
    Breach, Invariant, breach,
    quiet::{windows, within},
    record::{CodeSeen, Record, TaskRecord},
};

/// How long the request may be on its way: a notification that is lost is made up for within a second. Shorter than the
/// grace that clients of a run give, after which the lease is taken away.
const BOUND: Micros = 1_700_000;

pub(super) fn check(record: &Record<'_>) -> Vec<Breach> {
    let windows = windows(record, Harm::None);
    let mut breaches = Vec::new();
    for (id, task) in &record.tasks {
        for cancel in &task.cancels {
            let Some((
                at,
                Answer::Task {
                    state: State::Running,
                    token,
                    ..
                },
            )) = cancel.answered
            else {
                continue;
            };
            let until = at + BOUND;
            if !within(&windows, at, until).contains(&(at, until)) {
                continue;
            }
            let mut codes = task.codes.iter().filter(|code| code.token == *token);
            let deaf = codes.find(|code| code.started < at && is_deaf(record, task, code, until));
            if let Some(code) = deaf {
                let text = format!(
                    "its cancel was accepted, and {} ms later its code on {} had not been told",
                    BOUND / 1_000,
                    code.worker
                );
                breaches.push(breach(Invariant::CancelReachesCode, id, at, text));
            }
        }
    }
    breaches
}

/// True if code goes on that would have stopped.
fn is_deaf(record: &Record<'_>, task: &TaskRecord<'_>, code: &CodeSeen<'_>, until: Micros) -> bool {
    let Some(worker) = record.workers.get(code.worker) else {
        return false;
    };
    let was_told = task
        .stops
        .iter()
        .any(|(at, token)| *token == code.token && *at <= until);
    let has_ended = code.ended.is_some_and(|(at, _)| at <= until);
    let is_gone = worker.gone.is_some_and(|(at, _)| at <= until);
    // Of a worker process only the end of its code is seen.
    let ignores = task
        .submitted
        .is_none_or(|submitted| submitted.behaviour.end == End::IgnoreStop);
    !was_told && !has_ended && !is_gone && (worker.bare || !ignores)
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Sample, task};
    use crate::{
        check::Invariant,
        fault_kind::FaultKind,
        history::{Answer, Event, State},
    };

    /// A task that is cancelled at 10 s while it runs; its code goes on until then.
    fn cancelled(until: u64) -> Sample {
        let answer = Answer::Task {
            state: State::Running,
            token: 1,
            cancel_requested: true,
        };
        Sample::new()
            .worker(0, "w", 1)
            .submit(9_000, task("a"))
            .code((9_100, until), "w", "a", 1)
            .cancel(10_000, "a", answer)
            .event(30_000, Event::RunEnds)
    }

    #[test]
    fn code_that_is_cancelled_stops_or_is_told_so() {
        let told = Event::StopReceived {
            worker: "w".to_owned(),
            task: "a".to_owned(),
            token: 1,
        };
        assert_eq!(cancelled(10_300).breaks(), []);
        assert_eq!(cancelled(13_000).event(10_300, told).breaks(), []);
        assert_eq!(cancelled(13_000).breaks(), [Invariant::CancelReachesCode]);
    }

    #[test]
    fn a_cancel_may_take_longer_while_a_fault_lasts() {
        let sample = cancelled(13_000).fault((9_000, 9_500), FaultKind::CutWorker);
        assert_eq!(sample.breaks(), []);
    }
}
