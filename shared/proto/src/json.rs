//! `google.protobuf.Struct` as JSON text and back.
//!
//! Every number of a `Struct` is a double. Whole numbers that a double holds exactly are written
//! without a fraction, so `5` stays `5` for code that expects an integer. NaN and the infinities
//! have no JSON form, and NUL characters have no home in Postgres' `jsonb`; both are refused.

use std::collections::BTreeMap;

use prost_types::{ListValue, Struct, Value, value::Kind};

/// Largest magnitude below which every whole number has an exact double, 2^53.
const EXACT_INTEGER: f64 = 9_007_199_254_740_992.0;

/// Deepest nesting accepted, the depth at which serde_json stops as well.
pub const MAX_DEPTH: usize = 100;

/// Why a value has no JSON form here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// NaN or an infinity.
    #[error("a number is not finite")]
    NotFinite,
    /// A NUL character in a string or key.
    #[error("a string contains a NUL character")]
    Nul,
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// Not JSON, or not an object.
    #[error("not a JSON object: {0}")]
    Malformed(String),
}

/// Writes a `Struct` as JSON text.
///
/// # Errors
/// Numbers that are not finite, NUL characters, nesting beyond [`MAX_DEPTH`].
pub fn struct_to_json(object: &Struct) -> Result<String, JsonError> {
    let mut out = String::with_capacity(64);
    write_object(&object.fields, &mut out, 0)?;
    Ok(out)
}

/// Reads JSON text of one object into a `Struct`.
///
/// # Errors
/// Text that is not one JSON object.
pub fn struct_from_json(text: &str) -> Result<Struct, JsonError> {
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(text).map_err(|error| JsonError::Malformed(error.to_string()))?;
    Ok(struct_from_map(object))
}

/// Turns a JSON object into a `Struct`; numbers beyond a double's precision are rounded.
pub fn struct_from_map(object: serde_json::Map<String, serde_json::Value>) -> Struct {
    Struct {
        fields: object
            .into_iter()
            .map(|(key, value)| (key, value_from_json(value)))
            .collect(),
    }
}

/// Checks that bytes hold the text of one JSON object that can be stored, and returns it as text.
///
/// # Errors
/// Invalid UTF-8, anything but one JSON object, NUL characters, nesting beyond [`MAX_DEPTH`].
pub fn check_object(bytes: &[u8]) -> Result<&str, JsonError> {
    let text = std::str::from_utf8(bytes).map_err(|error| JsonError::Malformed(error.to_string()))?;
    // Only an object starts with a brace, and serde_json stops at its own depth limit.
    if !text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
        return Err(JsonError::Malformed("expected `{`".into()));
    }
    // Counting brackets is many times as fast as following them, and nearly every text has few.
    let brackets = text.bytes().filter(|byte| matches!(byte, b'{' | b'[')).count();
    if brackets > MAX_DEPTH && nesting(text) > MAX_DEPTH {
        return Err(JsonError::TooDeep);
    }
    serde_json::from_str::<&serde_json::value::RawValue>(text)
        .map_err(|error| JsonError::Malformed(error.to_string()))?;
    // A lone surrogate passes a syntax check but has no text; parsing strings finds both.
    if text.contains("\\u") {
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|error| JsonError::Malformed(error.to_string()))?;
        refuse_nul(&value)?;
    }
    Ok(text)
}

fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn refuse_nul(value: &serde_json::Value) -> Result<(), JsonError> {
    match value {
        serde_json::Value::String(text) if text.contains('\0') => Err(JsonError::Nul),
        serde_json::Value::Array(items) => items.iter().try_for_each(refuse_nul),
        serde_json::Value::Object(fields) => fields.iter().try_for_each(|(key, value)| {
            if key.contains('\0') {
                Err(JsonError::Nul)
            } else {
                refuse_nul(value)
            }
        }),
        _ => Ok(()),
    }
}

fn value_from_json(value: serde_json::Value) -> Value {
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(flag) => Kind::BoolValue(flag),
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::MAX)),
        serde_json::Value::String(text) => Kind::StringValue(text),
        serde_json::Value::Array(items) => Kind::ListValue(ListValue {
            values: items.into_iter().map(value_from_json).collect(),
        }),
        serde_json::Value::Object(object) => Kind::StructValue(struct_from_map(object)),
    };
    Value { kind: Some(kind) }
}

fn write_object(fields: &BTreeMap<String, Value>, out: &mut String, depth: usize) -> Result<(), JsonError> {
    if depth >= MAX_DEPTH {
        return Err(JsonError::TooDeep);
    }
    out.push('{');
    for (index, (key, value)) in fields.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_string(key, out)?;
        out.push(':');
        write_value(value, out, depth + 1)?;
    }
    out.push('}');
    Ok(())
}

fn write_value(value: &Value, out: &mut String, depth: usize) -> Result<(), JsonError> {
    if depth > MAX_DEPTH {
        return Err(JsonError::TooDeep);
    }
    match &value.kind {
        None | Some(Kind::NullValue(_)) => out.push_str("null"),
        Some(Kind::BoolValue(flag)) => out.push_str(if *flag { "true" } else { "false" }),
        Some(Kind::NumberValue(number)) => write_number(*number, out)?,
        Some(Kind::StringValue(text)) => write_string(text, out)?,
        Some(Kind::ListValue(list)) => {
            out.push('[');
            for (index, item) in list.values.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_value(item, out, depth + 1)?;
            }
            out.push(']');
        }
        Some(Kind::StructValue(object)) => write_object(&object.fields, out, depth)?,
    }
    Ok(())
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "guarded by the exact-integer bound"
)]
fn write_number(number: f64, out: &mut String) -> Result<(), JsonError> {
    use std::fmt::Write as _;
    if !number.is_finite() {
        return Err(JsonError::NotFinite);
    }
    let written = if number.fract() == 0.0 && number.abs() < EXACT_INTEGER {
        write!(out, "{}", number as i64)
    } else if number.fract() == 0.0 {
        write!(out, "{number:e}")
    } else {
        write!(out, "{number}")
    };
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
    Ok(())
}

fn write_string(text: &str, out: &mut String) -> Result<(), JsonError> {
    if text.contains('\0') {
        return Err(JsonError::Nul);
    }
    let quoted = serde_json::to_string(text).map_err(|error| JsonError::Malformed(error.to_string()))?;
    out.push_str(&quoted);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Struct {
        struct_from_json(text).expect("valid JSON")
    }

    #[test]
    fn whole_numbers_keep_their_integer_form() {
        let text = r#"{"a":5,"b":-3,"c":1.5,"d":9007199254740991,"e":[true,null,"x"]}"#;
        assert_eq!(struct_to_json(&parse(text)).as_deref(), Ok(text));
    }

    #[test]
    fn numbers_without_a_json_form_are_refused() {
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let object = Struct {
                fields: [(
                    "n".into(),
                    Value {
                        kind: Some(Kind::NumberValue(number)),
                    },
                )]
                .into(),
            };
            assert_eq!(struct_to_json(&object), Err(JsonError::NotFinite));
        }
    }

    #[test]
    fn nul_characters_are_refused_in_both_forms() {
        let object = Struct {
            fields: [(
                "n".into(),
                Value {
                    kind: Some(Kind::StringValue("a\0b".into())),
                },
            )]
            .into(),
        };
        assert_eq!(struct_to_json(&object), Err(JsonError::Nul));
        assert_eq!(check_object(br#"{"n":"a\u0000b"}"#), Err(JsonError::Nul));
        assert_eq!(check_object(br#"{"a\u0000":1}"#), Err(JsonError::Nul));
        assert!(
            check_object(br#"{"n":"a\\u0000b"}"#).is_ok(),
            "an escaped backslash is not a NUL"
        );
    }

    #[test]
    fn only_one_object_is_a_payload() {
        for text in [
            "",
            "[]",
            "1",
            "null",
            "{",
            "{}{}",
            "{\"a\":}",
            "{\"a\":\"\\ud800\"}",
        ] {
            assert!(check_object(text.as_bytes()).is_err(), "{text}");
        }
        assert!(check_object(&[0x7b, 0xff, 0x7d]).is_err());
        assert!(check_object(b" {\"a\": [1, {\"b\": null}]} ").is_ok());
    }

    #[test]
    fn nesting_has_an_end() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
        assert_eq!(check_object(deep.as_bytes()), Err(JsonError::TooDeep));
        let mut value = Value {
            kind: Some(Kind::NullValue(0)),
        };
        for _ in 0..=MAX_DEPTH {
            value = Value {
                kind: Some(Kind::ListValue(ListValue { values: vec![value] })),
            };
        }
        assert_eq!(
            struct_to_json(&Struct {
                fields: [("a".into(), value)].into()
            }),
            Err(JsonError::TooDeep)
        );
    }

    proptest! {
        #[test]
        fn every_finite_number_survives(number in proptest::num::f64::NORMAL | proptest::num::f64::ZERO) {
            let object = Struct { fields: [("n".into(), Value { kind: Some(Kind::NumberValue(number)) })].into() };
            let text = struct_to_json(&object).expect("finite");
            prop_assert_eq!(&parse(&text), &object);
            prop_assert!(check_object(text.as_bytes()).is_ok());
        }

        #[test]
        fn every_text_without_nul_survives(text in "[^\0]{0,40}") {
            let object = Struct { fields: [(text.clone(), Value { kind: Some(Kind::StringValue(text)) })].into() };
            let json = struct_to_json(&object).expect("no NUL");
            prop_assert_eq!(&parse(&json), &object);
        }
    }
}
