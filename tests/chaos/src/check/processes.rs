//! Schedulers live, keep their memory, and never wait for each other in a circle.

use crate::history::Event;

use super::{Breach, Invariant, record::Record};

/// MiB that a scheduler may use under any load of a run.
const MEMORY_MIB: u64 = 512;

pub(super) fn check(record: &Record<'_>) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for entry in &record.others {
        let (invariant, text) = match &entry.event {
            Event::SchedulerEnded {
                scheduler,
                asked: false,
                code,
            } => (
                Invariant::SchedulersLive,
                format!("scheduler {scheduler} ended by itself, with code {code:?}"),
            ),
            Event::SchedulerMemory { scheduler, mib } if *mib > MEMORY_MIB => (
                Invariant::BoundedMemory,
                format!("scheduler {scheduler} used {mib} MiB, more than {MEMORY_MIB}"),
            ),
            Event::Deadlock => (Invariant::NoDeadlock, "Postgres broke a deadlock".to_owned()),
            _ => continue,
        };
        breaches.push(Breach {
            invariant,
            task: None,
            at: entry.at,
            text,
        });
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::super::sample::Sample;
    use crate::{check::Invariant, history::Event};

    #[test]
    fn a_scheduler_ends_only_when_it_is_told_to() {
        let ended = |asked| Event::SchedulerEnded {
            scheduler: 0,
            asked,
            code: Some(1),
        };
        assert_eq!(Sample::new().event(1, ended(true)).breaks(), []);
        assert_eq!(
            Sample::new().event(1, ended(false)).breaks(),
            [Invariant::SchedulersLive]
        );
    }

    #[test]
    fn memory_beyond_the_bound_is_found() {
        let memory = |mib| Event::SchedulerMemory { scheduler: 0, mib };
        assert_eq!(Sample::new().event(1, memory(100)).breaks(), []);
        assert_eq!(
            Sample::new().event(1, memory(900)).breaks(),
            [Invariant::BoundedMemory]
        );
    }

    #[test]
    fn a_deadlock_is_found() {
        assert_eq!(
            Sample::new().event(1, Event::Deadlock).breaks(),
            [Invariant::NoDeadlock]
        );
    }
}
