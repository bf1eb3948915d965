//! One session as this replica knows it.

use std::{collections::HashSet, sync::Arc, time::Duration};

use foldhash::{HashMap, fast::RandomState};
use indexmap::IndexMap;
use tokio::{sync::mpsc, time::Instant};

use super::{ClaimPush, Generation, ReportPush};
use crate::{
    domain::{
        ids::{GrantId, LaneId, LeaseKey, SessionId},
        lease::Lease,
        verdict::TimedOut,
    },
    store::{ClaimedTask, GrantKey, OpenCancel},
};

/// A stream of a session, and the way to push onto it.
pub(super) struct Attachment<S> {
    pub(super) generation: Generation,
    pub(super) sender: S,
}

/// A session whose streams, or one of them, end here.
pub(super) struct Session {
    worker: Arc<str>,
    pub(super) lanes: Vec<LaneId>,
    pub(super) credit: u32,
    pub(super) claim: Option<Attachment<mpsc::UnboundedSender<ClaimPush>>>,
    pub(super) report: Option<Attachment<mpsc::Sender<ReportPush>>>,
    leases: IndexMap<LeaseKey, Held, RandomState>,
    grants: HashMap<GrantId, usize>,
}

struct Held {
    lease: Lease,
    since: Instant,
    judged: Judged,
    cancel_told: bool,
    out_of_time: Option<Instant>,
}

/// Whether a lease may be taken back here because it was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    /// The worker accepted it.
    Accepted,
    /// It waits to be accepted.
    Waiting,
    /// It may have been accepted through another replica.
    Elsewhere,
}

/// What a worker that comes back says about a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inherited {
    /// It knows it.
    Held,
    /// It does not.
    NotHeld,
}

/// A lease that was taken out of its session.
pub struct Ended {
    /// The lease.
    pub lease: Lease,
    /// The worker's name.
    pub worker: Arc<str>,
    /// Whether it was told to stop because its time was up.
    pub timed_out: TimedOut,
    /// Its grant, if this was the last lease in it.
    pub emptied: Option<GrantKey>,
}

/// A lease that must end although its worker said nothing.
pub enum Overdue {
    /// It was not accepted in time.
    NotAccepted(Ended),
    /// Its time was up and it did not stop.
    TimedOut(Ended),
}

impl Session {
    pub(super) fn new(worker: &str) -> Self {
        Self {
            worker: worker.into(),
            lanes: Vec::new(),
            credit: 0,
            claim: None,
            report: None,
            leases: IndexMap::default(),
            grants: HashMap::default(),
        }
    }

    pub(super) fn claims_with(&self, generation: Generation) -> bool {
        self.claim
            .as_ref()
            .is_some_and(|claim| claim.generation == generation)
    }

    pub(super) fn detach(&mut self, generation: Generation) {
        if self.claims_with(generation) {
            self.claim = None;
            self.credit = 0;
        }
        if self
            .report
            .as_ref()
            .is_some_and(|report| report.generation == generation)
        {
            self.report = None;
        }
    }

    /// Pushes onto the ReportProgress stream; false if there is none or it is full.
    pub(super) fn push(&self, push: ReportPush) -> bool {
        self.report
            .as_ref()
            .is_some_and(|report| report.sender.try_send(push).is_ok())
    }

    pub(super) fn holds(&self, key: LeaseKey) -> bool {
        self.leases.contains_key(&key)
    }

    fn insert(&mut self, lease: Lease, since: Instant, judged: Judged) {
        let (key, grant) = (lease.key, lease.grant);
        let held = Held {
            lease,
            since,
            judged,
            cancel_told: false,
            out_of_time: None,
        };
        if self.leases.insert(key, held).is_none() {
            *self.grants.entry(grant).or_default() += 1;
        }
    }

    /// Adds a lease that the session had when its ClaimTask stream came to this replica.
    pub(super) fn inherit(&mut self, lease: Lease, inherited: Inherited, now: Instant) {
        match (self.leases.get_mut(&lease.key), inherited) {
            (Some(held), Inherited::Held) => held.judged = Judged::Accepted,
            // It may still be on its way on the stream before: its time to be accepted goes on.
            (Some(_), Inherited::NotHeld) => {}
            (None, Inherited::Held) => self.insert(lease, now, Judged::Accepted),
            (None, Inherited::NotHeld) => self.insert(lease, now, Judged::Waiting),
        }
    }

    /// Judges leases that were learned before the ClaimTask stream came here: whatever was said about them elsewhere,
    /// what the worker does not hold now may never have reached it.
    pub(super) fn judge_here(&mut self, held: &HashSet<LeaseKey>, now: Instant) {
        for lease in self
            .leases
            .values_mut()
            .filter(|lease| lease.judged == Judged::Elsewhere)
        {
            if held.contains(&lease.lease.key) {
                lease.judged = Judged::Accepted;
            } else {
                lease.judged = Judged::Waiting;
                lease.since = now;
            }
        }
    }

    /// Adds leases that the database knows and this replica does not.
    pub(super) fn learn(&mut self, leases: Vec<Lease>, now: Instant) {
        let judged = if self.claim.is_some() {
            Judged::Waiting
        } else {
            Judged::Elsewhere
        };
        for lease in leases {
            if !self.holds(lease.key) {
                self.insert(lease, now, judged);
            }
        }
    }

    /// Pushes claimed tasks; gives them back if the stream is gone.
    pub(super) fn hand_out(&mut self, tasks: Vec<ClaimedTask>, now: Instant) -> Vec<ClaimedTask> {
        if tasks.is_empty() {
            return tasks;
        }
        let leases: Vec<Lease> = tasks.iter().map(|task| task.lease.clone()).collect();
        let Some(claim) = &self.claim else { return tasks };
        if let Err(mpsc::error::SendError(tasks)) = claim.sender.send(tasks) {
            return tasks;
        }
        // Without the other stream nobody here would ever hear how they end; whoever has it loads them.
        if self.report.is_some() {
            for lease in leases {
                self.insert(lease, now, Judged::Waiting);
            }
        }
        Vec::new()
    }

    pub(super) fn accept(&mut self, key: LeaseKey) {
        if let Some(held) = self.leases.get_mut(&key) {
            held.judged = Judged::Accepted;
        }
    }

    pub(super) fn end_lease(&mut self, id: SessionId, key: LeaseKey) -> Option<Ended> {
        let held = self.leases.swap_remove(&key)?;
        let grant = held.lease.grant;
        let left = self.grants.get_mut(&grant).map_or(0, |left| {
            *left = left.saturating_sub(1);
            *left
        });
        if left == 0 {
            self.grants.remove(&grant);
        }
        Some(Ended {
            lease: held.lease,
            worker: self.worker.clone(),
            timed_out: if held.out_of_time.is_some() {
                TimedOut::Yes
            } else {
                TimedOut::No
            },
            emptied: (left == 0).then_some(GrantKey { session: id, grant }),
        })
    }

    pub(super) fn take_overdue(
        &mut self,
        id: SessionId,
        now: Instant,
        accept: Duration,
        grace: Duration,
    ) -> Vec<Overdue> {
        let unaccepted = |held: &Held| {
            held.judged == Judged::Waiting && now.saturating_duration_since(held.since) >= accept
        };
        let ignored_its_time = |held: &Held| {
            held.out_of_time
                .is_some_and(|at| now.saturating_duration_since(at) >= grace)
        };
        let keys: Vec<(LeaseKey, bool)> = self
            .leases
            .values()
            .filter(|held| unaccepted(held) || ignored_its_time(held))
            .map(|held| (held.lease.key, unaccepted(held)))
            .collect();
        let stale: Vec<LeaseKey> = keys.iter().map(|(key, _)| *key).collect();
        if !stale.is_empty() {
            self.push(ReportPush::Stale(stale));
        }
        keys.into_iter()
            .filter_map(|(key, unaccepted)| {
                let ended = self.end_lease(id, key)?;
                Some(if unaccepted {
                    Overdue::NotAccepted(ended)
                } else {
                    Overdue::TimedOut(ended)
                })
            })
            .collect()
    }

    pub(super) fn stop_timed_out(&mut self, now: Instant, grace: Duration) {
        let over: Vec<LeaseKey> = self
            .leases
            .values()
            .filter(|held| held.out_of_time.is_none())
            .filter(|held| {
                held.lease
                    .run_timeout
                    .is_some_and(|limit| now.saturating_duration_since(held.since) >= limit)
            })
            .map(|held| held.lease.key)
            .collect();
        if over.is_empty() {
            return;
        }
        let orders = over
            .iter()
            .map(|key| OpenCancel {
                key: *key,
                reason: "timed out".into(),
                grace,
            })
            .collect();
        if self.push(ReportPush::Cancel(orders)) {
            for key in over {
                if let Some(held) = self.leases.get_mut(&key) {
                    held.out_of_time = Some(now);
                }
            }
        }
    }

    pub(super) fn push_cancels(&mut self, cancels: &[OpenCancel]) {
        let mine: Vec<OpenCancel> = cancels
            .iter()
            .filter(|cancel| self.leases.get(&cancel.key).is_some_and(|held| !held.cancel_told))
            .cloned()
            .collect();
        if mine.is_empty() {
            return;
        }
        let keys: Vec<LeaseKey> = mine.iter().map(|cancel| cancel.key).collect();
        if self.push(ReportPush::Cancel(mine)) {
            for key in keys {
                if let Some(held) = self.leases.get_mut(&key) {
                    held.cancel_told = true;
                }
            }
        }
    }
}
