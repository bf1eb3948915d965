//! What clients read never goes back, and an acknowledged cancel wins.

use crate::history::{Answer, State};

use super::{
    Breach, Invariant, breach,
    record::{Record, TaskRecord},
};

pub(super) fn check(record: &Record<'_>) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (id, task) in &record.tasks {
        check_reads(id, task, &mut breaches);
        check_cancels(id, task, record, &mut breaches);
    }
    breaches
}

fn check_reads(id: &str, task: &TaskRecord<'_>, breaches: &mut Vec<Breach>) {
    for read in &task.reads {
        let may_be_deleted = task.delete_called.is_some_and(|called| called < read.answered);
        if read.state.is_none() && !may_be_deleted && task.stored.is_some_and(|stored| stored < read.called) {
            let text = "a read after the acknowledged submit found no task";
            breaches.push(breach(Invariant::AcknowledgedKept, id, read.answered, text));
        }
        if let (Some(state), Some(ended)) = (read.state, task.final_state())
            && state.is_final()
            && state != ended
        {
            let text = format!("a client was told {state:?}, and the task is {ended:?} at the end");
            breaches.push(breach(Invariant::FinalStays, id, read.answered, text));
        }
        let later = task.reads.iter().filter(|later| later.called > read.answered);
        for later in later {
            let may_be_deleted = task.delete_called.is_some_and(|called| called < later.answered);
            let is_gone = later.state.is_none() && may_be_deleted;
            let is_undone = read.state.is_some_and(State::is_final) && later.state != read.state && !is_gone;
            let is_older = later.state.is_some() && later.token < read.token;
            if is_undone || is_older {
                let text = format!(
                    "a client was told {:?} with lease {}, and a later read said {:?} with lease {}",
                    read.state, read.token, later.state, later.token
                );
                breaches.push(breach(Invariant::FinalStays, id, later.answered, text));
                return;
            }
        }
    }
}

fn check_cancels(id: &str, task: &TaskRecord<'_>, record: &Record<'_>, breaches: &mut Vec<Breach>) {
    for cancel in &task.cancels {
        let Some((at, answer)) = cancel.answered else {
            continue;
        };
        let ended = task.final_state();
        let text = match answer {
            Answer::Task {
                state: State::Cancelled,
                ..
            } => {
                let later = task.codes.iter().find(|code| code.started > at);
                let later = later.filter(|code| !is_late_start(task, code.token, at));
                if let Some(code) = later {
                    Some(format!(
                        "it was cancelled, and its code started {} ms later under lease {}",
                        (code.started - at) / 1_000,
                        code.token
                    ))
                } else {
                    ended
                        .filter(|state| *state != State::Cancelled)
                        .map(|state| format!("it was cancelled, and ended {state:?}"))
                }
            }
            Answer::Task {
                state: State::Running,
                cancel_requested,
                ..
            } => match ended {
                _ if !cancel_requested => {
                    Some("the answer to a cancel does not say that it is requested".into())
                }
                Some(State::Cancelled) => None,
                Some(state) => Some(format!("its cancel was accepted, and it ended {state:?}")),
                None => None,
            },
            Answer::Task { state, .. } => Some(format!("a cancel was answered with {state:?}")),
            Answer::WrongState if ended == Some(State::Cancelled) && record.was_audited => {
                Some("a cancel was refused because it had ended otherwise, and it ended CANCELLED".into())
            }
            _ => None,
        };
        if let Some(text) = text {
            breaches.push(breach(Invariant::CancelWins, id, at, text));
        }
    }
}

/// True if the lease was made before the cancel was answered, and only reached its worker later: what the worker then
/// starts is told to stop.
fn is_late_start(task: &TaskRecord<'_>, token: i64, cancelled: u64) -> bool {
    let last = task.reads.iter().filter(|read| read.answered <= cancelled);
    last.map(|read| read.token).max().unwrap_or(0) >= token
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Sample, run, task};
    use crate::{
        check::Invariant,
        history::{Answer, Outcome, State},
    };

    fn told(state: State, token: i64, cancel_requested: bool) -> Answer {
        Answer::Task {
            state,
            token,
            cancel_requested,
        }
    }

    fn sample() -> Sample {
        Sample::new().submit(1, task("a"))
    }

    #[test]
    fn reads_that_overlap_may_see_either_state() {
        let sample = sample()
            .read(2, 6, "a", State::Succeeded, 1)
            .read(3, 7, "a", State::Running, 1);
        assert_eq!(sample.breaks(), []);
    }

    #[test]
    fn a_final_state_may_not_be_followed_by_another() {
        let sample = sample()
            .read(2, 3, "a", State::Succeeded, 1)
            .read(4, 5, "a", State::Running, 1);
        assert_eq!(sample.breaks(), [Invariant::FinalStays]);
    }

    #[test]
    fn a_lease_token_may_not_go_back() {
        let sample = sample()
            .read(2, 3, "a", State::Running, 2)
            .read(4, 5, "a", State::Pending, 1);
        assert_eq!(sample.breaks(), [Invariant::FinalStays]);
    }

    #[test]
    fn a_state_that_a_client_was_told_must_be_the_stored_one() {
        let sample = sample().read(2, 3, "a", State::Failed, 1).found(
            9,
            "a",
            &[],
            vec![run(1, Outcome::Succeeded, true)],
        );
        assert_eq!(sample.breaks(), [Invariant::FinalStays]);
    }

    #[test]
    fn a_stored_task_is_found_by_every_later_read() {
        let get = crate::history::Request::Get { task: "a".to_owned() };
        assert_eq!(
            sample().call(2, 3, get, Answer::NotFound).breaks(),
            [Invariant::AcknowledgedKept]
        );
    }

    #[test]
    fn a_cancelled_task_ends_cancelled() {
        let cancelled = |outcome| {
            sample()
                .cancel(5, "a", told(State::Running, 1, true))
                .found(9, "a", &[], vec![run(1, outcome, true)])
                .breaks()
        };
        assert_eq!(cancelled(Outcome::Cancelled), []);
        assert_eq!(cancelled(Outcome::Succeeded), [Invariant::CancelWins]);
    }

    #[test]
    fn a_task_that_was_cancelled_while_it_waited_never_starts() {
        let started = sample()
            .cancel(5, "a", told(State::Cancelled, 0, false))
            .code((6, 7), "w", "a", 1);
        assert_eq!(started.breaks(), [Invariant::CancelWins]);
    }

    #[test]
    fn a_cancel_is_refused_only_if_the_task_ended_otherwise() {
        let refused = |outcome| {
            sample()
                .cancel(5, "a", Answer::WrongState)
                .found(9, "a", &[], vec![run(1, outcome, true)])
                .breaks()
        };
        assert_eq!(refused(Outcome::Succeeded), []);
        assert_eq!(refused(Outcome::Cancelled), [Invariant::CancelWins]);
    }
}
