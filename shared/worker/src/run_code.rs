//! Starting the code of a lease, and stopping it.

use std::sync::Arc;

use bytes::Bytes;
use tasklease_proto::v1::LeasedTask;
use tokio::{runtime::Handle, sync::mpsc::UnboundedSender, task::AbortHandle};

use crate::{
    context::Context,
    lease_key::LeaseKey,
    news::Mailbox,
    panic_capture,
    protocol::Event,
    registry::{Code, Registry},
    slot::Slot,
    stop::StopSignal,
    task::TaskResult,
    task_error::TaskError,
};

/// Starts code on the runtime of the worker's author.
pub(crate) struct Launcher {
    registry: Registry,
    runtime: Handle,
    events: UnboundedSender<Event>,
}

/// The code of one run, seen from outside.
#[derive(Debug)]
pub(crate) struct RunningCode {
    pub(crate) stop: StopSignal,
    pub(crate) mailbox: Arc<Mailbox>,
    /// Drops the future at its next await.
    pub(crate) abort: AbortHandle,
}

impl Launcher {
    pub(crate) fn new(registry: Registry, runtime: Handle, events: UnboundedSender<Event>) -> Self {
        panic_capture::install();
        Self {
            registry,
            runtime,
            events,
        }
    }

    pub(crate) fn task_types(&self) -> Vec<String> {
        self.registry.names().map(str::to_owned).collect()
    }

    /// Starts the code of a lease, which comes back if its type is not registered.
    pub(crate) fn launch(&self, key: &LeaseKey, mut lease: LeasedTask) -> Result<RunningCode, LeasedTask> {
        let Some(code) = self.registry.find(&lease.task_type) else {
            return Err(lease);
        };
        let payload = std::mem::take(&mut lease.payload_json);
        let stop = StopSignal::default();
        let mailbox = Arc::new(Mailbox::new(key.clone(), self.events.clone()));
        let slot = Arc::new(Slot::new(self.events.clone()));
        let ctx = Context::new(
            lease,
            stop.clone(),
            Arc::clone(&mailbox),
            &slot,
            self.runtime.clone(),
        );
        let end = Return {
            mailbox: Arc::clone(&mailbox),
            result: None,
        };
        let run = run(code, payload, ctx, slot, end);
        let abort = self.runtime.spawn(run).abort_handle();
        Ok(RunningCode { stop, mailbox, abort })
    }
}

/// Tells the protocol that code has returned, whatever way it went: also if it was dropped, or if
/// its future panicked while being torn down.
struct Return {
    mailbox: Arc<Mailbox>,
    result: Option<TaskResult<Bytes>>,
}

impl Drop for Return {
    fn drop(&mut self) {
        let result = self.result.take().unwrap_or_else(|| {
            Err(TaskError::new(
                "PANIC",
                "the code ended without a result, perhaps by a panic while it was torn down",
            ))
        });
        self.mailbox.say_returned(result);
    }
}

async fn run(code: Arc<dyn Code>, payload: Bytes, ctx: Context, slot: Arc<Slot>, mut end: Return) {
    let result = panic_capture::catch_async(code.run(payload, &ctx)).await;
    let (key, task_type) = (end.mailbox.key(), ctx.task_type());
    match &result {
        Ok(_) => tracing::debug!(lease = %key, task_type, "code returned"),
        Err(error) if error.is_cancelled() => tracing::info!(lease = %key, task_type, "code stopped"),
        Err(error) => {
            let (kind, message) = (error.kind(), error.message());
            tracing::warn!(lease = %key, task_type, attempt = ctx.attempt(), kind, error = message, "code failed");
        }
    }
    end.result = Some(result);
    // First the result, then the room.
    drop(end);
    drop(slot);
}
