//! Writes lines to standard error without failing, and without waiting for long.
//!
//! The reader of a log may be gone, its volume full, or its reader stopped. None of that may stop
//! the program that logs, so a line that cannot be written is dropped and counted.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::BorrowedFd,
    io::{Errno, retry_on_intr},
    pipe::PIPE_BUF,
    stdio,
};

static LINES: Mutex<Lines> = Mutex::new(Lines::new());

/// Writes a line, which ends with a line break, or drops it. `note` words how many were dropped
/// before it.
pub(crate) fn write_line(line: &[u8], note: impl FnOnce(u64) -> String) {
    LINES.lock().put(stdio::stderr(), line, note);
}

/// What happened to the lines so far.
#[derive(Debug)]
struct Lines {
    patience: Patience,
    /// True if the last line was written in part.
    torn: bool,
    /// Lines that were dropped since the last one was written.
    dropped: u64,
}

impl Lines {
    const fn new() -> Self {
        Self {
            patience: Patience::new(),
            torn: false,
            dropped: 0,
        }
    }

    fn put(&mut self, out: BorrowedFd<'_>, line: &[u8], note: impl FnOnce(u64) -> String) {
        let mut before = Vec::new();
        if self.torn {
            before.push(b'\n');
        }
        if self.dropped > 0 {
            before.extend_from_slice(note(self.dropped).as_bytes());
        }
        let is_written = self.write(out, &before) && {
            self.dropped = 0;
            self.write(out, line)
        };
        if !is_written {
            self.dropped += 1;
        }
    }

    /// Writes as much as `out` takes; true if that was everything.
    fn write(&mut self, out: BorrowedFd<'_>, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() {
            if !self.patience.is_writable(out) {
                break;
            }
            // A pipe that has room at all takes this much without blocking.
            let piece = rest.get(..PIPE_BUF).unwrap_or(rest);
            match rustix::io::write(out, piece) {
                Ok(0) => break,
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        if rest.len() < bytes.len() {
            self.torn = !rest.is_empty();
        }
        rest.is_empty()
    }
}

/// How long writers may still wait for a reader that does not read.
#[derive(Debug)]
struct Patience {
    left: Duration,
    /// When `left` was counted.
    counted: Option<Instant>,
}

impl Patience {
    /// The most that is saved up.
    const MOST: Duration = Duration::from_millis(500);
    /// It grows by a second in this many, so a slow reader slows the program by at most a twentieth.
    const SECONDS_PER_SECOND: u32 = 20;

    const fn new() -> Self {
        Self {
            left: Self::MOST,
            counted: None,
        }
    }

    /// True once `out` takes bytes; false if it does not within what is left.
    fn is_writable(&mut self, out: BorrowedFd<'_>) -> bool {
        if is_writable_within(out, Duration::ZERO) {
            return true;
        }
        let start = Instant::now();
        self.grow(start);
        let is_writable = is_writable_within(out, self.left);
        self.spend(start.elapsed());
        is_writable
    }

    fn grow(&mut self, now: Instant) {
        if let Some(counted) = self.counted.replace(now) {
            let grown = now.saturating_duration_since(counted) / Self::SECONDS_PER_SECOND;
            self.left = (self.left + grown).min(Self::MOST);
        }
    }

    fn spend(&mut self, waited: Duration) {
        self.left = self.left.saturating_sub(waited);
    }
}

fn is_writable_within(out: BorrowedFd<'_>, wait: Duration) -> bool {
    let wait = Timespec {
        tv_sec: wait.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: wait.subsec_nanos().into(),
    };
    let mut out = [PollFd::new(&out, PollFlags::OUT)];
    // Whatever cannot be polled is written to, as a file would be.
    retry_on_intr(|| poll(&mut out, Some(&wait))) != Ok(0)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{PipeReader, PipeWriter, Read as _, pipe},
        os::fd::AsFd as _,
    };

    use super::*;

    fn note(dropped: u64) -> String {
        format!("{dropped} dropped\n")
    }

    fn impatient() -> Lines {
        Lines {
            patience: Patience {
                left: Duration::ZERO,
                counted: None,
            },
            ..Lines::new()
        }
    }

    /// A pipe that is full of `x`, and how many there are.
    fn full_pipe(lines: &mut Lines) -> (PipeReader, PipeWriter, usize) {
        let (reader, writer) = pipe().expect("a pipe");
        let mut filled = 0;
        while lines.write(writer.as_fd(), &[b'x'; PIPE_BUF]) {
            filled += PIPE_BUF;
        }
        (reader, writer, filled)
    }

    fn all(mut reader: PipeReader, writer: PipeWriter, after: usize) -> String {
        drop(writer);
        let mut text = Vec::new();
        reader.read_to_end(&mut text).expect("reads");
        String::from_utf8_lossy(&text[after..]).into_owned()
    }

    #[test]
    fn a_line_whose_reader_is_gone_is_dropped() {
        let (reader, writer) = pipe().expect("a pipe");
        drop(reader);
        let mut lines = Lines::new();
        lines.put(writer.as_fd(), b"a\n", note);
        lines.put(writer.as_fd(), b"b\n", note);
        assert_eq!(lines.dropped, 2);
    }

    #[test]
    fn a_line_that_a_full_disk_refuses_is_dropped() {
        let full = File::options().write(true).open("/dev/full").expect("opens");
        let mut lines = Lines::new();
        lines.put(full.as_fd(), b"a\n", note);
        assert_eq!(lines.dropped, 1);
    }

    #[test]
    fn a_reader_that_stops_reading_costs_lines_and_learns_how_many() {
        let mut lines = impatient();
        let (mut reader, writer, filled) = full_pipe(&mut lines);
        for _ in 0..3 {
            lines.put(writer.as_fd(), b"lost\n", note);
        }
        let mut read = vec![0; filled];
        reader.read_exact(&mut read).expect("reads");
        lines.put(writer.as_fd(), b"a\n", note);
        lines.put(writer.as_fd(), b"b\n", note);
        assert_eq!(all(reader, writer, 0), "3 dropped\na\nb\n");
    }

    #[test]
    fn a_line_written_in_part_does_not_run_into_the_next() {
        let mut lines = impatient();
        let (mut reader, writer, filled) = full_pipe(&mut lines);
        let mut read = vec![0; PIPE_BUF];
        reader.read_exact(&mut read).expect("reads");
        let long = [&[b'y'; PIPE_BUF][..], b"end\n"].concat();
        lines.put(writer.as_fd(), &long, note);
        assert!(lines.torn);
        let mut read = vec![0; filled];
        reader.read_exact(&mut read).expect("reads");
        lines.put(writer.as_fd(), b"a\n", note);
        assert_eq!(all(reader, writer, 0), "\n1 dropped\na\n");
    }

    #[test]
    fn long_lines_reach_a_reader_that_reads() {
        let (mut reader, writer) = pipe().expect("a pipe");
        let reading = std::thread::spawn(move || {
            let mut text = Vec::new();
            reader.read_to_end(&mut text).expect("reads");
            text
        });
        let long = [vec![b'z'; 300_000], b"\n".to_vec()].concat();
        let mut lines = Lines::new();
        lines.put(writer.as_fd(), &long, note);
        drop(writer);
        assert_eq!(reading.join().expect("reads").len(), long.len());
        assert_eq!((lines.dropped, lines.torn), (0, false));
    }

    #[test]
    fn patience_is_bounded_and_grows_back_slowly() {
        let start = Instant::now();
        let mut patience = Patience::new();
        patience.grow(start);
        patience.spend(Duration::from_secs(9));
        assert_eq!(patience.left, Duration::ZERO);
        patience.grow(start + Duration::from_secs(1));
        assert_eq!(patience.left, Duration::from_millis(50));
        patience.grow(start + Duration::from_secs(3_600));
        assert_eq!(patience.left, Patience::MOST);
    }
}
