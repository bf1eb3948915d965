//! Checks how a worker introduces itself.

use std::{collections::HashSet, fmt::Display, ops::RangeInclusive};

use tasklease_proto::v1;
use uuid::Uuid;

use super::{
    report::lease_key,
    violations::{Violations, checked},
};
use crate::domain::{
    error::Violation,
    ids::{LeaseKey, SessionId},
    limits,
    name::{QueueName, TaskType, labels, text},
    session::WorkerProfile,
};

/// A valid hello.
pub(super) struct Hello {
    /// The session that the worker wants to go on with.
    pub(super) resume: Option<SessionId>,
    /// The leases that the worker still knows.
    pub(super) held: HashSet<LeaseKey>,
    pub(super) profile: WorkerProfile,
}

/// Checks a hello; violations name fields of the message `hello`.
pub(super) fn check(hello: v1::WorkerHello) -> Result<Hello, Violations> {
    let held = held_leases(&hello.held);
    let checked = checked!(Hello {
        resume: resumed_session(&hello.session_id),
        held: Ok::<_, Violation>(held),
        profile: profile(hello),
    });
    checked.map_err(|broken| broken.within("hello"))
}

/// The leases that a worker says it holds, without those that cannot exist.
pub(super) fn held_leases(held: &[v1::LeaseRef]) -> HashSet<LeaseKey> {
    held.iter()
        .filter_map(|lease| lease_key(&lease.task_id, lease.lease_token))
        .collect()
}

fn resumed_session(id: &str) -> Result<Option<SessionId>, Violation> {
    if id.is_empty() {
        return Ok(None);
    }
    let invalid = |_| Violation::new("session_id", "must be a session's id, or empty");
    Uuid::try_parse(id).map(|id| Some(SessionId(id))).map_err(invalid)
}

fn profile(hello: v1::WorkerHello) -> Result<WorkerProfile, Violations> {
    let profile = checked!(WorkerProfile {
        name: filled(hello.name, limits::LINE_CHARS, "name"),
        incarnation: filled(hello.incarnation, limits::INCARNATION_CHARS, "incarnation"),
        task_types: names(
            hello.task_types,
            1..=limits::WORKER_TASK_TYPES,
            TaskType::parse,
            "task_types"
        ),
        queues: queues(hello.queues),
        labels: labels(hello.labels, "labels"),
        slots: in_range(hello.slots, 1..=limits::WORKER_SLOTS, "slots"),
    })?;
    let lanes = profile.task_types.len() * profile.queues.len();
    if lanes > limits::WORKER_LANES {
        let most = limits::WORKER_LANES;
        let problem = format!("times queues must be at most {most}, got {lanes}");
        return Err(Violation::new("task_types", problem).into());
    }
    Ok(profile)
}

fn filled(value: String, longest: usize, field: &str) -> Result<String, Violation> {
    if value.is_empty() {
        return Err(Violation::new(field, "must not be empty"));
    }
    text(value, longest, field)
}

fn queues(given: Vec<String>) -> Result<Vec<QueueName>, Violations> {
    let given = if given.is_empty() {
        vec![String::new()]
    } else {
        given
    };
    names(
        given,
        1..=limits::WORKER_QUEUES,
        QueueName::parse_or_default,
        "queues",
    )
}

/// Names in order, each once.
fn names<T: Ord>(
    given: Vec<String>,
    count: RangeInclusive<usize>,
    parse: impl Fn(String, &str) -> Result<T, Violation>,
    field: &str,
) -> Result<Vec<T>, Violations> {
    in_range(given.len(), count, field)?;
    let mut violations = Violations::default();
    let mut names = Vec::with_capacity(given.len());
    for (index, name) in given.into_iter().enumerate() {
        names.extend(violations.keep(parse(name, &format!("{field}[{index}]"))));
    }
    names.sort_unstable();
    names.dedup();
    violations.finish(Some(names))
}

fn in_range<T: PartialOrd + Display>(
    found: T,
    range: RangeInclusive<T>,
    field: &str,
) -> Result<T, Violation> {
    if range.contains(&found) {
        return Ok(found);
    }
    let problem = format!("must be {} to {}, got {found}", range.start(), range.end());
    Err(Violation::new(field, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> v1::WorkerHello {
        v1::WorkerHello {
            name: "w".into(),
            incarnation: "i".into(),
            task_types: vec!["b".into(), "a".into(), "b".into()],
            slots: 1,
            ..Default::default()
        }
    }

    #[test]
    fn every_wrong_field_of_a_hello_is_named_in_one_answer() {
        let broken = v1::WorkerHello {
            session_id: "x".into(),
            name: String::new(),
            task_types: vec!["ok".into(), "a b".into(), String::new()],
            queues: vec!["q".into(); 101],
            slots: 0,
            labels: [("team".to_owned(), "\0".to_owned())].into(),
            ..hello()
        };
        assert_eq!(
            check(broken)
                .err()
                .map(|broken| broken.fields().join(" "))
                .as_deref(),
            Some(
                "hello.session_id hello.name hello.task_types[1] hello.task_types[2] hello.queues hello.labels[team] \
                 hello.slots"
            )
        );
    }

    #[test]
    fn names_that_come_twice_count_once_and_no_queue_means_the_default_one() {
        let hello = check(hello()).expect("valid");
        let texts: Vec<_> = hello.profile.task_types.iter().map(TaskType::as_str).collect();
        assert_eq!(texts, ["a", "b"]);
        let queues: Vec<_> = hello.profile.queues.iter().map(QueueName::as_str).collect();
        assert_eq!(queues, ["default"]);
    }

    #[test]
    fn types_times_queues_are_bounded() {
        let many = v1::WorkerHello {
            task_types: (0..101).map(|n| format!("t{n}")).collect(),
            queues: (0..100).map(|n| format!("q{n}")).collect(),
            ..hello()
        };
        assert_eq!(
            check(many).err().expect("too many").fields(),
            ["hello.task_types"]
        );
    }
}
