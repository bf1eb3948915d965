//! Progress and log lines that code has reported and the protocol has not fetched yet.
//!
//! Code never waits here and may report as fast as it likes. Each run has a bounded buffer, which the
//! protocol empties when it has room. Only the latest progress is kept, and it is handed out at a
//! bounded rate. If there is no room for a log line, the oldest line is dropped.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};
use tasklease_proto::v1::{LogLevel, LogLine, LogReport, Progress, ProgressReport, report};

/// The shortest time between two progress reports of one run.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// The most log lines of one run that wait; the oldest beyond that are dropped and counted.
const MAX_LOGS: usize = 256;

/// A report of the code.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RunEvent {
    Progress(Progress),
    Log(LogLine),
}

/// The result of a fetch.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    pub(crate) events: Vec<report::Body>,
    /// When to fetch again, because progress may not leave before that time.
    pub(crate) again_at: Option<Instant>,
}

/// The reports of one run that wait.
#[derive(Debug, Default)]
struct Buffer {
    logs: VecDeque<LogLine>,
    /// The latest progress, and how many of the waiting lines came before it.
    progress: Option<(usize, Progress)>,
    dropped_logs: u64,
    /// Number of the latest event that was fetched.
    number: i64,
    /// Progress may not leave before this time.
    progress_from: Option<Instant>,
    reader: Reader,
}

/// Whether the protocol knows that something waits.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Reader {
    #[default]
    Idle,
    /// It will fetch at the time until which progress must wait.
    Timed,
    /// It will fetch soon.
    Told,
    /// The run is over; nobody will fetch anything.
    Gone,
}

impl Buffer {
    fn push(&mut self, item: RunEvent) {
        match item {
            RunEvent::Progress(progress) => self.progress = Some((self.logs.len(), progress)),
            RunEvent::Log(line) => {
                if self.logs.len() >= MAX_LOGS {
                    self.logs.pop_front();
                    self.dropped_logs += 1;
                    if let Some((before, _)) = &mut self.progress {
                        *before = before.saturating_sub(1);
                    }
                }
                self.logs.push_back(line);
            }
        }
    }

    /// Takes what may leave at `now`, or everything; each item gets the next event number.
    fn take(&mut self, now: Option<Instant>) -> Fetched {
        let waits_until = self
            .progress_from
            .filter(|from| now.is_some_and(|now| now < *from));
        let (before, progress) = match (&mut self.progress, waits_until) {
            (Some((before, _)), Some(_)) => {
                *before = 0;
                (0, None)
            }
            (progress, _) => progress
                .take()
                .map_or((0, None), |(before, progress)| (before, Some(progress))),
        };
        if progress.is_some() {
            self.progress_from = now.map(|now| now + PROGRESS_EVERY);
        }
        let mut events = Vec::with_capacity(self.logs.len() + usize::from(progress.is_some()));
        let dropped = std::mem::take(&mut self.dropped_logs);
        if dropped > 0 {
            let message =
                format!("{dropped} earlier log lines were dropped: they came faster than they left");
            events.push(self.log(LogLine {
                level: LogLevel::Warn.into(),
                message,
                time: None,
                worker_time: None,
            }));
        }
        let mut logs = std::mem::take(&mut self.logs).into_iter();
        for line in logs.by_ref().take(before) {
            events.push(self.log(line));
        }
        if let Some(progress) = progress {
            events.push(report::Body::Progress(ProgressReport {
                event_number: self.next_number(),
                progress: Some(progress),
            }));
        }
        for line in logs {
            events.push(self.log(line));
        }
        Fetched {
            events,
            again_at: waits_until.filter(|_| self.progress.is_some()),
        }
    }

    fn log(&mut self, line: LogLine) -> report::Body {
        report::Body::Log(LogReport {
            event_number: self.next_number(),
            line: Some(line),
        })
    }

    fn next_number(&mut self) -> i64 {
        self.number += 1;
        self.number
    }
}

/// The events of one run, put in by its code and fetched by the protocol.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    buffer: Mutex<Buffer>,
}

impl Mailbox {
    /// Puts an event in; true if the protocol must be told that something waits.
    pub(crate) fn leave(&self, item: RunEvent) -> bool {
        let mut buffer = self.buffer();
        let must_tell = match (buffer.reader, &item) {
            (Reader::Gone, _) => return false,
            (Reader::Idle, _) | (Reader::Timed, RunEvent::Log(_)) => true,
            (Reader::Timed, RunEvent::Progress(_)) | (Reader::Told, _) => false,
        };
        buffer.push(item);
        if must_tell {
            buffer.reader = Reader::Told;
        }
        must_tell
    }

    /// Fetches what may leave now.
    pub(crate) fn fetch(&self, now: Instant) -> Fetched {
        let mut buffer = self.buffer();
        let fetched = buffer.take(Some(now));
        buffer.reader = match buffer.reader {
            Reader::Gone => Reader::Gone,
            _ if fetched.again_at.is_some() => Reader::Timed,
            _ => Reader::Idle,
        };
        fetched
    }

    /// Fetches all that waits, and takes nothing more.
    pub(crate) fn close(&self) -> Vec<report::Body> {
        let mut buffer = self.buffer();
        buffer.reader = Reader::Gone;
        buffer.take(None).events
    }

    /// True once the run is over.
    pub(crate) fn is_closed(&self) -> bool {
        self.buffer().reader == Reader::Gone
    }

    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(percent: f64) -> RunEvent {
        RunEvent::Progress(Progress {
            percent: Some(percent),
            ..Progress::default()
        })
    }

    fn log(text: &str) -> RunEvent {
        RunEvent::Log(LogLine {
            level: LogLevel::Info.into(),
            message: text.into(),
            time: None,
            worker_time: None,
        })
    }

    fn shape(events: &[report::Body]) -> Vec<(i64, String)> {
        let describe = |events: &report::Body| match events {
            report::Body::Progress(p) => {
                let percent = p.progress.as_ref().and_then(|p| p.percent);
                (p.event_number, percent.unwrap_or(-1.0).to_string())
            }
            report::Body::Log(l) => {
                let message = l.line.as_ref().map(|line| line.message.clone());
                (l.event_number, message.unwrap_or_default())
            }
            other => panic!("unexpected {other:?}"),
        };
        events.iter().map(describe).collect()
    }

    #[test]
    fn event_numbers_grow_over_progress_and_logs_and_over_fetches() {
        let mailbox = Mailbox::default();
        let now = Instant::now();
        for item in [log("a"), progress(1.0), log("b")] {
            mailbox.leave(item);
        }
        let expected = [(1, "a".to_owned()), (2, "1".to_owned()), (3, "b".to_owned())];
        assert_eq!(shape(&mailbox.fetch(now).events), expected);
        mailbox.leave(log("c"));
        assert_eq!(shape(&mailbox.fetch(now).events), [(4, "c".to_owned())]);
    }

    #[test]
    fn progress_leaves_at_a_bounded_rate_and_the_latest_counts() {
        let mailbox = Mailbox::default();
        let start = Instant::now();
        assert!(mailbox.leave(progress(1.0)), "the first leaves at once");
        assert_eq!(mailbox.fetch(start).events.len(), 1);
        assert!(mailbox.leave(progress(2.0)));
        let fetched = mailbox.fetch(start);
        assert_eq!(
            (fetched.events.len(), fetched.again_at),
            (0, Some(start + PROGRESS_EVERY))
        );
        assert!(!mailbox.leave(progress(3.0)), "the protocol comes by itself");
        assert!(mailbox.leave(log("a")), "a line does not wait for it");
        let fetched = mailbox.fetch(start);
        assert_eq!(shape(&fetched.events), [(2, "a".to_owned())]);
        assert_eq!(fetched.again_at, Some(start + PROGRESS_EVERY));
        let fetched = mailbox.fetch(start + PROGRESS_EVERY);
        assert_eq!(shape(&fetched.events), [(3, "3".to_owned())]);
        assert_eq!(fetched.again_at, None);
    }

    #[test]
    fn the_last_progress_leaves_with_the_end_whatever_the_rate() {
        let mailbox = Mailbox::default();
        let now = Instant::now();
        mailbox.leave(progress(1.0));
        mailbox.fetch(now);
        for percent in 2..=4_000 {
            mailbox.leave(progress(f64::from(percent)));
            mailbox.fetch(now);
        }
        assert_eq!(shape(&mailbox.close()), [(2, "4000".to_owned())]);
    }

    #[test]
    fn surplus_log_lines_drop_the_oldest_and_say_how_many() {
        let mailbox = Mailbox::default();
        mailbox.leave(log("first"));
        mailbox.leave(progress(7.0));
        for number in 0..MAX_LOGS + 3 {
            mailbox.leave(log(&number.to_string()));
        }
        let taken = shape(&mailbox.close());
        assert_eq!(taken.len(), MAX_LOGS + 2);
        assert!(
            taken[0].1.starts_with("4 earlier log lines were dropped"),
            "{}",
            taken[0].1
        );
        assert_eq!(taken[1..3], [(2, "7".to_owned()), (3, "3".to_owned())]);
    }

    #[test]
    fn the_protocol_is_told_once_until_it_fetches_and_never_after_the_end() {
        let mailbox = Mailbox::default();
        assert_eq!((mailbox.leave(log("a")), mailbox.leave(log("b"))), (true, false));
        assert_eq!(mailbox.fetch(Instant::now()).events.len(), 2);
        assert!(mailbox.leave(log("c")) && !mailbox.is_closed());
        assert_eq!(mailbox.close().len(), 1);
        assert!(mailbox.is_closed() && !mailbox.leave(log("d")) && mailbox.close().is_empty());
    }
}
