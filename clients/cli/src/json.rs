//! Messages as canonical proto JSON: camel case names, 64-bit integers as strings,
//! times as RFC 3339 text.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use prost_types::{Struct, Value, value::Kind};
use serde_json::Serializer;
use serde_json::ser::{CompactFormatter, PrettyFormatter};
use tasklease_proto::json::lay_out;
use tasklease_proto::v1::{GetTaskResponse, Task, WatchTaskResponse, watch_task_response::Update};

use crate::failure::Failure;
use crate::whole_numbers::WholeNumbers;

static CONTRACT: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(tasklease_proto::FILE_DESCRIPTOR_SET).ok());

/// How JSON text is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Over several lines, for one document.
    Pretty,
    /// On one line, for a stream of documents.
    Line,
}

/// The full names of the messages that the command prints.
pub(crate) trait Named: Message + Clone {
    /// Its name in the contract, with the package.
    const FULL_NAME: &'static str;

    /// The task in it whose payload and result may be JSON text.
    fn task(&mut self) -> Option<&mut Task> {
        None
    }
}

macro_rules! named {
    ($($message:ident),+ $(,)?) => {
        $(impl Named for tasklease_proto::v1::$message {
            const FULL_NAME: &'static str = concat!("tasklease.v1.", stringify!($message));
        })+
    };
}

named!(
    SubmitTaskResponse,
    ListTasksResponse,
    CancelTaskResponse,
    RetryTaskResponse,
    DeleteTaskResponse,
    GetQueueStatsResponse,
    ListQueuesResponse,
    PauseQueueResponse,
    ResumeQueueResponse,
    ListWorkersResponse,
);

impl Named for GetTaskResponse {
    const FULL_NAME: &'static str = "tasklease.v1.GetTaskResponse";

    fn task(&mut self) -> Option<&mut Task> {
        self.task.as_mut()
    }
}

impl Named for WatchTaskResponse {
    const FULL_NAME: &'static str = "tasklease.v1.WatchTaskResponse";

    fn task(&mut self) -> Option<&mut Task> {
        match &mut self.update {
            Some(Update::Snapshot(task) | Update::Changed(task) | Update::Ended(task)) => Some(task),
            _ => None,
        }
    }
}

impl Named for Struct {
    const FULL_NAME: &'static str = "google.protobuf.Struct";
}

/// JSON text that takes the place of an object.
struct Exact {
    field: &'static str,
    text: String,
}

/// A key that takes the place of the text until the message is written. No field before `payload` or after `result` holds
/// objects, so the outermost one is ours.
const HOLDS_PLACE: &str = "\u{1}exact";

/// Takes JSON text out of a task, and leaves objects that hold its place.
fn take_exact(task: &mut Task) -> Vec<Exact> {
    let mut texts = Vec::new();
    let fields = [
        ("payload", &mut task.payload_json, &mut task.payload),
        ("result", &mut task.result_json, &mut task.result),
    ];
    for (field, bytes, object) in fields {
        if let Ok(text) = String::from_utf8(std::mem::take(bytes).into())
            && !text.is_empty()
        {
            *object = Some(Struct {
                fields: [(HOLDS_PLACE.to_owned(), null())].into(),
            });
            texts.push(Exact { field, text });
        }
    }
    texts
}

fn null() -> Value {
    Value {
        kind: Some(Kind::NullValue(0)),
    }
}

/// Puts JSON text where its place was held.
fn put_exact(mut written: String, exact: &Exact, layout: Layout) -> String {
    let Exact { field, text } = exact;
    let (place, text) = match layout {
        Layout::Pretty => (
            format!("\"{field}\": {{\n      \"\\u0001exact\": null\n    }}"),
            format!("\"{field}\": {}", lay_out(text, Some(4))),
        ),
        Layout::Line => (
            format!("\"{field}\":{{\"\\u0001exact\":null}}"),
            format!("\"{field}\":{}", lay_out(text, None)),
        ),
    };
    let at = if *field == "payload" {
        written.find(&place)
    } else {
        written.rfind(&place)
    };
    if let Some(at) = at {
        written.replace_range(at..at + place.len(), &text);
    }
    written
}

/// Writes a message as canonical proto JSON.
pub(crate) fn to_json<M: Named>(message: &M, layout: Layout) -> Result<String, Failure> {
    let broken = || Failure::other(format!("cannot write {} as JSON", M::FULL_NAME));
    let mut message = message.clone();
    // The result first: the payload's text may hold what looks like a place.
    let texts = message.task().map(take_exact).unwrap_or_default();
    let descriptor = CONTRACT
        .as_ref()
        .and_then(|pool| pool.get_message_by_name(M::FULL_NAME))
        .ok_or_else(broken)?;
    let dynamic =
        DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).map_err(|_| broken())?;
    let options = SerializeOptions::new();
    let mut text = Vec::new();
    match layout {
        Layout::Pretty => {
            let form = WholeNumbers(PrettyFormatter::new());
            dynamic.serialize_with_options(&mut Serializer::with_formatter(&mut text, form), &options)
        }
        Layout::Line => {
            let form = WholeNumbers(CompactFormatter);
            dynamic.serialize_with_options(&mut Serializer::with_formatter(&mut text, form), &options)
        }
    }
    .map_err(|_| broken())?;
    let written = String::from_utf8(text).map_err(|_| broken())?;
    Ok(texts
        .iter()
        .rev()
        .fold(written, |written, exact| put_exact(written, exact, layout)))
}

#[cfg(test)]
mod tests {
    use tasklease_proto::json::struct_from_json;
    use tasklease_proto::v1::{
        GetTaskResponse, ListTasksResponse, Progress, Run, Task, WatchTaskResponse,
        watch_task_response::Update,
    };

    use super::{Layout, to_json};

    fn task() -> Task {
        Task {
            id: "01932d2c-0000-7000-8000-000000000001".to_owned(),
            task_type: "greet".to_owned(),
            queue: "default".to_owned(),
            state: tasklease_proto::v1::TaskState::Running.into(),
            lease_token: 9_007_199_254_740_993,
            attempt: 1,
            create_time: Some(prost_types::Timestamp {
                seconds: 1_800_000_000,
                nanos: 500_000_000,
            }),
            payload: Some(struct_from_json(r#"{"name":"Ada","n":2}"#).unwrap()),
            ..Task::default()
        }
    }

    #[test]
    fn a_task_is_written_as_canonical_proto_json() {
        let response = GetTaskResponse {
            task: Some(task()),
            runs: vec![Run {
                lease_token: 3,
                outcome: 5,
                ..Run::default()
            }],
        };
        let expected = r#"{
  "task": {
    "id": "01932d2c-0000-7000-8000-000000000001",
    "taskType": "greet",
    "queue": "default",
    "payload": {
      "n": 2,
      "name": "Ada"
    },
    "createTime": "2027-01-15T08:00:00.500Z",
    "state": "TASK_STATE_RUNNING",
    "attempt": 1,
    "leaseToken": "9007199254740993"
  },
  "runs": [
    {
      "leaseToken": "3",
      "outcome": "OUTCOME_LOST"
    }
  ]
}"#;
        assert_eq!(to_json(&response, Layout::Pretty).unwrap(), expected);
    }

    #[test]
    fn exact_text_stands_where_an_object_would() {
        let response = GetTaskResponse {
            task: Some(Task {
                id: "01".to_owned(),
                payload_json: r#"{"id":9007199254740993,"n":[1e400]}"#.into(),
                progress: Some(Progress {
                    detail: Some(struct_from_json(r#"{"payload":{"\u0001exact":null}}"#).unwrap()),
                    ..Progress::default()
                }),
                result_json: "{ }".into(),
                ..Task::default()
            }),
            runs: Vec::new(),
        };
        let pretty = to_json(&response, Layout::Pretty).unwrap();
        assert!(
            pretty.contains("\"payload\": {\n      \"id\": 9007199254740993,\n      \"n\": [\n        1e400\n      ]\n    },"),
            "{pretty}"
        );
        assert!(pretty.contains("\"result\": {}\n"), "{pretty}");
        assert_eq!(
            to_json(&response, Layout::Line).unwrap(),
            r#"{"task":{"id":"01","payload":{"id":9007199254740993,"n":[1e400]},"progress":{"detail":{"payload":{"\u0001exact":null}}},"result":{}}}"#
        );
    }

    #[test]
    fn an_update_takes_one_line() {
        let progress = Progress {
            percent: Some(50.0),
            message: "half\nway".to_owned(),
            ..Progress::default()
        };
        let update = WatchTaskResponse {
            cursor: "c1".to_owned(),
            update: Some(Update::Progress(progress)),
            ..WatchTaskResponse::default()
        };
        assert_eq!(
            to_json(&update, Layout::Line).unwrap(),
            r#"{"cursor":"c1","progress":{"percent":50,"message":"half\nway"}}"#
        );
    }

    #[test]
    fn an_empty_list_is_an_empty_object() {
        assert_eq!(
            to_json(&ListTasksResponse::default(), Layout::Line).unwrap(),
            "{}"
        );
    }
}
