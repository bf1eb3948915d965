//! How single columns become values of the domain, and values parameters.
//!
//! Statements take and give the types of the domain as they are; a number that stands for nothing known is an error.

use std::{error::Error, time::Duration};

use bytes::{BufMut as _, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};
use uuid::Uuid;

use crate::domain::{
    ids::{GrantId, LaneId, LeaseToken, ReplicaId, SessionId, TaskId},
    outcome::Outcome,
    state::TaskState,
};

type Failure = Box<dyn Error + Sync + Send>;

/// A newtype is stored as what it wraps.
macro_rules! stored_as {
    ($($name:ident: $inner:ty),* $(,)?) => {$(
        impl<'a> FromSql<'a> for $name {
            fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
                <$inner>::from_sql(ty, raw).map(Self)
            }

            fn accepts(ty: &Type) -> bool {
                <$inner as FromSql>::accepts(ty)
            }
        }

        impl ToSql for $name {
            fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
                self.0.to_sql(ty, out)
            }

            fn accepts(ty: &Type) -> bool {
                <$inner as ToSql>::accepts(ty)
            }

            to_sql_checked!();
        }
    )*};
}

stored_as! {
    TaskId: Uuid,
    SessionId: Uuid,
    ReplicaId: Uuid,
    LaneId: i32,
    GrantId: i64,
    LeaseToken: i32,
}

impl<'a> FromSql<'a> for TaskState {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        let number = i16::from_sql(ty, raw)?;
        Self::from_number(number.into()).ok_or_else(|| format!("{number} is no state").into())
    }

    accepts!(INT2);
}

impl<'a> FromSql<'a> for Outcome {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        let number = i16::from_sql(ty, raw)?;
        Self::from_number(number).ok_or_else(|| format!("{number} is no outcome").into())
    }

    accepts!(INT2);
}

/// A column `interval`: a duration in whole microseconds. One of months has no fixed length and is an error; a negative
/// one counts as zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interval(pub(super) Duration);

const DAY: i64 = 24 * 3_600 * 1_000_000;

impl<'a> FromSql<'a> for Interval {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        // Microseconds, days, months.
        let (micros, rest) = raw.split_first_chunk::<8>().ok_or("an interval is too short")?;
        let (days, months) = rest.split_first_chunk::<4>().ok_or("an interval is too short")?;
        if months != [0; 4] {
            return Err("an interval has months".into());
        }
        let days = i64::from(i32::from_be_bytes(*days));
        let micros = i64::from_be_bytes(*micros).saturating_add(days.saturating_mul(DAY));
        Ok(Self(Duration::from_micros(u64::try_from(micros).unwrap_or(0))))
    }

    accepts!(INTERVAL);
}

impl ToSql for Interval {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        out.put_i64(i64::try_from(self.0.as_micros()).unwrap_or(i64::MAX));
        out.put_i32(0);
        out.put_i32(0);
        Ok(IsNull::No)
    }

    accepts!(INTERVAL);
    to_sql_checked!();
}

/// A column of whole milliseconds; a negative one counts as zero. Tasks keep durations so: an interval has twice the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Millis(pub(super) Duration);

impl<'a> FromSql<'a> for Millis {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        let millis = i64::from_sql(ty, raw)?;
        Ok(Self(Duration::from_millis(u64::try_from(millis).unwrap_or(0))))
    }

    accepts!(INT8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_survives_the_round_trip_and_days_count_24_hours() {
        for micros in [0, 1, 86_400_000_001, u64::from(u32::MAX) * 1_000_000] {
            let interval = Interval(Duration::from_micros(micros));
            let mut bytes = BytesMut::new();
            interval
                .to_sql(&Type::INTERVAL, &mut bytes)
                .expect("it is an interval");
            assert_eq!(
                Interval::from_sql(&Type::INTERVAL, &bytes).expect("it is one"),
                interval
            );
        }
        let mut two_days = BytesMut::new();
        two_days.put_i64(7);
        two_days.put_i32(2);
        two_days.put_i32(0);
        assert_eq!(
            Interval::from_sql(&Type::INTERVAL, &two_days).expect("it is one"),
            Interval(Duration::from_micros(2 * 86_400_000_000 + 7))
        );
    }

    #[test]
    fn an_interval_of_months_is_refused_and_a_negative_one_is_nothing() {
        let interval = |micros, days, months| {
            let mut bytes = BytesMut::new();
            bytes.put_i64(micros);
            bytes.put_i32(days);
            bytes.put_i32(months);
            Interval::from_sql(&Type::INTERVAL, &bytes).ok()
        };
        assert_eq!(interval(1, 1, 1), None);
        assert_eq!(interval(-1, 0, 0), Some(Interval(Duration::ZERO)));
    }

    #[test]
    fn a_number_that_stands_for_nothing_is_an_error() {
        for number in [0_i16, 7, 99] {
            let raw = number.to_be_bytes();
            assert!(Outcome::from_sql(&Type::INT2, &raw).is_err(), "{number}");
        }
        assert!(TaskState::from_sql(&Type::INT2, &8_i16.to_be_bytes()).is_err());
    }
}
