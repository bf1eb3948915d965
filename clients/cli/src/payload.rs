//! The input of a task, put together from `--payload` and its fields.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::failure::Failure;
use crate::param::Param;

/// What some editors write in front of UTF-8 text.
const BYTE_ORDER_MARK: &[u8] = &[0xEF, 0xBB, 0xBF];

/// More than any scheduler accepts; only keeps a wrong file from filling the memory.
const READ_LIMIT: u64 = 64 << 20;

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
    /// Reads the text; a byte order mark in front of it is no part of it.
    fn read(self) -> Result<Vec<u8>, Failure> {
        let mut bytes = self.read_all()?;
        if bytes.starts_with(BYTE_ORDER_MARK) {
            bytes.drain(..BYTE_ORDER_MARK.len());
        }
        if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
            return Err(Failure::usage(
                "--payload: the text begins with the byte order mark of UTF-16; save it as UTF-8",
            ));
        }
        Ok(bytes)
    }

    fn read_all(self) -> Result<Vec<u8>, Failure> {
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
/// Everything is sent as it was typed, to the last digit.
pub(crate) fn assemble(payload: Option<PayloadSource>, params: Vec<Param>) -> Result<Bytes, Failure> {
    let payload = payload.map(PayloadSource::read).transpose()?;
    if let (Some(payload), true) = (&payload, params.is_empty()) {
        check("--payload", payload)?;
        return Ok(Bytes::copy_from_slice(payload.trim_ascii()));
    }
    let mut fields: BTreeMap<String, Box<RawValue>> = match &payload {
        Some(payload) => {
            check("--payload", payload)?;
            serde_json::from_slice(payload).map_err(|error| Failure::usage(format!("--payload: {error}")))?
        }
        None => BTreeMap::new(),
    };
    let mut given: Vec<&str> = params.iter().map(|param| param.name.as_str()).collect();
    given.sort_unstable();
    if let Some(twice) = given.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Failure::usage(format!("--param {} is given twice", twice[0])));
    }
    for param in params {
        fields.insert(param.name, param.value);
    }
    let text = serde_json::to_vec(&fields).map_err(|error| Failure::usage(format!("--param: {error}")))?;
    check("--param", &text)?;
    Ok(Bytes::from(text))
}

fn check(flag: &str, payload: &[u8]) -> Result<(), Failure> {
    tasklease_proto::json::check_object(payload.trim_ascii())
        .map(|_| ())
        .map_err(|error| Failure::usage(format!("{flag}: {error}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{PayloadSource, assemble, parse_payload_source};
    use crate::param::{Param, parse_param};

    fn params(texts: &[&str]) -> Vec<Param> {
        texts.iter().map(|text| parse_param(text).unwrap()).collect()
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
    fn fields_that_no_param_replaces_are_sent_as_typed() {
        let payload = Some(PayloadSource::Text(
            r#"{"big":12345678901234567890123,"x":1.50}"#.to_owned(),
        ));
        let bytes = assemble(payload, params(&["y=1.10"])).unwrap();
        assert_eq!(bytes, r#"{"big":12345678901234567890123,"x":1.50,"y":"1.10"}"#);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        let text = |text: &str| Some(PayloadSource::Text(text.to_owned()));
        assert_eq!(
            assemble(text("\u{feff}{\"a\": 1}\r\n"), Vec::new()).unwrap(),
            "{\"a\": 1}"
        );
        let bytes = assemble(text("\u{feff}{\"a\": 1}\r\n"), params(&["b=2"])).unwrap();
        assert_eq!(bytes, r#"{"a":1,"b":2}"#);
    }

    #[test]
    fn text_of_utf_16_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in.json");
        for text in [b"\xFF\xFE{\0}\0", b"\xFE\xFF\0{\0}"] {
            std::fs::write(&path, text).unwrap();
            let source = PayloadSource::File(path.to_str().unwrap().to_owned());
            let lines = assemble(Some(source), Vec::new()).unwrap_err().lines();
            assert!(lines[0].contains("byte order mark"), "{lines:?}");
        }
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
