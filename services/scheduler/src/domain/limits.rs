//! How large an input may be. Every bound that the contract names stands here once.

use std::time::Duration;

/// Default bound of a payload or result as JSON text, in bytes.
pub const PAYLOAD_BYTES: usize = 1 << 20;
/// Most tasks in one submit.
pub const BATCH_TASKS: usize = 1_000;
/// Characters of a task type or queue name.
pub const NAME_CHARS: usize = 128;
/// Characters of a title, owner, worker name or label value.
pub const LINE_CHARS: usize = 200;
/// Characters of a description or a card's body.
pub const TEXT_CHARS: usize = 10_000;
/// Characters of an error message, progress message or reason.
pub const MESSAGE_CHARS: usize = 1_000;
/// Characters of an error's detail.
pub const DETAIL_CHARS: usize = 16_000;
/// Characters of a logged line.
pub const LOG_CHARS: usize = 4_000;
/// Characters of an image URL.
pub const IMAGE_CHARS: usize = 65_536;
/// Bytes of a progress detail as JSON text.
pub const PROGRESS_DETAIL_BYTES: usize = 65_536;
/// Most labels of a task or worker.
pub const LABELS: usize = 32;
/// Characters of a label's key, and of a worker's incarnation.
pub const KEY_CHARS: usize = 64;
/// Highest priority; the lowest is its negative.
pub const PRIORITY: i32 = 100;
/// Default number of counted runs.
pub const DEFAULT_ATTEMPTS: i16 = 5;
/// Most counted runs.
pub const ATTEMPTS: i32 = 1_000;
/// Longest delay, back-off or timeout.
pub const LONGEST_WAIT: Duration = Duration::from_secs(366 * 24 * 3600);
/// Farthest that the time inside a client's own task id may be from the scheduler's clock.
pub const ID_CLOCK_SKEW: Duration = Duration::from_secs(24 * 3600);
/// Longest grace period of a cancel.
pub const LONGEST_GRACE: Duration = Duration::from_secs(3600);
/// Grace period of a cancel that names none.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(10);
/// Largest page of a list.
pub const PAGE: i32 = 1_000;
/// Page of a list that names no size.
pub const DEFAULT_PAGE: i32 = 100;
/// Most task types of a worker.
pub const WORKER_TASK_TYPES: usize = 1_000;
/// Most queues of a worker.
pub const WORKER_QUEUES: usize = 100;
/// Most slots of a worker.
pub const WORKER_SLOTS: i32 = 10_000;
/// Most open credit of a session.
pub const CREDIT: u32 = 20_000;
/// Most reports in one message.
pub const REPORTS: usize = 5_000;
/// Deaths of workers that held nothing but a task after which the task is quarantined.
pub const LOSSES: i32 = 3;
/// Most combinations of a queue and a task type that one worker may serve.
pub const WORKER_LANES: usize = 10_000;
/// Most combinations of a queue and a task type that tasks were ever submitted to.
pub const LANES: i64 = 20_000;
/// Progress reports and log lines of a run that are kept: those with the highest numbers.
pub const RUN_EVENTS: i64 = 10_000;
