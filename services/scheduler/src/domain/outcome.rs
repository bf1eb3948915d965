//! How a run ended.

/// The outcomes of a run, with the numbers of the contract's `Outcome` and of `run.outcome`.
///
/// The number 0 of `run.outcome` is not an outcome: it is a cancel request on a run that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum Outcome {
    /// The code returned a result.
    Succeeded = 1,
    /// The code failed.
    Failed = 2,
    /// The run was cancelled.
    Cancelled = 3,
    /// The run took too long.
    TimedOut = 4,
    /// The worker died.
    Lost = 5,
    /// The worker handed the task back or never took it.
    Released = 6,
}

impl Outcome {
    /// The outcome with this number.
    pub fn from_number(number: i16) -> Option<Self> {
        [
            Self::Succeeded,
            Self::Failed,
            Self::Cancelled,
            Self::TimedOut,
            Self::Lost,
            Self::Released,
        ]
        .into_iter()
        .find(|outcome| *outcome as i16 == number)
    }
}
