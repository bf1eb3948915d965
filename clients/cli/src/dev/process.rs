//! A running child.

use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::dev::log_file;
use crate::dev::orphan_reaper::OrphanReaper;
use crate::dev::program::{LogTarget, Program};
use crate::failure::Failure;
use crate::standard_error::tell;
use crate::terminal_text::safe_text;

/// How much of a line is shown at a time, in bytes.
const LONGEST_LINE: u64 = 64 << 10;

/// A running child of this process, with a process group of its own.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// The first line of its standard output, once.
    first_line: Option<oneshot::Receiver<String>>,
    /// Declared last: outlives the child.
    _guard: OrphanReaper,
}

impl Process {
    pub(crate) fn spawn(program: &Program) -> Result<Self, Failure> {
        let cannot = |error| Failure::other(format!("cannot run {}: {error}", program.path.display()));
        let log = match &program.log {
            LogTarget::File(path) => {
                let file = log_file::open(path)
                    .map_err(|error| Failure::other(format!("cannot open {}: {error}", path.display())))?;
                Stdio::from(OwnedFd::from(file))
            }
            LogTarget::Shown => Stdio::piped(),
        };
        let mut child = Command::new(&program.path)
            .args(&program.arguments)
            .envs(program.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            // Only a panic gets here; every other path waits for the child.
            .kill_on_drop(true)
            .spawn()
            .map_err(cannot)?;
        let guard = OrphanReaper::start(child.id().unwrap_or_default()).map_err(cannot)?;
        if let Some(lines) = child.stderr.take() {
            tokio::spawn(show_lines(program.name, lines));
        }
        let first_line = child.stdout.take().map(|lines| {
            let (first, receiver) = oneshot::channel();
            tokio::spawn(drain(lines, first));
            receiver
        });
        Ok(Self {
            child,
            first_line,
            _guard: guard,
        })
    }

    /// Waits for the first line that it writes to standard output; `None` if it ends
    /// without one. Gives it once.
    pub(crate) async fn first_line(&mut self) -> Option<String> {
        self.first_line.take()?.await.ok()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end and tells it in words.
    pub(crate) async fn wait(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// Asks the child to end and waits for that; kills it once `hard` is cancelled.
    pub(crate) async fn stop(mut self, hard: &CancellationToken) {
        let pid = self
            .child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // Fails only if it has just ended.
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
        tokio::select! {
            _ = self.child.wait() => {}
            () = hard.cancelled() => {
                // Fails only if it has just ended.
                let _ = self.child.kill().await;
            }
        }
    }
}

/// Reads until the end, so that the child never waits for us.
async fn drain(output: impl AsyncRead + Unpin, first: oneshot::Sender<String>) {
    let mut output = BufReader::new(output);
    if let Some(line) = next_line(&mut output).await {
        // Nobody may be waiting for it.
        let _ = first.send(line);
    }
    // An error is the end as well.
    let _ = tokio::io::copy_buf(&mut output, &mut tokio::io::sink()).await;
}

/// Shows lines until the end, also when nobody sees them, so that the child never waits for us.
async fn show_lines(name: &'static str, output: impl AsyncRead + Unpin) {
    let mut output = BufReader::new(output);
    while let Some(line) = next_line(&mut output).await {
        tell(format_args!("{name:>9} | {}", safe_text(&line)));
    }
}

/// The next line without its end, whatever bytes it has; a very long one comes in parts.
async fn next_line(output: &mut (impl AsyncBufRead + Unpin)) -> Option<String> {
    let mut line = Vec::new();
    let read = output.take(LONGEST_LINE).read_until(b'\n', &mut line).await;
    match read {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(
            String::from_utf8_lossy(&line)
                .trim_end_matches(['\r', '\n'])
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::BufReader;

    use super::{LONGEST_LINE, next_line};

    #[tokio::test]
    async fn lines_of_any_bytes_and_any_length_are_read_to_the_end() {
        let longest = usize::try_from(LONGEST_LINE).unwrap();
        let text = [b"a\xFFb\r\n\n".as_slice(), &vec![b'x'; longest + 5], b"\nlast"].concat();
        let mut output = BufReader::new(text.as_slice());
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut output).await {
            lines.push(line);
        }
        assert_eq!(lines[..2], ["a\u{fffd}b", ""]);
        assert_eq!(lines[2..4].iter().map(String::len).sum::<usize>(), longest + 5);
        assert_eq!(lines[4..], ["last"]);
    }
}
