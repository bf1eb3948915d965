//! Lengths of time as people type and read them: `500ms`, `10s`, `5m`, `2h`, `1d`.

use std::time::Duration;

/// Reads a length of time for clap.
pub(crate) fn parse_time_span(text: &str) -> Result<Duration, String> {
    let rule = "expected a number and one of ms, s, m, h, d, such as 500ms or 10s";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let millis_per_unit: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(rule.to_owned()),
    };
    if number.is_empty() {
        return Err(rule.to_owned());
    }
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(millis_per_unit))
        .map(Duration::from_millis)
        .ok_or_else(|| "that is too long".to_owned())
}

/// Writes a length of time in its two largest units at most.
pub(crate) fn format_time_span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600, seconds / 60);
    match () {
        () if days > 0 => join(days, "d", hours % 24, "h"),
        () if hours > 0 => join(hours, "h", minutes % 60, "m"),
        () if minutes > 0 => join(minutes, "m", seconds % 60, "s"),
        () if seconds >= 10 || span.subsec_millis() < 100 && seconds > 0 => format!("{seconds}s"),
        () if seconds > 0 => format!("{seconds}.{}s", span.subsec_millis() / 100),
        () => format!("{}ms", span.as_millis()),
    }
}

fn join(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large}{large_unit}")
    } else {
        format!("{large}{large_unit}{small}{small_unit}")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{format_time_span, parse_time_span};

    #[test]
    fn every_unit_is_read() {
        let spans = [
            ("500ms", 500),
            ("10s", 10_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("0s", 0),
        ];
        for (text, millis) in spans {
            assert_eq!(parse_time_span(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_length_of_time_is_refused() {
        for text in [
            "",
            "s",
            "10",
            "-1s",
            "1.5s",
            "10 s",
            "10S",
            "1h30m",
            "ten s",
            "٣s",
            "18446744073709551616s",
            "9999999999999999d",
        ] {
            assert!(parse_time_span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_length_of_time_is_written_in_its_largest_units() {
        let spans = [
            (0, "0ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (5_250, "5.2s"),
            (59_999, "59s"),
            (61_000, "1m1s"),
            (7_200_000, "2h"),
            (90_000_000, "1d1h"),
        ];
        for (millis, text) in spans {
            assert_eq!(format_time_span(Duration::from_millis(millis)), text);
        }
    }
}
