//! A budget of bytes that inputs share while they wait to be stored.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one permit stands for. A semaphore counts at most 2^32 permits at once.
const UNIT: usize = 1_024;

/// Bytes that may wait at once on this replica.
#[derive(Clone)]
pub(in crate::engine) struct ByteBudget {
    units: Arc<Semaphore>,
}

/// A part of a budget, given back when it is dropped.
pub(in crate::engine) struct Spent {
    _units: OwnedSemaphorePermit,
}

impl ByteBudget {
    pub(in crate::engine) fn new(bytes: usize) -> Self {
        Self {
            units: Arc::new(Semaphore::new(bytes / UNIT)),
        }
    }

    /// Takes a part of the budget; `None` if it is used up. What waits is in memory already, so nobody waits here.
    pub(in crate::engine) fn spend(&self, bytes: usize) -> Option<Spent> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).ok()?;
        let units = self.units.clone().try_acquire_many_owned(units).ok()?;
        Some(Spent { _units: units })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_is_missing_until_it_is_given_back() {
        let budget = ByteBudget::new(3 * UNIT);
        let one = budget.spend(UNIT + 1).expect("there is room");
        assert!(
            budget.spend(2 * UNIT).is_none(),
            "a part of a unit counts as a whole"
        );
        assert!(budget.spend(UNIT).is_some());
        drop(one);
        assert!(budget.spend(3 * UNIT).is_some());
    }
}
