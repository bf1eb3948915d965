//! No task is lost between two places, and in the end all have ended.

use crate::history::{Event, Outcome, PlaceKind, TaskFound};

use super::{Breach, Invariant, breach, record::Record};

/// The kind of error of a task that a scheduler itself found in no place.
const STRAY: &str = "STRAY";

pub(super) fn check(record: &Record<'_>) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (id, task) in &record.tasks {
        let Some(found) = task.found else {
            continue;
        };
        if let Some(text) = misplaced(found) {
            breaches.push(breach(Invariant::OnePlace, id, record.end, text));
        }
        if let Some(run) = found.runs.iter().find(|run| run.error.as_deref() == Some(STRAY)) {
            let text = format!(
                "a scheduler found it in no place, and rescued it after lease {}",
                run.token - 1
            );
            breaches.push(breach(Invariant::OnePlace, id, record.end, text));
        }
        if !has_ended(found) {
            let text = format!(
                "it has not ended although all faults are over; it is in {:?}",
                found.places
            );
            breaches.push(breach(Invariant::AllEnd, id, record.end, text));
        }
    }
    for entry in &record.others {
        if let Event::Misplaced { tasks } = &entry.event {
            for found in tasks {
                let text = misplaced(found).unwrap_or_default();
                breaches.push(breach(Invariant::OnePlace, &found.task, entry.at, text));
            }
        }
    }
    breaches
}

/// What is wrong with the places in which a task was found, if anything is.
pub fn misplaced(found: &TaskFound) -> Option<String> {
    let closed = found
        .runs
        .iter()
        .filter(|run| run.outcome != Outcome::CancelRequested);
    let next = closed.map(|run| run.token).max().unwrap_or(0) + 1;
    let waits = |kind| kind != PlaceKind::Grant;
    // A grant names its ended tasks, too, until the last of them has ended.
    let current = || {
        found
            .places
            .iter()
            .filter(|place| waits(place.kind) || place.token >= next)
    };
    let is_in_one_place = match (has_ended(found), current().count()) {
        (true, count) => count == 0,
        (false, count) => count == 1 && current().all(|place| place.token == next),
    };
    (!is_in_one_place).then(|| {
        let end = if has_ended(found) {
            "has ended"
        } else {
            "has not ended"
        };
        format!(
            "it {end}, its next lease is {next}, and it is in {:?}",
            found.places
        )
    })
}

fn has_ended(found: &TaskFound) -> bool {
    found.runs.iter().any(|run| run.ends_task)
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Sample, run, task};
    use crate::{
        check::Invariant,
        history::{Outcome, PlaceKind, RunFound},
    };

    fn breaks(places: &[(PlaceKind, i64)], runs: Vec<RunFound>) -> Vec<Invariant> {
        Sample::new()
            .submit(1, task("a"))
            .found(9, "a", places, runs)
            .breaks()
    }

    #[test]
    fn an_ended_task_may_still_be_named_by_a_grant() {
        let runs = vec![run(1, Outcome::Succeeded, true)];
        assert_eq!(breaks(&[(PlaceKind::Grant, 1)], runs), []);
    }

    #[test]
    fn an_ended_task_may_not_wait() {
        let runs = vec![run(1, Outcome::Succeeded, true)];
        assert_eq!(breaks(&[(PlaceKind::Ready, 2)], runs), [Invariant::OnePlace]);
    }

    #[test]
    fn a_task_that_waits_in_one_place_has_only_not_ended() {
        let runs = vec![run(1, Outcome::Failed, false)];
        assert_eq!(
            breaks(&[(PlaceKind::Scheduled, 2), (PlaceKind::Grant, 1)], runs),
            [Invariant::AllEnd]
        );
    }

    #[test]
    fn a_task_in_no_place_is_found() {
        let runs = vec![run(1, Outcome::Failed, false)];
        assert_eq!(
            breaks(&[(PlaceKind::Grant, 1)], runs),
            [Invariant::OnePlace, Invariant::AllEnd]
        );
    }

    #[test]
    fn a_task_that_a_scheduler_had_to_rescue_was_in_no_place() {
        let rescued = RunFound {
            error: Some("STRAY".to_owned()),
            ..run(1, Outcome::Lost, false)
        };
        let runs = vec![rescued, run(2, Outcome::Succeeded, true)];
        assert_eq!(breaks(&[], runs), [Invariant::OnePlace]);
    }

    #[test]
    fn a_task_in_two_places_is_found() {
        let places = [(PlaceKind::Ready, 1), (PlaceKind::Ready, 1)];
        assert_eq!(breaks(&places, vec![]), [Invariant::OnePlace, Invariant::AllEnd]);
    }

    #[test]
    fn a_place_with_an_old_lease_token_is_found() {
        let runs = vec![run(1, Outcome::Failed, false), run(2, Outcome::Failed, false)];
        assert!(breaks(&[(PlaceKind::Ready, 2)], runs).contains(&Invariant::OnePlace));
    }
}
