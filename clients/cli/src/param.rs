//! One field of a task's input, typed on the command line.

use serde_json::Number;
use serde_json::value::RawValue;

/// A field: its name, and the JSON text of its value, to the last digit as it was typed.
#[derive(Clone, Debug)]
pub(crate) struct Param {
    pub(crate) name: String,
    pub(crate) value: Box<RawValue>,
}

/// Reads `name=value` and guesses what the value is: JSON if it is JSON, else text.
///
/// A version such as 1.10 or a hash such as 12e5 looks like a number and would become another text
/// on its way. So a number counts as one only if it would be printed as it was typed.
pub(crate) fn parse_param(text: &str) -> Result<Param, String> {
    let (name, value) = split(text)?;
    let value = match serde_json::from_str::<Box<RawValue>>(value) {
        Ok(json) if !is_number(&json) || prints_as_typed(&json) => json,
        _ => as_text(value)?,
    };
    Ok(Param { name, value })
}

/// Reads `name=text`.
pub(crate) fn parse_text_param(text: &str) -> Result<Param, String> {
    let (name, value) = split(text)?;
    let value = as_text(value)?;
    Ok(Param { name, value })
}

/// Reads `name=json`.
pub(crate) fn parse_json_param(text: &str) -> Result<Param, String> {
    let (name, value) = split(text)?;
    let value = serde_json::from_str(value).map_err(|error| format!("the value is not JSON: {error}"))?;
    Ok(Param { name, value })
}

fn split(text: &str) -> Result<(String, &str), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value)),
        _ => Err("expected name=value".to_owned()),
    }
}

fn is_number(json: &RawValue) -> bool {
    json.get().starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

fn prints_as_typed(json: &RawValue) -> bool {
    serde_json::from_str::<Number>(json.get()).is_ok_and(|number| number.to_string() == json.get())
}

fn as_text(value: &str) -> Result<Box<RawValue>, String> {
    serde_json::value::to_raw_value(value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::{parse_json_param, parse_param, parse_text_param};

    fn guessed(text: &str) -> String {
        parse_param(text).unwrap().value.get().to_owned()
    }

    #[test]
    fn a_value_is_json_where_it_can_be_and_text_otherwise() {
        for (typed, sent) in [
            ("n=5", "5"),
            ("n=-2.5", "-2.5"),
            ("n=true", "true"),
            ("n=null", "null"),
            ("n=[1,\"a\"]", "[1,\"a\"]"),
            ("n=\"5\"", "\"5\""),
            ("n=5 apples", "\"5 apples\""),
            ("n=", "\"\""),
            ("a.b=x=y", "\"x=y\""),
        ] {
            assert_eq!(guessed(typed), sent, "{typed}");
        }
    }

    #[test]
    fn what_was_typed_is_sent_to_the_last_digit() {
        for text in [
            "12e5",
            "1.10",
            "1E3",
            "0.10",
            "-0",
            "1e400",
            "12345678901234567890123",
            "007",
            "+1",
            "0x1F",
            ".5",
        ] {
            assert_eq!(guessed(&format!("n={text}")), format!("\"{text}\""));
        }
        for number in ["9007199254740993", "18446744073709551615", "-9223372036854775808"] {
            assert_eq!(guessed(&format!("n={number}")), number);
        }
        assert_eq!(
            guessed("n={\"v\":1.10,\"big\":12345678901234567890123}"),
            "{\"v\":1.10,\"big\":12345678901234567890123}"
        );
    }

    #[test]
    fn text_and_json_can_be_asked_for() {
        let text = |typed| parse_text_param(typed).unwrap().value.get().to_owned();
        assert_eq!(text("n=5"), "\"5\"");
        assert_eq!(text("n=true"), "\"true\"");
        assert_eq!(text("n=\"q\""), "\"\\\"q\\\"\"");
        let json = |typed| parse_json_param(typed).map(|param| param.value.get().to_owned());
        assert_eq!(json("n=1.10").unwrap(), "1.10");
        assert_eq!(
            json("n=12345678901234567890123").unwrap(),
            "12345678901234567890123"
        );
        assert!(json("n=apples").is_err());
        assert!(json("n=").is_err());
    }

    #[test]
    fn a_field_needs_a_name_and_an_equals_sign() {
        for parse in [parse_param, parse_text_param, parse_json_param] {
            assert!(parse("steps").is_err());
            assert!(parse("=5").is_err());
        }
    }
}
