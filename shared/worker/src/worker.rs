//! A worker with its options and tasks.

use std::{io, thread, time::Duration};

use tasklease_lifecycle::Shutdown;
use tokio::{runtime::Handle, sync::oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    args::{Settings, WorkerArgs},
    error::WorkerError,
    protocol::{Actor, Ended, TELL_ALL},
    registry::Registry,
    task::Task,
};

/// A worker that has not started yet.
pub struct Worker {
    settings: Settings,
    registry: Registry,
    duplicate: Option<&'static str>,
}

/// Where the request to stop comes from.
enum StopBy {
    Signals,
    Caller(Shutdown),
}

impl Worker {
    /// A worker with these options and no tasks.
    ///
    /// # Errors
    /// An option breaks a rule.
    pub fn new(args: WorkerArgs) -> Result<Self, WorkerError> {
        Ok(Self {
            settings: args.try_into()?,
            registry: Registry::default(),
            duplicate: None,
        })
    }

    /// Adds a task type. Registering one type twice makes the worker refuse to start.
    #[must_use]
    pub fn register<T: Task>(mut self, task: T) -> Self {
        if let Err(duplicate) = self.registry.add(task) {
            self.duplicate = Some(duplicate);
        }
        self
    }

    /// Runs until SIGTERM or SIGINT. Then the worker takes no more tasks, lets the running ones finish
    /// within the grace period, hands back the rest, and returns. A second signal hands back all of
    /// them at once.
    ///
    /// It sets up logging too, unless the process has done so. If code of a task still holds a thread
    /// at the end, this function exits the process with code 0, because waiting for that thread
    /// would have no bound.
    ///
    /// # Errors
    /// Nothing or a type twice is registered, or the scheduler refuses the worker.
    pub async fn run(self) -> Result<(), WorkerError> {
        tasklease_lifecycle::logging::init(self.settings.log_format);
        match self.start(StopBy::Signals).await? {
            Ended::Clean => Ok(()),
            Ended::CodeStillRuns(count) => {
                tracing::warn!(
                    count,
                    "code that does not stop is left behind; ending the process"
                );
                std::process::exit(0)
            }
        }
    }

    /// Runs until the caller's shutdown; otherwise like [`run`](Self::run), but leaves logging and
    /// the process alone.
    ///
    /// # Errors
    /// Nothing or a type twice is registered, or the scheduler refuses the worker.
    pub async fn run_until(self, shutdown: Shutdown) -> Result<(), WorkerError> {
        self.start(StopBy::Caller(shutdown)).await.map(|_| ())
    }

    async fn start(self, stop_by: StopBy) -> Result<Ended, WorkerError> {
        if let Some(duplicate) = self.duplicate {
            return Err(WorkerError::DuplicateType(duplicate));
        }
        if self.registry.names().next().is_none() {
            return Err(WorkerError::NoTypes);
        }
        let code_runtime = Handle::current();
        let (tell, told) = oneshot::channel();
        let abandoned = CancellationToken::new();
        // If the caller drops this future, the protocol hands everything back and ends.
        let _abandon = abandoned.clone().drop_guard();
        // A thread and a runtime of its own: heartbeats go out even if code blocks every thread of
        // the author's runtime.
        thread::Builder::new()
            .name("tasklease-protocol".to_owned())
            .spawn(move || {
                let ended = run_protocol(self.settings, self.registry, code_runtime, stop_by, abandoned);
                // The caller may be gone.
                let _ = tell.send(ended);
            })?;
        told.await.unwrap_or(Err(WorkerError::ProtocolEnded))
    }
}

fn run_protocol(
    settings: Settings,
    registry: Registry,
    code_runtime: Handle,
    stop_by: StopBy,
    abandoned: CancellationToken,
) -> Result<Ended, WorkerError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(async {
        let shutdown = stop_by.shutdown(settings.grace)?;
        Actor::new(settings, registry, code_runtime)
            .run(shutdown, abandoned)
            .await
    });
    // A name lookup that is under way must not delay the end.
    runtime.shutdown_background();
    ended
}

impl StopBy {
    fn shutdown(self, grace: Duration) -> io::Result<Shutdown> {
        match self {
            // The worker ends the grace period itself; the hard step of the shutdown comes later.
            Self::Signals => Shutdown::on_signals(grace + TELL_ALL),
            Self::Caller(shutdown) => Ok(shutdown),
        }
    }
}
