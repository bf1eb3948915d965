//! Which code runs which task type.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tasklease_proto::{json, limits};

use crate::{
    context::Context,
    task::{Task, TaskResult},
    task_error::{IntoTaskError, TaskError},
};

/// A task type with its parameters and result as JSON text.
pub(crate) trait Code: Send + Sync {
    fn run<'a>(&'a self, payload: Bytes, ctx: &'a Context) -> BoxFuture<'a, TaskResult<Bytes>>;
}

struct Typed<T>(T);

impl<T: Task> Code for Typed<T> {
    fn run<'a>(&'a self, payload: Bytes, ctx: &'a Context) -> BoxFuture<'a, TaskResult<Bytes>> {
        Box::pin(run_task(&self.0, payload, ctx))
    }
}

/// Runs a task: reads its parameters from JSON text and writes its result as JSON text.
pub(crate) async fn run_task<T: Task>(task: &T, payload: Bytes, ctx: &Context) -> TaskResult<Bytes> {
    let params = parse_params(&payload)?;
    drop(payload);
    let output = task.run(params, ctx).await;
    write_result(&output.map_err(IntoTaskError::into_task_error)?)
}

/// The registered task types.
#[derive(Default)]
pub(crate) struct Registry {
    types: BTreeMap<&'static str, Arc<dyn Code>>,
}

impl Registry {
    /// Adds a task type; an error names a type that was added before.
    pub(crate) fn add<T: Task>(&mut self, task: T) -> Result<(), &'static str> {
        match self.types.insert(T::TYPE, Arc::new(Typed(task))) {
            None => Ok(()),
            Some(_) => Err(T::TYPE),
        }
    }

    pub(crate) fn find(&self, task_type: &str) -> Option<Arc<dyn Code>> {
        self.types.get(task_type).cloned()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.types.keys().copied()
    }
}

fn parse_params<P: serde::de::DeserializeOwned>(payload: &[u8]) -> TaskResult<P> {
    let text = if payload.is_empty() { b"{}" } else { payload };
    // Tracking the path costs more than parsing, so only parameters that fail are parsed again with it.
    if let Ok(params) = serde_json::from_slice(text) {
        return Ok(params);
    }
    let reader = &mut serde_json::Deserializer::from_slice(text);
    serde_path_to_error::deserialize(reader).map_err(|error| {
        let path = error.path().to_string();
        let why = error.into_inner();
        let message = if path == "." {
            why.to_string()
        } else {
            format!("field `{path}`: {why}")
        };
        TaskError::new("INVALID_PARAMETERS", message).non_retryable()
    })
}

fn write_result<O: serde::Serialize>(output: &O) -> TaskResult<Bytes> {
    let invalid = |why: String| TaskError::new("INVALID_RESULT", why).non_retryable();
    let mut text =
        serde_json::to_vec(output).map_err(|error| invalid(format!("the result is not JSON: {error}")))?;
    if text.first() != Some(&b'{') {
        text.splice(0..0, *b"{\"value\":");
        text.push(b'}');
    }
    json::check_object(&text).map_err(|error| invalid(format!("the result cannot be stored: {error}")))?;
    if text.len() > limits::LARGEST_PAYLOAD_BYTES {
        let message = format!(
            "the result has {} bytes, at most {} can be stored",
            text.len(),
            limits::LARGEST_PAYLOAD_BYTES
        );
        return Err(TaskError::new("RESULT_TOO_LARGE", message).non_retryable());
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Params {
        steps: u32,
        inner: Inner,
    }

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(default)]
    struct Inner {
        sizes: Vec<u8>,
    }

    #[test]
    fn defaults_fill_what_the_payload_leaves_out() {
        let params: Params = parse_params(br#"{"steps":3}"#).expect("valid");
        assert_eq!((params.steps, params.inner.sizes.len()), (3, 0));
        assert_eq!(parse_params::<Params>(b"").expect("valid").steps, 0);
    }

    #[test]
    fn parameters_that_do_not_parse_name_the_field() {
        let cases = [
            (r#"{"steps":"many"}"#, "field `steps`"),
            (r#"{"inner":{"sizes":[1,300]}}"#, "field `inner.sizes[1]`"),
            (r#"{"stepz":1}"#, "stepz"),
        ];
        for (payload, expected) in cases {
            let error = parse_params::<Params>(payload.as_bytes()).expect_err(payload);
            assert_eq!(
                (error.kind(), error.retry),
                ("INVALID_PARAMETERS", crate::task_error::Retry::Never)
            );
            assert!(error.message().contains(expected), "{}", error.message());
        }
    }

    #[test]
    fn results_become_objects_that_can_be_stored() {
        assert_eq!(
            write_result(&serde_json::json!({"a": 1})).as_deref().ok(),
            Some(&br#"{"a":1}"#[..])
        );
        assert_eq!(write_result(&7).as_deref().ok(), Some(&br#"{"value":7}"#[..]));
        assert_eq!(write_result(&()).as_deref().ok(), Some(&br#"{"value":null}"#[..]));
        assert_eq!(write_result(&"a\0b").expect_err("NUL").kind(), "INVALID_RESULT");
        let huge = "x".repeat(limits::LARGEST_PAYLOAD_BYTES);
        assert_eq!(
            write_result(&huge).expect_err("too large").kind(),
            "RESULT_TOO_LARGE"
        );
    }
}
