//! The leases that the worker holds: running, or ended with a report under way.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Instant,
};

use foldhash::{HashMap, fast::RandomState};
use indexmap::IndexMap;
use tasklease_proto::v1::{LeaseRef, report::Body};

use crate::{
    lease_key::LeaseKey, outcome::Told, run::run_timeout, run_code::RunningCode, run_events::Fetched,
    stop::StopReason,
};

use super::outbox::EntryId;

/// How many cancel requests for unknown leases are remembered. A request can overtake its lease,
/// because they travel on different streams.
const MAX_EARLY_CANCELS: usize = 1_024;
/// The reason of a cancel request that says that the run is out of time.
const TIMED_OUT: &str = "timed out";

#[derive(Debug, Default)]
struct Lease {
    /// `None` once the run has ended here.
    code: Option<RunningCode>,
    told: Told,
    /// The report that accepts the lease, if it is the only one so far.
    accepted: Option<EntryId>,
}

/// A run that has ended here.
#[derive(Debug)]
pub(crate) struct EndedRun {
    pub(crate) code: RunningCode,
    /// Its events that have not been fetched.
    pub(crate) events: Vec<Body>,
    pub(crate) told: Told,
    /// The report that accepts the lease, if nothing of the run comes between it and the outcome.
    pub(crate) accepted: Option<EntryId>,
}

/// What a cancel request found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cancelled {
    /// Running code, which has been told to stop.
    Told,
    /// A run that has ended already; its outcome is under way.
    Ended,
    /// No such lease, or none yet.
    Unknown,
}

/// All leases by name.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    held: IndexMap<LeaseKey, Lease, RandomState>,
    running: usize,
    /// When code that was told to stop is given up.
    grace_ends: HashMap<LeaseKey, Instant>,
    /// When running code with a run timeout is out of time.
    deadlines: BTreeSet<(Instant, LeaseKey)>,
    early_cancels: VecDeque<(LeaseKey, String)>,
}

impl Leases {
    pub(crate) fn contains(&self, key: LeaseKey) -> bool {
        self.held.contains_key(&key)
    }

    /// Adds a lease whose code runs; `accepted` is the report that says so.
    pub(crate) fn add_running(&mut self, key: LeaseKey, code: RunningCode, accepted: EntryId) {
        self.running += 1;
        self.deadlines.extend(code.run.deadline.map(|at| (at, key)));
        self.held.insert(
            key,
            Lease {
                code: Some(code),
                told: Told::Nothing,
                accepted: Some(accepted),
            },
        );
    }

    /// Adds a lease that has ended before any code ran.
    pub(crate) fn add_ended(&mut self, key: LeaseKey) {
        self.held.insert(key, Lease::default());
    }

    pub(crate) fn running(&self) -> usize {
        self.running
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The leases to name when going on with the session.
    pub(crate) fn held(&self) -> Vec<LeaseRef> {
        self.held.keys().map(|key| key.to_wire()).collect()
    }

    /// The events that the code of a lease has left and that may leave now.
    pub(crate) fn fetch_events(&mut self, key: LeaseKey, now: Instant) -> Fetched {
        let Some(lease) = self.held.get_mut(&key) else {
            return Fetched::default();
        };
        let fetched = lease.code.as_ref().map(|code| code.run.mailbox.fetch(now));
        let fetched = fetched.unwrap_or_default();
        lease.accepted = lease.accepted.filter(|_| fetched.events.is_empty());
        fetched
    }

    /// Ends a run on this side: takes its code out, with the last events and what the code was told.
    /// `None` if the run had ended before or its lease is not held.
    pub(crate) fn end(&mut self, key: LeaseKey) -> Option<EndedRun> {
        let lease = self.held.get_mut(&key)?;
        let code = lease.code.take()?;
        self.running -= 1;
        if lease.told > Told::Release {
            self.grace_ends.remove(&key);
        }
        if let Some(at) = code.run.deadline {
            self.deadlines.remove(&(at, key));
        }
        let events = code.run.mailbox.close();
        Some(EndedRun {
            accepted: lease.accepted.filter(|_| events.is_empty()),
            told: std::mem::take(&mut lease.told),
            code,
            events,
        })
    }

    /// Forgets a lease whose outcome is durable or that is lost, and returns its code if that still
    /// runs.
    pub(crate) fn remove(&mut self, key: LeaseKey) -> Option<RunningCode> {
        let code = self.held.swap_remove(&key)?.code?;
        self.running -= 1;
        self.grace_ends.remove(&key);
        if let Some(at) = code.run.deadline {
            self.deadlines.remove(&(at, key));
        }
        code.run.mailbox.close();
        Some(code)
    }

    /// Forgets all leases, because they are lost, and returns the code that still runs.
    pub(crate) fn remove_all(&mut self) -> Vec<RunningCode> {
        self.running = 0;
        self.grace_ends.clear();
        self.deadlines.clear();
        self.early_cancels.clear();
        let code = self.held.drain(..).filter_map(|(_, lease)| lease.code);
        code.inspect(|code| drop(code.run.mailbox.close())).collect()
    }

    /// Tells the code of a lease to stop until `grace_end`; a repeated request can only shorten
    /// the grace.
    pub(crate) fn cancel(&mut self, key: LeaseKey, reason: &str, grace_end: Instant) -> Cancelled {
        let Some(lease) = self.held.get_mut(&key) else {
            if self.early_cancels.len() >= MAX_EARLY_CANCELS {
                self.early_cancels.pop_front();
            }
            self.early_cancels.push_back((key, reason.to_owned()));
            return Cancelled::Unknown;
        };
        let Some(code) = &lease.code else {
            return Cancelled::Ended;
        };
        let limit = run_timeout(&code.run.lease).filter(|_| reason == TIMED_OUT);
        match limit {
            Some(limit) => {
                lease.told = std::mem::take(&mut lease.told).max(Told::TimeOut { limit });
                code.run.stop.raise(StopReason::TimedOut);
            }
            None => {
                let reason = reason.to_owned();
                if !matches!(lease.told, Told::Cancel { .. }) {
                    lease.told = Told::Cancel {
                        reason: reason.clone(),
                    };
                }
                code.run.stop.raise(StopReason::Cancelled { reason });
            }
        }
        let end = self.grace_ends.entry(key).or_insert(grace_end);
        *end = grace_end.min(*end);
        Cancelled::Told
    }

    /// Tells code that is out of time to stop until `grace_end`, and returns the leases of that code.
    pub(crate) fn time_out(&mut self, now: Instant, grace_end: Instant) -> Vec<LeaseKey> {
        let mut timed_out = Vec::new();
        while let Some((at, key)) = self.deadlines.first().copied()
            && at <= now
        {
            self.deadlines.pop_first();
            if self.cancel(key, TIMED_OUT, grace_end) == Cancelled::Told {
                timed_out.push(key);
            }
        }
        timed_out
    }

    /// When the next running code is out of time.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The reason of a cancel request that came before its lease.
    pub(crate) fn take_early_cancel(&mut self, key: LeaseKey) -> Option<String> {
        let index = self.early_cancels.iter().position(|(early, _)| *early == key)?;
        self.early_cancels.remove(index).map(|(_, reason)| reason)
    }

    /// Tells all running code to stop because the worker stops.
    pub(crate) fn release_all(&mut self) {
        for lease in self.held.values_mut() {
            if let Some(code) = &lease.code {
                if lease.told == Told::Nothing {
                    lease.told = Told::Release;
                }
                code.run.stop.raise(StopReason::Drained);
            }
        }
    }

    /// The leases whose code runs.
    pub(crate) fn running_keys(&self) -> Vec<LeaseKey> {
        let running = self.held.iter().filter(|(_, lease)| lease.code.is_some());
        running.map(|(key, _)| *key).collect()
    }

    /// When the next grace ends.
    pub(crate) fn next_grace_end(&self) -> Option<Instant> {
        self.grace_ends.values().min().copied()
    }

    /// The leases whose grace is over.
    pub(crate) fn grace_over(&self, now: Instant) -> Vec<LeaseKey> {
        self.grace_ends
            .iter()
            .filter(|(_, end)| **end <= now)
            .map(|(key, _)| *key)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use futures_util::future::AbortHandle;
    use tasklease_proto::{
        convert::duration_to_wire,
        v1::{Accepted, LeasedTask, Progress},
    };
    use tokio::runtime::Handle;

    use super::{super::outbox::Outbox, *};
    use crate::{
        run::{Host, Run},
        run_events::RunEvent,
        slot::Slot,
    };

    fn key(name: &str) -> LeaseKey {
        LeaseKey::named(name)
    }

    fn code(key: LeaseKey) -> RunningCode {
        code_of(key, LeasedTask::default())
    }

    fn code_of(key: LeaseKey, lease: LeasedTask) -> RunningCode {
        let (events, _) = tokio::sync::mpsc::unbounded_channel();
        let runtime = Handle::current();
        let host = Arc::new(Host::new(runtime, events));
        let slot = Arc::new(Slot::new(Arc::clone(&host)));
        RunningCode {
            run: Arc::new(Run::new(key, lease, Instant::now(), &slot, host)),
            abort: AbortHandle::new_pair().0,
        }
    }

    fn entry() -> EntryId {
        Outbox::default().push(key("any"), Body::Accepted(Accepted {}))
    }

    #[tokio::test]
    async fn an_outcome_can_take_the_place_of_the_acceptance_only_if_no_news_came_between() {
        let mut leases = Leases::default();
        let progress = || RunEvent::Progress(Progress::default());
        for name in ["quiet", "fetched", "left"] {
            let code = code(key(name));
            let run = Arc::clone(&code.run);
            leases.add_running(key(name), code, entry());
            if name != "quiet" {
                run.mailbox.leave(progress());
            }
        }
        let mut fetched = |name| leases.fetch_events(key(name), Instant::now()).events.len();
        assert_eq!((fetched("quiet"), fetched("fetched")), (0, 1));
        let mut accepted = |name| leases.end(key(name)).expect("runs").accepted.is_some();
        assert_eq!(
            ["quiet", "fetched", "left"].map(&mut accepted),
            [true, false, false]
        );
    }

    #[tokio::test]
    async fn a_lease_is_held_until_its_outcome_is_durable() {
        let mut leases = Leases::default();
        leases.add_running(key("a"), code(key("a")), entry());
        assert_eq!((leases.running(), leases.held().len()), (1, 1));
        assert!(leases.end(key("a")).is_some() && leases.end(key("a")).is_none());
        assert_eq!((leases.running(), leases.held().len()), (0, 1));
        leases.remove(key("a"));
        assert!(leases.is_empty());
    }

    #[tokio::test]
    async fn a_cancel_request_raises_the_signal_and_its_grace_can_only_shrink() {
        let mut leases = Leases::default();
        let code = code(key("a"));
        let run = Arc::clone(&code.run);
        leases.add_running(key("a"), code, entry());
        let now = Instant::now();
        let (soon, late) = (now + Duration::from_secs(1), now + Duration::from_secs(9));
        assert_eq!(leases.cancel(key("a"), "by hand", soon), Cancelled::Told);
        assert_eq!(leases.cancel(key("a"), "again", late), Cancelled::Told);
        let by_hand = StopReason::Cancelled {
            reason: "by hand".into(),
        };
        assert_eq!(run.stop.reason(), Some(&by_hand));
        assert_eq!(
            (leases.next_grace_end(), leases.grace_over(soon)),
            (Some(soon), vec![key("a")])
        );
        let ended = leases.end(key("a")).expect("runs");
        assert_eq!(
            ended.told,
            Told::Cancel {
                reason: "by hand".into()
            }
        );
        assert_eq!(leases.cancel(key("a"), "late", late), Cancelled::Ended);
        assert_eq!(leases.next_grace_end(), None);
    }

    #[test]
    fn a_cancel_request_that_overtakes_its_lease_is_remembered_within_bounds() {
        let mut leases = Leases::default();
        let now = Instant::now();
        assert_eq!(leases.cancel(key("a"), "early", now), Cancelled::Unknown);
        assert_eq!(leases.take_early_cancel(key("a")).as_deref(), Some("early"));
        assert_eq!(leases.take_early_cancel(key("a")), None);
        for number in 0..2 * MAX_EARLY_CANCELS {
            leases.cancel(key(&number.to_string()), "", now);
        }
        assert_eq!(leases.early_cancels.len(), MAX_EARLY_CANCELS);
    }

    #[tokio::test]
    async fn releasing_does_not_overrule_a_cancel_request() {
        let mut leases = Leases::default();
        for name in ["a", "b"] {
            leases.add_running(key(name), code(key(name)), entry());
        }
        leases.cancel(key("a"), "by hand", Instant::now());
        leases.release_all();
        let mut told = |name| leases.end(key(name)).map(|ended| ended.told);
        assert!(matches!(told("a"), Some(Told::Cancel { .. })));
        assert!(matches!(told("b"), Some(Told::Release)));
    }

    #[tokio::test]
    async fn code_that_is_out_of_time_is_told_once_and_a_cancel_overrides_it() {
        let mut leases = Leases::default();
        let limit = Duration::from_secs(60);
        for name in ["a", "b", "c"] {
            let lease = LeasedTask {
                run_timeout: Some(duration_to_wire(limit)),
                ..LeasedTask::default()
            };
            leases.add_running(key(name), code_of(key(name), lease), entry());
        }
        leases.end(key("c"));
        let at = leases.next_deadline().expect("a deadline");
        let (late, grace_end) = (at + limit, at + 2 * limit);
        assert_eq!(leases.time_out(at - limit, grace_end), []);
        assert_eq!(leases.time_out(late, grace_end), [key("a"), key("b")]);
        assert_eq!(
            (leases.time_out(late, grace_end), leases.next_deadline()),
            (vec![], None)
        );
        leases.cancel(key("b"), "by hand", grace_end);
        let mut told = |name| leases.end(key(name)).map(|ended| ended.told);
        assert_eq!(told("a"), Some(Told::TimeOut { limit }));
        assert!(matches!(told("b"), Some(Told::Cancel { .. })));
        assert_eq!(leases.next_grace_end(), None);
    }

    #[tokio::test]
    async fn a_time_out_that_the_scheduler_asks_for_is_no_cancel() {
        let mut leases = Leases::default();
        let lease = LeasedTask {
            run_timeout: Some(duration_to_wire(Duration::from_secs(60))),
            ..LeasedTask::default()
        };
        leases.add_running(key("limited"), code_of(key("limited"), lease), entry());
        leases.add_running(key("free"), code(key("free")), entry());
        for name in ["limited", "free"] {
            leases.cancel(key(name), TIMED_OUT, Instant::now());
        }
        let mut told = |name| leases.end(key(name)).map(|ended| ended.told);
        assert!(matches!(told("limited"), Some(Told::TimeOut { .. })));
        assert!(
            matches!(told("free"), Some(Told::Cancel { .. })),
            "a person said so"
        );
    }
}
