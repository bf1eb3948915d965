//! `google.protobuf.Struct` as JSON text and back.
//!
//! Every number of a `Struct` is a double. Whole numbers that a double holds exactly are written
//! without a fraction, so `5` stays `5` for code that expects an integer. NaN and the infinities
//! have no JSON form, and Postgres cannot store NUL characters in `jsonb`; both are refused.

use std::collections::BTreeMap;

use prost::Message as _;
use prost_types::{ListValue, Struct, Value, value::Kind};
use serde_json::value::RawValue;

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

/// Reads JSON text of one object into a `Struct` that says exactly the same in at most `bytes` encoded bytes; `None` if
/// there is no such `Struct`.
pub fn exact_struct(text: &str, bytes: usize) -> Option<Struct> {
    let (mut count, mut exact) = (0_usize, true);
    for number in numbers(text) {
        count += 1;
        exact = exact && Decimal::parse(number).is_some_and(|number| number.is_double());
    }
    // Numbers grow most, so a text with too many of them is refused before it is turned into a `Struct`, which would
    // take a hundred times its memory.
    if !exact || count.saturating_mul(NUMBER_BYTES) > bytes {
        return None;
    }
    struct_from_json(text)
        .ok()
        .filter(|object| object.encoded_len() <= bytes)
}

/// True if two JSON texts have the same value. The order of keys, spacing, escapes and the spelling of numbers do not
/// matter; a number's last digit does, however many there are. Texts that are not JSON are the same if they are equal.
pub fn same_value(one: &str, other: &str) -> bool {
    one == other || same(one.trim(), other.trim()).unwrap_or(false)
}

fn same(one: &str, other: &str) -> Option<bool> {
    let kind = |text: &str| match text.as_bytes().first() {
        Some(b'-' | b'0'..=b'9') => Some(b'0'),
        first => first.copied(),
    };
    if kind(one) != kind(other) {
        return Some(false);
    }
    Some(match kind(one)? {
        b'{' => {
            let (one, other): (Fields<'_>, Fields<'_>) = (read(one)?, read(other)?);
            one.len() == other.len()
                && one
                    .iter()
                    .zip(&other)
                    .all(|(one, other)| one.0 == other.0 && same_value(one.1.get(), other.1.get()))
        }
        b'[' => {
            let (one, other): (Vec<&RawValue>, Vec<&RawValue>) = (read(one)?, read(other)?);
            one.len() == other.len()
                && one
                    .iter()
                    .zip(&other)
                    .all(|(one, other)| same_value(one.get(), other.get()))
        }
        b'"' => read::<String>(one)? == read::<String>(other)?,
        b'0' => Decimal::parse(one)? == Decimal::parse(other)?,
        _ => one == other,
    })
}

type Fields<'a> = BTreeMap<String, &'a RawValue>;

fn read<'a, T: serde::Deserialize<'a>>(text: &'a str) -> Option<T> {
    serde_json::from_str(text).ok()
}

/// Bytes of a number in a list of a `Struct`: two tags, a length and a double.
const NUMBER_BYTES: usize = 11;

/// A decimal number without zeros at its ends: `0.digits · 10^exponent`.
#[derive(Debug, PartialEq, Eq)]
struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// Reads a JSON number; `None` if its exponent is beyond all numbers.
    fn parse(number: &str) -> Option<Self> {
        let (negative, number) = match number.strip_prefix('-') {
            Some(number) => (true, number),
            None => (false, number),
        };
        let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
        let exponent: i64 = exponent.parse().ok()?;
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let point = exponent.checked_add(i64::try_from(whole.len()).ok()?)?;
        let digits = format!("{whole}{fraction}");
        let significant = digits.trim_start_matches('0');
        let zeros = i64::try_from(digits.len() - significant.len()).ok()?;
        let significant = significant.trim_end_matches('0');
        if significant.is_empty() {
            return Some(Self {
                negative: false,
                digits: String::new(),
                exponent: 0,
            });
        }
        Some(Self {
            negative,
            digits: significant.to_owned(),
            exponent: point.checked_sub(zeros)?,
        })
    }

    /// True if a double, written in its shortest form, is this number.
    fn is_double(&self) -> bool {
        // Every decimal of so few digits in this range has a double of its own.
        if self.digits.len() <= 15 && self.exponent.abs() <= 300 {
            return true;
        }
        let text = format!("0.{}e{}", self.digits, self.exponent);
        text.parse::<f64>()
            .ok()
            .filter(|double| double.is_finite())
            .and_then(|double| Self::parse(&format!("{double:e}")))
            .is_some_and(|double| double.digits == self.digits && double.exponent == self.exponent)
    }
}

/// The numbers in a JSON text, as they are written.
fn numbers(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |byte: u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'"' => {
                    at += 1;
                    while bytes.get(at).is_some_and(|byte| *byte != b'"') {
                        at += if bytes[at] == b'\\' { 2 } else { 1 };
                    }
                    at += 1;
                }
                b'-' | b'0'..=b'9' => {
                    let start = at;
                    at += bytes[at..].iter().take_while(|byte| is_part(**byte)).count();
                    return text.get(start..at);
                }
                _ => at += 1,
            }
        }
        None
    })
}

/// Lays out JSON text anew, every value as it is written: over several lines that are indented by two spaces more than
/// `indent`, or on one line if that is `None`.
pub fn lay_out(text: &str, indent: Option<usize>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut depth = indent.unwrap_or(0) / 2;
    let (mut in_string, mut escaped, mut is_empty) = (false, false, false);
    let line = |out: &mut String, depth: usize| {
        if indent.is_some() {
            out.push('\n');
            out.extend(std::iter::repeat_n("  ", depth));
        }
    };
    for c in text.chars() {
        if in_string {
            out.push(c);
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            ' ' | '\t' | '\n' | '\r' => continue,
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                if !is_empty {
                    line(&mut out, depth);
                }
                out.push(c);
                is_empty = false;
                continue;
            }
            _ if is_empty => line(&mut out, depth),
            _ => {}
        }
        is_empty = false;
        out.push(c);
        match c {
            '"' => in_string = true,
            '{' | '[' => {
                depth += 1;
                is_empty = true;
            }
            ',' => line(&mut out, depth),
            ':' if indent.is_some() => out.push(' '),
            _ => {}
        }
    }
    out
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
    // Counting brackets is much faster than following their nesting, and nearly every text has few.
    let brackets = text.bytes().filter(|byte| matches!(byte, b'{' | b'[')).count();
    if brackets > MAX_DEPTH && nesting(text) > MAX_DEPTH {
        return Err(JsonError::TooDeep);
    }
    serde_json::from_str::<&RawValue>(text).map_err(|error| JsonError::Malformed(error.to_string()))?;
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

    #[test]
    fn a_number_that_a_double_would_change_has_no_exact_struct() {
        for exact in [
            "5",
            "-0.0",
            "0.1",
            "1e22",
            "9007199254740992",
            "1.7976931348623157e308",
            "5e-324",
            "-2.50",
        ] {
            assert!(
                exact_struct(&format!(r#"{{"a":[{exact}],"9007199254740993":"1e400"}}"#), 1_000).is_some(),
                "{exact}"
            );
        }
        for changed in [
            "9007199254740993",
            "1e400",
            "-1e400",
            "1e-400",
            "0.10000000000000000001",
            "1e99999999999999999999",
        ] {
            assert_eq!(
                exact_struct(&format!(r#"{{"a":[{changed}]}}"#), 1_000),
                None,
                "{changed}"
            );
        }
    }

    #[test]
    fn a_struct_that_would_be_too_large_is_not_made() {
        let text = format!("{{\"n\":[{}1]}}", "1,".repeat(999));
        let bytes = parse(&text).encoded_len();
        assert_eq!(
            exact_struct(&text, bytes).map(|object| object.encoded_len()),
            Some(bytes)
        );
        assert_eq!(exact_struct(&text, bytes - 1), None);
        assert!(
            1_000 * NUMBER_BYTES <= bytes,
            "the estimate is never above the size"
        );
    }

    #[test]
    fn json_is_the_same_by_value_and_not_by_text() {
        let same = [
            (
                r#"{"a":1,"b":[true,null]}"#,
                r#" { "b" : [ true, null ], "a" : 1.0 } "#,
            ),
            (r#"{"a":"\u00e9\n"}"#, "{\"a\":\"é\\u000a\"}"),
            ("[100, 0, -5]", "[1e2, -0.0, -0.5E1]"),
            ("9007199254740993", "9007199254740993.0"),
        ];
        for (one, other) in same {
            assert!(same_value(one, other) && same_value(other, one), "{one} {other}");
        }
        let different = [
            ("9007199254740993", "9007199254740992"),
            (r#"{"a":1}"#, r#"{"a":1,"b":null}"#),
            (r#"{"a":1}"#, r#"{"a":"1"}"#),
            ("[1,2]", "[2,1]"),
            ("[]", "{}"),
            ("true", "false"),
            ("1", "-1"),
        ];
        for (one, other) in different {
            assert!(
                !same_value(one, other) && !same_value(other, one),
                "{one} {other}"
            );
        }
    }

    #[test]
    fn laying_out_changes_no_value() {
        let text = r#"{"a":[1e400,{"b":"x, {\"y\": [1]}"}],"c":{},"d":[ ]}"#;
        let expected = "{\n  \"a\": [\n    1e400,\n    {\n      \"b\": \"x, {\\\"y\\\": [1]}\"\n    }\n  ],\n  \"c\": {},\n  \"d\": []\n}";
        assert_eq!(lay_out(text, Some(0)), expected);
        assert_eq!(lay_out(expected, None), text.replace("[ ]", "[]"));
    }

    proptest! {
        #[test]
        fn every_double_is_exact(number in proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL) {
            let text = format!("{{\"n\":{number:e}}}");
            prop_assert_eq!(exact_struct(&text, 100), Some(parse(&text)));
        }

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
