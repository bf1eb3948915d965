//! ListTasks: finds the next page in the places where tasks of the wanted states are.

use std::time::Duration;

use prost::Message as _;
use tasklease_proto::v1;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    page::{self, Page},
    task::FIELD_BYTES,
    violations::{Violations, checked},
};
use crate::{
    domain::{
        error::{Error, Violation},
        ids::{LaneId, TaskId},
        limits,
        name::{Namespace, QueueName, TaskType},
        state::TaskState,
    },
    store::{Database, IdRanges, ListQuery, ListSource},
};

/// Tasks read at once. Each may be some 100 KiB, and a page that is full by bytes has no use for the rest.
const READ: usize = 100;

/// Rows that the first look at a place sees; each further one sees more, up to the last.
const FIRST_LOOK: i64 = 1_000;
const LARGEST_LOOK: i64 = 64_000;

/// How long a page may look for tasks before it is returned with what it has, however little.
const LOOK_FOR: Duration = Duration::from_millis(500);

/// The most lanes whose spans are used to look only where they have tasks. More lanes have tasks nearly everywhere.
const LANES_BY_SPAN: usize = 100;

/// A valid request.
struct Query {
    states: Vec<TaskState>,
    queue: Option<QueueName>,
    task_type: Option<TaskType>,
    page: Page,
}

/// What a list is narrowed to.
struct Filters {
    states: Vec<TaskState>,
    lanes: Option<Vec<LaneId>>,
}

/// Finds one page.
///
/// # Errors
/// Filters or a token that break a rule; a database that cannot be reached.
pub(super) async fn page(
    db: &Database,
    request: v1::ListTasksRequest,
) -> Result<v1::ListTasksResponse, Error> {
    let mut numbers = request.states;
    numbers.retain(|number| *number != i32::from(v1::TaskState::Unspecified));
    numbers.sort_unstable();
    numbers.dedup();
    let token_for = (&numbers, &request.task_type, &request.queue);
    let query = checked!(Query {
        states: states(&numbers),
        queue: optional(&request.queue, |name| QueueName::parse(name, "queue")),
        task_type: optional(&request.task_type, |name| TaskType::parse(name, "task_type")),
        page: page::check(request.page_size, &request.page_token, token_for),
    })?;
    let below = query.page.after.unwrap_or(Uuid::max());
    let lanes = lanes(db, &query).await?;
    let (tasks, next) = if lanes.as_ref().is_some_and(Vec::is_empty) {
        // Nobody ever used these names.
        (Vec::new(), None)
    } else {
        let filters = Filters {
            states: query.states,
            lanes,
        };
        filters.find(db, TaskId(below), query.page.size).await?
    };
    Ok(v1::ListTasksResponse {
        tasks,
        next_page_token: next.map(|id| page::token(id.0, token_for)).unwrap_or_default(),
    })
}

impl Filters {
    /// The next tasks below a point, and where the page after them begins, if there may be one.
    async fn find(
        &self,
        db: &Database,
        mut below: TaskId,
        size: usize,
    ) -> Result<(Vec<v1::Task>, Option<TaskId>), Error> {
        let give_up = Instant::now() + LOOK_FOR;
        let (mut tasks, mut bytes, mut last) = (Vec::new(), 0, None);
        let mut look_at = FIRST_LOOK;
        loop {
            // One more than the page tells whether there is another.
            let (ids, rest) = self.look(db, below, look_at, size + 1 - tasks.len()).await?;
            for ids in ids.chunks(READ) {
                for record in db.read_listed_tasks(ids).await? {
                    if !self.wants(record.standing.state()) {
                        continue;
                    }
                    let id = record.id;
                    let task = v1::Task::from(record);
                    bytes += task.encoded_len() + FIELD_BYTES;
                    if tasks.len() == size || (bytes > limits::MESSAGE_BYTES && !tasks.is_empty()) {
                        return Ok((tasks, last));
                    }
                    tasks.push(task);
                    last = Some(id);
                }
            }
            match rest {
                None => return Ok((tasks, None)),
                Some(rest) if Instant::now() >= give_up => return Ok((tasks, Some(rest))),
                Some(rest) => below = rest,
            }
            look_at = (look_at * 4).min(LARGEST_LOOK);
        }
    }

    /// Looks once at each place: ids of tasks that may be wanted, newest first, and below which id to go on.
    async fn look(
        &self,
        db: &Database,
        below: TaskId,
        look_at: i64,
        at_most: usize,
    ) -> Result<(Vec<TaskId>, Option<TaskId>), Error> {
        let ids = match &self.lanes {
            Some(lanes) if lanes.len() <= LANES_BY_SPAN => db.ids_of_lanes(lanes, below).await?,
            _ => IdRanges::below(below),
        };
        if ids.is_empty() {
            return Ok((Vec::new(), None));
        }
        let query = ListQuery {
            ids,
            lanes: self.lanes.clone(),
            look_at,
            at_most: i64::try_from(at_most.max(READ)).unwrap_or(i64::MAX),
        };
        let mut ids = Vec::new();
        let mut looked_to = None;
        for source in self.sources() {
            let step = db.list_ids(source, &query).await?;
            ids.extend(step.ids);
            looked_to = looked_to.max(step.looked_to);
        }
        // Ids below the end of one look are found by the next one.
        ids.retain(|id| looked_to.is_none_or(|end| *id >= end));
        ids.sort_unstable_by(|one, other| other.cmp(one));
        // A task that moved meanwhile may have been seen in two places.
        ids.dedup();
        Ok((ids, looked_to))
    }

    fn wants(&self, state: TaskState) -> bool {
        self.states.is_empty() || self.states.contains(&state)
    }

    /// Where the wanted tasks are, in the order of a task's life, so that one that moves on is seen once at least.
    fn sources(&self) -> Vec<ListSource> {
        if self.states.is_empty() {
            return vec![ListSource::Newest];
        }
        self.states
            .iter()
            .filter_map(|state| match state {
                TaskState::Scheduled => Some(ListSource::Scheduled),
                // No task waits for another one or behind a gate yet.
                TaskState::Blocked => None,
                TaskState::Pending => Some(ListSource::Ready),
                TaskState::Running => Some(ListSource::Leased),
                TaskState::Succeeded => Some(ListSource::Succeeded),
                TaskState::Failed => Some(ListSource::Failed),
                TaskState::Cancelled => Some(ListSource::Cancelled),
            })
            .collect()
    }
}

/// The lanes of the wanted queue and type; `None` if neither is narrowed.
async fn lanes(db: &Database, query: &Query) -> Result<Option<Vec<LaneId>>, Error> {
    match (&query.queue, &query.task_type) {
        (None, None) => Ok(None),
        (queue, task_type) => Ok(Some(
            db.find_lanes(&Namespace::default(), queue.as_ref(), task_type.as_ref())
                .await?,
        )),
    }
}

fn optional<T>(text: &str, parse: impl Fn(&str) -> Result<T, Violation>) -> Result<Option<T>, Violation> {
    if text.is_empty() {
        Ok(None)
    } else {
        parse(text).map(Some)
    }
}

fn states(numbers: &[i32]) -> Result<Vec<TaskState>, Violations> {
    let mut violations = Violations::default();
    let mut states = Vec::with_capacity(numbers.len());
    for number in numbers {
        let state = TaskState::from_number(*number)
            .ok_or_else(|| Violation::new("states", format!("{number} is not the number of a state")));
        states.extend(violations.keep(state));
    }
    violations.finish(Some(states))
}
