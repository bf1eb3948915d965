//! Ends the server when its owner is killed.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use std::os::unix::process::CommandExt;

use crate::Error;
use crate::server_user::ServerUser;

/// Waits for the end of its standard input, which is the end of the owner, however it
/// dies. Then stops the server, provided that the data still names it, so that no other
/// process that got its number is hit.
const SCRIPT: &str = r#"read -r _; read -r pid <"$1" && [ "$pid" = "$2" ] && kill -INT "$pid""#;

/// A small process that outlives a killed owner just long enough to stop its server.
#[derive(Debug)]
pub(crate) struct OrphanReaper {
    child: Child,
}

impl OrphanReaper {
    /// Starts to watch over the server `pid`, which writes `pid_file`.
    pub(crate) fn start(pid_file: &Path, pid: u32, user: ServerUser) -> Result<Self, Error> {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", SCRIPT, "tasklease-postgres-watcher"])
            .arg(pid_file)
            .arg(pid.to_string())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A terminal's Ctrl-C is for the owner alone.
            .process_group(0);
        user.run_as(&mut command);
        let child = command.spawn().map_err(Error::file("run", "/bin/sh"))?;
        Ok(Self { child })
    }
}

impl Drop for OrphanReaper {
    fn drop(&mut self) {
        // The owner has stopped the server itself, or there is none: both calls fail
        // only if the watcher is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
