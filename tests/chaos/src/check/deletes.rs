//! A deleted task stays deleted.

use crate::history::Answer;

use super::{Breach, Invariant, breach, record::Record};

pub(super) fn check(record: &Record<'_>) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (id, task) in &record.tasks {
        let mut tell = |at, text: String| breaches.push(breach(Invariant::DeletedStays, id, at, text));
        for (at, answer) in &task.revivals {
            // The words of the contract for an id that belonged to a deleted task.
            let is_refused = match answer {
                Answer::Refused { status } => {
                    status.starts_with("AlreadyExists") && status.contains("deleted")
                }
                Answer::Unknown { .. } => true,
                _ => false,
            };
            if !is_refused {
                tell(
                    *at,
                    format!("it was deleted and submitted again, and the answer was {answer:?}"),
                );
            }
        }
        let Some(deleted) = task.deleted() else {
            continue;
        };
        if let Some(read) = task
            .reads
            .iter()
            .find(|read| read.called > deleted && read.state.is_some())
        {
            tell(
                read.answered,
                format!("it was deleted, and a later read said {:?}", read.state),
            );
        }
        // A worker that was frozen may begin what it got long ago.
        let last = task
            .found
            .and_then(|found| found.runs.iter().map(|run| run.token).max());
        let leases = task.leases.iter().map(|lease| (lease.at, lease.token));
        let codes = task.codes.iter().map(|code| (code.started, code.token));
        let again = leases
            .chain(codes)
            .find(|(at, token)| *at > deleted && Some(*token) > last);
        if let (Some((at, token)), Some(_)) = (again, last) {
            tell(
                at,
                format!("it was deleted, and came to a worker again as lease {token}"),
            );
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Sample, run, task};
    use crate::{
        check::Invariant,
        history::{Answer, Outcome, Request, State},
    };

    fn deleted() -> Sample {
        let runs = vec![run(1, Outcome::Succeeded, true)];
        let delete = Request::Delete { task: "a".to_owned() };
        Sample::new()
            .submit(1, task("a"))
            .read(2, 3, "a", State::Succeeded, 1)
            .call(4, 5, delete, Answer::Deleted)
            .found(99, "a", &[], runs)
    }

    fn revived(answer: Answer) -> Vec<Invariant> {
        let revive = Request::Revive { task: "a".to_owned() };
        deleted().call(6, 7, revive, answer).breaks()
    }

    #[test]
    fn the_id_of_a_deleted_task_is_refused() {
        let refused = |text: &str| Answer::Refused {
            status: text.to_owned(),
        };
        let right = "AlreadyExists: task id a belonged to a task that was deleted; choose another";
        assert_eq!(revived(refused(right)), []);
        assert_eq!(
            revived(refused("AlreadyExists: a different task")),
            [Invariant::DeletedStays]
        );
        assert_eq!(revived(Answer::Stored), [Invariant::DeletedStays]);
    }

    #[test]
    fn a_deleted_task_is_read_no_more() {
        let gone = Request::Get { task: "a".to_owned() };
        assert_eq!(deleted().call(6, 7, gone, Answer::NotFound).breaks(), []);
        assert_eq!(
            deleted().read(6, 7, "a", State::Succeeded, 1).breaks(),
            [Invariant::DeletedStays]
        );
    }

    #[test]
    fn a_deleted_task_never_runs_again() {
        assert_eq!(
            deleted().lease(9, "w", "a", 1).breaks(),
            [],
            "a lease that was under way"
        );
        assert!(
            deleted()
                .lease(9, "w", "a", 2)
                .breaks()
                .contains(&Invariant::DeletedStays)
        );
    }
}
