//! Names that clients invent are bounded, and known ones are not touched by that.

use crate::{fault_kind::FaultKind, history::Answer};

use super::{Breach, Invariant, breach, record::Record};

/// What a scheduler says that takes no more names.
const TOO_MANY: &str = "too many different queues and task types";

pub(super) fn check(record: &Record<'_>) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (id, task) in &record.tasks {
        let refusal = task.refusals.iter().find(|(_, words)| words.contains(TOO_MANY));
        if let Some((at, words)) = refusal {
            let text = format!("a task of a known type and queue was refused: {words}");
            breaches.push(breach(Invariant::NamesBounded, id, *at, text));
        }
    }
    let mut tell = |at, text: String| {
        breaches.push(Breach {
            invariant: Invariant::NamesBounded,
            task: None,
            at,
            text,
        });
    };
    for (_, at, answer) in &record.inventions {
        if let Answer::Stored = answer {
            tell(*at, "a batch with the id of another task was stored".to_owned());
        }
    }
    for fault in &record.faults {
        if fault.kind != FaultKind::InventNames {
            continue;
        }
        let during = record
            .inventions
            .iter()
            .filter(|(called, ..)| (fault.begins..=fault.ends).contains(called));
        let answers: Vec<&Answer> = during.map(|(.., answer)| *answer).collect();
        let is_refused = |answer: &&Answer| match answer {
            Answer::Refused { status } => status.contains(TOO_MANY),
            // It may have been refused, and nobody heard of it.
            Answer::Unknown { .. } => true,
            _ => false,
        };
        if !answers.is_empty() && !answers.iter().any(is_refused) {
            tell(
                fault.ends,
                format!("more names were invented than there may be, and none was refused: {answers:?}"),
            );
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Sample, task};
    use crate::{
        check::Invariant,
        fault_kind::FaultKind,
        history::{Answer, Request},
    };

    fn refused(status: &str) -> Answer {
        Answer::Refused {
            status: status.to_owned(),
        }
    }

    const FULL: &str =
        "ResourceExhausted: there are too many different queues and task types; try again later";

    fn invented(answers: [&str; 2]) -> Vec<Invariant> {
        let mut sample = Sample::new().fault((10, 90), FaultKind::InventNames);
        for (at, answer) in (20..).step_by(10).zip(answers) {
            let request = Request::Invent { names: 500 };
            sample = sample.call(at, at + 5, request, refused(answer));
        }
        sample.breaks()
    }

    #[test]
    fn some_call_of_a_flood_of_names_is_refused_for_their_number() {
        assert_eq!(invented(["AlreadyExists: a", FULL]), []);
        assert_eq!(
            invented(["AlreadyExists: a", "AlreadyExists: a"]),
            [Invariant::NamesBounded]
        );
    }

    #[test]
    fn known_names_are_never_refused_for_their_number() {
        let request = |id: &str| Request::Submit {
            tasks: vec![task(id)],
        };
        let other =
            refused("ResourceExhausted: too many bytes of new tasks wait to be stored; try again later");
        let sample = Sample::new().call(1, 2, request("a"), other);
        assert_eq!(sample.breaks(), []);
        let sample = Sample::new().call(1, 2, request("a"), refused(FULL));
        assert_eq!(sample.breaks(), [Invariant::NamesBounded]);
    }
}
