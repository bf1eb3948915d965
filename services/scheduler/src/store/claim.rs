//! Leasing waiting tasks.

use std::{pin::pin, time::Duration};

use futures_util::TryStreamExt as _;
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use super::{
    database::{Database, prepared},
    error::StoreError,
    json_text::JsonText,
};
use crate::domain::{
    backoff::Backoff,
    ids::{GrantId, LaneId, LeaseKey, LeaseToken, SessionId, TaskId},
    lease::Lease,
};

/// Where the last claim of a lane stopped. Before it there are mostly dead index entries, which
/// would have to be read again by every claim while an old snapshot keeps them from being removed.
/// Only a shortcut: whoever knows of a row below lowers the mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Minus the priority.
    pub rank: i16,
    /// The order key.
    pub order_key: i64,
    /// The first task of a bundle.
    pub first_task: Uuid,
}

impl Mark {
    /// Before every row.
    pub const START: Self = Self {
        rank: i16::MIN,
        order_key: i64::MIN,
        first_task: Uuid::nil(),
    };

    /// Just before all rows of that rank and order key.
    pub fn before(rank: i16, order_key: i64) -> Self {
        Self {
            rank,
            order_key,
            first_task: Uuid::nil(),
        }
    }
}

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

/// Column of `claim.sql` where the columns of `read_claimed.sql` begin.
const TASK: usize = 2;

/// A bundle that a claim took, and the part of it that was leased.
struct Bundle {
    before: usize,
    size: usize,
    mark: Mark,
    lease_token: LeaseToken,
    attempt: i16,
    /// When it was leased, microseconds since 1970.
    leased_us: i64,
    tasks: Vec<Uuid>,
}

/// A leased task whose row was not read yet, or was.
struct Place {
    id: Uuid,
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
        let statement = prepared(&connection, include_str!("sql/claim.sql")).await?;
        let sessions: Vec<Uuid> = claim.slots.iter().map(|session| session.0).collect();
        let bundles = i64::try_from(claim.bundles).unwrap_or(i64::MAX);
        let parameters: [&(dyn ToSql + Sync); 8] = [
            &claim.lane.0,
            &claim.mark.rank,
            &claim.mark.order_key,
            &claim.mark.first_task,
            &sessions,
            &claim.grant.0,
            &bundles,
            &claim.up_to,
        ];
        let mut assembly = Assembly::new(claim);
        // Row by row: while Postgres finds the next ones.
        let mut rows = pin!(connection.query_raw(&statement, parameters).await?);
        while let Some(row) = rows.try_next().await? {
            match Bundle::from_row(&row)? {
                Some(bundle) => assembly.begin(bundle),
                None => assembly.add(&row, TASK),
            }
        }
        let missing = assembly.missing();
        if !missing.is_empty() {
            let statement = prepared(&connection, include_str!("sql/read_claimed.sql")).await?;
            for row in &connection.query(&statement, &[&missing]).await? {
                assembly.add(row, 0);
            }
        }
        Ok(assembly.finish())
    }
}

impl Bundle {
    /// Reads a bundle; `None` if the row is one of a task.
    fn from_row(row: &Row) -> Result<Option<Self>, StoreError> {
        let Some(numbers) = row.get::<_, Option<Vec<i64>>>(0) else {
            return Ok(None);
        };
        let tasks: Vec<Uuid> = row.get(1);
        Self::from_numbers(&numbers, tasks)
            .map(Some)
            .ok_or_else(|| StoreError::Defect(format!("a bundle has the numbers {numbers:?}")))
    }

    fn from_numbers(numbers: &[i64], tasks: Vec<Uuid>) -> Option<Self> {
        let &[before, size, rank, order_key, lease_token, attempt, leased_us] = numbers else {
            return None;
        };
        Some(Self {
            before: usize::try_from(before).ok()?,
            size: usize::try_from(size).ok()?,
            mark: Mark {
                rank: i16::try_from(rank).ok()?,
                order_key,
                first_task: *tasks.first()?,
            },
            lease_token: LeaseToken(i32::try_from(lease_token).ok()?),
            attempt: i16::try_from(attempt).ok()?,
            leased_us,
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

    /// Adds what was read of a task, if it is one of those that were leased. Its columns begin at `first`.
    fn add(&mut self, row: &Row, first: usize) {
        if !self.is_sorted {
            self.places.sort_unstable_by_key(|place| place.id);
            self.is_sorted = true;
        }
        let id: Uuid = row.get(first);
        let Ok(place) = self.places.binary_search_by_key(&id, |place| place.id) else {
            return;
        };
        let place = &mut self.places[place];
        let bundle = &self.bundles[place.bundle];
        let Some(session) = self.claim.slots.get(place.position) else {
            return;
        };
        place.task = Some(ClaimedTask {
            session: *session,
            lease: Lease {
                key: LeaseKey {
                    task: TaskId(id),
                    token: bundle.lease_token,
                },
                grant: self.claim.grant,
                lane: self.claim.lane,
                attempt: bundle.attempt,
                max_attempts: row.get(first + 2),
                backoff: backoff(row, first + 3),
                run_timeout: millis(row.get(first + 5)),
                started_us: bundle.leased_us,
            },
            payload: row.get::<_, JsonText<String>>(first + 1).0,
            traceparent: row.get(first + 6),
        });
    }

    /// Tasks that were not read yet.
    fn missing(&self) -> Vec<Uuid> {
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

/// Reads a back-off from two columns, `first` and the one after it.
pub(super) fn backoff(row: &Row, first: usize) -> Backoff {
    let default = Backoff::default();
    Backoff {
        initial: millis(row.get(first)).unwrap_or(default.initial),
        longest: millis(row.get(first + 1)).unwrap_or(default.longest),
    }
}

/// Reads a duration from a column of milliseconds.
pub(super) fn millis(column: Option<i64>) -> Option<Duration> {
    column
        .and_then(|ms| u64::try_from(ms).ok())
        .map(Duration::from_millis)
}
