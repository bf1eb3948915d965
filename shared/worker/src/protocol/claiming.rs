//! The ClaimTask stream: the session, leases, and credit.

use std::time::{Duration, Instant};

use tasklease_client::ClientError;
use tasklease_proto::{
    convert::duration_from_wire,
    v1::{
        Accepted, ClaimTaskRequest, ClaimTaskResponse, Credit as CreditMessage, Drain, LeasedTask,
        SessionOpened, WorkerHello, claim_task_request, claim_task_response, report::Body,
    },
};
use tonic::Code;

use crate::{lease_key::LeaseKey, outcome, run_code::Launch, task_error::TaskError};

use super::{
    actor::{Actor, Session},
    event::Incoming,
    heartbeats::Heartbeats,
    kept_stream::{Role, Target},
    stream::StreamId,
};

/// Used where a scheduler leaves a duration out.
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(5);
const DEFAULT_LEASE: Duration = Duration::from_secs(15);
/// The longest that a drain may ask to wait.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// With this many reports or bytes waiting for acknowledgement, no more tasks are asked for.
const MAX_WAITING_REPORTS: usize = 50_000;
const MAX_WAITING_BYTES: usize = 64 << 20;

impl Actor {
    pub(super) fn on_claim(&mut self, id: StreamId, incoming: Incoming<ClaimTaskResponse>, now: Instant) {
        let role = self.claim.role(id);
        match (role, incoming) {
            (Role::Old, _) => {}
            (_, Incoming::Connected(picked)) => {
                let hello = self.hello();
                self.hello_at = Some(now);
                if let Some(stream) = self.claim.connected(picked) {
                    stream.send(hello);
                }
            }
            (Role::Next, Incoming::Message(message)) => match message.message {
                Some(claim_task_response::Message::Session(session)) => self.on_session(session, now),
                _ => self.claim_closed(id, Some(tonic::Status::internal("expected a session first")), now),
            },
            (Role::Current, Incoming::Message(message)) => match message.message {
                Some(claim_task_response::Message::Leases(batch)) if self.hello_at.is_some() => {
                    self.deferred.extend(batch.tasks);
                }
                Some(claim_task_response::Message::Leases(batch)) => {
                    self.on_leases(batch.tasks, now);
                }
                Some(claim_task_response::Message::Drain(drain)) => {
                    if !self.stopping.is_requested()
                        && let Some(picked) = self.claim.picked().cloned()
                    {
                        self.connector.retire(&picked);
                        self.claim.renew(now + wait_of(&drain), Target::Other(picked));
                    }
                }
                Some(claim_task_response::Message::Ended(ended)) => {
                    self.stopping.session_ended();
                    self.lose_session(&format!("the scheduler ended it: {}", ended.reason), now);
                }
                Some(
                    claim_task_response::Message::Session(_) | claim_task_response::Message::KeepAlive(_),
                )
                | None => {}
            },
            (_, Incoming::Closed(status)) => self.claim_closed(id, status, now),
        }
    }

    fn hello(&self) -> ClaimTaskRequest {
        let session_id = self.session.as_ref().map(|session| session.id.clone());
        let hello = WorkerHello {
            held: if session_id.is_some() {
                self.leases.held()
            } else {
                Vec::new()
            },
            session_id: session_id.unwrap_or_default(),
            name: self.settings.name.clone(),
            incarnation: self.incarnation.clone(),
            task_types: self.launcher.task_types(),
            queues: self.settings.queues.clone(),
            labels: self.settings.labels.iter().cloned().collect(),
            slots: i32::try_from(self.credit.slots()).unwrap_or(i32::MAX),
        };
        ClaimTaskRequest {
            message: Some(claim_task_request::Message::Hello(hello)),
        }
    }

    fn on_session(&mut self, opened: SessionOpened, now: Instant) {
        let goes_on = opened.resumed
            && self
                .session
                .as_ref()
                .is_some_and(|session| session.id == opened.session_id);
        let hello_at = self.hello_at.take().unwrap_or(now);
        self.deferred.clear();
        self.claim.answered();
        self.credit.stream_replaced();
        if goes_on {
            tracing::info!(session = opened.session_id, "session goes on");
            self.go_on(hello_at, now);
            return;
        }
        if self.session.is_some() {
            // The new stream must survive the end of the old session.
            let claim = std::mem::take(&mut self.claim);
            self.lose_session("the scheduler has ended the session", now);
            self.claim = claim;
        }
        let duration = |wire: Option<prost_types::Duration>, default| {
            wire.as_ref()
                .and_then(duration_from_wire)
                .filter(|duration| !duration.is_zero())
                .unwrap_or(default)
        };
        let heartbeat = duration(opened.heartbeat_interval, DEFAULT_HEARTBEAT);
        let lease = duration(opened.lease_duration, DEFAULT_LEASE);
        let scheduler = self.claim.picked().map(|picked| picked.socket().to_string());
        tracing::info!(session = opened.session_id, scheduler, "session begins");
        self.session = Some(Session {
            id: opened.session_id,
            heartbeats: Heartbeats::new(heartbeat, lease, hello_at),
        });
        self.report.shut();
        self.open_report(now);
    }

    /// The session goes on, by a hello that was sent at `hello_at`.
    fn go_on(&mut self, hello_at: Instant, now: Instant) {
        let Some(session) = &mut self.session else {
            return;
        };
        let was_trusted = session.heartbeats.is_trusted();
        session.heartbeats.resumed(hello_at);
        if was_trusted {
            self.follow_claim_stream(now);
        } else {
            self.open_report(now);
        }
    }

    /// Opens the report stream at the replica of the claim stream.
    fn open_report(&mut self, now: Instant) {
        let target = self.claim.picked().cloned().map_or(Target::Any, Target::Same);
        self.report.renew(now, target);
    }

    /// Moves the report stream to the replica of the claim stream, which holds the worker's leases in
    /// memory.
    fn follow_claim_stream(&mut self, now: Instant) {
        if let (Some(claim), Some(report)) = (self.claim.picked(), self.report.picked())
            && !claim.same_connection(report)
        {
            let target = Target::Same(claim.clone());
            self.report.renew(now, target);
        }
    }

    fn claim_closed(&mut self, id: StreamId, status: Option<tonic::Status>, now: Instant) {
        let role = self.claim.role(id);
        if role == Role::Next
            && let Some(status) = &status
            && names_a_field(status)
        {
            // The worker would send the same hello again.
            self.refused = Some(status.message().to_owned());
            return;
        }
        match &status {
            Some(status) => {
                tracing::warn!(code = ?status.code(), error = status.message(), "claim stream ended")
            }
            None => tracing::debug!("claim stream closed"),
        }
        self.claim.closed(id, now, rand::random());
        match role {
            Role::Current => self.credit.stream_replaced(),
            Role::Next => {
                self.hello_at = None;
                let deferred = std::mem::take(&mut self.deferred);
                self.on_leases(deferred, now);
            }
            Role::Old => {}
        }
        if self.stopping.is_requested() {
            self.claim.plan_nothing();
        }
    }

    fn on_leases(&mut self, leases: Vec<LeasedTask>, now: Instant) {
        let launches: Vec<Launch> = leases
            .into_iter()
            .filter_map(|lease| self.on_lease(lease, now))
            .collect();
        self.launcher.start(launches);
    }

    /// Takes a lease and returns the code to start for it.
    fn on_lease(&mut self, lease: LeasedTask, now: Instant) -> Option<Launch> {
        self.credit.received();
        let Some(key) = LeaseKey::parse(&lease.task_id, lease.lease_token) else {
            // Nothing can be reported about it; the scheduler takes it back because it is not accepted.
            tracing::error!(task_id = lease.task_id, "leased a task whose id is no UUID");
            return None;
        };
        if self.leases.contains(key) {
            return None;
        }
        if self.stopping.is_requested() || !self.credit.has_room() {
            let why = if self.credit.has_room() {
                outcome::RELEASED
            } else {
                "the worker has no free slot"
            };
            self.leases.add_ended(key);
            self.outbox.push(key, outcome::released(why));
            return None;
        }
        let accepted = self.outbox.push(key, Body::Accepted(Accepted {}));
        if let Some(reason) = self.leases.take_early_cancel(key) {
            self.leases.add_ended(key);
            self.outbox
                .push_instead(accepted, key, outcome::cancelled(&reason));
            return None;
        }
        match self.launcher.prepare(key, lease, now) {
            Ok((code, launch)) => {
                self.credit.started();
                self.leases.add_running(key, code, accepted);
                Some(launch)
            }
            Err(lease) => {
                let task_type = lease.task_type;
                tracing::error!(lease = %key, task_type, "leased a task of a type that is not registered");
                let message = format!("this worker has no code for task type `{task_type}`");
                let error = TaskError::new("UNKNOWN_TASK_TYPE", message).non_retryable();
                self.leases.add_ended(key);
                self.outbox.push_instead(accepted, key, outcome::failed(&error));
                None
            }
        }
    }

    /// Asks for as many tasks as there are free slots that were not offered yet.
    pub(super) fn offer_slots(&mut self) {
        let is_swamped = self.outbox.len() > MAX_WAITING_REPORTS || self.outbox.bytes() > MAX_WAITING_BYTES;
        // Before the report stream is up, nothing could be accepted in time.
        let is_ready = self.claim.is_up() && self.report.is_up() && !self.stopping.is_requested();
        if is_ready
            && !is_swamped
            && let Some(tasks) = self.credit.top_up()
        {
            let credit = claim_task_request::Message::Credit(CreditMessage { tasks });
            self.claim.send(ClaimTaskRequest {
                message: Some(credit),
            });
        }
    }
}

/// True if a scheduler refuses what the hello says, rather than how or when it was said.
fn names_a_field(status: &tonic::Status) -> bool {
    status.code() == Code::InvalidArgument && !ClientError::from(status.clone()).violations().is_empty()
}

/// How long a drain asks to wait, with jitter so that not all workers reconnect at once.
pub(super) fn wait_of(drain: &Drain) -> Duration {
    let asked = drain
        .reconnect_after
        .as_ref()
        .and_then(duration_from_wire)
        .unwrap_or_default();
    asked.min(LONGEST_WAIT) + Duration::from_millis(50).mul_f64(rand::random())
}
