//! Durations and points in time between the wire and Rust.

use std::time::Duration;

use jiff::Timestamp;

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

/// Reads a wire timestamp; `None` if it is malformed or not between the years -9999 and 9999.
pub fn timestamp_from_wire(wire: &prost_types::Timestamp) -> Option<Timestamp> {
    if !(0..1_000_000_000).contains(&wire.nanos) {
        return None;
    }
    Timestamp::new(wire.seconds, wire.nanos).ok()
}

/// Turns a point in time into a wire timestamp.
pub fn timestamp_to_wire(time: Timestamp) -> prost_types::Timestamp {
    // Before 1970 jiff counts both parts down from there; the wire counts nanoseconds up from the second before.
    let nanos = time.subsec_nanosecond();
    prost_types::Timestamp {
        seconds: time.as_second() - i64::from(nanos < 0),
        nanos: nanos.rem_euclid(1_000_000_000),
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
            let time = Timestamp::from_microsecond(micros).expect("a time");
            assert_eq!(timestamp_from_wire(&timestamp_to_wire(time)), Some(time));
        }
    }

    #[test]
    fn a_wire_timestamp_counts_nanoseconds_up() {
        let time = Timestamp::from_microsecond(-1_500_000).expect("a time");
        let wire = timestamp_to_wire(time);
        assert_eq!((wire.seconds, wire.nanos), (-2, 500_000_000));
    }

    #[test]
    fn a_timestamp_beyond_all_time_is_refused() {
        assert_eq!(
            timestamp_from_wire(&prost_types::Timestamp {
                seconds: i64::MAX,
                nanos: 0
            }),
            None
        );
    }
}
