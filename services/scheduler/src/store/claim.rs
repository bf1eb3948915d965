//! Leasing waiting tasks.

use std::pin::pin;

use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use tokio_postgres::{Row, Statement, types::ToSql};

use super::{
    columns::Millis,
    database::{Database, prepared},
    error::StoreError,
    json_text::JsonText,
    mark::Mark,
};
use crate::domain::{
    backoff::Backoff,
    ids::{GrantId, LaneId, LeaseKey, LeaseToken, SessionId, TaskId},
    lease::Lease,
};

/// What a claim asks for.
#[derive(Debug)]
pub struct Claim {
    /// The lane to take tasks from.
    pub lane: LaneId,
    /// Where to begin.
    pub mark: Mark,
    /// The last rank to take tasks of.
    pub up_to: i16,
    /// One session for each task that may be claimed, in the order in which the tasks are dealt.
    pub slots: Vec<SessionId>,
    /// Names what each session gets.
    pub grant: GrantId,
    /// Most bundles to look at.
    pub bundles: usize,
}

/// What a claim came to.
#[derive(Debug, Default)]
pub struct Claimed {
    /// The leased tasks, in the order in which they waited.
    pub tasks: Vec<ClaimedTask>,
    /// The bundles that they lay in.
    pub found: Found,
}

/// The bundles that a claim took tasks from.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// How many.
    pub bundles: usize,
    /// How many tasks waited in them; more than were leased if the last one was split.
    pub waiting: usize,
    /// Where the last one was.
    pub last: Option<Mark>,
}

/// A task leased by a claim.
#[derive(Debug)]
pub struct ClaimedTask {
    /// To whom.
    pub session: SessionId,
    /// The lease.
    pub lease: Lease,
    /// The input, JSON text.
    pub payload: String,
    /// W3C trace context of the submitter.
    pub traceparent: Option<String>,
}

/// Where a statement has what a worker gets of a task: looked up once, because a claim reads a thousand rows.
struct TaskColumns {
    id: usize,
    payload: usize,
    max_attempts: usize,
    initial_backoff: usize,
    max_backoff: usize,
    run_timeout: usize,
    traceparent: usize,
}

/// A bundle that a claim took, and the part of it that was leased.
struct Bundle {
    before: usize,
    size: usize,
    mark: Mark,
    lease_token: LeaseToken,
    attempt: i16,
    leased_at: Timestamp,
    tasks: Vec<TaskId>,
}

/// A leased task whose row was not read yet, or was.
struct Place {
    id: TaskId,
    /// How many of the leased tasks waited before it.
    position: usize,
    /// Index of its bundle.
    bundle: usize,
    task: Option<ClaimedTask>,
}

/// Puts together what a claim leased, bundle by bundle, and what workers get of each task.
struct Assembly<'a> {
    claim: &'a Claim,
    bundles: Vec<Bundle>,
    places: Vec<Place>,
    /// True while the places are in the order of the ids.
    is_sorted: bool,
}

impl Database {
    /// Leases the first tasks of a lane after a mark, as many as there are slots.
    ///
    /// # Errors
    /// See [`StoreError`]; tasks may have been leased nevertheless.
    pub async fn claim(&self, claim: &Claim) -> Result<Claimed, StoreError> {
        let connection = self.claim_connection().await?;
        let statement = prepared(&connection, include_str!("sql/grants/claim.sql")).await?;
        let columns = TaskColumns::of(&statement)?;
        let bundles = i64::try_from(claim.bundles).unwrap_or(i64::MAX);
        let parameters: [&(dyn ToSql + Sync); 8] = [
            &claim.lane,
            &claim.mark.rank,
            &claim.mark.order_key,
            &claim.mark.first_task,
            &claim.slots,
            &claim.grant,
            &bundles,
            &claim.up_to,
        ];
        let mut assembly = Assembly::new(claim);
        // Row by row: while Postgres finds the next ones.
        let mut rows = pin!(connection.query_raw(&statement, parameters).await?);
        while let Some(row) = rows.try_next().await? {
            match Bundle::from_row(&row)? {
                Some(bundle) => assembly.begin(bundle),
                None => assembly.add(&row, &columns)?,
            }
        }
        let missing = assembly.missing();
        if !missing.is_empty() {
            let statement = prepared(&connection, include_str!("sql/grants/read_claimed.sql")).await?;
            let columns = TaskColumns::of(&statement)?;
            for row in &connection.query(&statement, &[&missing]).await? {
                assembly.add(row, &columns)?;
            }
        }
        Ok(assembly.finish())
    }
}

impl TaskColumns {
    fn of(statement: &Statement) -> Result<Self, StoreError> {
        let column = |name: &str| {
            let position = statement
                .columns()
                .iter()
                .position(|column| column.name() == name);
            position.ok_or_else(|| StoreError::Defect(format!("there is no column `{name}`")))
        };
        Ok(Self {
            id: column("id")?,
            payload: column("payload")?,
            max_attempts: column("max_attempts")?,
            initial_backoff: column("initial_backoff_ms")?,
            max_backoff: column("max_backoff_ms")?,
            run_timeout: column("run_timeout_ms")?,
            traceparent: column("traceparent")?,
        })
    }
}

impl Bundle {
    /// Reads a bundle; `None` if the row is one of a task.
    fn from_row(row: &Row) -> Result<Option<Self>, StoreError> {
        let Some(numbers) = row.try_get::<_, Option<Vec<i64>>>("bundle")? else {
            return Ok(None);
        };
        Self::from_numbers(&numbers, row.try_get("task_ids")?)
            .map(Some)
            .ok_or_else(|| StoreError::Defect(format!("a bundle has the numbers {numbers:?}")))
    }

    fn from_numbers(numbers: &[i64], tasks: Vec<TaskId>) -> Option<Self> {
        let &[before, size, rank, order_key, lease_token, attempt, leased_at] = numbers else {
            return None;
        };
        Some(Self {
            before: usize::try_from(before).ok()?,
            size: usize::try_from(size).ok()?,
            mark: Mark {
                rank: i16::try_from(rank).ok()?,
                order_key,
                first_task: tasks.first()?.0,
            },
            lease_token: LeaseToken(i32::try_from(lease_token).ok()?),
            attempt: i16::try_from(attempt).ok()?,
            // A number among numbers, because a column of its own would cost every row of a task.
            leased_at: Timestamp::from_microsecond(leased_at).ok()?,
            tasks,
        })
    }
}

impl<'a> Assembly<'a> {
    fn new(claim: &'a Claim) -> Self {
        Self {
            claim,
            bundles: Vec::new(),
            places: Vec::with_capacity(claim.slots.len()),
            is_sorted: true,
        }
    }

    /// Makes places for the leased tasks of a bundle.
    fn begin(&mut self, bundle: Bundle) {
        let index = self.bundles.len();
        let places = bundle.tasks.iter().enumerate().map(|(n, id)| Place {
            id: *id,
            position: bundle.before + n,
            bundle: index,
            task: None,
        });
        self.places.extend(places);
        self.bundles.push(bundle);
        self.is_sorted = false;
    }

    /// Adds what was read of a task, if it is one of those that were leased.
    fn add(&mut self, row: &Row, columns: &TaskColumns) -> Result<(), StoreError> {
        if !self.is_sorted {
            self.places.sort_unstable_by_key(|place| place.id);
            self.is_sorted = true;
        }
        let id: TaskId = row.try_get(columns.id)?;
        let Ok(place) = self.places.binary_search_by_key(&id, |place| place.id) else {
            return Ok(());
        };
        let place = &mut self.places[place];
        let bundle = &self.bundles[place.bundle];
        let Some(session) = self.claim.slots.get(place.position) else {
            return Ok(());
        };
        let millis = |column: usize| {
            let millis: Option<Millis> = row.try_get(column)?;
            Ok::<_, StoreError>(millis.map(|Millis(duration)| duration))
        };
        let default = Backoff::default();
        let JsonText(payload) = row.try_get(columns.payload)?;
        place.task = Some(ClaimedTask {
            session: *session,
            lease: Lease {
                key: LeaseKey {
                    task: id,
                    token: bundle.lease_token,
                },
                grant: self.claim.grant,
                lane: self.claim.lane,
                attempt: bundle.attempt,
                max_attempts: row.try_get(columns.max_attempts)?,
                backoff: Backoff {
                    initial: millis(columns.initial_backoff)?.unwrap_or(default.initial),
                    longest: millis(columns.max_backoff)?.unwrap_or(default.longest),
                },
                run_timeout: millis(columns.run_timeout)?,
                started_at: bundle.leased_at,
            },
            payload,
            traceparent: row.try_get(columns.traceparent)?,
        });
        Ok(())
    }

    /// Tasks that were not read yet.
    fn missing(&self) -> Vec<TaskId> {
        self.places
            .iter()
            .filter(|place| place.task.is_none())
            .map(|place| place.id)
            .collect()
    }

    fn finish(mut self) -> Claimed {
        self.places.sort_unstable_by_key(|place| place.position);
        Claimed {
            // What was not found has been cancelled, revoked and deleted since it was leased.
            tasks: self.places.into_iter().filter_map(|place| place.task).collect(),
            found: Found {
                bundles: self.bundles.len(),
                waiting: self.bundles.iter().map(|bundle| bundle.size).sum(),
                last: self.bundles.iter().map(|bundle| bundle.mark).max(),
            },
        }
    }
}
