//! Bad input over the wire: the right code, the field or id, and nothing stored.

use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message as _;
use serde_json::json;
use tasklease_proto::v1::{
    CancelTaskRequest, GetTaskRequest, ListTasksRequest, RetryPolicy, SubmitTaskRequest, SubmitTaskResponse,
    SubmitTasksRequest, TaskSpec, WatchTaskRequest,
    report::Body,
    succeeded::Output,
    task_spec::{Input, Start},
};
use tasklease_tests::{
    Answer, BytesCodec, Database, RawWorker, Scheduler, client_without_deadline, ended, in_time, millis,
    new_task_id, spec, succeeded, with_payload,
};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

/// An id that no task has.
const UNKNOWN: &str = "0192d5a0-7c3e-7b1a-8000-1a2b3c4d5e6f";

const MIB: usize = 1 << 20;

fn request(task: TaskSpec) -> SubmitTaskRequest {
    SubmitTaskRequest { task: Some(task) }
}

/// The fields that a refusal names.
fn fields(refusal: &Status) -> Vec<String> {
    refusal
        .get_details_bad_request()
        .into_iter()
        .flat_map(|details| details.field_violations)
        .map(|violation| violation.field)
        .collect()
}

async fn nothing_is_stored(scheduler: &Scheduler) {
    let all = scheduler
        .client()
        .list(ListTasksRequest::default())
        .await
        .unwrap();
    assert!(all.tasks.is_empty(), "{:?}", all.tasks);
}

/// Calls a unary method with bare bytes.
async fn call_with_bytes(
    scheduler: &Scheduler,
    method: &'static str,
    message: Vec<u8>,
) -> Result<Bytes, Status> {
    let mut client = tonic::client::Grpc::new(scheduler.channel());
    in_time("a connection", client.ready()).await.unwrap();
    let path = PathAndQuery::from_static(method);
    let request = Request::new(Bytes::from(message));
    Ok(client.unary(request, path, BytesCodec).await?.into_inner())
}

const SUBMIT: &str = "/tasklease.v1.TaskService/SubmitTask";

#[tokio::test]
async fn a_spec_that_breaks_a_rule_is_refused_by_the_name_of_its_field() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let number = |number| prost_types::Value {
        kind: Some(prost_types::value::Kind::NumberValue(number)),
    };
    let with_number = |value| {
        let fields = [("x".to_owned(), number(value))].into();
        Some(Input::Payload(prost_types::Struct { fields }))
    };
    let json_text = |text: &str| Some(Input::PayloadJson(Bytes::copy_from_slice(text.as_bytes())));
    let label = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    let negative = Some(prost_types::Duration {
        seconds: -1,
        nanos: 0,
    });
    let t = || spec("t");
    let cases: Vec<(&str, TaskSpec)> = vec![
        ("task_type", spec("")),
        ("task_type", spec("two words")),
        ("task_type", spec("-dash-first")),
        ("task_type", spec("nul\0")),
        ("task_type", spec(&"a".repeat(129))),
        (
            "queue",
            TaskSpec {
                queue: "a b".into(),
                ..t()
            },
        ),
        (
            "task_id",
            TaskSpec {
                task_id: "no uuid".into(),
                ..t()
            },
        ),
        (
            "task_id",
            TaskSpec {
                task_id: "f47ac10b-58cc-4372-a567-0e02b2c3d479".into(),
                ..t()
            },
        ),
        (
            "task_id",
            TaskSpec {
                task_id: "01000000-0000-7000-8000-000000000000".into(),
                ..t()
            },
        ),
        (
            "payload",
            TaskSpec {
                input: with_number(f64::NAN),
                ..t()
            },
        ),
        (
            "payload",
            TaskSpec {
                input: with_number(f64::INFINITY),
                ..t()
            },
        ),
        (
            "payload_json",
            TaskSpec {
                input: json_text("[1]"),
                ..t()
            },
        ),
        (
            "payload_json",
            TaskSpec {
                input: json_text("{\"a\":"),
                ..t()
            },
        ),
        (
            "payload_json",
            TaskSpec {
                input: json_text("{\"a\":\"\\u0000\"}"),
                ..t()
            },
        ),
        (
            "payload_json",
            TaskSpec {
                input: Some(Input::PayloadJson(Bytes::from_static(b"{\"a\":\"\xff\"}"))),
                ..t()
            },
        ),
        (
            "payload_json",
            with_payload("t", &json!({ "big": "x".repeat(MIB) })),
        ),
        ("priority", TaskSpec { priority: 101, ..t() }),
        (
            "priority",
            TaskSpec {
                priority: i32::MIN,
                ..t()
            },
        ),
        (
            "max_attempts",
            TaskSpec {
                max_attempts: -1,
                ..t()
            },
        ),
        (
            "max_attempts",
            TaskSpec {
                max_attempts: 1_001,
                ..t()
            },
        ),
        (
            "delay",
            TaskSpec {
                start: negative.map(Start::Delay),
                ..t()
            },
        ),
        (
            "delay",
            TaskSpec {
                start: millis(u64::from(u32::MAX) * 1_000).map(Start::Delay),
                ..t()
            },
        ),
        (
            "start_time",
            TaskSpec {
                start: Some(Start::StartTime(prost_types::Timestamp {
                    seconds: -1,
                    nanos: 0,
                })),
                ..t()
            },
        ),
        (
            "run_timeout",
            TaskSpec {
                run_timeout: negative,
                ..t()
            },
        ),
        (
            "retry_policy",
            TaskSpec {
                retry_policy: Some(RetryPolicy {
                    initial_backoff: millis(2),
                    max_backoff: millis(1),
                }),
                ..t()
            },
        ),
        (
            "title",
            TaskSpec {
                title: "a\0b".into(),
                ..t()
            },
        ),
        (
            "title",
            TaskSpec {
                title: "ä".repeat(201),
                ..t()
            },
        ),
        (
            "description",
            TaskSpec {
                description: "d".repeat(10_001),
                ..t()
            },
        ),
        (
            "owner",
            TaskSpec {
                owner: "o".repeat(201),
                ..t()
            },
        ),
        (
            "labels",
            TaskSpec {
                labels: label("a b", "c"),
                ..t()
            },
        ),
        (
            "labels",
            TaskSpec {
                labels: label("a", "\0"),
                ..t()
            },
        ),
        (
            "parent_id",
            TaskSpec {
                parent_id: "nobody".into(),
                ..t()
            },
        ),
    ];
    let mut client = scheduler.tasks();
    for (field, task) in cases {
        let refusal = client.submit_task(request(task)).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument, "{field}: {refusal}");
        let named = fields(&refusal);
        let prefix = format!("task.{field}");
        assert!(
            named.iter().any(|name| name.starts_with(&prefix)),
            "{field}: {named:?}"
        );
        let info = refusal.get_details_error_info().unwrap();
        assert_eq!((&*info.domain, &*info.reason), ("tasklease", "INVALID_REQUEST"));
    }
    let empty = client
        .submit_task(SubmitTaskRequest { task: None })
        .await
        .unwrap_err();
    assert_eq!(fields(&empty), ["task"], "{empty}");
    nothing_is_stored(&scheduler).await;
}

#[tokio::test]
async fn a_batch_is_stored_as_a_whole_or_not_at_all() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let mut client = scheduler.tasks();
    let mut tasks = vec![spec("t"); 1_000];
    tasks[617] = spec("not a name");
    let refusal = client
        .submit_tasks(SubmitTasksRequest { tasks })
        .await
        .unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert_eq!(fields(&refusal), ["tasks[617].task_type"]);

    for count in [0, 1_001] {
        let tasks = vec![spec("t"); count];
        let refusal = client
            .submit_tasks(SubmitTasksRequest { tasks })
            .await
            .unwrap_err();
        assert_eq!(
            (refusal.code(), &*fields(&refusal)),
            (Code::InvalidArgument, &["tasks".to_owned()][..])
        );
    }
    // An id that is taken fails the others with it.
    let taken = TaskSpec {
        task_id: new_task_id(),
        ..spec("taken")
    };
    client.submit_task(request(taken.clone())).await.unwrap();
    let other = TaskSpec {
        task_type: "other".to_owned(),
        ..taken.clone()
    };
    let tasks = vec![spec("t"), other, spec("t")];
    let refusal = client
        .submit_tasks(SubmitTasksRequest { tasks })
        .await
        .unwrap_err();
    assert_eq!(refusal.code(), Code::AlreadyExists, "{refusal}");

    let all = scheduler
        .client()
        .list(ListTasksRequest::default())
        .await
        .unwrap();
    let ids: Vec<_> = all.tasks.iter().map(|task| &task.id).collect();
    assert_eq!(ids, [&taken.task_id]);
}

#[tokio::test]
async fn a_message_beyond_the_limit_is_refused_as_exhausting_a_resource() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let huge = with_payload("t", &json!({ "big": "x".repeat(20 * MIB) }));

    let refusal = scheduler.tasks().submit_task(request(huge)).await.unwrap_err();

    assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal}");
    nothing_is_stored(&scheduler).await;
}

#[tokio::test]
async fn bytes_that_are_no_message_are_the_callers_mistake() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    for garbage in [&b"\xff\xff\xff\xff"[..], b"\x0a\x7f", b"\x0a\x02\x12\xff"] {
        let refusal = call_with_bytes(&scheduler, SUBMIT, garbage.to_vec())
            .await
            .unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal}");
    }
    let mut not_text = request(spec("t?")).encode_to_vec();
    let position = not_text.iter().position(|byte| *byte == b'?').unwrap();
    not_text[position] = 0xff;
    let refusal = call_with_bytes(&scheduler, SUBMIT, not_text).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal}");
    nothing_is_stored(&scheduler).await;
}

#[tokio::test]
async fn a_field_of_a_newer_client_is_ignored() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let mut message = request(spec("t")).encode_to_vec();
    // Field 1999, a string.
    let mut unknown = Vec::new();
    prost::encoding::string::encode(1_999, &"from the future".to_owned(), &mut unknown);
    message.extend(unknown);

    let answer = call_with_bytes(&scheduler, SUBMIT, message).await.unwrap();

    let answer = SubmitTaskResponse::decode(answer).unwrap();
    assert_eq!(answer.task.unwrap().task_type, "t");
}

#[tokio::test]
async fn unknown_values_and_tokens_in_a_list_are_refused() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let mut client = scheduler.tasks();
    let list = ListTasksRequest::default;
    for (field, list) in [
        (
            "states",
            ListTasksRequest {
                states: vec![99],
                ..list()
            },
        ),
        (
            "page_size",
            ListTasksRequest {
                page_size: -1,
                ..list()
            },
        ),
        (
            "page_size",
            ListTasksRequest {
                page_size: 1_001,
                ..list()
            },
        ),
        (
            "page_token",
            ListTasksRequest {
                page_token: "made up".into(),
                ..list()
            },
        ),
        (
            "task_type",
            ListTasksRequest {
                task_type: "a b".into(),
                ..list()
            },
        ),
        (
            "queue",
            ListTasksRequest {
                queue: "a\0".into(),
                ..list()
            },
        ),
    ] {
        let refusal = client.list_tasks(list).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument, "{field}: {refusal}");
        let named = fields(&refusal);
        assert!(
            named.iter().any(|name| name.starts_with(field)),
            "{field}: {named:?}"
        );
    }
}

#[tokio::test]
async fn an_unknown_id_is_not_found_and_no_id_is_a_mistake() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let mut client = scheduler.tasks();
    for (id, code) in [
        (UNKNOWN, Code::NotFound),
        ("nonsense", Code::InvalidArgument),
        ("", Code::InvalidArgument),
    ] {
        let get = GetTaskRequest {
            task_id: id.to_owned(),
            ..Default::default()
        };
        let cancel = CancelTaskRequest {
            task_id: id.to_owned(),
            ..CancelTaskRequest::default()
        };
        let watch = WatchTaskRequest {
            task_id: id.to_owned(),
            ..WatchTaskRequest::default()
        };
        for refusal in [
            client.get_task(get).await.unwrap_err(),
            client.cancel_task(cancel).await.unwrap_err(),
            client.watch_task(watch).await.unwrap_err(),
        ] {
            assert_eq!(refusal.code(), code, "{id}: {refusal}");
            match code {
                Code::NotFound => assert!(refusal.message().contains(id), "{refusal}"),
                _ => assert_eq!(fields(&refusal), ["task_id"], "{refusal}"),
            }
        }
    }
}

#[tokio::test]
async fn a_call_that_takes_longer_than_its_deadline_says_so() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let id = scheduler.client().submit(spec("t")).await.unwrap().id;

    // A stream that stays silent.
    let mut watch = Request::new(WatchTaskRequest {
        task_id: id,
        cursor: String::new(),
        ..Default::default()
    });
    watch.set_timeout(Duration::from_millis(300));
    let mut client = client_without_deadline(&scheduler).await;
    let mut updates = client.watch_task(watch).await.unwrap().into_inner();
    assert!(in_time("a snapshot", updates.message()).await.unwrap().is_some());
    let end = in_time("the deadline", updates.message()).await.unwrap_err();
    assert_eq!(end.code(), Code::DeadlineExceeded, "{end}");

    // A call that waits for a lock in the database.
    let other = database.connect().await;
    other
        .batch_execute("BEGIN; LOCK TABLE tasklease.task IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let mut submit = Request::new(request(spec("t")));
    submit.set_timeout(Duration::from_millis(300));
    let end = in_time("the deadline", client.submit_task(submit))
        .await
        .unwrap_err();
    assert_eq!(end.code(), Code::DeadlineExceeded, "{end}");
}

#[tokio::test]
async fn a_result_that_breaks_a_rule_is_refused_and_the_run_can_still_fail() {
    let database = Database::create().await;
    let scheduler = Scheduler::start(&database.url()).await;
    let client = scheduler.client();
    let mut worker = RawWorker::with_credit(&scheduler, "t", 1).await;
    let id = client.submit(spec("t")).await.unwrap().id;
    let lease = worker.next_accepted().await;

    let too_large = succeeded(&json!({ "big": "x".repeat(MIB) }));
    let no_object = Body::Succeeded(tasklease_proto::v1::Succeeded {
        output: Some(Output::ResultJson(Bytes::from_static(b"[]"))),
    });
    for body in [too_large, no_object] {
        let answer = worker.report(&lease, body).await;
        assert!(
            matches!(&answer, Ok(Answer::Refused(why)) if why.contains("result")),
            "{answer:?}"
        );
    }
    let failed = Body::Failed(tasklease_proto::v1::Failed {
        non_retryable: true,
        ..tasklease_proto::v1::Failed::default()
    });
    assert_eq!(worker.report(&lease, failed).await, Ok(Answer::Stored));
    let answer = ended(&client, &id).await;
    assert_eq!(answer.task.unwrap().result, None);
}
