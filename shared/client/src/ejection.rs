//! Replicas that are not used for a while because they failed.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

/// How long the first failure ejects a replica; doubles with each further one.
const FIRST: Duration = Duration::from_secs(1);
/// The longest ejection.
const LONGEST: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Ejection {
    until: Instant,
    failures: u32,
}

/// The replicas that failed lately.
#[derive(Debug, Default)]
pub(crate) struct Ejections(HashMap<SocketAddr, Ejection>);

impl Ejections {
    /// Notes a failure; calls that break together on one connection count once.
    pub(crate) fn failed(&mut self, address: SocketAddr, now: Instant) {
        let entry = self.0.entry(address).or_insert(Ejection {
            until: now,
            failures: 0,
        });
        if entry.failures > 0 && entry.until > now {
            return;
        }
        let span = FIRST.saturating_mul(1 << entry.failures.min(5)).min(LONGEST);
        entry.failures += 1;
        entry.until = now + span;
    }

    /// Forgets the failures of a replica that answered.
    pub(crate) fn succeeded(&mut self, address: SocketAddr) {
        self.0.remove(&address);
    }

    /// Forgets replicas that are not in the list any more.
    pub(crate) fn keep_only(&mut self, known: impl Fn(&SocketAddr) -> bool) {
        self.0.retain(|address, _| known(address));
    }

    /// Until when a replica is ejected; `None` if it may be used.
    pub(crate) fn until(&self, address: SocketAddr, now: Instant) -> Option<Instant> {
        self.0
            .get(&address)
            .map(|ejection| ejection.until)
            .filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_replica_is_left_alone_longer_each_time_until_it_answers() {
        let (address, start) = (SocketAddr::from(([127, 0, 0, 1], 1)), Instant::now());
        let mut ejections = Ejections::default();
        ejections.failed(address, start);
        ejections.failed(address, start);
        assert_eq!(ejections.until(address, start), Some(start + FIRST));
        let later = start + FIRST;
        assert_eq!(ejections.until(address, later), None);
        ejections.failed(address, later);
        assert_eq!(ejections.until(address, later), Some(later + 2 * FIRST));
        ejections.succeeded(address);
        assert_eq!(ejections.until(address, later), None);
    }
}
