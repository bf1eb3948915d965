//! What the loss of a worker says about the tasks that it held.
//!
//! Nobody sees which of several tasks killed their worker. A loss is evidence against a task by what else the worker
//! held: a task that was lost before is a *suspect*, and among several suspects nobody can tell.

use std::time::Duration;

use super::ids::TaskId;

#[cfg(test)]
mod simulation;

/// The loss of a worker, as seen by one of the tasks that it held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loss {
    /// How often a worker was lost before that held the task.
    pub before: i32,
    /// The points against the task that those losses left.
    pub points_before: i32,
    /// What else the worker held.
    pub company: Company,
}

/// What a lost worker held beside one task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Company {
    /// Nothing.
    #[default]
    Nobody,
    /// Tasks that were never lost before.
    Unsuspected,
    /// Tasks of which one, this one, was lost before.
    Suspect(TaskId),
    /// Tasks of which several were lost before.
    Suspects,
}

impl Company {
    /// The company of a task in the hands of a worker that held that many tasks, among them these suspects.
    pub fn of(task: TaskId, held: usize, suspects: &[TaskId]) -> Self {
        if held <= 1 {
            return Self::Nobody;
        }
        let mut others = suspects.iter().filter(|suspect| **suspect != task);
        match (others.next(), others.next()) {
            (None, _) => Self::Unsuspected,
            (Some(suspect), None) => Self::Suspect(*suspect),
            (Some(_), Some(_)) => Self::Suspects,
        }
    }
}

/// What a lost run says about who killed its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blame {
    /// Points against the task of the run.
    pub points: i16,
    /// The task that got a point because the task of this run seemed innocent. The point is withdrawn once evidence
    /// comes up against the task of this run itself.
    pub suspect: Option<TaskId>,
}

/// Points against a task that its worker held alone.
const PROOF: i16 = 2;
/// Points against the only suspect among several tasks.
const HINT: i16 = 1;

impl Loss {
    /// What the lost run says.
    pub fn blame(&self) -> Blame {
        let is_suspect = self.before > 0;
        let (points, suspect) = match self.company {
            Company::Nobody => (PROOF, None),
            Company::Unsuspected if is_suspect => (HINT, None),
            Company::Suspect(suspect) if !is_suspect => (0, Some(suspect)),
            Company::Unsuspected | Company::Suspect(_) | Company::Suspects => (0, None),
        };
        Blame { points, suspect }
    }

    /// True if this is the first evidence against a task that was taken for innocent when it was lost before.
    pub fn raises_suspicion(&self) -> bool {
        self.before > 0 && self.points_before == 0 && self.blame().points > 0
    }

    /// True if the task is known to kill workers: as much stands against it as if `limit` workers had died while they
    /// held nothing else.
    pub fn convicts(&self, limit: i32) -> bool {
        let points = self.points_before.saturating_add(self.blame().points.into());
        points >= limit.saturating_mul(PROOF.into())
    }

    /// How long the task waits before it runs again; `jitter` is a random number of 0 to 1. A suspect that had company
    /// comes back at a random time, ever later, so that suspects meet less and less.
    pub fn delay(&self, jitter: f64) -> Duration {
        if self.company == Company::Nobody || self.before == 0 {
            return Duration::ZERO;
        }
        let doublings = u32::try_from(self.before).unwrap_or(u32::MAX).min(16);
        let longest = (APART * 2_u32.saturating_pow(doublings)).min(LONGEST_APART);
        longest.mul_f64(jitter)
    }
}

/// Half of the time over which tasks are spread that were lost in company for the second time.
const APART: Duration = Duration::from_secs(1);
const LONGEST_APART: Duration = Duration::from_mins(10);

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const OTHER: TaskId = TaskId(Uuid::from_u128(7));

    fn loss(before: i32, company: Company) -> Loss {
        Loss {
            before,
            points_before: 0,
            company,
        }
    }

    #[test]
    fn a_loss_says_as_much_as_it_leaves_others_to_suspect() {
        for (before, company, points, suspect) in [
            (0, Company::Nobody, 2, None),
            (9, Company::Nobody, 2, None),
            (0, Company::Unsuspected, 0, None),
            (1, Company::Unsuspected, 1, None),
            (0, Company::Suspect(OTHER), 0, Some(OTHER)),
            (1, Company::Suspect(OTHER), 0, None),
            (0, Company::Suspects, 0, None),
            (5, Company::Suspects, 0, None),
        ] {
            let blame = loss(before, company).blame();
            assert_eq!(
                blame,
                Blame { points, suspect },
                "{before} losses before, {company:?}"
            );
        }
    }

    #[test]
    fn the_company_of_a_task_is_what_it_is_itself_not_part_of() {
        let [me, one, two] = [1, 2, 3].map(|n| TaskId(Uuid::from_u128(n)));
        assert_eq!(Company::of(me, 1, &[me]), Company::Nobody);
        assert_eq!(Company::of(me, 3, &[]), Company::Unsuspected);
        assert_eq!(Company::of(me, 3, &[me]), Company::Unsuspected);
        assert_eq!(Company::of(me, 3, &[me, one]), Company::Suspect(one));
        assert_eq!(Company::of(me, 3, &[one]), Company::Suspect(one));
        assert_eq!(Company::of(me, 3, &[one, two]), Company::Suspects);
    }

    #[test]
    fn six_points_convict_where_three_losses_are_the_limit() {
        let with = |points_before, company| Loss {
            points_before,
            ..loss(9, company)
        };
        assert!(with(4, Company::Nobody).convicts(3));
        assert!(!with(3, Company::Nobody).convicts(3));
        assert!(with(5, Company::Unsuspected).convicts(3));
        assert!(!with(4, Company::Unsuspected).convicts(3));
        assert!(!with(5, Company::Suspects).convicts(3));
        assert!(loss(0, Company::Nobody).convicts(1));
    }

    #[test]
    fn suspects_in_company_come_back_over_twice_the_time_with_every_loss() {
        let longest = |before, company| loss(before, company).delay(1.0);
        assert_eq!(longest(9, Company::Nobody), Duration::ZERO);
        assert_eq!(
            longest(0, Company::Suspects),
            Duration::ZERO,
            "a worker may die once for any reason"
        );
        assert_eq!(longest(1, Company::Unsuspected), Duration::from_secs(2));
        assert_eq!(longest(2, Company::Suspects), Duration::from_secs(4));
        assert_eq!(longest(40, Company::Suspects), LONGEST_APART);
        assert_eq!(loss(3, Company::Suspects).delay(0.5), Duration::from_secs(4));
    }
}
