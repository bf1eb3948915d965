//! A system outside that the code of tasks changes: it fences by lease token, and tells the history what it sees.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::{behaviour::CodeEnd, history::Event, recorder::Recorder};

/// What the code of a task tells the outside system, as one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
pub struct Visit {
    /// The worker.
    pub worker: String,
    /// The task.
    pub task: String,
    /// The lease token.
    pub token: i64,
    /// What it is about.
    pub step: Step,
}

/// A step of a task's code.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The code begins, in this attempt.
    Started(u32),
    /// The code wants to change something.
    Effect,
    /// The code ends; `None` if it was dropped.
    Ended(Option<CodeEnd>),
}

/// The outside system; cheap to clone.
#[derive(Debug, Clone)]
pub struct Outside {
    recorder: Recorder,
    highest: Arc<Mutex<HashMap<String, i64>>>,
}

impl Outside {
    /// A system that has seen nothing yet.
    pub fn new(recorder: Recorder) -> Self {
        Self {
            recorder,
            highest: Arc::default(),
        }
    }

    /// Serves worker processes on a free port of the loopback interface.
    ///
    /// # Errors
    /// No port is free.
    pub async fn listen(&self) -> std::io::Result<SocketAddr> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let outside = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let outside = outside.clone();
                // A worker that is killed breaks its connection.
                tokio::spawn(async move { outside.serve(stream).await });
            }
        });
        Ok(address)
    }

    async fn serve(&self, stream: TcpStream) -> anyhow::Result<()> {
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        while let Some(line) = lines.next_line().await? {
            let is_accepted = self.visit(serde_json::from_str(&line)?);
            writer
                .write_all(if is_accepted { b"1\n" } else { b"0\n" })
                .await?;
        }
        Ok(())
    }

    /// Takes down a step. False if it is a change under an older token than the highest.
    pub fn visit(&self, visit: Visit) -> bool {
        let Visit {
            worker,
            task,
            token,
            step,
        } = visit;
        let mut accepted = true;
        let event = match step {
            Step::Started(attempt) => Event::CodeStarted {
                worker,
                task,
                token,
                attempt,
            },
            Step::Effect => {
                accepted = self.fence(&task, token);
                Event::Effect {
                    worker,
                    task,
                    token,
                    accepted,
                }
            }
            Step::Ended(end) => Event::CodeEnded {
                worker,
                task,
                token,
                end,
            },
        };
        self.recorder.note(event);
        accepted
    }

    fn fence(&self, task: &str, token: i64) -> bool {
        let mut highest = self.highest.lock();
        let highest = highest.entry(task.to_owned()).or_insert(token);
        *highest = token.max(*highest);
        token == *highest
    }
}

#[cfg(test)]
mod tests {
    use super::{Outside, Step, Visit};
    use crate::recorder::Recorder;

    #[test]
    fn a_change_under_an_older_token_is_refused() {
        let outside = Outside::new(Recorder::start());
        let mut change = |token| {
            outside.visit(Visit {
                worker: "w".to_owned(),
                task: "a".to_owned(),
                token,
                step: Step::Effect,
            })
        };
        assert_eq!([1, 3, 2, 3].map(&mut change), [true, true, false, true]);
    }
}
