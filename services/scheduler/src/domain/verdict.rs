//! What becomes of a task when one of its runs ends.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    ids::{GrantId, LaneId, LeaseKey, LeaseToken},
    lease::{DeadLease, Lease},
    outcome::Outcome,
    report::{ReportedOutcome, TaskError},
};

/// The end of a run, ready to be committed.
///
/// The database may still overrule it: a lease that ended before stays as it is, and an open
/// cancel request turns every verdict into CANCELLED.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Which lease ends.
    pub key: LeaseKey,
    /// The grant that it came in.
    pub grant: GrantId,
    /// The lane of its task.
    pub lane: LaneId,
    /// Attempt number of the run, from 1.
    pub attempt: i16,
    /// When it was leased, by the database's clock.
    pub started_at: Timestamp,
    /// The worker's name.
    pub worker: Arc<str>,
    /// Of a lost run for which somebody may be to blame: how many other tasks were lost with it.
    pub lost_with: Option<i32>,
    /// How it ends.
    pub disposition: Disposition,
}

/// How a run ends, and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disposition {
    /// The task succeeded.
    Succeed {
        /// The result, JSON text of one object.
        result: String,
    },
    /// The task ended otherwise.
    End {
        /// How the run ended.
        outcome: Outcome,
        /// Why.
        error: TaskError,
    },
    /// The task goes on.
    Retry {
        /// How the run ended.
        outcome: Outcome,
        /// Why.
        error: TaskError,
        /// What waits before the next run; zero puts the task straight to PENDING.
        delay: Duration,
        /// Attempt number of the next run.
        next_attempt: i16,
    },
}

impl Disposition {
    /// How the run ends.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Succeed { .. } => Outcome::Succeeded,
            Self::End { outcome, .. } | Self::Retry { outcome, .. } => *outcome,
        }
    }
}

/// Decides about a run whose worker reported its end. `timed_out` says whether its time was up, so that
/// a worker that stopped it for that reason, or failed after it, has timed out; `jitter` is a random
/// number of 0 to 1.
pub fn reported(
    lease: &Lease,
    worker: impl Into<Arc<str>>,
    ending: ReportedOutcome,
    timed_out: TimedOut,
    jitter: f64,
) -> Verdict {
    let backoff = || lease.backoff.delay(lease.attempt, jitter);
    let end = match ending {
        ReportedOutcome::Succeeded { result } => Disposition::Succeed { result },
        ReportedOutcome::Released { message } => uncounted(lease.into(), TaskError::new("RELEASED", message)),
        ReportedOutcome::Failed { .. } | ReportedOutcome::Cancelled { .. } if timed_out == TimedOut::Yes => {
            counted(lease.into(), Outcome::TimedOut, timeout_error(lease), backoff())
        }
        // The worker watches the time too, and may be first.
        ReportedOutcome::Failed { error, .. } if lease.run_timeout.is_some() && error.kind == TIMED_OUT => {
            counted(lease.into(), Outcome::TimedOut, error, backoff())
        }
        ReportedOutcome::Failed {
            error,
            non_retryable: true,
            ..
        } => Disposition::End {
            outcome: Outcome::Failed,
            error,
        },
        ReportedOutcome::Failed {
            error, retry_after, ..
        } => counted(
            lease.into(),
            Outcome::Failed,
            error,
            retry_after.unwrap_or_else(backoff),
        ),
        ReportedOutcome::Cancelled { message } => Disposition::End {
            outcome: Outcome::Cancelled,
            error: TaskError::new("CANCELLED", message),
        },
    };
    verdict(lease, worker, end)
}

/// The kind of error of a run that had used up its time.
const TIMED_OUT: &str = "TIMED_OUT";

/// Whether a run had used up its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimedOut {
    /// It had.
    Yes,
    /// It had not.
    No,
}

/// Decides about a run that did not stop within the grace period after its time was up.
pub fn overdue(lease: &Lease, worker: impl Into<Arc<str>>, jitter: f64) -> Verdict {
    verdict(
        lease,
        worker,
        counted(
            lease.into(),
            Outcome::TimedOut,
            timeout_error(lease),
            lease.backoff.delay(lease.attempt, jitter),
        ),
    )
}

/// Decides about a lease whose session has ended without a goodbye.
pub fn session_ended(lease: &DeadLease, limit: LossLimit, jitter: f64) -> Verdict {
    match &lease.worker {
        // The session ended before it could be told of the lease, so no code ran.
        None => never_delivered(lease),
        Some(_) if lease.was_spared => given_up(lease),
        Some(_) => lost(lease, limit, jitter),
    }
}

/// Decides about a lease that its session never accepted, or gave back without running it.
pub fn not_accepted(lease: &Lease, worker: impl Into<Arc<str>>) -> Verdict {
    verdict(lease, worker, uncounted(lease.into(), not_accepted_error()))
}

/// Decides about a lease of a session that was over before it could be told of it: no code ran.
pub fn never_delivered(lease: &DeadLease) -> Verdict {
    dead_verdict(lease, uncounted(lease.into(), not_accepted_error()))
}

/// Decides about a lease whose worker said goodbye.
pub fn handed_back(lease: &DeadLease, message: &str) -> Verdict {
    dead_verdict(
        lease,
        uncounted(lease.into(), TaskError::new("RELEASED", message)),
    )
}

fn not_accepted_error() -> TaskError {
    TaskError::new("NOT_ACCEPTED", "the worker did not accept the task in time")
}

/// A lost worker, as one of the tasks sees it that were in its hands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loss {
    /// How often a worker was lost before while it had this task alone.
    pub alone_before: i32,
    /// How often a worker was lost before that had others, too.
    pub in_company_before: i32,
    /// How many other tasks the worker held this time.
    pub others: i32,
    /// The most losses that any of those had before.
    pub most_of_others: i32,
}

impl Loss {
    /// How often a worker that held this task was lost before.
    pub fn before(&self) -> i32 {
        self.alone_before + self.in_company_before
    }

    /// True if the task, and not one of the others, is what kills workers, as far as anybody can tell: `limit` workers
    /// died with it in hand, and it was alone in at least half of them; or twice as many died, it had company this time,
    /// and none of those that died with it now has seen as many. Being held by workers that die for other
    /// reasons proves little, so company counts half.
    fn is_to_blame(&self, limit: i32) -> bool {
        let losses = self.before() + 1;
        if self.others == 0 {
            losses >= limit && (self.alone_before + 1) * 2 >= limit
        } else {
            losses >= limit.saturating_mul(2) && self.before() > self.most_of_others
        }
    }

    /// How long its task waits before it runs again. Tasks that were lost together more than once come back apart, so
    /// that the one that kills workers does not take the others with it again and again.
    fn delay(&self, jitter: f64) -> Duration {
        if self.others == 0 || self.before() == 0 {
            return Duration::ZERO;
        }
        let doublings = u32::try_from(self.before()).unwrap_or(u32::MAX).min(16);
        let longest = (APART * 2_u32.saturating_pow(doublings)).min(LONGEST_APART);
        longest.mul_f64(jitter)
    }
}

/// Half of the time over which tasks are spread that were lost together for the second time.
const APART: Duration = Duration::from_secs(1);
const LONGEST_APART: Duration = Duration::from_secs(30);

/// Decides about a run whose worker was lost. A task that has cost `limit` workers their life is quarantined. A run
/// counts as an attempt if its task was alone in the worker's hands; of several, nobody knows which one is to blame.
pub fn lost(lease: &DeadLease, limit: LossLimit, jitter: f64) -> Verdict {
    let loss = &lease.loss;
    let end = if limit.0.is_some_and(|limit| loss.is_to_blame(limit)) {
        let message = format!("{} workers died with this task in hand", loss.before() + 1);
        Disposition::End {
            outcome: Outcome::Lost,
            error: TaskError::new("POISONED", message),
        }
    } else {
        let error = TaskError::new("WORKER_LOST", "the worker stopped sending heartbeats");
        let delay = loss.delay(jitter);
        if loss.others == 0 {
            counted(lease.into(), Outcome::Lost, error, delay)
        } else {
            Disposition::Retry {
                outcome: Outcome::Lost,
                error,
                delay,
                next_attempt: lease.attempt,
            }
        }
    };
    Verdict {
        lost_with: Some(loss.others),
        ..dead_verdict(lease, end)
    }
}

/// How many workers a task may cost before it is quarantined; `None` for any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LossLimit(pub Option<i32>);

/// Decides about a run whose worker was given up because no scheduler could hear it: nobody is to blame.
pub fn given_up(lease: &DeadLease) -> Verdict {
    let error = TaskError::new("NO_SCHEDULER", "no scheduler was at work to hear the worker");
    dead_verdict(lease, uncounted(lease.into(), error))
}

fn verdict(lease: &Lease, worker: impl Into<Arc<str>>, disposition: Disposition) -> Verdict {
    Verdict {
        key: lease.key,
        grant: lease.grant,
        lane: lease.lane,
        attempt: lease.attempt,
        started_at: lease.started_at,
        worker: worker.into(),
        lost_with: None,
        disposition,
    }
}

fn dead_verdict(lease: &DeadLease, disposition: Disposition) -> Verdict {
    Verdict {
        key: lease.key,
        grant: lease.grant,
        lane: lease.lane,
        attempt: lease.attempt,
        started_at: lease.started_at,
        worker: lease.worker.as_deref().unwrap_or_default().into(),
        lost_with: None,
        disposition,
    }
}

/// Which of its task's runs a lease is.
#[derive(Clone, Copy)]
struct Count {
    token: LeaseToken,
    attempt: i16,
    max_attempts: i16,
}

impl From<&Lease> for Count {
    fn from(lease: &Lease) -> Self {
        Self {
            token: lease.key.token,
            attempt: lease.attempt,
            max_attempts: lease.max_attempts,
        }
    }
}

impl From<&DeadLease> for Count {
    fn from(lease: &DeadLease) -> Self {
        Self {
            token: lease.key.token,
            attempt: lease.attempt,
            max_attempts: lease.max_attempts,
        }
    }
}

fn timeout_error(lease: &Lease) -> TaskError {
    let limit = lease.run_timeout.unwrap_or_default().as_secs_f64();
    TaskError::new(
        TIMED_OUT,
        format!("the run took longer than its limit of {limit} s"),
    )
}

/// A run that counts: another follows after the delay, unless it was the last.
fn counted(count: Count, outcome: Outcome, error: TaskError, delay: Duration) -> Disposition {
    if count.attempt >= count.max_attempts {
        return Disposition::End { outcome, error };
    }
    Disposition::Retry {
        outcome,
        error,
        delay,
        next_attempt: count.attempt + 1,
    }
}

fn uncounted(count: Count, error: TaskError) -> Disposition {
    Disposition::Retry {
        outcome: Outcome::Released,
        error,
        delay: hand_back_delay(count),
        next_attempt: count.attempt,
    }
}

/// A task that is handed back runs again at once, in its old place. If that happens again and again, it waits a little
/// longer every time, or it would keep workers from the tasks behind it.
fn hand_back_delay(count: Count) -> Duration {
    let uncounted = count.token.0 - i32::from(count.attempt);
    let Ok(doublings @ 0..) = u32::try_from(uncounted - 2) else {
        return Duration::ZERO;
    };
    (FIRST_HAND_BACK * 2_u32.saturating_pow(doublings)).min(LONGEST_HAND_BACK)
}

/// How long a task waits that was handed back for the third time.
const FIRST_HAND_BACK: Duration = Duration::from_millis(100);
const LONGEST_HAND_BACK: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::{
        backoff::Backoff,
        ids::{GrantId, LaneId, LeaseToken, TaskId},
    };

    fn lease(attempt: i16) -> Lease {
        Lease {
            key: LeaseKey {
                task: TaskId(Uuid::from_u128(1)),
                token: LeaseToken(1),
            },
            grant: GrantId(1),
            lane: LaneId(1),
            attempt,
            max_attempts: 3,
            backoff: Backoff::default(),
            run_timeout: Some(Duration::from_secs(9)),
            started_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn dead(attempt: i16, loss: &Loss) -> DeadLease {
        let Lease {
            key,
            grant,
            lane,
            max_attempts,
            started_at,
            ..
        } = lease(attempt);
        DeadLease {
            key,
            grant,
            lane,
            attempt,
            max_attempts,
            started_at,
            worker: Some("w".into()),
            was_spared: false,
            loss: *loss,
        }
    }

    fn failed(non_retryable: bool, retry_after: Option<Duration>) -> ReportedOutcome {
        ReportedOutcome::Failed {
            error: TaskError::new("E", "m"),
            non_retryable,
            retry_after,
        }
    }

    fn end(attempt: i16, ending: ReportedOutcome) -> Disposition {
        reported(&lease(attempt), "w", ending, TimedOut::No, 1.0).disposition
    }

    #[test]
    fn a_failure_waits_for_the_back_off_and_counts() {
        let Disposition::Retry {
            outcome: Outcome::Failed,
            delay,
            next_attempt: 3,
            ..
        } = end(2, failed(false, None))
        else {
            panic!("expected another attempt");
        };
        assert_eq!(delay, Duration::from_secs(2));
    }

    #[test]
    fn the_last_attempt_and_a_hopeless_failure_are_final() {
        assert!(matches!(
            end(3, failed(false, None)),
            Disposition::End {
                outcome: Outcome::Failed,
                ..
            }
        ));
        assert!(matches!(
            end(1, failed(true, None)),
            Disposition::End {
                outcome: Outcome::Failed,
                ..
            }
        ));
    }

    #[test]
    fn a_worker_may_say_when_to_try_again() {
        let wait = Duration::from_secs(77);
        assert!(
            matches!(end(1, failed(false, Some(wait))), Disposition::Retry { delay, .. } if delay == wait)
        );
    }

    #[test]
    fn a_task_handed_back_runs_again_at_once_and_uncounted() {
        for end in [
            end(
                3,
                ReportedOutcome::Released {
                    message: "draining".into(),
                },
            ),
            not_accepted(&lease(3), "w").disposition,
        ] {
            assert!(matches!(
                end,
                Disposition::Retry {
                    outcome: Outcome::Released,
                    delay: Duration::ZERO,
                    next_attempt: 3,
                    ..
                }
            ));
        }
    }

    const LIMIT: LossLimit = LossLimit(Some(3));

    fn alone(before: i32) -> Loss {
        Loss {
            alone_before: before,
            ..Loss::default()
        }
    }

    fn is_poisoned(verdict: &Verdict) -> bool {
        matches!(&verdict.disposition, Disposition::End { error, .. } if error.kind == "POISONED")
    }

    #[test]
    fn a_run_that_its_worker_stopped_in_time_has_timed_out_too() {
        let ending = |non_retryable| ReportedOutcome::Failed {
            error: TaskError::new("TIMED_OUT", "m"),
            non_retryable,
            retry_after: None,
        };
        assert_eq!(end(1, ending(false)).outcome(), Outcome::TimedOut);
        assert!(matches!(
            end(1, ending(true)),
            Disposition::Retry { next_attempt: 2, .. }
        ));
        let unlimited = Lease {
            run_timeout: None,
            ..lease(1)
        };
        let verdict = reported(&unlimited, "w", ending(false), TimedOut::No, 1.0);
        assert_eq!(verdict.disposition.outcome(), Outcome::Failed, "no time was up");
    }

    #[test]
    fn a_loss_of_a_task_that_was_alone_counts_and_the_third_quarantines() {
        assert!(matches!(
            lost(&dead(1, &alone(0)), LIMIT, 1.0).disposition,
            Disposition::Retry {
                outcome: Outcome::Lost,
                delay: Duration::ZERO,
                next_attempt: 2,
                ..
            }
        ));
        assert!(matches!(
            lost(&dead(3, &alone(0)), LIMIT, 1.0).disposition,
            Disposition::End { error, .. } if error.kind == "WORKER_LOST"
        ));
        assert!(is_poisoned(&lost(&dead(1, &alone(2)), LIMIT, 1.0)));
        assert!(!is_poisoned(&lost(&dead(1, &alone(2)), LossLimit(None), 1.0)));
        assert!(is_poisoned(&lost(&dead(1, &alone(0)), LossLimit(Some(1)), 1.0)));
    }

    #[test]
    fn of_tasks_that_are_lost_together_none_is_charged_and_they_come_back_apart() {
        let together = |before| Loss {
            in_company_before: before,
            others: 3,
            most_of_others: before,
            ..Loss::default()
        };
        for before in 0..10 {
            let verdict = lost(&dead(3, &together(before)), LIMIT, 1.0);
            assert_eq!(verdict.lost_with, Some(3));
            let Disposition::Retry {
                delay, next_attempt, ..
            } = verdict.disposition
            else {
                panic!("nobody knows which one is to blame");
            };
            assert_eq!(next_attempt, 3, "not counted");
            assert_eq!(
                delay.is_zero(),
                before == 0,
                "a worker may die once for any reason"
            );
            assert!(delay <= LONGEST_APART);
        }
        let common = |before| Loss {
            most_of_others: before - 1,
            ..together(before)
        };
        assert!(!is_poisoned(&lost(&dead(1, &common(4)), LIMIT, 1.0)));
        assert!(is_poisoned(&lost(&dead(1, &common(5)), LIMIT, 1.0)));
    }

    /// One task kills its worker as soon as it runs; three others take long. All start whenever they are due, in one
    /// worker.
    #[test]
    fn only_the_task_that_kills_workers_is_quarantined() {
        use rand::{Rng as _, SeedableRng as _};
        const KILLER: usize = 0;
        for seed in 0..200 {
            let mut random = rand::rngs::StdRng::seed_from_u64(seed);
            let mut losses = [Loss::default(); 4];
            let mut due = [Duration::ZERO; 4];
            for crash in 1.. {
                assert!(crash < 50, "seed {seed}: the killer goes on");
                let now = due[KILLER];
                let in_hand: Vec<usize> = (0..4).filter(|n| due[*n] <= now).collect();
                let before: Vec<i32> = losses.iter().map(Loss::before).collect();
                let mut ends = Vec::new();
                for n in &in_hand {
                    let others = in_hand.iter().filter(|other| *other != n);
                    losses[*n].most_of_others = others.map(|other| before[*other]).max().unwrap_or(0);
                    losses[*n].others = i32::try_from(in_hand.len() - 1).expect("few");
                    let end = lost(&dead(1, &losses[*n]), LIMIT, random.random()).disposition;
                    if in_hand.len() == 1 {
                        losses[*n].alone_before += 1;
                    } else {
                        losses[*n].in_company_before += 1;
                    }
                    ends.push((*n, end));
                }
                let mut quarantined = false;
                for (n, end) in ends {
                    match end {
                        Disposition::Retry { delay, .. } => due[n] = now + Duration::from_secs(17) + delay,
                        _ if n == KILLER => quarantined = true,
                        end => panic!("seed {seed}: an innocent task ended as {end:?}"),
                    }
                }
                if quarantined {
                    break;
                }
            }
        }
    }

    #[test]
    fn nobody_is_to_blame_for_an_outage() {
        let verdict = given_up(&dead(3, &Loss::default()));
        assert_eq!(verdict.lost_with, None);
        assert!(matches!(
            verdict.disposition,
            Disposition::Retry {
                outcome: Outcome::Released,
                next_attempt: 3,
                ..
            }
        ));
    }

    #[test]
    fn a_task_that_is_handed_back_again_and_again_waits_longer_every_time() {
        let delay = |lease_token, attempt| {
            let mut lease = lease(attempt);
            lease.key.token = LeaseToken(lease_token);
            match not_accepted(&lease, "w").disposition {
                Disposition::Retry { delay, .. } => delay,
                end => panic!("{end:?}"),
            }
        };
        assert_eq!([delay(1, 1), delay(2, 1), delay(9, 8)], [Duration::ZERO; 3]);
        assert_eq!([delay(3, 1), delay(4, 1)], [FIRST_HAND_BACK, FIRST_HAND_BACK * 2]);
        assert_eq!(delay(i32::MAX, 1), LONGEST_HAND_BACK);
    }

    #[test]
    fn a_run_over_time_counts_as_timed_out_unless_it_succeeded() {
        let over = |ending| reported(&lease(1), "w", ending, TimedOut::Yes, 1.0).disposition;
        let cancelled = ReportedOutcome::Cancelled {
            message: String::new(),
        };
        assert!(matches!(
            over(cancelled),
            Disposition::Retry {
                outcome: Outcome::TimedOut,
                next_attempt: 2,
                ..
            }
        ));
        assert!(matches!(
            over(failed(true, None)),
            Disposition::Retry {
                outcome: Outcome::TimedOut,
                ..
            }
        ));
        assert!(matches!(
            over(ReportedOutcome::Succeeded { result: "{}".into() }),
            Disposition::Succeed { .. }
        ));
        assert!(matches!(
            overdue(&lease(3), "w", 0.0).disposition,
            Disposition::End {
                outcome: Outcome::TimedOut,
                ..
            }
        ));
    }
}
