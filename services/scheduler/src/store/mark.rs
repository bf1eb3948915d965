//! Places in the order of a lane.

use uuid::Uuid;

/// Where the last claim of a lane stopped. Before it there are mostly dead index entries, which would have to be read
/// again by every claim while an old snapshot keeps them from being removed. Only a shortcut: whoever knows of a row
/// below lowers the mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Minus the priority.
    pub rank: i16,
    /// Microseconds since 1970 when it was made. A number and not a time: it only says who comes first.
    pub order_key: i64,
    /// The first task of a bundle.
    pub first_task: Uuid,
}

impl Mark {
    /// Before every row.
    pub const START: Self = Self {
        rank: i16::MIN,
        order_key: i64::MIN,
        first_task: Uuid::nil(),
    };

    /// Just before all rows of that rank and order key.
    pub fn before(rank: i16, order_key: i64) -> Self {
        Self {
            rank,
            order_key,
            first_task: Uuid::nil(),
        }
    }
}
