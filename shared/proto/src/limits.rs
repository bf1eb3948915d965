//! Every bound that the contract states, once.
//!
//! The comments of `proto/tasklease/v1` name the same numbers, and a test compares the two. Characters are Unicode code
//! points.

use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3_600);

// Texts.

/// Characters of a task type, a queue's name or the kind of an error.
pub const NAME_CHARS: usize = 128;
/// Characters of a title, an owner, a heading, a worker's name or a label's value.
pub const LINE_CHARS: usize = 200;
/// Characters of a description, or of the body of a progress card.
pub const TEXT_CHARS: usize = 10_000;
/// Characters of an error's message, a progress message or a reason.
pub const MESSAGE_CHARS: usize = 1_000;
/// Characters of an error's detail.
pub const DETAIL_CHARS: usize = 16_000;
/// Characters of a logged line.
pub const LOG_CHARS: usize = 4_000;
/// Characters of the URL of a card's image.
pub const IMAGE_CHARS: usize = 65_536;
/// Labels of a task or of a worker.
pub const LABELS: usize = 32;
/// Characters of a label's key.
pub const LABEL_KEY_CHARS: usize = 63;
/// Characters of the text that tells one start of a worker from another.
pub const INCARNATION_CHARS: usize = 64;

// Payloads and messages.

/// Bytes of a payload or a result as JSON text, unless the scheduler is configured otherwise.
pub const PAYLOAD_BYTES: usize = 1 << 20;
/// Bytes of a payload or a result that a scheduler may be configured to accept at most.
pub const LARGEST_PAYLOAD_BYTES: usize = 14 << 20;
/// Bytes of the `detail` of a progress report as JSON text.
pub const PROGRESS_DETAIL_BYTES: usize = 64 << 10;
/// Bytes at which either side closes a message of several tasks or reports: gRPC libraries accept 4 MiB by default.
pub const MESSAGE_BYTES: usize = 3 << 20;
/// Bytes of a message that the scheduler accepts, unless its limit of payloads asks for more.
pub const ACCEPTED_BYTES: usize = 16 << 20;
/// Bytes that a message may have beside its payload.
pub const BESIDE_PAYLOAD_BYTES: usize = 64 << 10;

// Tasks.

/// Tasks in one submit.
pub const BATCH_TASKS: usize = 1_000;
/// Highest priority; the lowest is its negative.
pub const PRIORITY: i32 = 100;
/// Counted runs of a task that names no number.
pub const DEFAULT_ATTEMPTS: i32 = 5;
/// Counted runs that a task may ask for.
pub const ATTEMPTS: i32 = 1_000;
/// Delay before the second attempt, if the retry policy names none.
pub const DEFAULT_INITIAL_BACKOFF: Duration = Duration::from_secs(1);
/// Longest delay between attempts, if the retry policy names none.
pub const DEFAULT_MAX_BACKOFF: Duration = Duration::from_secs(600);
/// Longest delay, back-off or time-out of a run.
pub const LONGEST_WAIT: Duration = DAY.saturating_mul(366);
/// How far the time inside a client's own task id may be from the scheduler's clock.
pub const ID_CLOCK_SKEW: Duration = DAY;
/// Grace of a cancel that names none.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(10);
/// Longest grace of a cancel.
pub const LONGEST_GRACE: Duration = Duration::from_secs(3_600);

// Reads.

/// Entries of a page that names no size.
pub const DEFAULT_PAGE: i32 = 100;
/// Entries of a page.
pub const PAGE: i32 = 1_000;
/// Ended runs that GetTask returns.
pub const RUNS: i64 = 100;
/// Progress reports and log lines of a run that are kept: those with the highest numbers.
pub const RUN_EVENTS: i64 = 10_000;
/// Where the count of waiting tasks stops.
pub const COUNTED_TASKS: i64 = 100_000;

// Workers.

/// How long the first message of a worker's stream may take.
pub const FIRST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Task types of a worker.
pub const WORKER_TASK_TYPES: usize = 1_000;
/// Queues of a worker.
pub const WORKER_QUEUES: usize = 100;
/// Task types of a worker, times its queues.
pub const WORKER_LANES: usize = 10_000;
/// Slots of a worker.
pub const WORKER_SLOTS: i32 = 10_000;
/// Credit in one message.
pub const CREDIT_AT_ONCE: u32 = 10_000;
/// Open credit of a session.
pub const CREDIT: u32 = 20_000;
/// Reports in one message.
pub const REPORTS: usize = 5_000;
