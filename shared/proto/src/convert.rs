//! Durations and times between the wire and the standard library.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds in a second.
const NANOS: i128 = 1_000_000_000;

/// Turns a wire duration into a [`Duration`]; `None` if it is negative or malformed.
pub fn duration_from_wire(wire: &prost_types::Duration) -> Option<Duration> {
    let seconds = u64::try_from(wire.seconds).ok()?;
    let nanos = u32::try_from(wire.nanos).ok().filter(|n| *n < 1_000_000_000)?;
    Some(Duration::new(seconds, nanos))
}

/// Turns a [`Duration`] into a wire duration; longer than the wire allows becomes its maximum.
pub fn duration_to_wire(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

/// Microseconds since the Unix epoch of a wire timestamp; `None` if it is malformed or out of range.
pub fn micros_from_timestamp(wire: &prost_types::Timestamp) -> Option<i64> {
    if !(0..NANOS).contains(&i128::from(wire.nanos)) {
        return None;
    }
    wire.seconds
        .checked_mul(1_000_000)?
        .checked_add(i64::from(wire.nanos) / 1_000)
}

/// Wire timestamp of microseconds since the Unix epoch.
pub fn timestamp_from_micros(micros: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or(0),
    }
}

/// Microseconds since the Unix epoch of a [`SystemTime`]; times outside the range are clamped.
pub fn micros_from_system(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |m| -m),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_duration_is_refused() {
        assert_eq!(
            duration_from_wire(&prost_types::Duration {
                seconds: -1,
                nanos: 0
            }),
            None
        );
        assert_eq!(
            duration_from_wire(&prost_types::Duration {
                seconds: 1,
                nanos: -1
            }),
            None
        );
    }

    #[test]
    fn durations_and_times_survive_the_round_trip() {
        let duration = Duration::new(7, 250_000_000);
        assert_eq!(duration_from_wire(&duration_to_wire(duration)), Some(duration));
        for micros in [-1_500_000, -1, 0, 1, 1_700_000_000_123_456] {
            assert_eq!(
                micros_from_timestamp(&timestamp_from_micros(micros)),
                Some(micros)
            );
        }
    }

    #[test]
    fn a_timestamp_beyond_all_time_is_refused() {
        assert_eq!(
            micros_from_timestamp(&prost_types::Timestamp {
                seconds: i64::MAX,
                nanos: 0
            }),
            None
        );
    }
}
