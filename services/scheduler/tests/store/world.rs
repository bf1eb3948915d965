//! A migrated database with one lane, and the moves that tests make in it.

use std::{collections::BTreeMap, error::Error, time::Duration};

use bytes::{BufMut as _, BytesMut};
use jiff::Timestamp;
use tasklease_scheduler::{
    domain::{
        backoff::Backoff,
        ids::{GrantId, LaneId, LeaseKey, LeaseToken, SessionId, TaskId},
        lease::{DeadLease, Lease},
        name::{QueueName, TaskType},
        new_task::{NewTask, Start},
        outcome::Outcome,
        queue::QueueKey,
        report::{ReportedOutcome, TaskError},
        session::WorkerProfile,
        state::TaskState,
        task::{ProgressRecord, TaskRecord},
        task_spec::{TaskOptions, TaskSpec},
        verdict::{self, LossLimit, TimedOut, Verdict},
    },
    store::{
        CancelStep, Claim, Claimed, Database, DatabaseConfig, Detail, Fenced, Mark, SubmitBatch, migrate,
    },
};
use tokio_postgres::{
    Client,
    types::{IsNull, ToSql, Type, accepts, to_sql_checked},
};
use uuid::Uuid;

use crate::test_database::TestDatabase;

/// Long enough for the slowest machine; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The lease of a session that must not expire by itself.
pub(crate) const LEASE: Duration = Duration::from_secs(3_600);

pub(crate) struct World {
    pub(crate) db: Database,
    /// A plain connection, for looking and for what no statement of the store does.
    pub(crate) raw: Client,
    pub(crate) lane: LaneId,
    test: TestDatabase,
}

impl World {
    pub(crate) async fn new() -> Self {
        let test = TestDatabase::create().await;
        migrate(&config(&test)).await.unwrap();
        let db = Database::new(&config(&test)).unwrap();
        let raw = test.connect().await;
        let lane = db
            .ensure_lane(&in_default("default"), &task_type("t"))
            .await
            .unwrap()
            .expect("there is room for a lane")
            .id;
        Self { db, raw, lane, test }
    }

    pub(crate) async fn end(self) {
        self.test.drop().await;
    }

    /// Another plain connection, for a transaction that stays open.
    pub(crate) async fn connect(&self) -> Client {
        self.test.connect().await
    }

    /// Stores tasks in the lane; returns the time of the commit.
    pub(crate) async fn submit(&self, tasks: &[NewTask]) -> Timestamp {
        self.db.submit(&self.batch(tasks)).await.unwrap()
    }

    pub(crate) fn batch<'a>(&self, tasks: &'a [NewTask]) -> SubmitBatch<'a> {
        let mut batch = SubmitBatch::default();
        for task in tasks {
            batch.push(task, self.lane);
        }
        batch
    }

    /// A task that may run now.
    pub(crate) async fn ready_task(&self) -> TaskId {
        let task = new_task();
        self.submit(std::slice::from_ref(&task)).await;
        task.id
    }

    /// A task that waits for a time far away.
    pub(crate) async fn scheduled_task(&self) -> TaskId {
        let task = NewTask {
            start: Start::After(Duration::from_secs(3_600)),
            ..new_task()
        };
        self.submit(std::slice::from_ref(&task)).await;
        task.id
    }

    /// A task leased to a new session.
    pub(crate) async fn running_task(&self) -> (SessionId, Lease) {
        let id = self.ready_task().await;
        let session = self.session("w").await;
        let lease = self.claim(session, 1).await.remove(0);
        assert_eq!(lease.key.task, id, "no other task waited");
        (session, lease)
    }

    pub(crate) async fn session(&self, name: &str) -> SessionId {
        let id = SessionId(Uuid::new_v4());
        self.db
            .open_session(id, &profile(name), "replica", LEASE)
            .await
            .unwrap();
        id
    }

    /// Leases up to `most` tasks of the lane to a session, from the lane's start.
    pub(crate) async fn claim(&self, session: SessionId, most: usize) -> Vec<Lease> {
        self.claim_from(Mark::START, session, most).await.0
    }

    pub(crate) async fn claim_from(
        &self,
        mark: Mark,
        session: SessionId,
        most: usize,
    ) -> (Vec<Lease>, Option<Mark>) {
        let claimed = self.claim_with(self.lane, mark, vec![session; most]).await;
        let leases = claimed.tasks.into_iter().map(|task| task.lease).collect();
        (leases, claimed.found.last)
    }

    /// Leases tasks of a lane, one to each of the sessions.
    pub(crate) async fn claim_with(&self, lane: LaneId, mark: Mark, slots: Vec<SessionId>) -> Claimed {
        let claim = Claim {
            lane,
            mark,
            up_to: i16::MAX,
            bundles: slots.len() + 1,
            slots,
            grant: new_grant(),
        };
        self.db.claim(&claim).await.unwrap()
    }

    /// The leases of a session that go on.
    pub(crate) async fn leases(&self, session: SessionId) -> Vec<Lease> {
        let leases = self.db.session_leases(&[session], None).await.unwrap();
        leases.into_iter().map(|(_, known)| known.lease).collect()
    }

    /// Stores heartbeats that have just come; returns the sessions that go on.
    pub(crate) async fn heartbeat(&self, sessions: &[SessionId]) -> Vec<SessionId> {
        let sessions: Vec<_> = sessions.iter().map(|id| (*id, Duration::ZERO)).collect();
        self.db.heartbeat(&sessions, LEASE).await.unwrap()
    }

    /// A lane of a queue and a task type.
    pub(crate) async fn lane_of(&self, queue: &QueueName, task_type: &TaskType) -> LaneId {
        let lane = self
            .db
            .ensure_lane(&QueueKey::in_default(queue.clone()), task_type)
            .await
            .unwrap();
        lane.expect("there is room for a lane").id
    }

    pub(crate) async fn settle(&self, verdict: Verdict) -> Vec<Fenced> {
        self.db.settle(&[verdict], &[]).await.unwrap()
    }

    pub(crate) async fn cancel(&self, task: TaskId) -> CancelStep {
        self.db.cancel(task, "a reason", LEASE).await.unwrap()
    }

    /// What a cancel comes to that ends a waiting task in a bundle of its own.
    pub(crate) fn ended_alone(&self) -> CancelStep {
        CancelStep::Ended {
            lane: self.lane,
            others: None,
        }
    }

    pub(crate) async fn read(&self, task: TaskId) -> TaskRecord {
        self.db
            .read_task(task, Detail::Full)
            .await
            .unwrap()
            .expect("the task is stored")
    }

    pub(crate) async fn state(&self, task: TaskId) -> TaskState {
        self.read(task).await.standing.state()
    }

    /// The outcomes of a task's ended runs, oldest first.
    pub(crate) async fn outcomes(&self, task: TaskId) -> Vec<Outcome> {
        let runs = self.db.read_runs(task, 100).await.unwrap();
        runs.into_iter().map(|run| run.outcome).collect()
    }

    /// Makes sessions look as if no heartbeat had come for long.
    pub(crate) async fn let_expire(&self, session: SessionId) {
        self.execute(
            "UPDATE tasklease.session SET expires_at = now() - interval '1 s' WHERE id = $1",
            &[&session.0],
        )
        .await;
    }

    /// Makes a scheduled task due.
    pub(crate) async fn let_be_due(&self, task: TaskId) {
        self.execute(
            "UPDATE tasklease.scheduled SET due_at = now() - interval '1 s' WHERE task_id = $1",
            &[&task.0],
        )
        .await;
    }

    pub(crate) async fn execute(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) {
        self.raw.execute(sql, parameters).await.unwrap();
    }

    /// A number that a query answers with.
    pub(crate) async fn count(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> i64 {
        self.raw.query_one(sql, parameters).await.unwrap().get(0)
    }
}

/// How the store reaches a database, with as few connections as concurrency in tests needs.
pub(crate) fn config(test: &TestDatabase) -> DatabaseConfig {
    DatabaseConfig {
        url: test.url(),
        list_connections: 6,
        claim_connections: 3,
        statement_timeout: Duration::from_secs(30),
    }
}

pub(crate) fn queue(name: &str) -> QueueName {
    QueueName::parse(name, "queue").unwrap()
}

pub(crate) fn in_default(name: &str) -> QueueKey {
    QueueKey::in_default(queue(name))
}

pub(crate) fn task_type(name: &str) -> TaskType {
    TaskType::parse(name, "task_type").unwrap()
}

pub(crate) fn new_task() -> NewTask {
    NewTask {
        id: TaskId(Uuid::now_v7()),
        spec: TaskSpec {
            task_type: task_type("t"),
            queue: in_default("default"),
            priority: 0,
            max_attempts: 3,
            options: TaskOptions::default(),
        },
        payload: r#"{"n": 1}"#.into(),
        start: Start::Now,
    }
}

pub(crate) fn with_priority(priority: i16) -> NewTask {
    let mut task = new_task();
    task.spec.priority = priority;
    task
}

pub(crate) fn profile(name: &str) -> WorkerProfile {
    WorkerProfile {
        name: name.into(),
        incarnation: format!("{name}-1"),
        task_types: vec![task_type("t")],
        queues: vec![queue("default")],
        labels: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
        slots: 4,
    }
}

/// A grant id that no other grant of a test has.
pub(crate) fn new_grant() -> GrantId {
    GrantId((Uuid::new_v4().as_u128() >> 66) as i64)
}

/// Now, as exactly as the database can tell.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_microsecond(Timestamp::now().as_microsecond()).unwrap()
}

/// The kind of error that a task's last run ended with.
pub(crate) fn error_kind(task: &TaskRecord) -> &str {
    let run = task.last_run.as_ref().expect("the task ran");
    &run.error.as_ref().expect("its run did not succeed").kind
}

/// The latest progress of a task's last run.
pub(crate) fn latest_progress(task: &TaskRecord) -> Option<&ProgressRecord> {
    task.last_run.as_ref()?.progress.as_ref()
}

/// The worker of a task's last run.
pub(crate) fn worker(task: &TaskRecord) -> Option<&str> {
    task.last_run.as_ref()?.worker.as_deref()
}

/// When a task's last run was leased.
pub(crate) fn started_at(task: &TaskRecord) -> Option<Timestamp> {
    task.last_run.as_ref()?.started_at
}

/// A parameter of type `interval`.
#[derive(Debug)]
pub(crate) struct Minutes(pub(crate) i64);

impl ToSql for Minutes {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        // Microseconds, days, months.
        out.put_i64(self.0 * 60_000_000);
        out.put_i64(0);
        Ok(IsNull::No)
    }

    accepts!(INTERVAL);
    to_sql_checked!();
}

pub(crate) fn key(task: TaskId, no: i32) -> LeaseKey {
    LeaseKey {
        task,
        token: LeaseToken(no),
    }
}

pub(crate) fn succeeded(lease: &Lease) -> Verdict {
    reported(
        lease,
        ReportedOutcome::Succeeded {
            result: r#"{"ok": true}"#.into(),
        },
    )
}

/// A failure that waits 100 s for its next attempt, if there is one.
pub(crate) fn failed(lease: &Lease) -> Verdict {
    let lease = Lease {
        backoff: Backoff {
            initial: Duration::from_secs(100),
            longest: Duration::from_secs(100),
        },
        ..lease.clone()
    };
    reported(
        &lease,
        ReportedOutcome::Failed {
            error: TaskError::new("BOOM", "it broke"),
            non_retryable: false,
            retry_after: None,
        },
    )
}

pub(crate) fn failed_for_good(lease: &Lease) -> Verdict {
    reported(
        lease,
        ReportedOutcome::Failed {
            error: TaskError::new("HOPELESS", "it cannot work"),
            non_retryable: true,
            retry_after: None,
        },
    )
}

pub(crate) fn released(lease: &Lease) -> Verdict {
    reported(
        lease,
        ReportedOutcome::Released {
            message: "draining".into(),
        },
    )
}

pub(crate) fn cancelled(lease: &Lease) -> Verdict {
    reported(
        lease,
        ReportedOutcome::Cancelled {
            message: "stopped".into(),
        },
    )
}

fn reported(lease: &Lease, ending: ReportedOutcome) -> Verdict {
    verdict::reported(lease, "w", ending, TimedOut::No, 1.0)
}

/// Sorts leases by task, for comparing sets.
pub(crate) fn tasks_of(leases: &[Lease]) -> Vec<TaskId> {
    leases.iter().map(|lease| lease.key.task).collect()
}

/// What the background loops decide about leases of dead sessions.
pub(crate) fn decide(dead: &DeadLease) -> Verdict {
    verdict::session_ended(dead, LossLimit(Some(3)), 1.0)
}
