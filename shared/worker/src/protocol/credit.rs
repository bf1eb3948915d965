//! How many more tasks the worker may ask for.

/// The slots of the worker, and what they are used for.
#[derive(Debug)]
pub(crate) struct Credit {
    slots: u32,
    /// Slots with code on a thread.
    taken: u32,
    /// Credit sent on the current stream and not used up.
    open: u32,
}

impl Credit {
    pub(crate) fn new(slots: u32) -> Self {
        Self {
            slots,
            taken: 0,
            open: 0,
        }
    }

    pub(crate) fn slots(&self) -> u32 {
        self.slots
    }

    pub(crate) fn taken(&self) -> u32 {
        self.taken
    }

    /// Room that has not been offered yet, which is offered by this call.
    pub(crate) fn top_up(&mut self) -> Option<i32> {
        let room = self.slots.saturating_sub(self.taken).saturating_sub(self.open);
        self.open += room;
        i32::try_from(room).ok().filter(|room| *room > 0)
    }

    /// A stream ends with the credit that was open on it.
    pub(crate) fn stream_replaced(&mut self) {
        self.open = 0;
    }

    /// A task arrived and uses up one credit.
    pub(crate) fn received(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    pub(crate) fn has_room(&self) -> bool {
        self.taken < self.slots
    }

    pub(crate) fn started(&mut self) {
        self.taken += 1;
    }

    pub(crate) fn freed(&mut self) {
        self.taken = self.taken.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_is_topped_up_as_slots_free_and_never_exceeds_the_slots() {
        let mut credit = Credit::new(3);
        assert_eq!((credit.top_up(), credit.top_up()), (Some(3), None));
        credit.received();
        credit.started();
        assert_eq!(credit.top_up(), None, "two are still open, one runs");
        credit.freed();
        assert_eq!(credit.top_up(), Some(1));
    }

    #[test]
    fn a_new_stream_starts_without_credit() {
        let mut credit = Credit::new(4);
        credit.top_up();
        credit.received();
        credit.started();
        credit.stream_replaced();
        assert_eq!(credit.top_up(), Some(3));
    }
}
