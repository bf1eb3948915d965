//! What the code of a task does, as its payload tells it.

use serde::{Deserialize, Serialize};

/// The script of a task's code. It travels as the payload, so every worker can play it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behaviour {
    /// How long the code works, in milliseconds.
    pub run_ms: u64,
    /// How many progress reports it sends meanwhile.
    pub progress: u32,
    /// How it ends.
    pub end: End,
}

/// How the code of a task ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Returns a result.
    Succeed,
    /// Fails until the attempt has this number, then returns a result.
    FailUntil(u32),
    /// Fails in every attempt.
    FailAlways,
    /// Fails and says that no retry helps.
    FailForGood,
    /// Works until it is told to stop.
    Hang,
    /// Returns a result even if it was told to stop.
    IgnoreStop,
    /// Kills its worker.
    KillWorker,
}

/// How the code of one attempt ended, before anything was reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CodeEnd {
    /// With a result.
    Succeeded,
    /// With an error that a retry may mend.
    Failed,
    /// With an error that no retry mends.
    FailedForGood,
    /// Because it was told to stop.
    Stopped,
}

impl Behaviour {
    /// How the code ends that was not told to stop; `None` if it never ends by itself.
    pub fn own_end(&self, attempt: u32) -> Option<CodeEnd> {
        match self.end {
            End::Succeed | End::IgnoreStop => Some(CodeEnd::Succeeded),
            End::FailUntil(good) if attempt >= good => Some(CodeEnd::Succeeded),
            End::FailUntil(_) | End::FailAlways => Some(CodeEnd::Failed),
            End::FailForGood => Some(CodeEnd::FailedForGood),
            End::Hang | End::KillWorker => None,
        }
    }

    /// The pauses between its progress reports: their number and length in milliseconds.
    pub fn steps(&self) -> (u32, u64) {
        let steps = self.progress + 1;
        (steps, self.run_ms / u64::from(steps))
    }
}

#[cfg(test)]
mod tests {
    use super::{Behaviour, CodeEnd, End};

    #[test]
    fn code_that_recovers_fails_until_its_good_attempt() {
        let behaviour = Behaviour {
            run_ms: 0,
            progress: 0,
            end: End::FailUntil(3),
        };
        let ends = [1, 2, 3, 4].map(|attempt| behaviour.own_end(attempt));
        let (failed, succeeded) = (Some(CodeEnd::Failed), Some(CodeEnd::Succeeded));
        assert_eq!(ends, [failed, failed, succeeded, succeeded]);
    }
}
