//! The input of a task, put together from `--payload` and `--param`.

use std::fs::File;
use std::io::{self, Read};

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::failure::Failure;

/// More than any scheduler accepts; only keeps a wrong file from filling the memory.
const READ_LIMIT: u64 = 64 << 20;

/// One `--param name=value`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Param {
    name: String,
    value: Value,
}

/// Reads `name=value`; a value that is JSON is taken as JSON, any other as a string.
pub(crate) fn parse_param(text: &str) -> Result<Param, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok(Param {
            name: name.to_owned(),
            value: serde_json::from_str(value).unwrap_or_else(|_| Value::from(value)),
        }),
        _ => Err("expected name=value".to_owned()),
    }
}

/// Where the payload comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PayloadSource {
    /// The JSON text itself.
    Text(String),
    /// A file that holds it.
    File(String),
    /// Standard input.
    StandardInput,
}

/// Reads `--payload`: JSON text, `@file` or `-`.
pub(crate) fn parse_payload_source(text: &str) -> Result<PayloadSource, String> {
    Ok(match (text, text.strip_prefix('@')) {
        ("-", _) => PayloadSource::StandardInput,
        (_, Some("")) => return Err("expected a file name after @".to_owned()),
        (_, Some(file)) => PayloadSource::File(file.to_owned()),
        (_, None) => PayloadSource::Text(text.to_owned()),
    })
}

impl PayloadSource {
    fn read(self) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Text(text) => Ok(text.into_bytes()),
            Self::File(name) => File::open(&name)
                .and_then(read_bounded)
                .map_err(|error| Failure::usage(format!("--payload: cannot read {name}: {error}"))),
            Self::StandardInput => read_bounded(io::stdin())
                .map_err(|error| Failure::usage(format!("--payload: cannot read standard input: {error}"))),
        }
    }
}

fn read_bounded(source: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(READ_LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > READ_LIMIT {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "it is larger than 64 MiB",
        ));
    }
    Ok(bytes)
}

/// Puts the input together: the payload, with the parameters laid over its fields.
///
/// A payload without parameters is sent as it was typed, to the last digit.
pub(crate) fn assemble(payload: Option<PayloadSource>, params: Vec<Param>) -> Result<Bytes, Failure> {
    let payload = payload.map(PayloadSource::read).transpose()?;
    if let (Some(payload), true) = (&payload, params.is_empty()) {
        check(payload)?;
        return Ok(Bytes::copy_from_slice(payload.trim_ascii()));
    }
    let mut fields: Map<String, Value> = match &payload {
        Some(payload) => {
            check(payload)?;
            serde_json::from_slice(payload).map_err(|error| Failure::usage(format!("--payload: {error}")))?
        }
        None => Map::new(),
    };
    let mut given: Vec<&str> = params.iter().map(|param| param.name.as_str()).collect();
    given.sort_unstable();
    if let Some(twice) = given.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Failure::usage(format!("--param {} is given twice", twice[0])));
    }
    for param in params {
        fields.insert(param.name, param.value);
    }
    Ok(Bytes::from(Value::Object(fields).to_string()))
}

fn check(payload: &[u8]) -> Result<(), Failure> {
    tasklease_proto::json::check_object(payload.trim_ascii())
        .map(|_| ())
        .map_err(|error| Failure::usage(format!("--payload: {error}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{PayloadSource, assemble, parse_param, parse_payload_source};

    fn params(texts: &[&str]) -> Vec<super::Param> {
        texts.iter().map(|text| parse_param(text).unwrap()).collect()
    }

    fn value_of(text: &str) -> serde_json::Value {
        parse_param(text).unwrap().value
    }

    #[test]
    fn a_value_is_json_where_it_can_be_and_a_string_otherwise() {
        assert_eq!(value_of("n=5"), json!(5));
        assert_eq!(value_of("n=true"), json!(true));
        assert_eq!(value_of("n=[1,\"a\"]"), json!([1, "a"]));
        assert_eq!(value_of("n=\"5\""), json!("5"));
        assert_eq!(value_of("n=5 apples"), json!("5 apples"));
        assert_eq!(value_of("n="), json!(""));
        assert_eq!(value_of("a.b=x=y"), json!("x=y"));
    }

    #[test]
    fn a_param_needs_a_name_and_an_equals_sign() {
        assert!(parse_param("steps").is_err());
        assert!(parse_param("=5").is_err());
    }

    #[test]
    fn params_are_laid_over_the_payload() {
        let payload = Some(PayloadSource::Text(r#"{"a":1,"b":2}"#.to_owned()));
        let bytes = assemble(payload, params(&["b=3", "c.d=4"])).unwrap();
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&bytes).unwrap(),
            json!({"a": 1, "b": 3, "c.d": 4})
        );
    }

    #[test]
    fn a_payload_alone_is_sent_as_typed() {
        let text = r#"{ "big": 12345678901234567890123, "x": 1.50 }"#;
        let bytes = assemble(Some(PayloadSource::Text(format!("\n{text}\n"))), Vec::new()).unwrap();
        assert_eq!(bytes, text);
    }

    #[test]
    fn nothing_given_is_an_empty_object() {
        assert_eq!(assemble(None, Vec::new()).unwrap(), "{}");
    }

    #[test]
    fn what_is_not_one_object_is_refused() {
        for text in ["", "[]", "5", "{", "{} {}", "{\"a\":\"\\u0000\"}"] {
            assert!(
                assemble(Some(PayloadSource::Text(text.to_owned())), Vec::new()).is_err(),
                "{text}"
            );
            assert!(
                assemble(Some(PayloadSource::Text(text.to_owned())), params(&["a=1"])).is_err(),
                "{text}"
            );
        }
        assert!(assemble(None, params(&["a=1", "b=1", "a=2"])).is_err());
    }

    #[test]
    fn the_source_is_told_by_its_first_character() {
        assert_eq!(parse_payload_source("-"), Ok(PayloadSource::StandardInput));
        assert_eq!(
            parse_payload_source("@in.json"),
            Ok(PayloadSource::File("in.json".to_owned()))
        );
        assert_eq!(
            parse_payload_source("{}"),
            Ok(PayloadSource::Text("{}".to_owned()))
        );
        assert!(parse_payload_source("@").is_err());
    }
}
