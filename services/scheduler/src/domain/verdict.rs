//! What becomes of a task when a run of it ends.

use std::{sync::Arc, time::Duration};

use super::{
    ids::{LaneId, LeaseKey},
    lease::Lease,
    limits,
    outcome::Outcome,
    report::{Ending, TaskError},
};

/// The end of a run, ready to be committed.
///
/// The database may still overrule it: a lease that ended before stays as it is, and an open
/// cancel request turns every verdict into CANCELLED.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Which lease ends.
    pub key: LeaseKey,
    /// The lane of its task.
    pub lane: LaneId,
    /// The number its run bears.
    pub attempt: i16,
    /// When it was leased, microseconds since 1970.
    pub started_us: i64,
    /// The worker's name.
    pub worker: Arc<str>,
    /// How it ends.
    pub end: End,
}

/// How a run ends, and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The task succeeded.
    Succeeded {
        /// The result, JSON text of one object.
        result: String,
    },
    /// The task ended otherwise.
    Final {
        /// How the run ended.
        outcome: Outcome,
        /// Why.
        error: TaskError,
    },
    /// The task goes on.
    Again {
        /// How the run ended.
        outcome: Outcome,
        /// Why.
        error: TaskError,
        /// What waits before the next run; zero puts the task straight to PENDING.
        delay: Duration,
        /// The number that the next run bears.
        next_attempt: i16,
    },
}

impl End {
    /// How the run ends.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Succeeded { .. } => Outcome::Succeeded,
            Self::Final { outcome, .. } | Self::Again { outcome, .. } => *outcome,
        }
    }
}

/// Decides about a run whose worker reported its end. `timed_out` says that the scheduler had asked
/// it to stop because its time was up; `jitter` is a random number of 0 to 1.
pub fn reported(
    lease: &Lease,
    worker: impl Into<Arc<str>>,
    ending: Ending,
    timed_out: TimedOut,
    jitter: f64,
) -> Verdict {
    let end = match ending {
        Ending::Succeeded { result } => End::Succeeded { result },
        Ending::Released { message } => again_uncounted(lease, TaskError::new("RELEASED", message)),
        Ending::Failed { .. } | Ending::Cancelled { .. } if timed_out == TimedOut::Yes => {
            counted(lease, Outcome::TimedOut, timeout_error(lease), None, jitter)
        }
        // The worker watches the time too, and may be first.
        Ending::Failed { error, .. } if lease.run_timeout.is_some() && error.kind == TIMED_OUT => {
            counted(lease, Outcome::TimedOut, error, None, jitter)
        }
        Ending::Failed {
            error,
            non_retryable: true,
            ..
        } => End::Final {
            outcome: Outcome::Failed,
            error,
        },
        Ending::Failed {
            error, retry_after, ..
        } => counted(lease, Outcome::Failed, error, retry_after, jitter),
        Ending::Cancelled { message } => End::Final {
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
    /// It had, and was told to stop.
    Yes,
    /// It had not.
    No,
}

/// Decides about a run that did not stop within the grace period after its time was up.
pub fn overdue(lease: &Lease, worker: impl Into<Arc<str>>, jitter: f64) -> Verdict {
    verdict(
        lease,
        worker,
        counted(lease, Outcome::TimedOut, timeout_error(lease), None, jitter),
    )
}

/// Decides about a lease that its session never accepted, or gave back without running it.
pub fn not_accepted(lease: &Lease, worker: impl Into<Arc<str>>) -> Verdict {
    let error = TaskError::new("NOT_ACCEPTED", "the worker did not accept the task in time");
    verdict(lease, worker, again_uncounted(lease, error))
}

/// Decides about a run whose worker died; `losses` is how often that happened to its task before.
///
/// A task that was in the hands of [`limits::LOSSES`] dying workers is quarantined: it may be what kills them.
pub fn lost(lease: &Lease, worker: impl Into<Arc<str>>, losses: i32) -> Verdict {
    let end = if losses + 1 >= limits::LOSSES {
        let message = format!("{} workers died with this task in hand", losses + 1);
        End::Final {
            outcome: Outcome::Lost,
            error: TaskError::new("POISONED", message),
        }
    } else {
        let error = TaskError::new("WORKER_LOST", "the worker stopped sending heartbeats");
        counted(lease, Outcome::Lost, error, Some(Duration::ZERO), 1.0)
    };
    verdict(lease, worker, end)
}

fn verdict(lease: &Lease, worker: impl Into<Arc<str>>, end: End) -> Verdict {
    Verdict {
        key: lease.key,
        lane: lease.lane,
        attempt: lease.attempt,
        started_us: lease.started_us,
        worker: worker.into(),
        end,
    }
}

fn timeout_error(lease: &Lease) -> TaskError {
    let limit = lease.run_timeout.unwrap_or_default().as_secs_f64();
    TaskError::new(
        TIMED_OUT,
        format!("the run took longer than its limit of {limit} s"),
    )
}

fn counted(
    lease: &Lease,
    outcome: Outcome,
    error: TaskError,
    retry_after: Option<Duration>,
    jitter: f64,
) -> End {
    if lease.attempt >= lease.max_attempts {
        return End::Final { outcome, error };
    }
    let delay = retry_after.unwrap_or_else(|| lease.backoff.delay(lease.attempt, jitter));
    End::Again {
        outcome,
        error,
        delay,
        next_attempt: lease.attempt + 1,
    }
}

fn again_uncounted(lease: &Lease, error: TaskError) -> End {
    End::Again {
        outcome: Outcome::Released,
        error,
        delay: Duration::ZERO,
        next_attempt: lease.attempt,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::{
        backoff::Backoff,
        ids::{GrantId, LaneId, LeaseNo, TaskId},
    };

    fn lease(attempt: i16) -> Lease {
        Lease {
            key: LeaseKey {
                task: TaskId(Uuid::from_u128(1)),
                no: LeaseNo(7),
            },
            grant: GrantId(1),
            lane: LaneId(1),
            attempt,
            max_attempts: 3,
            backoff: Backoff::default(),
            run_timeout: Some(Duration::from_secs(9)),
            started_us: 0,
        }
    }

    fn failed(non_retryable: bool, retry_after: Option<Duration>) -> Ending {
        Ending::Failed {
            error: TaskError::new("E", "m"),
            non_retryable,
            retry_after,
        }
    }

    fn end(attempt: i16, ending: Ending) -> End {
        reported(&lease(attempt), "w", ending, TimedOut::No, 1.0).end
    }

    #[test]
    fn a_failure_waits_for_the_back_off_and_counts() {
        let End::Again {
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
            End::Final {
                outcome: Outcome::Failed,
                ..
            }
        ));
        assert!(matches!(
            end(1, failed(true, None)),
            End::Final {
                outcome: Outcome::Failed,
                ..
            }
        ));
    }

    #[test]
    fn a_worker_may_say_when_to_try_again() {
        let wait = Duration::from_secs(77);
        assert!(matches!(end(1, failed(false, Some(wait))), End::Again { delay, .. } if delay == wait));
    }

    #[test]
    fn a_task_handed_back_runs_again_at_once_and_uncounted() {
        for end in [
            end(
                3,
                Ending::Released {
                    message: "draining".into(),
                },
            ),
            not_accepted(&lease(3), "w").end,
        ] {
            assert!(matches!(
                end,
                End::Again {
                    outcome: Outcome::Released,
                    delay: Duration::ZERO,
                    next_attempt: 3,
                    ..
                }
            ));
        }
    }

    #[test]
    fn a_run_that_its_worker_stopped_in_time_has_timed_out_too() {
        let ending = |non_retryable| Ending::Failed {
            error: TaskError::new("TIMED_OUT", "m"),
            non_retryable,
            retry_after: None,
        };
        assert_eq!(end(1, ending(false)).outcome(), Outcome::TimedOut);
        assert!(matches!(end(1, ending(true)), End::Again { next_attempt: 2, .. }));
        let unlimited = Lease {
            run_timeout: None,
            ..lease(1)
        };
        let verdict = reported(&unlimited, "w", ending(false), TimedOut::No, 1.0);
        assert_eq!(verdict.end.outcome(), Outcome::Failed, "no time was up");
    }

    #[test]
    fn a_lost_worker_counts_and_the_third_loss_quarantines() {
        assert!(matches!(
            lost(&lease(1), "w", 0).end,
            End::Again {
                outcome: Outcome::Lost,
                delay: Duration::ZERO,
                next_attempt: 2,
                ..
            }
        ));
        assert!(
            matches!(lost(&lease(3), "w", 0).end, End::Final { error, .. } if error.kind == "WORKER_LOST")
        );
        assert!(matches!(lost(&lease(1), "w", 2).end, End::Final { error, .. } if error.kind == "POISONED"));
    }

    #[test]
    fn a_run_over_time_counts_as_timed_out_unless_it_succeeded() {
        let over = |ending| reported(&lease(1), "w", ending, TimedOut::Yes, 1.0).end;
        let cancelled = Ending::Cancelled {
            message: String::new(),
        };
        assert!(matches!(
            over(cancelled),
            End::Again {
                outcome: Outcome::TimedOut,
                next_attempt: 2,
                ..
            }
        ));
        assert!(matches!(
            over(failed(true, None)),
            End::Again {
                outcome: Outcome::TimedOut,
                ..
            }
        ));
        assert!(matches!(
            over(Ending::Succeeded { result: "{}".into() }),
            End::Succeeded { .. }
        ));
        assert!(matches!(
            overdue(&lease(3), "w", 0.0).end,
            End::Final {
                outcome: Outcome::TimedOut,
                ..
            }
        ));
    }
}
