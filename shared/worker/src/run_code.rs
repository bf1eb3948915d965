//! Starting the code of leases, and stopping it.

use std::{sync::Arc, thread, time::Instant};

use bytes::Bytes;
use futures_util::future::{AbortHandle, AbortRegistration, Abortable};
use tasklease_proto::v1::LeasedTask;
use tokio::{runtime::Handle, sync::mpsc::UnboundedSender};

use crate::{
    context::Context,
    lease_key::LeaseKey,
    panic_capture,
    protocol::Event,
    registry::{Code, Registry},
    run::{Host, Run},
    slot::Slot,
    task::TaskResult,
    task_error::TaskError,
};

/// Starts code on the runtime of the worker's author.
pub(crate) struct Launcher {
    registry: Registry,
    host: Arc<Host>,
}

/// A handle to the code of one run.
#[derive(Debug)]
pub(crate) struct RunningCode {
    pub(crate) run: Arc<Run>,
    /// Drops the future at its next await.
    pub(crate) abort: AbortHandle,
}

/// Code that has not been started yet. If it is dropped, the run ends without a result.
pub(crate) struct Launch {
    code: Arc<dyn Code>,
    payload: Bytes,
    end: Return,
    aborted: AbortRegistration,
}

impl Launcher {
    pub(crate) fn new(registry: Registry, runtime: Handle, events: UnboundedSender<Event>) -> Self {
        panic_capture::install();
        Self {
            registry,
            host: Arc::new(Host::new(runtime, events)),
        }
    }

    pub(crate) fn task_types(&self) -> Vec<String> {
        self.registry.names().map(str::to_owned).collect()
    }

    /// Tells the code of all runs that the worker drains.
    pub(crate) fn tell_draining(&self) {
        self.host.draining.cancel();
    }

    /// True once [`tell_draining`](Self::tell_draining) was called.
    pub(crate) fn is_draining(&self) -> bool {
        self.host.draining.is_cancelled()
    }

    /// Prepares the code of a lease; gives the lease back if its type is not registered. The run
    /// timeout counts from the moment at which the lease was received.
    pub(crate) fn prepare(
        &self,
        key: LeaseKey,
        mut lease: LeasedTask,
        received: Instant,
    ) -> Result<(RunningCode, Launch), LeasedTask> {
        let Some(code) = self.registry.find(&lease.task_type) else {
            return Err(lease);
        };
        let payload = std::mem::take(&mut lease.payload_json);
        let slot = Arc::new(Slot::new(Arc::clone(&self.host)));
        let run = Arc::new(Run::new(key, lease, received, &slot, Arc::clone(&self.host)));
        let (abort, aborted) = AbortHandle::new_pair();
        let launch = Launch {
            code,
            payload,
            end: Return {
                run: Arc::clone(&run),
                slot: Some(slot),
                result: None,
            },
            aborted,
        };
        Ok((RunningCode { run, abort }, launch))
    }

    /// Starts code in the order of the launches.
    pub(crate) fn start(&self, mut launches: Vec<Launch>) {
        let runtime = &self.host.runtime;
        if launches.len() <= 1 {
            if let Some(launch) = launches.pop() {
                runtime.spawn(launch.run());
            }
            return;
        }
        // Each spawn from this thread may wake a thread of the other runtime, which may then interrupt this one.
        runtime.spawn(async move {
            for launch in launches {
                tokio::spawn(launch.run());
            }
        });
    }
}

impl Launch {
    async fn run(self) {
        let Self {
            code,
            payload,
            end,
            aborted,
        } = self;
        // `end` reports how the code ended, whether or not it was aborted.
        let _ = Abortable::new(run(code, payload, end), aborted).await;
    }
}

/// Tells the protocol that code has ended, also if it was dropped or if its future panicked while it
/// was dropped.
struct Return {
    run: Arc<Run>,
    slot: Option<Arc<Slot>>,
    result: Option<TaskResult<Bytes>>,
}

impl Drop for Return {
    fn drop(&mut self) {
        let result = self.result.take().unwrap_or_else(|| {
            Err(if thread::panicking() {
                TaskError::new("PANIC", "the code panicked while it was torn down")
            } else {
                TaskError::dropped()
            })
        });
        let slot = self.slot.take().map(Arc::try_unwrap);
        let frees_slot = matches!(slot, Some(Ok(_)));
        self.run.host.tell(Event::Returned {
            key: self.run.key,
            result,
            frees_slot,
        });
        // First the result, then the slot; a closure that still computes frees the slot later.
        if let Some(Ok(slot)) = slot {
            slot.free_silently();
        }
    }
}

async fn run(code: Arc<dyn Code>, payload: Bytes, mut end: Return) {
    let ctx = Context::new(Arc::clone(&end.run));
    // The run was told to stop, or has ended, before a thread was free: its code need not begin.
    if let Err(stopped) = ctx.check_cancelled() {
        end.result = Some(Err(stopped.into()));
        return;
    }
    let result = panic_capture::catch_async(code.run(payload, &ctx)).await;
    let (key, task_type) = (end.run.key, ctx.task_type());
    match &result {
        Ok(_) => tracing::debug!(lease = %key, task_type, "code returned"),
        Err(error) if error.is_cancelled() => tracing::info!(lease = %key, task_type, "code stopped"),
        Err(error) => {
            let (kind, message) = (error.kind(), error.message());
            tracing::warn!(lease = %key, task_type, attempt = ctx.attempt(), kind, error = message, "code failed");
        }
    }
    end.result = Some(result);
}
