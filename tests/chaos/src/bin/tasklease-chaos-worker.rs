//! A worker over the real runtime whose tasks play the script in their payload, and tell the outside system each step.

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use tasklease_chaos::{
    behaviour::{Behaviour, CodeEnd, End},
    outside::{Step, Visit},
    plan::LOAD_TYPES,
};
use tasklease_worker::{Context, Task, TaskError, TaskResult};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    sync::{mpsc, oneshot},
};

/// The exit code of a worker that a task has killed.
const KILLED_BY_TASK: i32 = 9;

/// What a task gets: its script, and what fills its payload up.
#[derive(serde::Deserialize)]
struct Params {
    script: Behaviour,
}

/// The connection to the outside system.
struct Outside {
    worker: String,
    visits: mpsc::UnboundedSender<(Visit, oneshot::Sender<bool>)>,
}

impl Outside {
    async fn connect(worker: String, address: &str) -> anyhow::Result<Arc<Self>> {
        let stream = TcpStream::connect(address).await?;
        let (visits, mut waiting) = mpsc::unbounded_channel::<(Visit, oneshot::Sender<bool>)>();
        let (reader, mut writer) = stream.into_split();
        tokio::spawn(async move {
            let mut lines = BufReader::new(reader).lines();
            while let Some((visit, answer)) = waiting.recv().await {
                let mut line = serde_json::to_vec(&visit)?;
                line.push(b'\n');
                writer.write_all(&line).await?;
                let heard = lines.next_line().await?;
                // A caller that was dropped does not wait any more.
                let _ = answer.send(heard.as_deref() == Some("1"));
            }
            anyhow::Ok(())
        });
        Ok(Arc::new(Self { worker, visits }))
    }

    /// Tells a step and does not wait for the answer.
    fn tell(&self, ctx: &Context, step: Step) -> oneshot::Receiver<bool> {
        let (answer, heard) = oneshot::channel();
        let visit = Visit {
            worker: self.worker.clone(),
            task: ctx.task_id().to_owned(),
            token: i64::try_from(ctx.lease_token()).unwrap_or(i64::MAX),
            step,
        };
        // Only a broken connection closes the channel, and then nobody listens.
        let _ = self.visits.send((visit, answer));
        heard
    }
}

/// Says that code was dropped, unless it ended before.
struct Run<'a> {
    outside: &'a Outside,
    ctx: &'a Context,
    has_ended: bool,
}

impl Run<'_> {
    async fn end(mut self, end: CodeEnd) {
        self.has_ended = true;
        let _ = self.outside.tell(self.ctx, Step::Ended(Some(end))).await;
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            drop(self.outside.tell(self.ctx, Step::Ended(None)));
        }
    }
}

/// One of the task types; all do the same.
struct Script<const TYPE: usize>(Arc<Outside>);

impl<const TYPE: usize> Task for Script<TYPE> {
    const TYPE: &'static str = LOAD_TYPES[TYPE];
    type Params = Params;
    type Output = serde_json::Value;
    type Error = TaskError;

    async fn run(&self, params: Params, ctx: &Context) -> TaskResult<Self::Output> {
        let Params { script } = params;
        let outside = &*self.0;
        let _ = outside.tell(ctx, Step::Started(ctx.attempt())).await;
        let run = Run {
            outside,
            ctx,
            has_ended: false,
        };
        let _ = outside.tell(ctx, Step::Effect).await;
        if script.end == End::KillWorker {
            std::process::exit(KILLED_BY_TASK);
        }
        let end = play(&script, ctx).await;
        let _ = outside.tell(ctx, Step::Effect).await;
        run.end(end).await;
        match end {
            CodeEnd::Succeeded => Ok(serde_json::json!({ "token": ctx.lease_token() })),
            CodeEnd::Failed => Err(TaskError::new("SCRIPTED", "the script says so")),
            CodeEnd::FailedForGood => Err(TaskError::new("SCRIPTED", "the script says so").non_retryable()),
            CodeEnd::Stopped => Err(TaskError::cancelled()),
        }
    }
}

async fn play(script: &Behaviour, ctx: &Context) -> CodeEnd {
    let (steps, pause_ms) = script.steps();
    for step in 1..=steps {
        if script.end == End::IgnoreStop {
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        } else if ctx.sleep(Duration::from_millis(pause_ms)).await.is_err() {
            return CodeEnd::Stopped;
        }
        if step < steps {
            ctx.update_progress(f64::from(step), format!("{}:{step}", ctx.lease_token()));
        }
    }
    match script.own_end(ctx.attempt()) {
        Some(end) => end,
        None => {
            ctx.cancelled().await;
            CodeEnd::Stopped
        }
    }
}

async fn outside() -> anyhow::Result<Arc<Outside>> {
    let setting = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
    let name = setting("TASKLEASE_WORKER_NAME")?;
    Outside::connect(name, &setting("TASKLEASE_CHAOS_OUTSIDE")?).await
}

#[tokio::main]
async fn main() -> ExitCode {
    let outside = match outside().await {
        Ok(outside) => outside,
        Err(error) => {
            eprintln!("this program is started by tasklease-chaos: {error:#}");
            return ExitCode::from(2);
        }
    };
    tasklease_worker::run_main(|worker| {
        worker
            .register(Script::<0>(outside.clone()))
            .register(Script::<1>(outside.clone()))
            .register(Script::<2>(outside.clone()))
            .register(Script::<3>(outside.clone()))
            .register(Script::<4>(outside.clone()))
            .register(Script::<5>(outside.clone()))
            .register(Script::<6>(outside.clone()))
            .register(Script::<7>(outside))
    })
    .await
}
