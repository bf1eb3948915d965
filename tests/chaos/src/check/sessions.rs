//! A worker whose heartbeats arrive keeps its session.

use super::{Breach, Invariant, quiet::strikes, record::Record};

/// How long before the last sign of life a fault may still have its effects.
const BEFORE: u64 = 1_000_000;

pub(super) fn check(record: &Record<'_>) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (name, worker) in &record.workers {
        for (at, last_sent, reason) in &worker.lost {
            let from = last_sent.saturating_sub(record.lease() + BEFORE);
            if !strikes(record, from, *at) {
                let kinds = record
                    .faults
                    .iter()
                    .filter(|fault| fault.begins <= *at && fault.ends >= from)
                    .map(|fault| fault.kind.to_string())
                    .collect::<Vec<_>>();
                breaches.push(Breach {
                    invariant: Invariant::SessionsKept,
                    task: None,
                    at: *at,
                    text: format!(
                        "{name} lost its session ({reason}), {} ms after its last heartbeat was answered; faults then: {}",
                        (at - last_sent) / 1_000,
                        if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") }
                    ),
                });
            }
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::super::sample::Sample;
    use crate::{check::Invariant, fault_kind::FaultKind, history::Event};

    fn lost(kind: FaultKind) -> Vec<Invariant> {
        let lost = Event::SessionLost {
            worker: "w".to_owned(),
            session: "s".to_owned(),
            last_sent: 20_000_000,
            reason: "over".to_owned(),
        };
        Sample::new()
            .worker(0, "w", 1)
            .fault((20_000, 24_000), kind)
            .event(24_000, lost)
            .breaks()
    }

    #[test]
    fn a_session_may_be_lost_by_a_fault_that_reaches_it_and_by_no_other() {
        assert_eq!(lost(FaultKind::StopPostgres), []);
        assert_eq!(lost(FaultKind::LockEvents), [Invariant::SessionsKept]);
        assert_eq!(lost(FaultKind::DeafWatchers), [Invariant::SessionsKept]);
    }
}
