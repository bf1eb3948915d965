//! Checks what clients submit; nothing invalid goes further than this.

use std::time::Duration;

use jiff::Timestamp;
use tasklease_proto::{
    convert::{duration_from_wire, timestamp_from_wire},
    json,
    v1::{
        self,
        task_spec::{Input, Start as WireStart},
    },
};
use uuid::Uuid;

use super::violations::{Violations, checked, valid};
use crate::domain::{
    backoff::Backoff,
    error::Violation,
    ids::TaskId,
    limits,
    name::{QueueName, TaskType, labels, optional_text},
    new_task::{NewTask, Start},
    queue::QueueKey,
    task_spec::{TaskOptions, TaskSpec},
};

/// What a check needs to know beside the spec.
#[derive(Debug, Clone, Copy)]
pub(super) struct SpecRules {
    /// Bound of a payload as JSON text, in bytes.
    pub(super) payload_bytes: usize,
    /// The scheduler's clock; only decides whether a client's own id is plausible.
    pub(super) now: Timestamp,
}

/// Checks a spec; violations name fields relative to it.
pub(super) fn check(wire: v1::TaskSpec, rules: SpecRules) -> Result<NewTask, Violations> {
    let asked = checked!(TaskSpec {
        task_type: TaskType::parse(wire.task_type, "task_type"),
        queue: queue(wire.queue),
        priority: in_range(wire.priority, -limits::PRIORITY..=limits::PRIORITY, "priority"),
        max_attempts: max_attempts(wire.max_attempts),
        options: checked!(TaskOptions {
            title: optional_text(wire.title, limits::LINE_CHARS, "title"),
            description: optional_text(wire.description, limits::TEXT_CHARS, "description"),
            owner: optional_text(wire.owner, limits::LINE_CHARS, "owner"),
            labels: labels(wire.labels, "labels"),
            parent: optional_id(&wire.parent_id, "parent_id"),
            retry_of: valid(None),
            backoff: backoff(wire.retry_policy.as_ref()),
            run_timeout: run_timeout(wire.run_timeout.as_ref()),
            traceparent: optional_text(wire.traceparent, limits::LINE_CHARS, "traceparent"),
        }),
    });
    checked!(NewTask {
        id: task_id(&wire.task_id, rules.now),
        spec: asked,
        payload: payload(wire.input, rules.payload_bytes),
        start: start(wire.start),
    })
}

fn queue(name: String) -> Result<QueueKey, Violation> {
    QueueName::parse_or_default(name, "queue").map(QueueKey::in_default)
}

fn task_id(text: &str, now: Timestamp) -> Result<TaskId, Violation> {
    let violation = |problem| Violation::new("task_id", problem);
    if text.is_empty() {
        return Ok(TaskId(Uuid::now_v7()));
    }
    let id = Uuid::try_parse(text).map_err(|_| violation("must be a UUID"))?;
    let (seconds, _) = id
        .get_timestamp()
        .filter(|_| id.get_version_num() == 7)
        .map(|time| time.to_unix())
        .ok_or_else(|| violation("must be a UUID of version 7"))?;
    let skew = i64::try_from(seconds)
        .unwrap_or(i64::MAX)
        .abs_diff(now.as_second());
    if skew > limits::ID_CLOCK_SKEW.as_secs() {
        return Err(violation("must be a UUID of version 7 made within a day of now"));
    }
    Ok(TaskId(id))
}

/// Reads an id that may be left out.
fn optional_id(text: &str, field: &str) -> Result<Option<TaskId>, Violation> {
    if text.is_empty() {
        return Ok(None);
    }
    parse_id(text, field).map(Some)
}

/// Reads a task's id.
pub(super) fn parse_id(text: &str, field: &str) -> Result<TaskId, Violation> {
    Uuid::try_parse(text).map(TaskId).map_err(|_| {
        Violation::new(
            field,
            "must be a task's id, a UUID such as 0192d5a0-7c3e-7b1a-8000-1a2b3c4d5e6f",
        )
    })
}

fn payload(input: Option<Input>, longest: usize) -> Result<String, Violation> {
    let (field, text) = match input {
        None => return Ok("{}".to_owned()),
        Some(Input::Payload(object)) => (
            "payload",
            json::struct_to_json(&object).map_err(|error| Violation::new("payload", error.to_string()))?,
        ),
        Some(Input::PayloadJson(bytes)) => (
            "payload_json",
            json::check_object(&bytes)
                .map_err(|error| Violation::new("payload_json", error.to_string()))?
                .to_owned(),
        ),
    };
    if text.len() > longest {
        return Err(Violation::new(
            field,
            format!(
                "must be at most {longest} bytes as JSON text, has {}; store large data elsewhere",
                text.len()
            ),
        ));
    }
    Ok(text)
}

fn in_range(number: i32, range: std::ops::RangeInclusive<i32>, field: &str) -> Result<i16, Violation> {
    i16::try_from(number)
        .ok()
        .filter(|_| range.contains(&number))
        .ok_or_else(|| {
            Violation::new(
                field,
                format!("must be {} to {}, got {number}", range.start(), range.end()),
            )
        })
}

fn max_attempts(number: i32) -> Result<i16, Violation> {
    let number = if number == 0 {
        limits::DEFAULT_ATTEMPTS
    } else {
        number
    };
    in_range(number, 1..=limits::ATTEMPTS, "max_attempts")
}

fn run_timeout(wire: Option<&prost_types::Duration>) -> Result<Option<Duration>, Violation> {
    Ok(wait(wire, "run_timeout")?.filter(|limit| !limit.is_zero()))
}

/// Reads a duration of at most [`limits::LONGEST_WAIT`].
pub(super) fn wait(wire: Option<&prost_types::Duration>, field: &str) -> Result<Option<Duration>, Violation> {
    let Some(wire) = wire else { return Ok(None) };
    duration_from_wire(wire)
        .filter(|duration| *duration <= limits::LONGEST_WAIT)
        .map(Some)
        .ok_or_else(|| {
            let days = limits::LONGEST_WAIT.as_secs() / (24 * 3_600);
            Violation::new(field, format!("must be 0 to {days} days"))
        })
}

fn start(wire: Option<WireStart>) -> Result<Start, Violation> {
    match wire {
        None => Ok(Start::Now),
        // Delays under a microsecond, the database's resolution, count as none.
        Some(WireStart::Delay(delay)) => Ok(wait(Some(&delay), "delay")?
            .filter(|delay| delay.as_micros() > 0)
            .map_or(Start::Now, Start::After)),
        Some(WireStart::StartTime(time)) => timestamp_from_wire(&time)
            .filter(|time| *time >= Timestamp::UNIX_EPOCH)
            .map(Start::At)
            .ok_or_else(|| Violation::new("start_time", "must be a time from 1970 to 9999")),
    }
}

fn backoff(policy: Option<&v1::RetryPolicy>) -> Result<Option<Backoff>, Violations> {
    /// What a policy says.
    struct Policy {
        initial: Option<Duration>,
        longest: Option<Duration>,
    }
    let Some(policy) = policy else { return Ok(None) };
    let policy = checked!(Policy {
        initial: wait(policy.initial_backoff.as_ref(), "retry_policy.initial_backoff"),
        longest: wait(policy.max_backoff.as_ref(), "retry_policy.max_backoff"),
    })?;
    let initial = policy.initial.unwrap_or(limits::DEFAULT_INITIAL_BACKOFF);
    let longest = policy.longest.unwrap_or(limits::DEFAULT_MAX_BACKOFF.max(initial));
    if longest < initial {
        let problem = "must not be less than initial_backoff";
        return Err(Violation::new("retry_policy.max_backoff", problem).into());
    }
    Ok(Some(Backoff { initial, longest }))
}

#[cfg(test)]
mod tests {
    use prost_types::{Duration as WireDuration, Struct, Timestamp as WireTimestamp, Value, value::Kind};

    use super::*;

    fn rules() -> SpecRules {
        SpecRules {
            payload_bytes: 64,
            now: Timestamp::now(),
        }
    }

    fn spec() -> v1::TaskSpec {
        v1::TaskSpec {
            task_type: "t".into(),
            ..Default::default()
        }
    }

    fn fields(spec: v1::TaskSpec) -> Vec<String> {
        let broken = check(spec, rules()).expect_err("must be refused");
        broken.fields().into_iter().map(str::to_owned).collect()
    }

    fn seconds(seconds: i64) -> Option<WireDuration> {
        Some(WireDuration { seconds, nanos: 0 })
    }

    #[test]
    fn what_is_left_out_gets_its_default() {
        let task = check(spec(), rules()).expect("valid");
        assert_eq!(
            (
                task.spec.queue.name.as_str(),
                task.payload.as_str(),
                task.spec.max_attempts,
                task.start
            ),
            ("default", "{}", 5, Start::Now)
        );
        assert_eq!(task.spec.options, TaskOptions::default());
        assert_eq!(task.id.0.get_version_num(), 7);
    }

    #[test]
    fn every_broken_rule_is_named_in_one_answer() {
        let broken = v1::TaskSpec {
            task_type: String::new(),
            queue: "no spaces".into(),
            priority: 101,
            max_attempts: -1,
            title: "x".repeat(201),
            owner: "a\0".into(),
            start: seconds(-1).map(WireStart::Delay),
            run_timeout: seconds(i64::MAX),
            parent_id: "nonsense".into(),
            labels: [(" ".to_owned(), "v".to_owned())].into(),
            ..Default::default()
        };
        let mut named = fields(broken);
        named.sort();
        assert_eq!(
            named,
            [
                "delay",
                "labels",
                "max_attempts",
                "owner",
                "parent_id",
                "priority",
                "queue",
                "run_timeout",
                "task_type",
                "title"
            ]
        );
    }

    #[test]
    fn a_payload_that_cannot_be_stored_is_refused() {
        let object = |value| Struct {
            fields: [("k".to_owned(), Value { kind: Some(value) })].into(),
        };
        for (input, field) in [
            (Input::Payload(object(Kind::NumberValue(f64::NAN))), "payload"),
            (Input::Payload(object(Kind::StringValue("\0".into()))), "payload"),
            (
                Input::Payload(object(Kind::StringValue("x".repeat(64)))),
                "payload",
            ),
            (Input::PayloadJson("[]".into()), "payload_json"),
            (Input::PayloadJson("{".into()), "payload_json"),
            (Input::PayloadJson(vec![0x7b, 0xff, 0x7d].into()), "payload_json"),
        ] {
            assert_eq!(
                fields(v1::TaskSpec {
                    input: Some(input),
                    ..spec()
                }),
                [field]
            );
        }
    }

    #[test]
    fn a_clients_own_id_must_be_recent_and_of_version_7() {
        let old = Uuid::from_u128((1_000_000_000_000_u128 << 80) | (7 << 76) | (2 << 62));
        for id in ["x", &Uuid::new_v4().to_string(), &old.to_string()] {
            assert_eq!(
                fields(v1::TaskSpec {
                    task_id: id.to_owned(),
                    ..spec()
                }),
                ["task_id"]
            );
        }
        let own = Uuid::now_v7();
        let task = check(
            v1::TaskSpec {
                task_id: own.to_string(),
                ..spec()
            },
            rules(),
        )
        .expect("valid");
        assert_eq!(task.id, TaskId(own));
    }

    #[test]
    fn a_start_is_a_delay_or_a_time() {
        let at = |start| v1::TaskSpec {
            start: Some(start),
            ..spec()
        };
        let delay = |seconds, nanos| at(WireStart::Delay(WireDuration { seconds, nanos }));
        let time = |seconds| at(WireStart::StartTime(WireTimestamp { seconds, nanos: 0 }));
        for (spec, start) in [
            (spec(), Start::Now),
            (delay(0, 0), Start::Now),
            (delay(0, 999), Start::Now),
            (delay(3, 0), Start::After(Duration::from_secs(3))),
            (time(12), Start::At(Timestamp::from_second(12).expect("a time"))),
        ] {
            assert_eq!(check(spec, rules()).expect("valid").start, start);
        }
        for (spec, field) in [
            (delay(-1, 0), "delay"),
            (delay(i64::MAX, 0), "delay"),
            (time(i64::MAX), "start_time"),
            (time(-1), "start_time"),
        ] {
            assert_eq!(fields(spec), [field]);
        }
    }

    #[test]
    fn a_back_off_grows_at_most_to_its_bound() {
        let policy = |initial, longest| {
            Some(v1::RetryPolicy {
                initial_backoff: seconds(initial),
                max_backoff: longest,
            })
        };
        assert_eq!(
            fields(v1::TaskSpec {
                retry_policy: policy(5, seconds(1)),
                ..spec()
            }),
            ["retry_policy.max_backoff"]
        );
        let task = check(
            v1::TaskSpec {
                retry_policy: policy(5, None),
                ..spec()
            },
            rules(),
        )
        .expect("valid");
        assert_eq!(
            task.spec.options.backoff.map(|b| b.initial),
            Some(Duration::from_secs(5))
        );
    }
}
