//! What this replica knows of one lane: who may take from it, whether tasks may wait in it, and from which place on.

use super::PoolId;
use crate::{
    domain::limits,
    store::{BUNDLE, Found, Mark},
};

/// A lane that some session here serves.
pub(super) struct Lane {
    /// The pools that serve it.
    pub(super) pools: Vec<PoolId>,
    /// No task waits before this place, as far as anybody here knows.
    pub(super) mark: Mark,
    pub(super) standing: Standing,
    under_way: UnderWay,
    /// The lowest place that somebody named since the question under way began.
    heard: Option<Mark>,
    /// True if something may have been missed since what is under way began.
    must_recheck: bool,
    /// How many tasks a bundle of it held when it was last looked at.
    bundle_size: usize,
}

/// Whether tasks wait in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Perhaps, at the mark or after it: a look must find out. Nothing is claimed before.
    Unknown,
    /// Most likely, at the mark or soon after it.
    Waiting,
    /// The last look found none.
    Drained,
}

/// A question to the database that was not answered yet; there is one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UnderWay {
    Nothing,
    Look,
    Claim,
}

impl Lane {
    pub(super) fn new() -> Self {
        Self {
            pools: Vec::new(),
            mark: Mark::START,
            standing: Standing::Unknown,
            under_way: UnderWay::Nothing,
            heard: None,
            must_recheck: false,
            // If they are smaller, the first claim finds too little; if they were larger, it would lock too much.
            bundle_size: BUNDLE,
        }
    }

    /// True if it can be forgotten. A question that is under way must find its lane again, or a lane that is joined
    /// meanwhile would be claimed twice at once.
    pub(super) fn is_unused(&self) -> bool {
        self.pools.is_empty() && self.under_way == UnderWay::Nothing
    }

    pub(super) fn may_hold_tasks(&self) -> bool {
        self.standing != Standing::Drained
    }

    /// True if nothing waits in it as far as this replica knows, so that a new task overtakes no other.
    pub(super) fn is_drained(&self) -> bool {
        self.standing == Standing::Drained && self.under_way == UnderWay::Nothing
    }

    pub(super) fn can_be_claimed(&self) -> bool {
        self.standing == Standing::Waiting && self.under_way == UnderWay::Nothing
    }

    pub(super) fn wants_look(&self) -> bool {
        self.standing == Standing::Unknown && self.under_way == UnderWay::Nothing
    }

    /// Tasks may wait from `place` on.
    pub(super) fn wake(&mut self, place: Mark) {
        self.mark = self.mark.min(place);
        if self.under_way != UnderWay::Nothing {
            self.heard = Some(self.heard.map_or(place, |lowest| lowest.min(place)));
        }
        if self.standing == Standing::Drained {
            self.standing = Standing::Waiting;
        }
    }

    /// Tasks may wait anywhere: something may have been missed.
    pub(super) fn recheck(&mut self) {
        self.must_recheck = true;
        self.mark = Mark::START;
        self.standing = Standing::Unknown;
    }

    pub(super) fn begin_look(&mut self) {
        self.begin(UnderWay::Look);
    }

    pub(super) fn begin_claim(&mut self) {
        self.begin(UnderWay::Claim);
    }

    fn begin(&mut self, what: UnderWay) {
        self.under_way = what;
        self.heard = None;
        self.must_recheck = false;
    }

    /// A look from the mark found its first task here, or none.
    pub(super) fn looked(&mut self, first: Option<Mark>) {
        self.under_way = UnderWay::Nothing;
        match (first, self.heard) {
            (Some(first), heard) => {
                self.mark = heard.map_or(first, |heard| heard.min(first));
                self.standing = Standing::Waiting;
            }
            (None, Some(heard)) => {
                self.mark = heard;
                self.standing = Standing::Waiting;
            }
            (None, None) => self.standing = Standing::Drained,
        }
        self.recheck_if_asked();
    }

    fn recheck_if_asked(&mut self) {
        if self.must_recheck {
            self.mark = Mark::START;
            self.standing = Standing::Unknown;
        }
    }

    /// A look, or a claim, was not answered.
    pub(super) fn failed(&mut self) {
        self.under_way = UnderWay::Nothing;
        self.mark = Mark::START;
        self.standing = Standing::Unknown;
    }

    /// How many bundles a claim of `tasks` tasks should look at: one more than it needs, so that a claim that finds few
    /// notices that these are all.
    pub(super) fn bundles_for(&self, tasks: usize) -> usize {
        tasks.div_ceil(self.bundle_size) + 1
    }

    /// A claim of tasks up to the rank `up_to` came back; `took_all` if it could have taken more of these ranks.
    pub(super) fn claimed(&mut self, up_to: i16, took_all: bool, found: &Found) {
        self.under_way = UnderWay::Nothing;
        self.standing = Standing::Waiting;
        if let Some(size) = found.waiting.checked_div(found.bundles) {
            self.bundle_size = size.max(1);
        }
        if let Some(last) = found.last {
            self.mark = self.mark.max(last);
        }
        if took_all {
            match above(up_to) {
                Some(above) => {
                    self.mark = self.mark.max(above);
                    self.standing = Standing::Unknown;
                }
                None => self.standing = Standing::Drained,
            }
        }
        if let Some(heard) = self.heard {
            self.mark = self.mark.min(heard);
            self.standing = Standing::Waiting;
        }
        self.recheck_if_asked();
    }
}

/// Before all places of the ranks after this one; `None` if there is no such rank.
fn above(rank: i16) -> Option<Mark> {
    let above = rank.checked_add(1)?;
    (i32::from(above) <= limits::PRIORITY).then(|| Mark::before(above, i64::MIN))
}
