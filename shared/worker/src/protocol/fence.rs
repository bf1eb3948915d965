//! Stopping at the fence, and giving a session up.

use std::time::{Duration, Instant};

use crate::outcome::{self, Told};

use super::{
    actor::{Actor, TIDY_UP},
    kept_stream::Target,
};

/// Why code stops at the fence.
const UNCONFIRMED: &str = "no scheduler confirmed the session in time";

impl Actor {
    pub(super) fn check_fence(&mut self, now: Instant) {
        let session = self.session.as_ref();
        let fence_at = session.and_then(|session| session.heartbeats.fence_at());
        if fence_at.is_none_or(|at| at > now) {
            return;
        }
        if self.stopping.is_requested() {
            self.lose_session(UNCONFIRMED, now);
        } else {
            self.suspend_session(now);
        }
    }

    /// Stops the code of all leases, because other workers may run these tasks by now or soon. If no scheduler answered
    /// because all of them or their database were away, the session may still be alive, and the worker's reports then
    /// still count. So the worker keeps its reports, hands back what ran, and offers to go on with the session.
    fn suspend_session(&mut self, now: Instant) {
        let running = self.leases.running_keys();
        tracing::warn!(running = running.len(), "{UNCONFIRMED}; stopping its code");
        for key in running {
            if let Some(ended) = self.leases.end(key) {
                let outcome = match &ended.told {
                    Told::Nothing => outcome::released(UNCONFIRMED),
                    told => outcome::of_dropped(told),
                };
                self.push_end(key, ended.events, ended.accepted, outcome);
                self.stop_lost_code(ended.code, UNCONFIRMED, now);
            }
        }
        if let Some(session) = &mut self.session {
            session.heartbeats.lose_proof();
        }
        // What was handed back may start elsewhere at once, so the code must be gone by then.
        self.reconnect(now + TIDY_UP);
    }

    /// Handles the end of the session: its leases are lost, nothing may be reported about them, and the
    /// worker starts a new session.
    pub(super) fn lose_session(&mut self, reason: &str, now: Instant) {
        let code = self.leases.remove_all();
        tracing::warn!(reason, running = code.len(), "session lost");
        for code in code {
            self.stop_lost_code(code, reason, now);
        }
        self.session = None;
        self.outbox.clear();
        self.refusals.clear();
        self.reconnect(now);
    }

    /// Closes both streams; unless the worker stops, a claim stream is opened again at about this time.
    fn reconnect(&mut self, at: Instant) {
        self.with_events.clear();
        self.delayed_events.clear();
        self.hello_at = None;
        self.deferred.clear();
        self.report.shut();
        self.claim.shut();
        self.credit.stream_replaced();
        if !self.stopping.is_requested() {
            let jitter = Duration::from_millis(100).mul_f64(rand::random());
            self.claim.renew(at + jitter, Target::Any);
        }
    }
}
