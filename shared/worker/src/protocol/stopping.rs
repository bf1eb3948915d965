//! Stopping: let running tasks finish, hand back the rest, say goodbye. Each step has a time limit.

use std::time::{Duration, Instant};

use tasklease_proto::v1::{Goodbye, report_progress_request};

use super::actor::Actor;

/// How long code may take to stop once it was told to.
const MAKE_ROOM: Duration = Duration::from_secs(2);
/// How long the last reports may take to be acknowledged.
const LAST_REPORTS: Duration = Duration::from_secs(5);
/// The same when the worker must leave now.
const LAST_REPORTS_HARD: Duration = Duration::from_secs(1);
/// How long the goodbye may take to be acknowledged.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long all steps after the grace period take at most.
pub(crate) const TELL_ALL: Duration = Duration::from_secs(10);

/// How quickly to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// Let running tasks finish.
    Soft,
    /// Hand everything back now.
    Hard,
}

/// How far the stop has come.
#[derive(Debug, Default)]
pub(super) struct Stopping {
    step: Step,
    asked: Option<Urgency>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// No stop was requested.
    #[default]
    Working,
    /// Running tasks may finish.
    Finishing { until: Instant },
    /// Running code was told to stop.
    MakingRoom { until: Instant },
    /// Nothing runs; the last reports are under way.
    Reporting { until: Instant },
    /// Goodbye was said.
    Leaving { until: Instant, goodbye: u64 },
    /// Nothing is left to do.
    Done,
}

impl Stopping {
    /// True unless the same was requested before.
    pub(super) fn listens_to(&self, urgency: Urgency) -> bool {
        self.asked < Some(urgency)
    }

    pub(super) fn is_requested(&self) -> bool {
        self.asked.is_some()
    }

    pub(super) fn next_wake(&self) -> Option<Instant> {
        match self.step {
            Step::Working | Step::Done => None,
            Step::Finishing { until } | Step::MakingRoom { until } => Some(until),
            Step::Reporting { until } | Step::Leaving { until, .. } => Some(until),
        }
    }

    /// An acknowledgement has come; perhaps that of the goodbye.
    pub(super) fn acknowledged(&mut self, sequence: u64) {
        if matches!(self.step, Step::Leaving { goodbye, .. } if goodbye == sequence) {
            self.step = Step::Done;
        }
    }

    /// The scheduler has ended the session, which also answers a goodbye.
    pub(super) fn session_ended(&mut self) {
        if matches!(self.step, Step::Leaving { .. }) {
            self.step = Step::Done;
        }
    }
}

impl Actor {
    pub(super) fn stop(&mut self, urgency: Urgency, now: Instant) {
        self.stopping.asked = Some(urgency);
        self.launcher.tell_draining();
        if self
            .session
            .as_ref()
            .is_some_and(|session| !session.heartbeats.is_trusted())
        {
            self.lose_session("the worker stops before a scheduler went on with it", now);
        }
        // Ends the open credit; leases that are on their way still arrive and are handed back.
        self.claim.finish_sending();
        self.hello_at = None;
        self.deferred.clear();
        match urgency {
            Urgency::Soft => {
                let until = now + self.settings.grace;
                tracing::info!(running = self.leases.running(), "stopping: taking no more tasks");
                self.stopping.step = Step::Finishing { until };
            }
            Urgency::Hard => {
                self.hand_back_all(now);
                let until = match self.stopping.step {
                    Step::Reporting { until } | Step::Leaving { until, .. } => {
                        until.min(now + LAST_REPORTS_HARD)
                    }
                    _ => now + LAST_REPORTS_HARD,
                };
                if !matches!(self.stopping.step, Step::Leaving { .. } | Step::Done) {
                    self.stopping.step = Step::Reporting { until };
                }
            }
        }
    }

    /// Takes the next step if the one before is done or out of time.
    pub(super) fn advance_stopping(&mut self, now: Instant) {
        let idle = self.leases.running() == 0;
        match self.stopping.step {
            Step::Working | Step::Leaving { .. } | Step::Done => {}
            Step::Finishing { .. } | Step::MakingRoom { .. } if idle => {
                self.stopping.step = Step::Reporting {
                    until: now + LAST_REPORTS,
                };
            }
            Step::Finishing { until } if until <= now => {
                tracing::warn!(
                    running = self.leases.running(),
                    "grace over: telling tasks to make room"
                );
                self.leases.release_all();
                self.stopping.step = Step::MakingRoom {
                    until: now + MAKE_ROOM,
                };
            }
            Step::MakingRoom { until } if until <= now => {
                self.hand_back_all(now);
                self.stopping.step = Step::Reporting {
                    until: now + LAST_REPORTS,
                };
            }
            Step::Finishing { .. } | Step::MakingRoom { .. } | Step::Reporting { .. } => {}
        }
        if let Step::Reporting { until } = self.stopping.step {
            let told_all = self.leases.is_empty() && self.outbox.is_empty();
            if self.session.is_none() {
                self.stopping.step = Step::Done;
            } else if (told_all && self.report.is_up()) || until <= now {
                self.say_goodbye(now);
            }
        }
    }

    /// Ends all running code with the outcome that follows from what it was told, mostly `released`.
    fn hand_back_all(&mut self, now: Instant) {
        self.catch_up(now);
        self.leases.release_all();
        for key in self.leases.running_keys() {
            self.drop_code(key);
        }
    }

    /// Whatever was not acknowledged is handed back by the goodbye itself.
    fn say_goodbye(&mut self, now: Instant) {
        if !self.report.is_up() {
            tracing::warn!("no scheduler to say goodbye to; the leases run out by themselves");
            self.stopping.step = Step::Done;
            return;
        }
        let goodbye = self.next_sequence();
        self.say(goodbye, report_progress_request::Message::Goodbye(Goodbye {}));
        self.stopping.step = Step::Leaving {
            until: now + FAREWELL,
            goodbye,
        };
    }

    /// True once the worker may leave.
    pub(super) fn stopping_is_done(&self, now: Instant) -> bool {
        match self.stopping.step {
            Step::Done => true,
            // If the scheduler closes the report stream after the goodbye, it has received it.
            Step::Leaving { until, .. } => until <= now || !self.report.is_up(),
            _ => false,
        }
    }
}
