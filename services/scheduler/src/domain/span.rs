//! Spans of time, by the time in the ids of tasks.

use std::ops::Range;

use uuid::Uuid;

use super::ids::TaskId;

/// A stretch of 65.536 seconds: all tasks whose ids begin with the same 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span(pub u32);

/// Bits of an id after those that name its span.
const BITS_AFTER: u32 = 96;

impl Span {
    /// The span of an id. In ids of version 7, the first 48 bits are milliseconds since 1970.
    pub fn of(id: TaskId) -> Self {
        Self(u32::try_from(id.0.as_u128() >> BITS_AFTER).unwrap_or(u32::MAX))
    }

    /// The ids of the span: from the lowest on, and below the lowest of the next span, or below the highest of all.
    pub fn ids(self) -> Range<TaskId> {
        let lowest = |span: u32| Uuid::from_u128(u128::from(span) << BITS_AFTER);
        let end = self.0.checked_add(1).map_or(Uuid::max(), lowest);
        TaskId(lowest(self.0))..TaskId(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_lies_in_its_span() {
        for id in [0, 1, 1 << 96, (7 << 96) - 1, 7 << 96, u128::MAX - 1] {
            let id = TaskId(Uuid::from_u128(id));
            assert!(Span::of(id).ids().contains(&id), "{id}");
        }
    }

    #[test]
    fn ids_of_one_minute_lie_in_two_spans_at_most() {
        let at = |ms: u128| Span::of(TaskId(Uuid::from_u128(ms << 80))).0;
        let now = 1_700_000_000_000;
        assert!(at(now + 60_000) - at(now) <= 1);
        assert_eq!(at(now + 65_536) - at(now), 1);
    }
}
