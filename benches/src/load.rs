//! Producers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tasklease_proto::v1::{SubmitTaskRequest, SubmitTasksRequest, TaskSpec, task_spec::Input};

use crate::stand::Stand;

/// Producers of batches, each with a connection of its own.
const PRODUCERS: usize = 4;

/// A task that does nothing, with a payload of about so many bytes.
fn noop(payload: usize) -> TaskSpec {
    let text = format!("{{\"data\":\"{}\"}}", "x".repeat(payload.saturating_sub(11)));
    TaskSpec {
        task_type: "noop".into(),
        input: Some(Input::PayloadJson(text.into())),
        ..Default::default()
    }
}

/// Submits tasks in batches from several producers; returns how long that took.
pub(crate) async fn submit_batches(
    stand: &Stand,
    tasks: usize,
    batch: usize,
    payload: usize,
) -> anyhow::Result<Duration> {
    let left = Arc::new(AtomicUsize::new(tasks.div_ceil(batch)));
    let mut clients = Vec::new();
    for _ in 0..PRODUCERS {
        clients.push(stand.client().await?);
    }
    let start = Instant::now();
    let mut producers = Vec::new();
    for mut client in clients {
        let left = left.clone();
        producers.push(tokio::spawn(async move {
            while take_one(&left) {
                let request = SubmitTasksRequest {
                    tasks: vec![noop(payload); batch],
                };
                client.submit_tasks(request).await?;
            }
            anyhow::Ok(())
        }));
    }
    for producer in producers {
        producer.await??;
    }
    Ok(start.elapsed())
}

/// Submits one task at a time from many callers; returns how many a second.
pub(crate) async fn submit_singly(
    stand: &Stand,
    callers: usize,
    tasks: usize,
    payload: usize,
) -> anyhow::Result<f64> {
    let left = Arc::new(AtomicUsize::new(tasks));
    let mut clients = Vec::new();
    for _ in 0..PRODUCERS {
        clients.push(stand.client().await?);
    }
    let start = Instant::now();
    let mut running = Vec::new();
    for caller in 0..callers {
        let (mut client, left) = (clients[caller % PRODUCERS].clone(), left.clone());
        running.push(tokio::spawn(async move {
            while take_one(&left) {
                client
                    .submit_task(SubmitTaskRequest {
                        task: Some(noop(payload)),
                    })
                    .await?;
            }
            anyhow::Ok(())
        }));
    }
    for caller in running {
        caller.await??;
    }
    Ok(tasks as f64 / start.elapsed().as_secs_f64())
}

fn take_one(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
        .is_ok()
}
