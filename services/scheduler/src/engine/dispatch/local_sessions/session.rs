//! One session as this replica knows it.

use std::{collections::HashSet, sync::Arc, time::Duration};

use foldhash::{HashMap, fast::RandomState};
use indexmap::IndexMap;
use tokio::{sync::mpsc, time::Instant};

use super::{ClaimPush, Generation, ReportPush, Serves};
use crate::{
    domain::{
        ids::{GrantId, LeaseKey},
        lease::Lease,
        verdict::TimedOut,
    },
    store::{ClaimedTask, KnownLease, StopOrder},
};

/// A stream of a session, and the way to push onto it.
pub(super) struct Attachment<S> {
    pub(super) generation: Generation,
    pub(super) sender: S,
}

/// A session of which a stream, or both, are connected to this replica.
pub(super) struct Session {
    worker: Arc<str>,
    pub(super) serves: Serves,
    pub(super) claim: Option<Attachment<mpsc::UnboundedSender<ClaimPush>>>,
    pub(super) report: Option<Attachment<mpsc::Sender<ReportPush>>>,
    leases: IndexMap<LeaseKey, Held, RandomState>,
    /// How many leases of each grant go on. Never fewer than the database knows: a lease is counted until its end is
    /// committed.
    grants: HashMap<GrantId, usize>,
}

struct Held {
    lease: Lease,
    /// When it was made; its age is judged from here, whichever replica asks.
    since: Instant,
    acceptance: Acceptance,
    /// True while its end is on its way to the database.
    settling: bool,
    stop_sent: bool,
    out_of_time: Option<Instant>,
}

/// Whether the worker took a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Acceptance {
    /// It did.
    Accepted,
    /// It has not said so, and must in time, counted from this moment.
    AwaitedSince(Instant),
    /// It may have said so through another replica: not judged here.
    Unknown,
}

/// A lease whose end is on its way to the database.
pub(in crate::engine) struct Settling {
    /// The lease.
    pub lease: Lease,
    /// The worker's name.
    pub worker: Arc<str>,
    /// Whether its time was up.
    pub timed_out: TimedOut,
}

/// A lease that must end although its worker said nothing.
pub(in crate::engine) enum Overdue {
    /// It was not accepted in time.
    NotAccepted(Settling),
    /// Its time was up and it did not stop.
    TimedOut(Settling),
}

impl Session {
    pub(super) fn new(worker: &str) -> Self {
        Self {
            worker: worker.into(),
            serves: Serves::default(),
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

    /// Detaches the ClaimTask stream, if it is this one.
    pub(super) fn detach_claim(&mut self, generation: Generation) -> bool {
        let detaches = self.claims_with(generation);
        if detaches {
            self.claim = None;
        }
        detaches
    }

    /// Detaches the ReportProgress stream, if it is this one.
    pub(super) fn detach_report(&mut self, generation: Generation) {
        self.report.take_if(|report| report.generation == generation);
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

    fn insert(&mut self, lease: Lease, since: Instant, acceptance: Acceptance) {
        let (key, grant) = (lease.key, lease.grant);
        let held = Held {
            lease,
            since,
            acceptance,
            settling: false,
            stop_sent: false,
            out_of_time: None,
        };
        if self.leases.insert(key, held).is_none() {
            *self.grants.entry(grant).or_default() += 1;
        }
    }

    /// Compares what the database knows with what the worker says it holds, when a stream is attached. A lease that the
    /// worker does not name may still be on its way, so it is taken back only if nothing is heard of it in time.
    pub(super) fn compare(
        &mut self,
        leases: Vec<KnownLease>,
        held: Option<&HashSet<LeaseKey>>,
        now: Instant,
    ) {
        if let Some(held) = held {
            for entry in self.leases.values_mut() {
                if held.contains(&entry.lease.key) {
                    entry.acceptance = Acceptance::Accepted;
                } else if matches!(entry.acceptance, Acceptance::Accepted | Acceptance::Unknown) {
                    entry.acceptance = Acceptance::AwaitedSince(now);
                }
            }
        }
        for known in leases {
            let key = known.lease.key;
            if self.holds(key) {
                continue;
            }
            let since = since(&known, now);
            let acceptance = match held {
                Some(held) if held.contains(&key) => Acceptance::Accepted,
                // Its time goes on where another replica stopped to count.
                Some(_) => Acceptance::AwaitedSince(since),
                None if self.claim.is_some() => Acceptance::AwaitedSince(since),
                None => Acceptance::Unknown,
            };
            self.insert(known.lease, since, acceptance);
        }
    }

    /// Adds a lease that the database knows and this replica does not.
    pub(super) fn learn(&mut self, known: KnownLease, now: Instant) {
        if !self.holds(known.lease.key) {
            let since = since(&known, now);
            self.insert(known.lease, since, Acceptance::AwaitedSince(since));
        }
    }

    /// Pushes claimed tasks; gives them back if the stream is gone.
    pub(super) fn hand_out(&mut self, tasks: Vec<ClaimedTask>, now: Instant) -> Vec<ClaimedTask> {
        if tasks.is_empty() {
            return tasks;
        }
        let leases: Vec<Lease> = tasks.iter().map(|task| task.lease.clone()).collect();
        let Some(claim) = &self.claim else { return tasks };
        if let Err(mpsc::error::SendError(ClaimPush::Tasks(tasks))) =
            claim.sender.send(ClaimPush::Tasks(tasks))
        {
            return tasks;
        }
        // Without the other stream nobody here would ever hear how they end; the replica that has it learns of them.
        if self.report.is_some() {
            for lease in leases {
                self.insert(lease, now, Acceptance::AwaitedSince(now));
            }
        }
        Vec::new()
    }

    pub(super) fn accept(&mut self, key: LeaseKey) {
        if let Some(held) = self.leases.get_mut(&key) {
            held.acceptance = Acceptance::Accepted;
        }
    }

    pub(super) fn begin_to_settle(&mut self, key: LeaseKey, now: Instant) -> Option<Settling> {
        let worker = self.worker.clone();
        let held = self.leases.get_mut(&key)?;
        held.settling = true;
        Some(held.settling(worker, now))
    }

    /// A lease has ended.
    pub(super) fn remove(&mut self, key: LeaseKey) {
        let Some(held) = self.leases.swap_remove(&key) else {
            return;
        };
        let grant = held.lease.grant;
        if let Some(left) = self.grants.get_mut(&grant) {
            *left -= 1;
            if *left == 0 {
                self.grants.remove(&grant);
            }
        }
    }

    /// The end of a lease was not stored.
    pub(super) fn goes_on(&mut self, key: LeaseKey) {
        if let Some(held) = self.leases.get_mut(&key) {
            held.settling = false;
        }
    }

    /// The grants of which these are all the leases that go on.
    pub(super) fn grants_that_end_with(&self, leases: &[(GrantId, LeaseKey)]) -> Vec<GrantId> {
        let mut ending: HashMap<GrantId, usize> = HashMap::default();
        for (grant, _) in leases {
            *ending.entry(*grant).or_default() += 1;
        }
        ending.retain(|grant, count| self.grants.get(grant).is_some_and(|left| left <= count));
        // A lease that ended before, and is reported again, does not count for another of its grant.
        let is_unknown = |key: &LeaseKey| !self.holds(*key);
        for (grant, _) in leases.iter().filter(|(_, key)| is_unknown(key)) {
            ending.remove(grant);
        }
        ending.into_keys().collect()
    }

    pub(super) fn take_overdue(&mut self, now: Instant, accept: Duration, grace: Duration) -> Vec<Overdue> {
        let mut overdue = Vec::new();
        let mut stale = Vec::new();
        for held in self.leases.values_mut().filter(|held| !held.settling) {
            let unaccepted = matches!(held.acceptance, Acceptance::AwaitedSince(since)
                if now.saturating_duration_since(since) >= accept);
            let ignored_its_time = held
                .out_of_time
                .is_some_and(|at| now.saturating_duration_since(at) >= grace);
            if !unaccepted && !ignored_its_time {
                continue;
            }
            held.settling = true;
            stale.push(held.lease.key);
            let settling = held.settling(self.worker.clone(), now);
            overdue.push(if unaccepted {
                Overdue::NotAccepted(settling)
            } else {
                Overdue::TimedOut(settling)
            });
        }
        if !stale.is_empty() {
            self.push(ReportPush::Stale(stale));
        }
        overdue
    }

    pub(super) fn stop_timed_out(&mut self, now: Instant, grace: Duration) {
        let over: Vec<LeaseKey> = self
            .leases
            .values()
            .filter(|held| held.out_of_time.is_none() && !held.settling)
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
            .map(|key| StopOrder {
                key: *key,
                reason: "timed out".into(),
                grace,
            })
            .collect();
        // Whether or not the worker can be told, its time is up: the grace runs from here.
        self.push(ReportPush::Cancel(orders));
        for key in over {
            if let Some(held) = self.leases.get_mut(&key) {
                held.out_of_time = Some(now);
            }
        }
    }

    pub(super) fn push_cancels(&mut self, cancels: &[StopOrder]) {
        let mine: Vec<StopOrder> = cancels
            .iter()
            .filter(|cancel| self.leases.get(&cancel.key).is_some_and(|held| !held.stop_sent))
            .cloned()
            .collect();
        if mine.is_empty() {
            return;
        }
        let keys: Vec<LeaseKey> = mine.iter().map(|cancel| cancel.key).collect();
        if self.push(ReportPush::Cancel(mine)) {
            for key in keys {
                if let Some(held) = self.leases.get_mut(&key) {
                    held.stop_sent = true;
                }
            }
        }
    }
}

impl Held {
    /// True if its time is up. Another replica may have told the worker so: its age says it as well.
    fn is_out_of_time(&self, now: Instant) -> bool {
        let limit = self.lease.run_timeout;
        self.out_of_time.is_some()
            || limit.is_some_and(|limit| now.saturating_duration_since(self.since) >= limit)
    }

    fn settling(&self, worker: Arc<str>, now: Instant) -> Settling {
        Settling {
            lease: self.lease.clone(),
            worker,
            timed_out: if self.is_out_of_time(now) {
                TimedOut::Yes
            } else {
                TimedOut::No
            },
        }
    }
}

/// When a lease was made, on this process's clock.
fn since(known: &KnownLease, now: Instant) -> Instant {
    now.checked_sub(known.age).unwrap_or(now)
}
