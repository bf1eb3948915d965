//! The running server process.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::binaries::Binaries;
use crate::error::Error;
use crate::folder::Folder;
use crate::options::Durability;
use crate::orphan_reaper::OrphanReaper;
use crate::server_user::ServerUser;

/// How often a wait for the server looks again.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How long a dropped server may take to stop before it is killed.
const DROP_GRACE: Duration = Duration::from_secs(5);

/// How a server is asked to stop.
#[derive(Clone, Copy, Debug)]
pub(crate) enum StopMode {
    /// Ends all connections, writes a checkpoint.
    Fast,
    /// Ends at once; the next start recovers from the log, as after a crash.
    Immediate,
}

/// A running `postgres`, a direct child of this process.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    _watcher: OrphanReaper,
}

impl Server {
    /// Starts the server. It accepts connections some time later, or ends early.
    pub(crate) fn spawn(
        binaries: &Binaries,
        folder: &Folder,
        sockets: &Path,
        port: u16,
        durability: Durability,
        user: ServerUser,
    ) -> Result<Self, Error> {
        let log = folder.open_log()?;
        let also_log = log.try_clone().map_err(Error::file("open", folder.log_path()))?;
        let mut command = Command::new(binaries.postgres());
        command
            .arg("-D")
            .arg(folder.data())
            .args(["-c", "listen_addresses=127.0.0.1"])
            .args(["-c", &format!("port={port}")])
            .args(["-c", &format!("unix_socket_directories={}", sockets.display())])
            .args(["-c", "unix_socket_permissions=0700"])
            .args(["-c", "max_connections=100"])
            .args(["-c", "logging_collector=off"])
            .args(["-c", "log_destination=stderr"]);
        if durability == Durability::Off {
            command
                .args(["-c", "fsync=off"])
                .args(["-c", "synchronous_commit=off"])
                .args(["-c", "full_page_writes=off"]);
        }
        command
            .env("LC_ALL", "C")
            .current_dir(folder.root())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(also_log)
            // A terminal's Ctrl-C is for the owner alone, which stops the server last.
            .process_group(0);
        user.run_as(&mut command);
        let mut child = command.spawn().map_err(Error::file("run", binaries.postgres()))?;
        let pid_file = folder.data().join("postmaster.pid");
        match OrphanReaper::start(&pid_file, child.id(), user) {
            Ok(watcher) => Ok(Self {
                child,
                _watcher: watcher,
            }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// The server's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How the server ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Stops the server and waits for its end, at most `deadline`; kills it then.
    pub(crate) async fn stop(mut self, mode: StopMode, deadline: Duration) {
        self.signal(mode);
        let start = Instant::now();
        while self.ended().is_none() && start.elapsed() < deadline {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        // Dropping it kills what is still there.
    }

    /// Asks the server to stop.
    fn signal(&self, mode: StopMode) {
        let signal = match mode {
            StopMode::Fast => Signal::INT,
            StopMode::Immediate => Signal::QUIT,
        };
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // Fails only if it has ended already.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.ended().is_some() {
            return;
        }
        self.signal(StopMode::Fast);
        let start = Instant::now();
        while self.ended().is_none() {
            if start.elapsed() > DROP_GRACE {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

/// A TCP port of the loopback interface that is free now.
pub(crate) fn free_port() -> Result<u16, Error> {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(Error::file("find a free port on", "127.0.0.1"))
}

/// Whether a process with this id exists.
pub(crate) fn is_alive(pid: i32) -> bool {
    let Some(pid) = Pid::from_raw(pid) else {
        return false;
    };
    match rustix::process::test_kill_process(pid) {
        Ok(()) => true,
        Err(errno) => errno == rustix::io::Errno::PERM,
    }
}
