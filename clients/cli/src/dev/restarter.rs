//! Starts a child again whenever it ends by itself.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::dev::process::Process;
use crate::dev::program::Program;
use crate::dev::say;
use tasklease_lifecycle::time_span::format_time_span;

/// The wait before the first restart; each further one doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(1);

const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A child that lived this long is healthy: its next restart is quick again.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// Keeps one program running.
#[derive(Debug)]
pub(crate) struct Restarter {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Restarter {
    /// Takes over a running child. Once `hard` is cancelled a stop becomes a kill.
    pub(crate) fn new(program: Program, process: Process, hard: CancellationToken) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(keep_running(program, process, stop.clone(), hard));
        Self { stop, task }
    }

    /// Stops the child and waits for its end.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        // Fails only if the task panicked, which kills the child.
        let _ = self.task.await;
    }
}

async fn keep_running(program: Program, process: Process, stop: CancellationToken, hard: CancellationToken) {
    let mut running = Some(process);
    let mut wait = FIRST_WAIT;
    loop {
        let reason = match running.take() {
            Some(mut process) => {
                let started = Instant::now();
                let ended = tokio::select! {
                    () = stop.cancelled() => None,
                    ended = process.wait() => Some(ended),
                };
                let Some(ended) = ended else {
                    return process.stop(&hard).await;
                };
                if started.elapsed() >= HEALTHY_AFTER {
                    wait = FIRST_WAIT;
                }
                format!("ended ({ended})")
            }
            None => "could not be started".to_owned(),
        };
        say(format_args!(
            "{} {reason}, {}; starting it again in {}",
            program.name,
            program.log.hint(),
            format_time_span(wait)
        ));
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(LONGEST_WAIT);
        running = match Process::spawn(&program) {
            Ok(process) => Some(process),
            Err(failure) => {
                failure.lines().iter().for_each(say);
                None
            }
        };
    }
}
