//! A worker process over the real runtime, whose tasks a test steers through files.

use std::process::ExitStatus;

use crate::{
    process::{Process, Signal},
    program::program,
    scheduler::Scheduler,
};

/// A running test worker; killed when dropped.
#[derive(Debug)]
pub struct WorkerProcess {
    process: Process,
    name: String,
}

impl WorkerProcess {
    /// Starts one for these replicas and waits until one of them knows it.
    pub async fn start(replicas: &[&Scheduler], name: &str, arguments: &[&str]) -> Self {
        let addresses = Scheduler::addresses(replicas);
        let own = ["--addr", &addresses, "--name", name];
        let process = Process::spawn(
            &format!("worker {name}"),
            &program("tasklease-test-worker"),
            own.iter().chain(arguments),
            &[],
        );
        let worker = Self {
            process,
            name: name.to_owned(),
        };
        replicas
            .first()
            .expect("at least one replica")
            .sees_worker(name)
            .await;
        worker
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Asks it to end with SIGTERM and waits until it has.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.process.terminate().await
    }

    /// True if it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.process.has_ended()
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        self.process.ended().await
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}
