//! Log lines on standard error, as text for people or as JSON for machines.
//!
//! Logging never fails and never stops a program. A line that cannot be written, because its reader is
//! gone or does not read or because its disk is full, is dropped, and the next line that can be written
//! says how many were dropped.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, IsTerminal as _},
    panic::{self, PanicHookInfo},
    thread,
};

use tracing_subscriber::{
    EnvFilter,
    fmt::{
        format::Writer,
        time::{FormatTime as _, SystemTime},
    },
};

use crate::standard_error;

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// One readable line per event.
    #[default]
    Text,
    /// One JSON object per event.
    Json,
}

/// Sends the events of this process, panics among them, to standard error; `RUST_LOG` filters them,
/// default `info`.
///
/// A second call in one process changes nothing, so tests may call it too.
pub fn init(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || EventLines(format))
        // It would report a failed line on standard error with a macro that panics.
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal());
    let done = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    // Fails only when a subscriber is set already, which is the documented no-op.
    if done.is_ok() {
        panic::set_hook(Box::new(log_panic));
    }
}

/// Writes one line to standard error, for programs that speak to people there; a line that cannot
/// be written is dropped.
///
/// Unlike `eprintln!` it never panics.
pub fn print_line(line: impl AsRef<str>) {
    let line = format!("{}\n", line.as_ref());
    standard_error::write_line(line.as_bytes(), |dropped| format!("{}\n", dropped_lines(dropped)));
}

/// The writer of one event, which comes as a whole line.
struct EventLines(LogFormat);

impl io::Write for EventLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        standard_error::write_line(line, |dropped| self.0.note(dropped));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LogFormat {
    /// The line that says how many others were dropped.
    fn note(self, dropped: u64) -> String {
        let mut time = String::new();
        // The line is useful without a time too.
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        let message = dropped_lines(dropped);
        let target = module_path!();
        match self {
            Self::Text => format!("{time}  WARN {target}: {message}\n"),
            Self::Json => format!(
                "{{\"timestamp\":\"{time}\",\"level\":\"WARN\",\"fields\":{{\"message\":\"{message}\"}},\"target\":\"{target}\"}}\n"
            ),
        }
    }
}

fn dropped_lines(dropped: u64) -> String {
    format!("{dropped} log lines were dropped here because standard error did not take them")
}

/// Logs a panic like any other event. The standard hook would write to standard error itself, and
/// wait there for a reader that does not read.
fn log_panic(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("a value that is no text");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => tracing::error!(place, thread, %backtrace, "panic: {message}"),
        _ => tracing::error!(place, thread, "panic: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::LogFormat;

    #[test]
    fn dropped_lines_are_counted_in_the_form_of_the_other_lines() {
        let text = LogFormat::Text.note(3);
        assert!(
            text.contains(" WARN ") && text.contains("3 log lines were dropped"),
            "{text}"
        );
        let json = LogFormat::Json.note(3);
        let braces = json.trim_end().starts_with("{\"timestamp\":\"2") && json.trim_end().ends_with("\"}");
        assert!(braces && json.contains("\"level\":\"WARN\""), "{json}");
    }
}
