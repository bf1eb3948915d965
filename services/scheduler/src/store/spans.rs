//! Which lanes have tasks, and of when: coarse enough to cost a submit nothing, fine enough for lists.

use std::{ops::Range, time::Duration};

use super::{
    columns::Interval,
    database::{Database, prepared},
    error::StoreError,
};
use crate::domain::{
    ids::{LaneId, TaskId},
    span::Span,
};

/// How long after a span was noted tasks of it may be stored. Whoever stores more notes it again.
pub const NOTE_HOLDS: Duration = Duration::from_secs(6 * 3600);

/// Spans that one list step looks through at most.
const SPANS: i64 = 500;

/// Ids to look through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdRanges {
    /// Stretches of ids, the highest first; no two overlap.
    pub(super) ranges: Vec<Range<TaskId>>,
    /// Ids below this one were not looked for.
    pub(super) rest: Option<TaskId>,
}

impl IdRanges {
    /// All ids below one.
    pub fn below(id: TaskId) -> Self {
        Self {
            ranges: vec![TaskId(uuid::Uuid::nil())..id],
            rest: None,
        }
    }

    /// True if no task can be there.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The ids of these spans, latest first, as far as they are below an id.
    fn of_spans(spans: impl IntoIterator<Item = Span>, below: TaskId) -> Self {
        let mut ranges: Vec<Range<TaskId>> = Vec::new();
        for span in spans {
            let ids = span.ids();
            if ids.start >= below {
                continue;
            }
            match ranges.last_mut() {
                Some(last) if last.start == ids.end => last.start = ids.start,
                _ => ranges.push(ids.start..ids.end.min(below)),
            }
        }
        Self { ranges, rest: None }
    }
}

/// A place among the spans of all lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanCursor {
    lane: LaneId,
    span: i64,
}

impl SpanCursor {
    /// Before all spans.
    pub const START: Self = Self {
        lane: LaneId(i32::MIN),
        span: i64::MIN,
    };
}

/// What one step through the spans came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanPage {
    /// Where the next page begins; `None` after the last one.
    pub next: Option<SpanCursor>,
    /// How many spans were empty and are deleted.
    pub removed: i64,
}

impl Database {
    /// Notes that tasks of these lanes and spans are about to be stored, within [`NOTE_HOLDS`]. Returns the lanes that
    /// do not exist any more.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn ensure_spans(&self, spans: &[(LaneId, Span)]) -> Result<Vec<LaneId>, StoreError> {
        let (lanes, spans): (Vec<LaneId>, Vec<i64>) = spans
            .iter()
            .map(|(lane, span)| (*lane, i64::from(span.0)))
            .unzip();
        let connection = self.submit_connection().await?;
        let statement = prepared(&connection, include_str!("sql/lanes/ensure_spans.sql")).await?;
        let gone = connection.query(&statement, &[&lanes, &spans]).await?;
        gone.iter().map(|row| Ok(row.try_get("lane")?)).collect()
    }

    /// The ids below one among which all tasks of some lanes are.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn ids_of_lanes(&self, lanes: &[LaneId], below: TaskId) -> Result<IdRanges, StoreError> {
        let latest = i64::from(Span::of(below).0);
        let connection = self.listing().await?;
        let rows = connection
            .query(
                include_str!("sql/lanes/find_spans.sql"),
                &[&lanes, &latest, &SPANS],
            )
            .await?;
        let spans: Vec<Span> = rows
            .iter()
            .map(|row| {
                let span: i64 = row.try_get("span")?;
                u32::try_from(span)
                    .map(Span)
                    .map_err(|_| StoreError::Defect(format!("{span} is no span")))
            })
            .collect::<Result<_, StoreError>>()?;
        let is_cut = i64::try_from(spans.len()).is_ok_and(|found| found >= SPANS);
        let rest = spans.last().filter(|_| is_cut).map(|last| last.ids().start);
        Ok(IdRanges {
            rest,
            ..IdRanges::of_spans(spans, below)
        })
    }

    /// Deletes the spans among the next ones after a place that have no task and that nobody noted for `unused`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn delete_empty_spans(
        &self,
        after: SpanCursor,
        unused: Duration,
        look_at: i64,
    ) -> Result<SpanPage, StoreError> {
        let connection = self.connection().await?;
        let statement = prepared(&connection, include_str!("sql/lanes/delete_empty_spans.sql")).await?;
        let row = connection
            .query_one(
                &statement,
                &[&after.lane, &after.span, &Interval(unused), &look_at],
            )
            .await?;
        let looked_at: i64 = row.try_get("looked_at")?;
        let next = if looked_at < look_at {
            None
        } else {
            Some(SpanCursor {
                lane: row.try_get("last_lane")?,
                span: row.try_get("last_span")?,
            })
        };
        Ok(SpanPage {
            next,
            removed: row.try_get("removed")?,
        })
    }

    /// Deletes lanes that have no task any more, and queues without lanes, unless they are paused. Looks at some lanes
    /// at most, and returns how many it deleted.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn delete_unused_lanes(&self, at_most: i64) -> Result<usize, StoreError> {
        let connection = self.connection().await?;
        let unused = prepared(&connection, include_str!("sql/lanes/unused_lanes.sql")).await?;
        let unused = connection.query(&unused, &[&at_most]).await?;
        let unused: Vec<LaneId> = unused
            .iter()
            .map(|row| row.try_get("id"))
            .collect::<Result<_, _>>()?;
        if unused.is_empty() {
            return Ok(0);
        }
        let lanes = prepared(&connection, include_str!("sql/lanes/delete_unused_lanes.sql")).await?;
        let lanes = connection.query(&lanes, &[&unused]).await?.len();
        let queues = prepared(&connection, include_str!("sql/queues/delete_unused_queues.sql")).await?;
        connection.query(&queues, &[&at_most]).await?;
        Ok(lanes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_side_by_side_are_one_range_and_the_highest_ends_at_the_point() {
        let below = TaskId(uuid::Uuid::from_u128((9 << 96) + 5));
        let ranges = IdRanges::of_spans([Span(9), Span(8), Span(5)], below).ranges;
        assert_eq!(
            ranges,
            [
                Span(8).ids().start..below,
                Span(5).ids().start..Span(6).ids().start
            ]
        );
    }
}
