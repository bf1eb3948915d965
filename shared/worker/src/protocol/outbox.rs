//! Reports that the scheduler has not acknowledged yet.
//!
//! Reports are sent in batches, in the order in which they came, and stay here until their batch is
//! acknowledged. When the stream breaks, all of them are sent again in the same order.

use std::{
    collections::{HashSet, VecDeque},
    ops::Range,
};

use tasklease_proto::{
    limits,
    v1::{Report, report::Body},
};

use uuid::fmt::Hyphenated;

use crate::lease_key::LeaseKey;

/// The most bytes of one batch; a single larger report travels alone.
const MAX_BYTES: usize = 2 << 20;

/// What an acknowledged report was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The worker has the task.
    Accepted,
    /// Progress or a log line.
    Event,
    /// The run has ended.
    Outcome,
}

/// How sure it is that the largest report under way broke the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The scheduler said that a message was too large.
    Certain,
    /// The stream may have broken for any reason.
    Suspicion,
}

/// Reports smaller than this are never blamed for a broken stream.
const MIN_BLAMED: usize = 256 << 10;
/// The same, and how many streams must have broken, if nobody said that a message was too large.
const MIN_SUSPECT: usize = 1 << 20;
const MAX_BREAKS: u32 = 5;

/// Names a report that is, or was, in the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EntryId(u64);

#[derive(Debug)]
struct Entry {
    lease: LeaseKey,
    body: Body,
    bytes: usize,
    /// How many streams broke while it was the largest report under way.
    breaks: u32,
}

impl Entry {
    fn new(lease: LeaseKey, body: Body) -> Self {
        Self {
            bytes: bytes(&body),
            lease,
            body,
            breaks: 0,
        }
    }

    fn report(&self) -> Report {
        Report {
            task_id: self.lease.task.to_string(),
            lease_token: self.lease.token,
            body: Some(self.body.clone()),
        }
    }
}

/// A batch that has left on the current stream.
#[derive(Debug)]
struct Batch {
    sequence: u64,
    entries: Range<u64>,
}

/// The reports under way or waiting, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Those from `first` on; `None` where one is gone before an older one.
    entries: VecDeque<Option<Entry>>,
    first: u64,
    /// The first entry that has not left on the current stream.
    unsent: u64,
    under_way: Vec<Batch>,
    /// How many entries there are.
    len: usize,
    bytes: usize,
}

impl Outbox {
    pub(crate) fn push(&mut self, lease: LeaseKey, body: Body) -> EntryId {
        let id = self.end();
        let entry = Entry::new(lease, body);
        self.len += 1;
        self.bytes += entry.bytes;
        self.entries.push_back(Some(entry));
        EntryId(id)
    }

    /// Replaces a report that has not been sent by another one about the same lease; if it has been sent, the new
    /// report is added at the end.
    pub(crate) fn push_instead(&mut self, id: EntryId, lease: LeaseKey, body: Body) {
        let waits = id.0 >= self.unsent;
        let index = self.index(id.0);
        match self.entries.get_mut(index) {
            Some(Some(entry)) if waits => {
                let before = std::mem::replace(entry, Entry::new(lease, body)).bytes;
                self.bytes = self.bytes - before + entry.bytes;
            }
            _ => {
                self.push(lease, body);
            }
        }
    }

    /// The next batch, to send with this sequence; `None` if nothing waits.
    pub(crate) fn next_batch(&mut self, sequence: u64) -> Option<Vec<Report>> {
        let (mut reports, mut bytes) = (Vec::new(), 0);
        let from = self.unsent;
        for entry in self.entries.range(self.index(from)..) {
            if let Some(entry) = entry {
                let full = reports.len() >= limits::REPORTS || bytes + entry.bytes > MAX_BYTES;
                if full && !reports.is_empty() {
                    break;
                }
                bytes += entry.bytes;
                reports.push(entry.report());
            }
            self.unsent += 1;
        }
        if reports.is_empty() {
            return None;
        }
        self.under_way.push(Batch {
            sequence,
            entries: from..self.unsent,
        });
        Some(reports)
    }

    /// How many batches are under way.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// A batch is durable: forgets its reports and says what they were.
    pub(crate) fn acknowledge(&mut self, sequence: u64) -> Vec<(LeaseKey, Kind)> {
        let batch = self.under_way.iter().position(|batch| batch.sequence == sequence);
        let Some(batch) = batch.map(|index| self.under_way.swap_remove(index)) else {
            return Vec::new();
        };
        let (from, until) = (self.index(batch.entries.start), self.index(batch.entries.end));
        let gone = self.entries.range_mut(from..until).filter_map(Option::take);
        let mut freed = 0;
        let gone: Vec<_> = gone
            .map(|entry| {
                freed += entry.bytes;
                (entry.lease, kind(&entry.body))
            })
            .collect();
        self.bytes -= freed;
        self.len -= gone.len();
        self.drop_gone();
        gone
    }

    /// Handles the break of the stream. If the largest report under way caused it, an event is dropped,
    /// and an outcome is replaced by the one that `instead` makes from its size. Returns the lease of
    /// that report.
    pub(crate) fn stream_broke(
        &mut self,
        blame: Blame,
        instead: impl FnOnce(usize) -> Body,
    ) -> Option<LeaseKey> {
        let under_way = std::mem::take(&mut self.under_way);
        let indices = under_way
            .into_iter()
            .flat_map(|batch| self.index(batch.entries.start)..self.index(batch.entries.end));
        let bytes_at = |index: &usize| match self.entries.get(*index) {
            Some(Some(entry)) => entry.bytes,
            _ => 0,
        };
        let largest = indices.max_by_key(bytes_at)?;
        let slot = self.entries.get_mut(largest)?;
        let entry = slot.as_mut()?;
        entry.breaks += 1;
        let is_to_blame = match blame {
            Blame::Certain => entry.bytes >= MIN_BLAMED,
            Blame::Suspicion => entry.bytes >= MIN_SUSPECT && entry.breaks >= MAX_BREAKS,
        };
        if !is_to_blame {
            return None;
        }
        let (key, before) = (entry.lease, entry.bytes);
        self.bytes -= before;
        if kind(&entry.body) == Kind::Outcome {
            *entry = Entry::new(key, instead(before));
            self.bytes += entry.bytes;
        } else {
            *slot = None;
            self.len -= 1;
            self.drop_gone();
        }
        Some(key)
    }

    /// Marks everything as not sent, for a new stream.
    pub(crate) fn resend_all(&mut self) {
        self.under_way.clear();
        self.unsent = self.first;
    }

    /// Drops the reports of leases that are lost.
    pub(crate) fn forget(&mut self, leases: &HashSet<LeaseKey>) {
        for slot in &mut self.entries {
            if let Some(entry) = slot.take_if(|entry| leases.contains(&entry.lease)) {
                self.bytes -= entry.bytes;
                self.len -= 1;
            }
        }
        self.drop_gone();
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self) {
        self.first = self.end();
        self.entries.clear();
        self.under_way.clear();
        self.unsent = self.first;
        (self.len, self.bytes) = (0, 0);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of all reports here.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// True if something waits to leave.
    pub(crate) fn has_unsent(&self) -> bool {
        self.entries.range(self.index(self.unsent)..).any(Option::is_some)
    }

    /// The id that the next entry gets.
    fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// The index of an entry, or of the oldest entry if that one is gone.
    fn index(&self, id: u64) -> usize {
        usize::try_from(id.saturating_sub(self.first)).unwrap_or(usize::MAX)
    }

    /// Moves `first` to the oldest entry that is still here.
    fn drop_gone(&mut self) {
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
            self.first += 1;
        }
        self.unsent = self.unsent.max(self.first);
    }
}

fn kind(body: &Body) -> Kind {
    match body {
        Body::Accepted(_) => Kind::Accepted,
        Body::Progress(_) | Body::Log(_) => Kind::Event,
        Body::Succeeded(_) | Body::Failed(_) | Body::Cancelled(_) | Body::Released(_) => Kind::Outcome,
    }
}

/// The most bytes that a report takes on the wire: its body, its lease, and their tags and lengths.
fn bytes(body: &Body) -> usize {
    body.encoded_len() + Hyphenated::LENGTH + 20
}

#[cfg(test)]
mod tests {
    use tasklease_proto::v1::{
        Accepted, LogLevel, LogLine, LogReport, Released, Succeeded, succeeded::Output,
    };

    use super::*;

    fn lease(name: &str) -> LeaseKey {
        LeaseKey::named(name)
    }

    fn log(number: i64, text: &str) -> Body {
        let line = LogLine {
            level: LogLevel::Info.into(),
            message: text.into(),
            time: None,
            worker_time: None,
        };
        Body::Log(LogReport {
            event_number: number,
            line: Some(line),
        })
    }

    fn result(bytes: usize) -> Body {
        Body::Succeeded(Succeeded {
            output: Some(Output::ResultJson(vec![b' '; bytes].into())),
        })
    }

    fn outcome() -> Body {
        Body::Released(Released::default())
    }

    fn names(batch: Option<Vec<Report>>) -> Vec<String> {
        batch
            .unwrap_or_default()
            .into_iter()
            .map(|report| LeaseKey::name_of(&report.task_id))
            .collect()
    }

    #[test]
    fn reports_leave_in_order_and_stay_until_acknowledged() {
        let mut outbox = Outbox::default();
        outbox.push(lease("a"), Body::Accepted(Accepted {}));
        outbox.push(lease("b"), outcome());
        assert_eq!(names(outbox.next_batch(1)), ["a", "b"]);
        assert_eq!(
            (outbox.next_batch(2), outbox.len(), outbox.under_way()),
            (None, 2, 1)
        );
        let gone = outbox.acknowledge(1);
        assert_eq!(gone, [(lease("a"), Kind::Accepted), (lease("b"), Kind::Outcome)]);
        assert!(outbox.is_empty() && outbox.bytes() == 0);
        assert_eq!(outbox.acknowledge(1), []);
    }

    #[test]
    fn after_a_break_everything_unacknowledged_leaves_again_in_the_same_order() {
        let mut outbox = Outbox::default();
        for name in ["a", "b", "c"] {
            outbox.push(lease(name), outcome());
            if name != "c" {
                outbox.next_batch(u64::from(name.as_bytes()[0]));
            }
        }
        outbox.acknowledge(u64::from(b'a'));
        outbox.resend_all();
        assert_eq!(names(outbox.next_batch(200)), ["b", "c"]);
        assert_eq!(
            outbox.acknowledge(u64::from(b'b')),
            [],
            "an answer from the old stream"
        );
        assert_eq!(outbox.acknowledge(200).len(), 2);
    }

    #[test]
    fn news_take_the_place_of_a_report_that_has_not_left_and_of_no_other() {
        let mut outbox = Outbox::default();
        let sent = outbox.push(lease("a"), Body::Accepted(Accepted {}));
        outbox.next_batch(1);
        let waits = outbox.push(lease("b"), Body::Accepted(Accepted {}));
        outbox.push(lease("c"), Body::Accepted(Accepted {}));
        outbox.push_instead(sent, lease("a"), outcome());
        outbox.push_instead(waits, lease("b"), outcome());
        assert_eq!(names(outbox.next_batch(2)), ["b", "c", "a"]);
        assert_eq!(outbox.acknowledge(1), [(lease("a"), Kind::Accepted)]);
        let rest = [
            (lease("b"), Kind::Outcome),
            (lease("c"), Kind::Accepted),
            (lease("a"), Kind::Outcome),
        ];
        assert_eq!((outbox.acknowledge(2).as_slice(), outbox.bytes()), (&rest[..], 0));
    }

    #[test]
    fn batches_are_bounded_in_number_and_bytes_and_a_large_report_travels_alone() {
        let mut outbox = Outbox::default();
        for number in 0..5_001 {
            outbox.push(lease("a"), log(number, ""));
        }
        assert_eq!(names(outbox.next_batch(1)).len(), limits::REPORTS);
        assert_eq!(names(outbox.next_batch(2)).len(), 1);
        let large = "x".repeat(1_500_000);
        outbox.push(lease("b"), log(1, &large));
        outbox.push(lease("c"), log(1, &large));
        outbox.push(lease("d"), log(1, &"x".repeat(3_000_000)));
        assert_eq!(names(outbox.next_batch(3)), ["b"]);
        assert_eq!(names(outbox.next_batch(4)), ["c"]);
        assert_eq!(names(outbox.next_batch(5)), ["d"]);
    }

    #[test]
    fn a_report_that_breaks_its_stream_is_replaced_and_others_pass() {
        let mut outbox = Outbox::default();
        outbox.push(lease("a"), outcome());
        outbox.push(lease("b"), result(3_000_000));
        outbox.push(lease("c"), outcome());
        for sequence in 1..=2 {
            outbox.next_batch(sequence);
        }
        outbox.acknowledge(1);
        let replaced = outbox.stream_broke(Blame::Certain, |bytes| {
            assert!(bytes > 3_000_000);
            outcome()
        });
        assert_eq!(replaced, Some(lease("b")));
        outbox.resend_all();
        assert_eq!(names(outbox.next_batch(3)), ["b", "c"]);
        outbox.acknowledge(3);
        assert!(outbox.is_empty() && outbox.bytes() == 0);
    }

    #[test]
    fn without_a_word_from_the_scheduler_only_a_large_report_is_blamed_and_only_after_several_breaks() {
        for (bytes, expected) in [(2_000_000, Some(lease("b"))), (500_000, None)] {
            let mut outbox = Outbox::default();
            outbox.push(lease("b"), result(bytes));
            for number in 1..=u64::from(MAX_BREAKS) {
                outbox.resend_all();
                outbox.next_batch(number);
                let replaced = outbox.stream_broke(Blame::Suspicion, |_| outcome());
                let is_last = number == u64::from(MAX_BREAKS);
                assert_eq!(
                    replaced,
                    expected.filter(|_| is_last),
                    "{bytes} bytes, break {number}"
                );
            }
            assert_eq!(outbox.len(), 1);
        }
        let mut small = Outbox::default();
        small.push(lease("b"), outcome());
        small.next_batch(1);
        assert_eq!(small.stream_broke(Blame::Certain, |_| outcome()), None);
    }

    #[test]
    fn the_reports_of_a_lost_lease_are_dropped_and_no_others() {
        let mut outbox = Outbox::default();
        for name in ["a", "b", "a"] {
            outbox.push(lease(name), outcome());
        }
        outbox.next_batch(1);
        outbox.forget(&HashSet::from([lease("a")]));
        outbox.resend_all();
        assert_eq!(names(outbox.next_batch(2)), ["b"]);
        outbox.acknowledge(2);
        assert!(outbox.is_empty() && outbox.bytes() == 0);
    }
}
