//! Messages as canonical proto JSON: camel case names, 64-bit integers as strings,
//! times as RFC 3339 text.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Serializer;
use serde_json::ser::{CompactFormatter, PrettyFormatter};

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
pub(crate) trait Named: Message {
    /// Its name in the contract, with the package.
    const FULL_NAME: &'static str;
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
    GetTaskResponse,
    ListTasksResponse,
    WatchTaskResponse,
    CancelTaskResponse,
    RetryTaskResponse,
    DeleteTaskResponse,
    GetQueueStatsResponse,
    ListQueuesResponse,
    PauseQueueResponse,
    ResumeQueueResponse,
    ListWorkersResponse,
);

impl Named for prost_types::Struct {
    const FULL_NAME: &'static str = "google.protobuf.Struct";
}

/// Writes a message as canonical proto JSON.
pub(crate) fn to_json<M: Named>(message: &M, layout: Layout) -> Result<String, Failure> {
    let broken = || Failure::other(format!("cannot write {} as JSON", M::FULL_NAME));
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
    String::from_utf8(text).map_err(|_| broken())
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
    fn an_update_takes_one_line() {
        let progress = Progress {
            percent: Some(50.0),
            message: "half\nway".to_owned(),
            ..Progress::default()
        };
        let update = WatchTaskResponse {
            cursor: "c1".to_owned(),
            update: Some(Update::Progress(progress)),
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
