//! A process and its children that stand still for a while.

use std::{
    io,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// How long a process may take to stand still.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(2);

/// Waits for the end of its standard input, which is at the latest the end of the harness, however it dies. Then lets
/// the processes go on.
const GO_ON: &str = r#"read -r _; kill -CONT "$@" 2>/dev/null"#;

/// A frozen process with its children; they go on when the value is dropped, or with the end of the harness.
#[derive(Debug, Default)]
pub struct Frozen {
    pids: Vec<u32>,
    thaws: Vec<Child>,
}

impl Frozen {
    /// Freezes a process and all its children: Postgres is one process that starts another for each connection.
    ///
    /// # Errors
    /// A process does not stand still, or `sh` does not start.
    pub fn with_children(pid: u32) -> io::Result<Self> {
        let mut frozen = Self::default();
        frozen.add(&[pid])?;
        // One that stands still starts no more children.
        frozen.add(&children(pid)?)?;
        Ok(frozen)
    }

    /// The processes that stand still.
    pub fn pids(&self) -> &[u32] {
        &self.pids
    }

    fn add(&mut self, pids: &[u32]) -> io::Result<()> {
        if pids.is_empty() {
            return Ok(());
        }
        let mut thaw = Command::new("/bin/sh");
        thaw.args(["-c", GO_ON, "tasklease-chaos-thaw"])
            .args(pids.iter().map(ToString::to_string))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // Ready before anything is frozen, so that nothing stays so.
        self.thaws.push(thaw.spawn()?);
        self.pids.extend(pids);
        let start = Instant::now();
        for &pid in pids {
            signal(pid, Signal::STOP);
            while state(pid).is_some_and(|state| !matches!(state, 'T' | 'Z' | 'X')) {
                if start.elapsed() > PATIENCE {
                    return Err(io::Error::other(format!("process {pid} does not stand still")));
                }
                std::thread::sleep(LOOK);
            }
        }
        Ok(())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // The children first, as if all had gone on at once.
        for mut thaw in self.thaws.drain(..).rev() {
            drop(thaw.stdin.take());
            // It has nothing else to do, so it ends.
            let _ = thaw.wait();
        }
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may just have ended.
        let _ = kill_process(pid, signal);
    }
}

/// The children of a process.
fn children(pid: u32) -> io::Result<Vec<u32>> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(child) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if stat(child).is_some_and(|(_, parent)| parent == pid) {
            children.push(child);
        }
    }
    Ok(children)
}

/// Whether a process runs, sleeps, stands still, and so on, as `ps` shows it; `None` if it is gone.
fn state(pid: u32) -> Option<char> {
    stat(pid).map(|(state, _)| state)
}

/// State and parent of a process.
fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader},
        process::{Command, Stdio},
    };

    use super::{Frozen, state};

    #[test]
    fn a_process_stands_still_with_its_children_and_goes_on_with_them() {
        let mut parent = Command::new("/bin/sh")
            .args(["-c", "sleep 60 & sleep 60 & echo started; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let mut line = String::new();
        let stdout = parent.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let frozen = Frozen::with_children(parent.id()).expect("frozen");
        let pids = frozen.pids().to_vec();
        let states = || -> Vec<_> { pids.iter().map(|pid| state(*pid)).collect() };
        assert_eq!(pids.len(), 3);
        assert_eq!(states(), vec![Some('T'); 3]);
        drop(frozen);
        assert!(states().iter().all(|state| *state == Some('S')), "{:?}", states());
        for pid in &pids {
            super::signal(*pid, rustix::process::Signal::KILL);
        }
        parent.wait().expect("it ends");
    }
}
