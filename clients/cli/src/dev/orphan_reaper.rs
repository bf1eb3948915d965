//! Ends a child when this process is killed and cannot do it itself.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// Waits for the end of its standard input, which is the end of this process, however
/// it dies.
const SCRIPT: &str = r#"read -r _; kill -TERM "$1""#;

/// A small process that outlives this one just long enough to stop a child.
#[derive(Debug)]
pub(crate) struct OrphanReaper {
    child: Child,
}

impl OrphanReaper {
    /// Starts to guard the child `pid`.
    pub(crate) fn start(pid: u32) -> io::Result<Self> {
        let child = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "tasklease-guard"])
            .arg(pid.to_string())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self { child })
    }
}

impl Drop for OrphanReaper {
    fn drop(&mut self) {
        // The child has ended: nothing is left to guard. Both calls fail only if the
        // guard is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
