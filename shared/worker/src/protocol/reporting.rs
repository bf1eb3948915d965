//! The ReportProgress stream: heartbeats, reports, acknowledgements, and cancel requests.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tasklease_proto::{
    convert::duration_from_wire,
    v1::{
        Acknowledgement, CancelNotice, Heartbeat, HeldLeases, ReportBatch, ReportOpen, ReportProgressRequest,
        ReportProgressResponse, report::Body, report_progress_request, report_progress_response,
    },
};
use tonic::Code;

use crate::{
    lease_key::LeaseKey,
    outcome::{self, Draining},
    task::TaskResult,
    task_error::TaskError,
};

use super::{
    actor::Actor,
    claiming::wait_of,
    event::Incoming,
    kept_stream::{Role, Target},
    leases::Cancelled,
    outbox::{Blame, EntryId, Kind},
    stream::StreamId,
};

/// Batches under way at once: while one is being committed, the next is sent. More would only make
/// the batches smaller.
const MAX_BATCHES: usize = 2;
/// The grace of a cancel request that names none.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);
/// The longest grace that is waited for.
const LONGEST_GRACE: Duration = Duration::from_secs(3_600);

impl Actor {
    pub(super) fn on_report(
        &mut self,
        id: StreamId,
        incoming: Incoming<ReportProgressResponse>,
        now: Instant,
    ) {
        let role = self.report.role(id);
        match (role, incoming) {
            (Role::Old, _) => {}
            (_, Incoming::Connected(picked)) => {
                let Some(session_id) = self.session.as_ref().map(|session| session.id.clone()) else {
                    return;
                };
                let open = report_progress_request::Message::Open(ReportOpen {
                    session_id,
                    held: Some(HeldLeases {
                        leases: self.leases.held(),
                    }),
                });
                let sequence = self.next_sequence();
                if let Some(stream) = self.report.connected(picked) {
                    stream.send(ReportProgressRequest {
                        sequence,
                        message: Some(open),
                    });
                }
            }
            (_, Incoming::Message(message)) => match message.message {
                Some(report_progress_response::Message::Opened(_)) if role == Role::Next => {
                    self.report.answered();
                    self.outbox.resend_all();
                    if let Some(session) = &mut self.session {
                        session.heartbeats.stream_opened(now);
                    }
                }
                Some(report_progress_response::Message::Acknowledgement(acknowledgement)) => {
                    self.on_acknowledgement(acknowledgement, now);
                }
                Some(report_progress_response::Message::Cancels(batch)) => {
                    for notice in batch.cancels {
                        self.on_cancel(&notice, now);
                    }
                }
                Some(report_progress_response::Message::Ended(ended)) => {
                    self.stopping.session_ended();
                    self.lose_session(&format!("the scheduler ended it: {}", ended.reason), now);
                }
                Some(report_progress_response::Message::Drain(drain)) => {
                    if let Some(picked) = self.report.picked().cloned() {
                        self.connector.retire(&picked);
                        // Where the claim stream is, if that has moved already.
                        let moved = self
                            .claim
                            .picked()
                            .filter(|claim| !claim.same_connection(&picked));
                        let target = moved.cloned().map_or(Target::Other(picked), Target::Same);
                        self.report.renew(now + wait_of(&drain), target);
                    }
                }
                Some(report_progress_response::Message::Opened(_)) | None => {}
            },
            (_, Incoming::Closed(status)) => self.report_closed(id, status, now),
        }
    }

    fn report_closed(&mut self, id: StreamId, status: Option<tonic::Status>, now: Instant) {
        match &status {
            Some(status) => {
                tracing::warn!(code = ?status.code(), error = status.message(), "report stream ended")
            }
            None => tracing::debug!("report stream closed"),
        }
        let is_over =
            |status: &tonic::Status| matches!(status.code(), Code::NotFound | Code::FailedPrecondition);
        if status.as_ref().is_some_and(is_over) {
            self.stopping.session_ended();
            self.lose_session("the scheduler does not know it any more", now);
            return;
        }
        if self.report.closed(id, now, rand::random()) == Role::Current {
            if let Some(session) = &mut self.session {
                session.heartbeats.stream_lost();
            }
            if let Some(status) = &status {
                self.blame_largest_report(status);
            }
        }
    }

    /// Gives up a report that breaks every stream that it is sent on, so that others can pass.
    fn blame_largest_report(&mut self, status: &tonic::Status) {
        let blame = match status.code() {
            // What a server answers to a message that is larger than it accepts.
            Code::OutOfRange => Blame::Certain,
            _ => Blame::Suspicion,
        };
        let replaced = self.outbox.stream_broke(blame, |bytes| {
            let message = format!(
                "the result cannot be reported: the scheduler does not take a message of {bytes} bytes ({})",
                status.message()
            );
            let error = TaskError::new("RESULT_TOO_LARGE", message);
            outcome::failed(&match blame {
                Blame::Certain => error.non_retryable(),
                Blame::Suspicion => error,
            })
        });
        if let Some(key) = replaced {
            tracing::error!(lease = %key, "a result is too large to be reported, the run fails");
        }
    }

    fn on_acknowledgement(&mut self, acknowledgement: Acknowledgement, now: Instant) {
        let stale: HashSet<LeaseKey> = acknowledgement
            .stale
            .iter()
            .filter_map(LeaseKey::from_wire)
            .collect();
        if !stale.is_empty() {
            self.outbox.forget(&stale);
        }
        for key in stale {
            tracing::warn!(lease = %key, "lease lost");
            if let Some(code) = self.leases.remove(key) {
                self.stop_lost_code(code, "the scheduler has given it up", now);
            }
        }
        let mut refused: HashMap<LeaseKey, String> = HashMap::new();
        for report in acknowledgement.refused {
            if let Some(lease) = &report.lease {
                tracing::error!(task_id = lease.task_id, error = report.message, "report refused");
                refused.extend(LeaseKey::from_wire(lease).map(|key| (key, report.message)));
            }
        }
        for sequence in acknowledgement.sequences {
            self.stopping.acknowledged(sequence);
            if let Some(session) = &mut self.session {
                session.heartbeats.acknowledged(sequence);
            }
            for (key, kind) in self.outbox.acknowledge(sequence) {
                if kind == Kind::Outcome {
                    self.settled(key, refused.get(&key));
                }
            }
        }
    }

    /// Handles the answer to an outcome: stored, or refused. A refused outcome is replaced by a failure,
    /// and a refused failure by handing the task back, so that the task does not stay with this worker.
    fn settled(&mut self, key: LeaseKey, refused: Option<&String>) {
        // Nearly always empty, and checked for every run.
        let earlier = if self.refusals.is_empty() {
            0
        } else {
            self.refusals.remove(&key).unwrap_or(0)
        };
        let instead = match (refused, earlier) {
            (Some(why), 0) => {
                let error = TaskError::new("RESULT_REFUSED", why.as_str()).non_retryable();
                Some(outcome::failed(&error))
            }
            (Some(_), 1) => Some(outcome::released("the scheduler refused how the run ended")),
            (Some(_), _) | (None, _) => None,
        };
        match instead {
            Some(outcome) => {
                self.refusals.insert(key, earlier + 1);
                self.outbox.push(key, outcome);
            }
            None => {
                self.leases.remove(key);
            }
        }
    }

    fn on_cancel(&mut self, notice: &CancelNotice, now: Instant) {
        let Some(key) = notice.lease.as_ref().and_then(LeaseKey::from_wire) else {
            return;
        };
        let grace = notice
            .grace
            .as_ref()
            .and_then(duration_from_wire)
            .unwrap_or(DEFAULT_GRACE);
        let met = self
            .leases
            .cancel(key, &notice.reason, now + grace.min(LONGEST_GRACE));
        match met {
            Cancelled::Told => tracing::info!(lease = %key, reason = notice.reason, "cancel requested"),
            Cancelled::Ended | Cancelled::Unknown => {
                tracing::debug!(lease = %key, ?met, "cancel request met no running code");
            }
        }
    }

    pub(super) fn on_returned(&mut self, key: LeaseKey, result: TaskResult<Bytes>) {
        if let Some(ended) = self.leases.end(key) {
            let draining = if self.launcher.is_draining() {
                Draining::Yes
            } else {
                Draining::No
            };
            let outcome = outcome::of_return(result, &ended.told, draining);
            self.push_end(key, ended.events, ended.accepted, outcome);
        }
    }

    /// Reports how a run ended, after its last events. An outcome implies that the lease was accepted, so an acceptance
    /// that has not been sent yet is dropped.
    pub(super) fn push_end(
        &mut self,
        key: LeaseKey,
        body: Vec<Body>,
        accepted: Option<EntryId>,
        outcome: Body,
    ) {
        for body in body {
            self.outbox.push(key, body);
        }
        match accepted {
            Some(accepted) => self.outbox.push_instead(accepted, key, outcome),
            None => {
                self.outbox.push(key, outcome);
            }
        }
    }

    /// Tells code that has reached its run timeout to stop. The scheduler does the same, but may not be
    /// able to reach the worker.
    pub(super) fn time_out_runs(&mut self, now: Instant) {
        for key in self.leases.time_out(now, now + DEFAULT_GRACE) {
            tracing::info!(lease = %key, "run timeout over, telling the code to stop");
        }
    }

    /// Drops code that has not stopped within its grace.
    pub(super) fn end_overdue_runs(&mut self, now: Instant) {
        for key in self.leases.grace_over(now) {
            tracing::warn!(lease = %key, "code did not stop within its grace, dropping it");
            self.drop_code(key);
        }
    }

    /// Ends a run whose code still runs, and reports the outcome that follows from what the code was told.
    pub(super) fn drop_code(&mut self, key: LeaseKey) {
        if let Some(ended) = self.leases.end(key) {
            ended.code.abort.abort();
            let outcome = outcome::of_dropped(&ended.told);
            self.push_end(key, ended.events, ended.accepted, outcome);
        }
    }

    /// Looks for another replica when a heartbeat is not answered, early enough before the fence.
    pub(super) fn check_overdue(&mut self, now: Instant) {
        let overdue = self
            .session
            .as_ref()
            .and_then(|session| session.heartbeats.overdue_at());
        if self.report.is_renewing() || overdue.is_none_or(|at| at > now) {
            return;
        }
        if let Some(picked) = self.report.picked().cloned() {
            tracing::warn!(scheduler = %picked.socket(), "heartbeat unanswered, trying another connection");
            self.connector.retire(&picked);
            if !self.stopping.is_requested() {
                self.claim.renew(now, Target::Other(picked.clone()));
            }
            self.report.renew(now, Target::Other(picked));
        }
    }

    /// Sends what is due: a heartbeat, reports, credit.
    pub(super) fn flush(&mut self, now: Instant) {
        if self.report.is_up() {
            if self
                .session
                .as_ref()
                .is_some_and(|session| session.heartbeats.is_due(now))
            {
                let sequence = self.next_sequence();
                let names_leases = self
                    .session
                    .as_mut()
                    .is_some_and(|session| session.heartbeats.names_leases());
                let held = names_leases.then(|| HeldLeases {
                    leases: self.leases.held(),
                });
                self.say(
                    sequence,
                    report_progress_request::Message::Heartbeat(Heartbeat { held }),
                );
                if let Some(session) = &mut self.session {
                    session.heartbeats.sent(sequence, now);
                }
            }
            self.send_reports(now);
        }
        self.offer_slots();
    }

    /// Sends batches while few are under way; what comes meanwhile makes the next one larger.
    fn send_reports(&mut self, now: Instant) {
        while self.outbox.under_way() < MAX_BATCHES {
            if !self.outbox.has_unsent() {
                // Events are fetched only when they can be sent, so what waits is bounded per run.
                for key in std::mem::take(&mut self.with_events) {
                    let fetched = self.leases.fetch_events(key, now);
                    for body in fetched.events {
                        self.outbox.push(key, body);
                    }
                    self.delayed_events.extend(fetched.again_at.map(|at| (at, key)));
                }
            }
            let sequence = self.last_sequence + 1;
            let Some(reports) = self.outbox.next_batch(sequence) else {
                return;
            };
            self.last_sequence = sequence;
            self.say(
                sequence,
                report_progress_request::Message::Reports(ReportBatch { reports }),
            );
        }
    }

    pub(super) fn say(&self, sequence: u64, message: report_progress_request::Message) {
        self.report.send(ReportProgressRequest {
            sequence,
            message: Some(message),
        });
    }
}
