//! Where a task stands.

use std::fmt;

/// The states of a task, with the numbers of the contract's `TaskState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i16)]
pub enum TaskState {
    /// Waits for a time.
    Scheduled = 1,
    /// Waits for a dependency or a gate.
    Blocked = 2,
    /// May run now.
    Pending = 3,
    /// Leased to a worker.
    Running = 4,
    /// Ended with a result.
    Succeeded = 5,
    /// Ended without one.
    Failed = 6,
    /// Ended by a cancel.
    Cancelled = 7,
}

impl TaskState {
    /// All states, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Scheduled,
        Self::Blocked,
        Self::Pending,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The state with this number.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|state| i32::from(*state as i16) == number)
    }

    /// True if a task stays in this state for ever.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// True if the life of a task leads from this state straight to `next`.
    pub fn may_become(self, next: Self) -> bool {
        match self {
            Self::Scheduled => matches!(next, Self::Blocked | Self::Pending | Self::Cancelled),
            Self::Blocked => matches!(next, Self::Pending | Self::Cancelled),
            Self::Pending => matches!(next, Self::Blocked | Self::Running | Self::Cancelled),
            Self::Running => matches!(
                next,
                Self::Scheduled | Self::Pending | Self::Succeeded | Self::Failed | Self::Cancelled
            ),
            Self::Succeeded | Self::Failed | Self::Cancelled => false,
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheduled => "SCHEDULED",
            Self::Blocked => "BLOCKED",
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of docs/task-lifecycle.md, which must say the same as the code.
    #[test]
    fn the_document_lists_exactly_the_transitions_of_the_code() {
        let document = include_str!("../../../../docs/task-lifecycle.md")
            .split("## ")
            .find(|chapter| chapter.starts_with("Which state may follow which"))
            .expect("the chapter with the table");
        for from in TaskState::ALL {
            let listed: Vec<String> = document
                .lines()
                .filter_map(|line| line.strip_prefix(&format!("| `{from}` |")))
                .flat_map(|rest| rest.split('|').next().unwrap_or_default().split(','))
                .map(|name| name.trim().trim_matches('`').to_owned())
                .filter(|name| !name.is_empty() && name != "nothing")
                .collect();
            let coded: Vec<String> = TaskState::ALL
                .into_iter()
                .filter(|to| from.may_become(*to))
                .map(|to| to.to_string())
                .collect();
            assert_eq!(listed, coded, "from {from}");
        }
    }

    #[test]
    fn a_final_state_leads_nowhere_and_every_other_state_can_end() {
        for from in TaskState::ALL {
            let somewhere = TaskState::ALL.into_iter().any(|to| from.may_become(to));
            assert_eq!(somewhere, !from.is_final(), "{from}");
            assert!(from.is_final() || from.may_become(TaskState::Cancelled), "{from}");
        }
    }

    #[test]
    fn numbers_are_those_of_the_contract() {
        for state in TaskState::ALL {
            let wire =
                tasklease_proto::v1::TaskState::try_from(i32::from(state as i16)).expect("known number");
            assert_eq!(wire.as_str_name(), format!("TASK_STATE_{state}"));
            assert_eq!(TaskState::from_number(wire.into()), Some(state));
        }
        assert_eq!(TaskState::from_number(0), None);
        assert_eq!(TaskState::from_number(8), None);
    }
}
