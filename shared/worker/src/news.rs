//! Progress and log lines that code has reported and nobody has fetched yet.
//!
//! Code never waits here and may report as fast as it likes. The reports wait in a bounded buffer
//! per run until the protocol has room for them; what does not fit is merged, the newest kept.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tasklease_proto::v1::{LogLine, LogReport, Progress, ProgressReport, report};

/// How many progress reports of one run wait before the latest replaces the one before it.
const MAX_PROGRESS: usize = 32;
/// How many log lines of one run wait before the oldest are dropped and counted.
const MAX_LOGS: usize = 256;

/// One thing that code reported.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum NewsItem {
    Progress(Progress),
    Log(LogLine),
}

/// What waits of one run, in order.
#[derive(Debug, Default)]
struct Buffer {
    items: VecDeque<NewsItem>,
    progress: usize,
    logs: usize,
    dropped_logs: u64,
    /// Number of the latest event that was fetched.
    number: i64,
    reader: Reader,
}

/// Whether the protocol knows that something waits.
#[derive(Debug, Default, PartialEq, Eq)]
enum Reader {
    #[default]
    Idle,
    Told,
    /// The run is over; nobody will fetch anything.
    Gone,
}

impl Buffer {
    fn push(&mut self, item: NewsItem) {
        match item {
            NewsItem::Progress(_) if self.progress >= MAX_PROGRESS => {
                let latest = self
                    .items
                    .iter()
                    .rposition(|item| matches!(item, NewsItem::Progress(_)));
                latest.and_then(|index| self.items.remove(index));
            }
            NewsItem::Progress(_) => self.progress += 1,
            NewsItem::Log(_) if self.logs >= MAX_LOGS => {
                let oldest = self
                    .items
                    .iter()
                    .position(|item| matches!(item, NewsItem::Log(_)));
                oldest.and_then(|index| self.items.remove(index));
                self.dropped_logs += 1;
            }
            NewsItem::Log(_) => self.logs += 1,
        }
        self.items.push_back(item);
    }

    /// Empties the buffer; each item gets the next event number.
    fn take(&mut self) -> Vec<report::News> {
        let dropped = std::mem::take(&mut self.dropped_logs);
        let note = (dropped > 0).then(|| {
            let message =
                format!("{dropped} earlier log lines were dropped: they came faster than they left");
            NewsItem::Log(LogLine {
                level: "warn".into(),
                message,
                time: None,
                worker_time: None,
            })
        });
        (self.progress, self.logs) = (0, 0);
        let mut number = self.number;
        let news = note.into_iter().chain(self.items.drain(..)).map(|item| {
            number += 1;
            match item {
                NewsItem::Progress(progress) => report::News::Progress(ProgressReport {
                    event_number: number,
                    progress: Some(progress),
                }),
                NewsItem::Log(line) => report::News::Log(LogReport {
                    event_number: number,
                    line: Some(line),
                }),
            }
        });
        let news = news.collect();
        self.number = number;
        news
    }
}

/// Where the code of one run leaves its news, and the protocol fetches them.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    buffer: Mutex<Buffer>,
}

impl Mailbox {
    /// Leaves an item; true if the protocol does not know yet that something waits.
    pub(crate) fn leave(&self, item: NewsItem) -> bool {
        let mut buffer = self.buffer();
        if buffer.reader == Reader::Gone {
            return false;
        }
        buffer.push(item);
        std::mem::replace(&mut buffer.reader, Reader::Told) == Reader::Idle
    }

    /// Fetches what waits.
    pub(crate) fn fetch(&self) -> Vec<report::News> {
        let mut buffer = self.buffer();
        if buffer.reader == Reader::Told {
            buffer.reader = Reader::Idle;
        }
        buffer.take()
    }

    /// Fetches what waits, and takes nothing more.
    pub(crate) fn close(&self) -> Vec<report::News> {
        let mut buffer = self.buffer();
        buffer.reader = Reader::Gone;
        buffer.take()
    }

    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(percent: f64) -> NewsItem {
        NewsItem::Progress(Progress {
            percent: Some(percent),
            ..Progress::default()
        })
    }

    fn log(text: &str) -> NewsItem {
        NewsItem::Log(LogLine {
            level: "info".into(),
            message: text.into(),
            time: None,
            worker_time: None,
        })
    }

    fn shape(news: &[report::News]) -> Vec<(i64, String)> {
        let describe = |news: &report::News| match news {
            report::News::Progress(p) => (
                p.event_number,
                p.progress
                    .as_ref()
                    .and_then(|p| p.percent)
                    .unwrap_or(-1.0)
                    .to_string(),
            ),
            report::News::Log(l) => (
                l.event_number,
                l.line
                    .as_ref()
                    .map(|line| line.message.clone())
                    .unwrap_or_default(),
            ),
            other => panic!("unexpected {other:?}"),
        };
        news.iter().map(describe).collect()
    }

    #[test]
    fn event_numbers_grow_over_progress_and_logs_and_over_fetches() {
        let mut buffer = Buffer::default();
        buffer.push(progress(1.0));
        buffer.push(log("a"));
        assert_eq!(shape(&buffer.take()), [(1, "1".to_owned()), (2, "a".to_owned())]);
        buffer.push(log("b"));
        assert_eq!(shape(&buffer.take()), [(3, "b".to_owned())]);
    }

    #[test]
    fn up_to_32_waiting_progress_reports_are_kept_and_then_the_latest_replaces() {
        let mut buffer = Buffer::default();
        for percent in 0..32 {
            buffer.push(progress(f64::from(percent)));
        }
        assert_eq!(buffer.items.len(), 32);
        buffer.push(progress(40.0));
        buffer.push(progress(50.0));
        let taken = shape(&buffer.take());
        assert_eq!(taken.len(), 32);
        assert_eq!(taken[30..], [(31, "30".to_owned()), (32, "50".to_owned())]);
    }

    #[test]
    fn surplus_log_lines_drop_the_oldest_and_say_how_many() {
        let mut buffer = Buffer::default();
        for number in 0..MAX_LOGS + 3 {
            buffer.push(log(&number.to_string()));
        }
        let taken = shape(&buffer.take());
        assert_eq!(taken.len(), MAX_LOGS + 1);
        assert!(
            taken[0].1.starts_with("3 earlier log lines were dropped"),
            "{}",
            taken[0].1
        );
        assert_eq!(taken[1], (2, "3".to_owned()));
    }

    #[test]
    fn the_protocol_is_told_once_until_it_fetches_and_never_after_the_end() {
        let mailbox = Mailbox::default();
        assert_eq!((mailbox.leave(log("a")), mailbox.leave(log("b"))), (true, false));
        assert_eq!(mailbox.fetch().len(), 2);
        assert!(mailbox.leave(log("c")));
        assert_eq!(mailbox.close().len(), 1);
        assert!(!mailbox.leave(log("d")) && mailbox.close().is_empty());
    }
}
