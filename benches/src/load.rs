//! Clients that submit tasks.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tasklease_proto::v1::{SubmitTaskRequest, SubmitTasksRequest, TaskSpec, task_spec::Input};

use crate::stand::Stand;

/// Clients that submit tasks, each with a connection of its own.
const PRODUCERS: usize = 4;

/// Tasks that do nothing, and how they are submitted.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Load {
    /// Tasks of each phase.
    #[arg(long, default_value_t = 200_000)]
    pub(crate) tasks: usize,
    /// Tasks in one submit, at most 1000.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) batch: usize,
    /// Bytes of each payload.
    #[arg(long, default_value_t = 100)]
    pub(crate) payload: usize,
}

/// A payload of about `bytes` bytes.
pub(crate) fn payload(bytes: usize) -> String {
    format!("{{\"data\":\"{}\"}}", "x".repeat(bytes.saturating_sub(11)))
}

fn noop(bytes: usize) -> TaskSpec {
    TaskSpec {
        task_type: "noop".into(),
        input: Some(Input::PayloadJson(payload(bytes).into())),
        ..Default::default()
    }
}

/// Submits tasks in batches; returns once all are durable.
pub(crate) async fn submit_batches(stand: &Stand<'_>, load: Load) -> anyhow::Result<()> {
    let left = Arc::new(AtomicUsize::new(load.tasks));
    let mut producers = Vec::new();
    for mut client in stand.clients(PRODUCERS).await? {
        let left = left.clone();
        producers.push(tokio::spawn(async move {
            loop {
                let count = take(&left, load.batch);
                if count == 0 {
                    return anyhow::Ok(());
                }
                let tasks = vec![noop(load.payload); count];
                client.submit_tasks(SubmitTasksRequest { tasks }).await?;
            }
        }));
    }
    for producer in producers {
        producer.await??;
    }
    Ok(())
}

/// Submits one task at a time from many callers; returns once all are durable.
pub(crate) async fn submit_singly(stand: &Stand<'_>, callers: usize, tasks: usize) -> anyhow::Result<()> {
    let left = Arc::new(AtomicUsize::new(tasks));
    let clients = stand.clients(PRODUCERS).await?;
    let mut running = Vec::new();
    for caller in 0..callers {
        let (mut client, left) = (clients[caller % PRODUCERS].clone(), left.clone());
        running.push(tokio::spawn(async move {
            while take(&left, 1) > 0 {
                let task = Some(noop(100));
                client.submit_task(SubmitTaskRequest { task }).await?;
            }
            anyhow::Ok(())
        }));
    }
    for caller in running {
        caller.await??;
    }
    Ok(())
}

/// Takes up to `most` from the number that is left.
pub(crate) fn take(left: &AtomicUsize, most: usize) -> usize {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
        Some(left.saturating_sub(most))
    })
    .map_or(0, |left| left.min(most))
}
