//! Opening and closing sessions.

use std::collections::HashSet;

use tokio::sync::mpsc;
use uuid::Uuid;

use super::Engine;
use crate::{
    domain::{
        error::Error,
        ids::{LaneId, LeaseKey, SessionId, TaskId},
        name::{Namespace, TaskType},
        queue::QueueKey,
        session::WorkerProfile,
        verdict,
    },
    engine::{
        dispatch::local_sessions::{ClaimPush, Generation, ReportPush, Serves},
        writers::heartbeats::Alive,
    },
};

/// A ClaimTask stream that is attached to its session.
pub struct Opened {
    /// The session.
    pub session: SessionId,
    /// True if it was alive before.
    pub resumed: bool,
    /// Which of its streams this is.
    pub generation: Generation,
    /// What to send.
    pub tasks: mpsc::UnboundedReceiver<ClaimPush>,
}

impl Engine {
    /// Opens a session, or goes on with one, for a ClaimTask stream.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn open_claim(
        &self,
        resume: Option<SessionId>,
        profile: &WorkerProfile,
        held: &HashSet<LeaseKey>,
    ) -> Result<Opened, Error> {
        let parts = &self.parts;
        let serves = Serves {
            namespace: Namespace::default(),
            queues: profile.queues.iter().cloned().collect(),
            task_types: profile.task_types.iter().cloned().collect(),
        };
        let lanes = parts.lanes.served(&serves).await?;
        let resumed = match resume {
            Some(id) => {
                parts
                    .db
                    .resume_session(id, &profile.incarnation, &parts.name, parts.timing.lease)
                    .await?
            }
            None => false,
        };
        let (session, leases) = match resume {
            Some(id) if resumed => (id, parts.db.session_leases(&[id], None).await?),
            _ => {
                let id = SessionId(Uuid::new_v4());
                parts
                    .db
                    .open_session(id, profile, &parts.name, parts.timing.lease)
                    .await?;
                (id, Vec::new())
            }
        };
        let leases = leases.into_iter().map(|(_, lease)| lease).collect();
        let (generation, tasks) =
            parts
                .local_sessions
                .attach_claim(session, &profile.name, serves.clone(), lanes, leases, held);
        // Lanes that were made since the names were looked up.
        for lane in parts.lanes.served_and_known(&serves) {
            parts.local_sessions.serve_also(session, lane);
        }
        if resumed {
            // A claim that another replica had under way when the stream broke may be committed only now.
            self.parts.local_sessions.reconcile_later(session);
        }
        tracing::info!(%session, worker = profile.name, resumed, slots = profile.slots, "worker connected");
        Ok(Opened {
            session,
            resumed,
            generation,
            tasks,
        })
    }

    /// Attaches a ReportProgress stream to its session; `held` are the leases that the worker says it holds.
    ///
    /// # Errors
    /// A session that is over, or a database that cannot be reached.
    pub async fn open_report(
        &self,
        session: SessionId,
        held: Option<&HashSet<LeaseKey>>,
    ) -> Result<(Generation, mpsc::Receiver<ReportPush>), Error> {
        let parts = &self.parts;
        let worker = parts
            .db
            .session_worker(session)
            .await?
            .ok_or(Error::SessionOver)?;
        let leases = parts.db.session_leases(&[session], None).await?;
        let leases = leases.into_iter().map(|(_, lease)| lease).collect();
        let attached = parts.local_sessions.attach_report(session, &worker, leases, held);
        parts.wake.recheck_cancels();
        Ok(attached)
    }

    /// Detaches a stream of a session; the session goes on while heartbeats come.
    pub fn detach(&self, session: SessionId, generation: Generation) {
        self.parts.local_sessions.detach(session, generation);
    }

    /// Adds credit that a worker gave on its ClaimTask stream.
    pub fn add_credit(&self, session: SessionId, generation: Generation, tasks: u32) {
        self.parts.local_sessions.add_credit(session, generation, tasks);
    }

    /// Queue and task type of a lane that a session takes from.
    pub fn lane_name(&self, lane: LaneId) -> Option<(QueueKey, TaskType)> {
        self.parts.lanes.name(lane)
    }

    /// Compares what a worker says it holds with what this replica knows, at once: what it reports later counts for
    /// more. Returns what is not known here, for [`Engine::tell_unknown`].
    pub fn compare_leases(&self, session: SessionId, held: &HashSet<LeaseKey>) -> Vec<LeaseKey> {
        self.parts.local_sessions.compare(session, held)
    }

    /// Looks for leases that a worker holds and that are not known here, and tells it which are not its own.
    ///
    /// # Errors
    /// A database that cannot be reached; a later heartbeat names them again.
    pub async fn tell_unknown(&self, session: SessionId, mut unknown: Vec<LeaseKey>) -> Result<(), Error> {
        let parts = &self.parts;
        if unknown.is_empty() {
            return Ok(());
        }
        let tasks: Vec<TaskId> = unknown.iter().map(|key| key.task).collect();
        parts
            .local_sessions
            .learn(parts.db.session_leases(&[session], Some(&tasks)).await?);
        parts.local_sessions.accept(session, &unknown);
        let holds = parts.local_sessions.holds(session, unknown.iter().copied());
        let mut holds = holds.into_iter();
        unknown.retain(|_| holds.next() == Some(false));
        // What has ended is answered with its report.
        let ended = parts.db.ended_runs(&unknown).await?;
        unknown.retain(|key| ended.iter().all(|run| run.key != *key));
        parts.local_sessions.push_stale(session, unknown);
        Ok(())
    }

    /// Extends a session's lease.
    ///
    /// # Errors
    /// [`Error::SessionOver`], or a database that cannot be reached.
    pub async fn heartbeat(&self, session: SessionId) -> Result<(), Error> {
        match self.parts.heartbeats.extend(session).await? {
            Alive::Yes => Ok(()),
            Alive::No => {
                self.parts
                    .local_sessions
                    .end_session(session, "it was over before the heartbeat came");
                Err(Error::SessionOver)
            }
        }
    }

    /// Ends a session whose worker says goodbye; its leases are handed back, uncounted.
    ///
    /// # Errors
    /// A database that cannot be reached.
    pub async fn goodbye(&self, session: SessionId) -> Result<(), Error> {
        let ended = self
            .parts
            .db
            .end_session(session, |dead| verdict::handed_back(dead, "the worker stopped"))
            .await?;
        self.parts
            .local_sessions
            .end_session(session, "the worker said goodbye");
        self.parts.settler.announce(&ended);
        tracing::info!(%session, handed_back = ended.committed.len(), "worker said goodbye");
        Ok(())
    }
}
