//! The numbers in the comments of the contract are those of the module `limits`.

#![allow(clippy::expect_used, reason = "tests may fail loudly")]

use std::{collections::BTreeMap, time::Duration};

use prost::Message as _;
use prost_types::FileDescriptorSet;
use tasklease_proto::{FILE_DESCRIPTOR_SET, limits::*};

/// The comments of all messages, fields, calls and services of the contract, on one line each, by name.
fn comments() -> BTreeMap<String, String> {
    // Numbers of fields in `descriptor.proto`, of which the path to a comment consists.
    const MESSAGES: i32 = 4;
    const FIELDS: i32 = 2;
    const ONEOFS: i32 = 8;
    const SERVICES: i32 = 6;
    const CALLS: i32 = 2;
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("a descriptor set");
    let mut comments = BTreeMap::new();
    for file in files.file.iter().filter(|file| file.package() == "tasklease.v1") {
        for place in &file
            .source_code_info
            .as_ref()
            .expect("comments are kept")
            .location
        {
            let at = |index: &i32| usize::try_from(*index).expect("an index");
            let name = match place.path.as_slice() {
                [MESSAGES, message] => file.message_type[at(message)].name().to_owned(),
                [MESSAGES, message, FIELDS, field] => {
                    let message = &file.message_type[at(message)];
                    format!("{}.{}", message.name(), message.field[at(field)].name())
                }
                [MESSAGES, message, ONEOFS, oneof] => {
                    let message = &file.message_type[at(message)];
                    format!("{}.{}", message.name(), message.oneof_decl[at(oneof)].name())
                }
                [SERVICES, service] => file.service[at(service)].name().to_owned(),
                [SERVICES, service, CALLS, call] => {
                    let service = &file.service[at(service)];
                    format!("{}.{}", service.name(), service.method[at(call)].name())
                }
                _ => continue,
            };
            let words: Vec<&str> = place.leading_comments().split_whitespace().collect();
            comments.insert(name, words.join(" "));
        }
    }
    comments
}

/// A number as the comments write it: 10,000.
fn number(number: impl TryInto<u64>) -> String {
    let digits = number.try_into().ok().expect("a positive number").to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A size as the comments write it: 64 KiB.
fn bytes(bytes: usize) -> String {
    match bytes {
        bytes if bytes % (1 << 20) == 0 => format!("{} MiB", bytes >> 20),
        bytes => format!("{} KiB", bytes >> 10),
    }
}

/// A length of time as the comments write it, in the unit of their kind: 366 days.
fn time(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds % 86_400 == 0 && seconds > 86_400 => format!("{} days", seconds / 86_400),
        seconds if seconds % 3_600 == 0 => format!("{} h", seconds / 3_600),
        seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

/// What the comment of each place must say.
fn expected() -> Vec<(&'static str, String)> {
    let characters = |most: usize| format!("at most {} characters", number(most));
    let page = format!("1 to {}; zero means {}", number(PAGE), number(DEFAULT_PAGE));
    vec![
        (
            "TaskSpec.task_type",
            format!("1 to {} characters", number(NAME_CHARS)),
        ),
        ("TaskSpec.priority", format!("-{PRIORITY} to {PRIORITY}")),
        ("Task.priority", format!("-{PRIORITY} to {PRIORITY}")),
        (
            "TaskSpec.input",
            format!("at most {} as JSON text", bytes(PAYLOAD_BYTES)),
        ),
        (
            "Succeeded.output",
            format!("At most {} as JSON text", bytes(PAYLOAD_BYTES)),
        ),
        ("TaskSpec.delay", format!("At most {}", time(LONGEST_WAIT))),
        ("TaskSpec.max_attempts", format!("1 to {}", number(ATTEMPTS))),
        (
            "TaskSpec.max_attempts",
            format!("the default, {DEFAULT_ATTEMPTS}"),
        ),
        ("TaskSpec.run_timeout", format!("up to {}", time(LONGEST_WAIT))),
        ("TaskSpec.title", characters(LINE_CHARS)),
        ("TaskSpec.description", characters(TEXT_CHARS)),
        ("TaskSpec.owner", characters(LINE_CHARS)),
        ("TaskSpec.labels", format!("Up to {LABELS} labels")),
        (
            "TaskSpec.labels",
            format!("keys 1 to {LABEL_KEY_CHARS} characters"),
        ),
        ("TaskSpec.labels", format!("values {}", characters(LINE_CHARS))),
        ("TaskSpec.traceparent", characters(LINE_CHARS)),
        (
            "RetryPolicy.initial_backoff",
            format!("Default {}", time(DEFAULT_INITIAL_BACKOFF)),
        ),
        (
            "RetryPolicy.initial_backoff",
            format!("up to {}", time(LONGEST_WAIT)),
        ),
        (
            "RetryPolicy.max_backoff",
            format!("Default {}", time(DEFAULT_MAX_BACKOFF)),
        ),
        ("RetryPolicy.max_backoff", format!("up to {}", time(LONGEST_WAIT))),
        ("Progress.message", characters(MESSAGE_CHARS)),
        ("Progress.heading", characters(LINE_CHARS)),
        ("Progress.body", characters(TEXT_CHARS)),
        ("Progress.image", characters(IMAGE_CHARS)),
        (
            "Progress.detail",
            format!("at most {} as JSON", bytes(PROGRESS_DETAIL_BYTES)),
        ),
        ("LogLine.message", characters(LOG_CHARS)),
        ("TaskError.kind", characters(NAME_CHARS)),
        ("TaskError.message", characters(MESSAGE_CHARS)),
        ("TaskError.detail", characters(DETAIL_CHARS)),
        ("Cancelled.message", characters(MESSAGE_CHARS)),
        ("Released.message", characters(MESSAGE_CHARS)),
        ("CancelTaskRequest.reason", characters(MESSAGE_CHARS)),
        (
            "CancelTaskRequest.grace",
            format!("means {}, at most {}", time(DEFAULT_GRACE), time(LONGEST_GRACE)),
        ),
        ("ListTasksRequest.page_size", page.clone()),
        ("ListQueuesRequest.page_size", page.clone()),
        ("ListWorkersRequest.page_size", page),
        (
            "SubmitTasksRequest.tasks",
            format!("1 to {} tasks", number(BATCH_TASKS)),
        ),
        (
            "TaskService.SubmitTasks",
            format!("1 to {} tasks", number(BATCH_TASKS)),
        ),
        (
            "TaskService.WatchTask",
            format!("newest {} updates", number(RUN_EVENTS)),
        ),
        (
            "ProgressReport.event_number",
            format!("within {} numbers", number(RUN_EVENTS)),
        ),
        ("GetTaskResponse.runs", format!("at most the last {RUNS}")),
        ("GetTaskResponse.runs", bytes(MESSAGE_BYTES)),
        ("ListTasksResponse.tasks", bytes(MESSAGE_BYTES)),
        ("LeaseBatch.tasks", format!("Less than {}", bytes(MESSAGE_BYTES))),
        ("ReportBatch.reports", format!("1 to {}", number(REPORTS))),
        (
            "ReportBatch.reports",
            format!("less than {}", bytes(MESSAGE_BYTES)),
        ),
        ("TaskService", format!("less than {}", bytes(MESSAGE_BYTES))),
        ("WorkerService", format!("before it has {}", bytes(MESSAGE_BYTES))),
        (
            "WorkerService",
            format!("accepts messages of {}, or", bytes(ACCEPTED_BYTES)),
        ),
        (
            "WorkerService",
            format!("limit of payloads and {}", bytes(BESIDE_PAYLOAD_BYTES)),
        ),
        (
            "WorkerService",
            format!("at most {} unless", bytes(PAYLOAD_BYTES)),
        ),
        ("WorkerService", format!("up to {}", bytes(LARGEST_PAYLOAD_BYTES))),
        (
            "WorkerService.ClaimTask",
            format!("within {}", time(FIRST_MESSAGE_TIMEOUT)),
        ),
        (
            "WorkerService.ReportProgress",
            format!("within {}", time(FIRST_MESSAGE_TIMEOUT)),
        ),
        (
            "TaskTypeStats.exact",
            format!("limit of {}", number(COUNTED_TASKS)),
        ),
        (
            "WorkerHello.name",
            format!("1 to {} characters", number(LINE_CHARS)),
        ),
        (
            "WorkerHello.incarnation",
            format!("1 to {} characters", number(INCARNATION_CHARS)),
        ),
        (
            "WorkerHello.task_types",
            format!("1 to {}", number(WORKER_TASK_TYPES)),
        ),
        (
            "WorkerHello.task_types",
            format!("at most {} combinations", number(WORKER_LANES)),
        ),
        ("WorkerHello.queues", format!("At most {}", number(WORKER_QUEUES))),
        ("WorkerHello.slots", format!("1 to {}", number(WORKER_SLOTS))),
        ("Credit.tasks", format!("1 to {}", number(CREDIT_AT_ONCE))),
        ("Credit.tasks", format!("capped at {}", number(CREDIT))),
        ("Failed.retry_after", format!("at most {}", time(LONGEST_WAIT))),
    ]
}

#[test]
fn the_comments_of_the_contract_name_the_limits_that_are_kept() {
    let comments = comments();
    for (name, phrase) in expected() {
        let comment = comments
            .get(name)
            .unwrap_or_else(|| panic!("{name} is no place in the contract"));
        assert!(
            comment.contains(&phrase),
            "{name}: `{phrase}` is not in `{comment}`"
        );
    }
}

#[test]
fn no_comment_states_a_bound_that_is_not_compared() {
    /// Bounds that follow from the meaning of a field.
    const NATURAL: [&str; 2] = ["Progress.percent", "TaskSpec.start_time"];
    let compared = expected();
    for (name, comment) in comments() {
        let words: Vec<&str> = comment.split(' ').collect();
        let is_number = |word: &str| {
            word.trim_start_matches('-')
                .starts_with(|c: char| c.is_ascii_digit())
        };
        let states_bound = words.windows(3).any(|words| match words {
            ["at" | "At", "most", bound] => is_number(bound),
            [least, "to", most] => is_number(least) && is_number(most),
            _ => false,
        });
        let is_compared = compared.iter().any(|(place, _)| *place == name);
        let keeps_numbers_of_fields = comment.contains("Field numbers");
        assert!(
            !states_bound || is_compared || keeps_numbers_of_fields || NATURAL.contains(&name.as_str()),
            "the bound of {name} is not compared with `limits`: {comment}"
        );
    }
}
