//! The folder through which a test and the code of its tasks talk.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::patience::eventually;

/// A folder with one file per event; the code of a task appends `TASK TOKEN` to it when the event happens.
#[derive(Debug)]
pub struct Stage {
    folder: TempDir,
}

impl Stage {
    /// An empty one.
    ///
    /// # Panics
    /// If no temporary folder can be made.
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The payload that leads a task's code here.
    pub fn payload(&self) -> Value {
        json!({ "stage": self.path() })
    }

    /// Lets all code go on that waits at the gate.
    pub fn open_gate(&self) {
        fs::write(self.file("open"), "").expect("a file");
    }

    /// Lets the code of one lease go on.
    pub fn open_gate_for(&self, token: i64) {
        fs::write(self.file(&format!("open.{token}")), "").expect("a file");
    }

    /// What happened so far: the task and the lease token, in order.
    pub fn events(&self, event: &str) -> Vec<(String, i64)> {
        let text = fs::read_to_string(self.file(event)).unwrap_or_default();
        // A line without its end is still being written.
        text.split_inclusive('\n')
            .filter_map(|line| line.strip_suffix('\n')?.split_once(' '))
            .map(|(task, token)| (task.to_owned(), token.parse().expect("a lease token")))
            .collect()
    }

    /// Waits until the event has happened to so many runs.
    pub async fn reached(&self, event: &str, count: usize) -> Vec<(String, i64)> {
        eventually(&format!("{count} times {event}"), async || {
            let events = self.events(event);
            (events.len() >= count).then_some(events)
        })
        .await
    }

    /// Waits until the event has happened to one lease.
    pub async fn reached_by(&self, event: &str, task: &str, token: i64) {
        eventually(&format!("{event} of {task} under lease {token}"), async || {
            let lease = (task.to_owned(), token);
            self.events(event).contains(&lease).then_some(())
        })
        .await;
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}
