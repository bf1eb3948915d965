//! Watchers get all progress once, in order, and the end.

use crate::history::Micros;

use super::{Breach, Invariant, breach, record::Record};

/// How long after the end of the faults a watcher may take to hear of an end.
const BOUND: Micros = 10_000_000;

pub(super) fn check(record: &Record<'_>) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for watch in record.watches.values() {
        let mut tell = |at, text: String| {
            breaches.push(breach(Invariant::WatchersHearAll, watch.task, at, text));
        };
        let in_order = watch.progress.windows(2).all(|pair| pair[0] < pair[1]);
        if !in_order {
            tell(
                watch.called,
                format!("progress came as (lease, number) {:?}", watch.progress),
            );
        }
        let task = record.tasks.get(watch.task);
        let ended = task.and_then(|task| task.final_state());
        match (watch.ended, ended) {
            (Some((at, told)), Some(state)) if told != state => {
                tell(
                    at,
                    format!("a watcher was told {told:?}, and the task ended {state:?}"),
                );
            }
            (None, Some(state))
                if !watch.given_up
                    && record
                        .healed
                        .is_some_and(|healed| record.end > healed.max(watch.called) + BOUND) =>
            {
                tell(
                    record.end,
                    format!("the task ended {state:?}, and a watcher was not told"),
                );
            }
            _ => {}
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Sample, run, task};
    use crate::{
        check::Invariant,
        history::{Event, Outcome, Request, State},
    };

    fn watch(events: Vec<Event>) -> Vec<Invariant> {
        let request = Request::Watch { task: "a".to_owned() };
        let mut sample = Sample::new()
            .submit(1, task("a"))
            .event(2, Event::Called { call: 9, request })
            .event(3, Event::Healed);
        for event in events {
            sample = sample.event(4, event);
        }
        let runs = vec![run(1, Outcome::Succeeded, true)];
        sample.found(20_000, "a", &[], runs).breaks()
    }

    fn progress(token: i64, number: u32) -> Event {
        Event::WatchProgress {
            watch: 9,
            token,
            number,
        }
    }

    fn ended(state: State) -> Event {
        Event::WatchEnded { watch: 9, state }
    }

    #[test]
    fn progress_in_order_and_the_end_are_right() {
        let events = vec![
            progress(1, 1),
            progress(1, 3),
            progress(2, 1),
            ended(State::Succeeded),
        ];
        assert_eq!(watch(events), []);
    }

    #[test]
    fn progress_that_comes_twice_or_out_of_order_is_found() {
        let twice = vec![progress(1, 1), progress(1, 1), ended(State::Succeeded)];
        assert_eq!(watch(twice), [Invariant::WatchersHearAll]);
        let disorder = vec![progress(2, 1), progress(1, 2), ended(State::Succeeded)];
        assert_eq!(watch(disorder), [Invariant::WatchersHearAll]);
    }

    #[test]
    fn a_watcher_that_hears_no_end_or_another_one_is_found() {
        assert_eq!(watch(vec![]), [Invariant::WatchersHearAll]);
        assert_eq!(watch(vec![ended(State::Failed)]), [Invariant::WatchersHearAll]);
    }
}
