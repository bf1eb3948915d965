//! Lengths of time as people type and read them: `500ms`, `10s`, `2h 30m`, `1d`.

use std::{ops::RangeInclusive, time::Duration};

use jiff::{Span, SpanRelativeTo};

/// How to write a length of time, for the end of a program's `--help`.
pub const TIME_SPAN_HELP: &str = "A TIME is a number with its unit, such as 500ms, 10s, 5m, 2h or 1d, or several of \
                                  them, such as 2h 30m. A day has 24 hours.";

/// Reads a length of time.
///
/// # Errors
/// A text that is none, with what to write instead. A bare number has no unit, and is refused.
pub fn parse_time_span(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!(
            "a unit is missing: write {text}s for seconds, {text}m for minutes, {text}h for hours"
        ));
    }
    let expected = |problem: &str| format!("{problem}; write a time such as 500ms, 10s, 2h 30m or 1d");
    let span: Span = text
        .parse()
        .map_err(|_| expected("this is not a length of time"))?;
    let duration = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|_| expected("months and years have no fixed length"))?;
    Duration::try_from(duration).map_err(|_| expected("a length of time is not negative"))
}

/// Reads a length of time that lies in a range; made for clap's `value_parser`.
pub fn time_span_within(
    range: RangeInclusive<Duration>,
) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync + 'static {
    move |text| {
        let span = parse_time_span(text)?;
        if range.contains(&span) {
            return Ok(span);
        }
        let most = format_time_span(*range.end());
        Err(if range.start().is_zero() {
            format!("must be at most {most}")
        } else {
            format!("must be {} to {most}", format_time_span(*range.start()))
        })
    }
}

/// Writes a length of time in its two largest units at most; [`parse_time_span`] reads what it writes.
pub fn format_time_span(span: Duration) -> String {
    let rounded = match span.as_secs() {
        seconds if seconds >= 86_400 => floor(span, 3_600_000),
        seconds if seconds >= 3_600 => floor(span, 60_000),
        seconds if seconds >= 10 => floor(span, 1_000),
        seconds if seconds > 0 => return tenths(span),
        _ => return format!("{}ms", span.as_millis()),
    };
    let seconds = rounded.as_secs();
    let units = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    units
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, unit)| format!("{number}{unit}"))
        .collect()
}

fn floor(span: Duration, unit_ms: u64) -> Duration {
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(millis / unit_ms * unit_ms)
}

fn tenths(span: Duration) -> String {
    match span.subsec_millis() / 100 {
        0 => format!("{}s", span.as_secs()),
        tenths => format!("{}.{tenths}s", span.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_units_are_read_and_several_add_up() {
        for (text, millis) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("1.5s", 1_500),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("2h 30m", 9_000_000),
            ("1h30m", 5_400_000),
            (" 1d ", 86_400_000),
            ("1d 1h", 90_000_000),
            ("1w", 604_800_000),
            ("2 minutes", 120_000),
            ("PT1M", 60_000),
            ("0s", 0),
        ] {
            assert_eq!(parse_time_span(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_length_of_time_is_refused_with_what_to_write() {
        for text in [
            "",
            " ",
            "s",
            "-1s",
            "1s ago",
            "ten s",
            "٣s",
            "5x",
            "1mo",
            "2y",
            "18446744073709551616s",
        ] {
            let why = parse_time_span(text).expect_err(text);
            assert!(why.contains("write a time such as 500ms"), "{text}: {why}");
        }
    }

    #[test]
    fn a_bare_number_is_refused_and_the_message_says_which_units_there_are() {
        let why = parse_time_span("15").expect_err("no unit");
        assert!(
            why.contains("15s for seconds") && why.contains("15h for hours"),
            "{why}"
        );
    }

    #[test]
    fn a_range_refuses_what_is_outside_and_names_its_ends() {
        let parse = time_span_within(Duration::from_secs(3)..=Duration::from_secs(3_600));
        assert_eq!(parse("3s"), Ok(Duration::from_secs(3)));
        assert_eq!(parse("1h"), Ok(Duration::from_secs(3_600)));
        for text in ["2999ms", "1h 1s"] {
            assert_eq!(parse(text), Err("must be 3s to 1h".to_owned()), "{text}");
        }
        let parse = time_span_within(Duration::ZERO..=Duration::from_secs(60));
        assert_eq!(parse("61s"), Err("must be at most 1m".to_owned()));
    }

    #[test]
    fn a_length_of_time_is_written_in_its_largest_units() {
        for (millis, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (5_250, "5.2s"),
            (59_999, "59s"),
            (61_000, "1m1s"),
            (7_200_000, "2h"),
            (7_230_000, "2h"),
            (90_000_000, "1d1h"),
            (86_430_000, "1d"),
        ] {
            let written = format_time_span(Duration::from_millis(millis));
            assert_eq!(written, text);
            assert!(parse_time_span(&written).is_ok(), "{written}");
        }
    }
}
