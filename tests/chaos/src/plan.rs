//! What a seed decides: the tasks, what clients do with them, and when which fault comes.

use uuid::{Builder, Uuid};

use crate::{
    behaviour::{Behaviour, End},
    fault_kind::{FaultKind, Harm},
    history::{Parameters, Submitted},
    random::Random,
};

/// Task types that every worker takes.
pub const LOAD_TYPES: [&str; 8] = [
    "load.a", "load.b", "load.c", "load.d", "load.e", "load.f", "load.g", "load.h",
];

/// Task types of the last part of a run, which one worker with little room takes.
pub const TURN_TYPES: [&str; 3] = ["turn.a", "turn.b", "turn.c"];

/// The queues that workers serve.
pub const QUEUES: [&str; 2] = ["default", "critical"];

/// So many tasks a second are many.
const DENSE: u64 = 100;

/// Most tasks of a run that kill their workers: with more, finding all of them takes longer than the run.
const MOST_KILLERS: usize = 2;

/// How many tasks a second a slot can be expected to run.
const SLOT_RATE: u64 = 2;

/// The most that a clock is wrong by, in milliseconds.
pub const CLOCK_ERROR_MS: u64 = 600_000;

/// The last fault has ended so long before the load does, in milliseconds.
const CALM_END_MS: u64 = 500;

/// A whole run, decided beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Tasks in the order of their submits.
    pub tasks: Vec<PlannedTask>,
    /// Faults in the order of their beginnings.
    pub faults: Vec<PlannedFault>,
    /// Workers of the bare protocol: how many slots each has.
    pub bare_workers: Vec<u32>,
    /// Worker processes: how many slots each has.
    pub processes: Vec<u32>,
    /// How old a stream becomes before its worker is asked to reconnect, in seconds.
    pub stream_age_s: u64,
    /// What the clocks of schedulers, then those of worker processes are wrong by from the start, in milliseconds, if
    /// clocks jump in this run.
    pub clocks_ms: Vec<i64>,
    /// The same of Postgres.
    pub database_clock_ms: i64,
}

/// A task, and what clients do with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTask {
    /// When it is submitted, in milliseconds.
    pub at_ms: u64,
    /// What is submitted.
    pub submitted: Submitted,
    /// Tasks with the same number are submitted in one call.
    pub batch: u64,
    /// True if the submit is repeated until it is acknowledged.
    pub insists: bool,
    /// True if it is submitted twice at once.
    pub twice: bool,
    /// When it is cancelled, counted from its submit.
    pub cancel_ms: Option<u64>,
    /// True if a client watches it.
    pub watched: bool,
    /// How often a client reads it.
    pub reads: u64,
    /// True if a client removes it once it has ended, and then submits it again in vain.
    pub is_deleted: bool,
}

/// A fault and its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFault {
    /// When it begins, in milliseconds.
    pub at_ms: u64,
    /// How long it lasts, in milliseconds.
    pub length_ms: u64,
    /// Its kind.
    pub kind: FaultKind,
    /// Decides what it strikes.
    pub choice: u64,
}

impl Plan {
    /// What these parameters decide. `now_ms`, milliseconds since 1970, is the time in the ids of tasks.
    pub fn of(parameters: &Parameters, now_ms: u64) -> Self {
        let random = Random::new(parameters.seed);
        let (mut sizes, mut clocks) = (random.fork(3), random.fork(6));
        let bare = parameters.workers.div_ceil(2);
        // Enough for many tasks a second, too.
        let a_second = (parameters.tasks as u64).saturating_mul(1_000) / parameters.load_ms.max(1);
        let more = a_second / (SLOT_RATE * (parameters.workers as u64).max(1));
        let more = if a_second > DENSE { more } else { 0 };
        let slots = |count: usize, random: &mut Random| {
            (0..count)
                .map(|_| u32::try_from(random.between(3, 10) + more).unwrap_or(3))
                .collect()
        };
        let bare_workers = slots(bare, &mut sizes);
        let processes = slots(parameters.workers - bare, &mut sizes);
        Self {
            tasks: tasks(parameters, &mut random.fork(1), now_ms),
            faults: faults(parameters, &mut random.fork(2)),
            bare_workers,
            processes,
            stream_age_s: *sizes.pick(&[6, 20, 600]).unwrap_or(&600),
            clocks_ms: (0..parameters.replicas + parameters.workers)
                .map(|_| wrong_ms(&mut clocks))
                .collect(),
            database_clock_ms: wrong_ms(&mut clocks),
        }
    }

    /// True if a fault of this kind comes.
    pub fn has(&self, kind: FaultKind) -> bool {
        self.faults.iter().any(|fault| fault.kind == kind)
    }
}

/// Ids of one run: of version 7, and the same in every run of a seed but for the time.
#[derive(Debug)]
pub struct Ids {
    random: Random,
    now_ms: u64,
}

impl Ids {
    /// Ids that begin at this time.
    pub fn new(random: Random, now_ms: u64) -> Self {
        Self { random, now_ms }
    }

    /// The next id.
    pub fn draw(&mut self) -> Uuid {
        let mut bytes = [0; 10];
        for (byte, chosen) in bytes.iter_mut().zip(
            self.random
                .number()
                .to_le_bytes()
                .into_iter()
                .chain(self.random.number().to_le_bytes()),
        ) {
            *byte = chosen;
        }
        self.now_ms += 1;
        Builder::from_unix_timestamp_millis(self.now_ms, &bytes).into_uuid()
    }
}

fn tasks(parameters: &Parameters, random: &mut Random, now_ms: u64) -> Vec<PlannedTask> {
    let (mut ids, mut deleting) = (Ids::new(random.fork(4), now_ms), random.fork(5));
    let mix = Mix::of(parameters);
    let mut tasks = Vec::with_capacity(parameters.tasks);
    let mut batch = 0;
    // One that kills its workers costs a dozen of them, and who was lost with it comes back ever later.
    let mut killers = (parameters.tasks / 250).min(mix.killers).min(MOST_KILLERS);
    while tasks.len() < parameters.tasks {
        batch += 1;
        let at_ms = random.between(0, parameters.load_ms);
        let size = if random.percent(mix.batches) {
            random.between(2, 30)
        } else {
            1
        };
        let size = usize::try_from(size)
            .unwrap_or(1)
            .min(parameters.tasks - tasks.len());
        let (insists, twice) = (random.percent(85), random.percent(10));
        for _ in 0..size {
            let mut task = task(random, &mix, &mut ids, &mut killers);
            // Who cancels or submits beside it would not know what to expect.
            task.is_deleted = deleting.percent(8) && insists && !twice && task.cancel_ms.is_none();
            (task.at_ms, task.batch, task.insists, task.twice) = (at_ms, batch, insists, twice);
            tasks.push(task);
        }
    }
    tasks.sort_by_key(|task| (task.at_ms, task.batch));
    tasks
}

/// How many of a hundred tasks, or of a hundred submits, are of some kind.
struct Mix {
    /// Submits of many tasks.
    batches: u64,
    /// Tasks that a client watches.
    watched: u64,
    /// Tasks that a client reads.
    read: u64,
    /// The longest run of ordinary code, in milliseconds.
    longest_ms: u64,
    /// How many tasks may kill their workers, with all that these have in hand.
    killers: usize,
}

impl Mix {
    /// Where tasks come at a high rate, most are small and come in batches, as they do in practice: the tests are about
    /// the scheduler, not about how many streams and calls the harness can keep up.
    fn of(parameters: &Parameters) -> Self {
        let a_second = (parameters.tasks as u64).saturating_mul(1_000) / parameters.load_ms.max(1);
        if a_second > DENSE {
            Self {
                batches: 40,
                watched: 2,
                read: 5,
                longest_ms: 1_000,
                killers: usize::try_from(parameters.load_ms / 20_000).unwrap_or(usize::MAX),
            }
        } else {
            Self {
                batches: 10,
                watched: 20,
                read: 25,
                longest_ms: 2_500,
                killers: usize::MAX,
            }
        }
    }
}

fn task(random: &mut Random, mix: &Mix, ids: &mut Ids, killers: &mut usize) -> PlannedTask {
    let mut run_ms = match random.between(0, 10) {
        0 => random.between(500, mix.longest_ms),
        1..4 => random.between(50, 400),
        _ => random.between(0, 40),
    };
    let (mut max_attempts, mut run_timeout_ms, mut cancel_ms) = (1_000, None, None);
    let end = match random.between(0, 100) {
        0..8 => End::FailUntil(u32::try_from(random.between(2, 4)).unwrap_or(2)),
        8..13 => {
            max_attempts = u32::try_from(random.between(1, 4)).unwrap_or(1);
            End::FailAlways
        }
        13..16 => End::FailForGood,
        16..22 => {
            cancel_ms = Some(random.between(50, 2_000));
            End::Hang
        }
        22..25 => {
            (max_attempts, run_timeout_ms) = (2, Some(random.between(300, 1_500)));
            End::Hang
        }
        25..28 => {
            (cancel_ms, run_ms) = (Some(random.between(50, 500)), random.between(200, 1_500));
            End::IgnoreStop
        }
        28 if *killers > 0 => {
            *killers -= 1;
            End::KillWorker
        }
        _ => {
            if random.percent(8) {
                cancel_ms = Some(random.between(0, 600));
            }
            End::Succeed
        }
    };
    let delay_ms = if random.percent(10) {
        random.between(50, 2_500)
    } else {
        0
    };
    let submitted = Submitted {
        task: ids.draw().to_string(),
        task_type: (*random.pick(&LOAD_TYPES).unwrap_or(&LOAD_TYPES[0])).to_owned(),
        queue: QUEUES[usize::from(random.percent(25))].to_owned(),
        priority: if random.percent(20) {
            i32::try_from(random.between(0, 20)).unwrap_or(0) - 10
        } else {
            0
        },
        delay_ms,
        max_attempts,
        backoff_ms: random.between(20, 400),
        run_timeout_ms,
        behaviour: Behaviour {
            run_ms,
            progress: if random.percent(30) {
                u32::try_from(random.between(1, 5)).unwrap_or(1)
            } else {
                0
            },
            end,
        },
        padding: if random.percent(2) {
            random.index(400_000)
        } else {
            0
        },
    };
    PlannedTask {
        at_ms: 0,
        submitted,
        batch: 0,
        insists: true,
        twice: false,
        cancel_ms,
        watched: random.percent(mix.watched),
        is_deleted: false,
        reads: if random.percent(mix.read) {
            random.between(1, 5)
        } else {
            0
        },
    }
}

/// Faults come in epochs with pauses between them. In a quarter of the epochs only faults come that workers must not
/// feel, and in these what must go on is checked meanwhile.
fn faults(parameters: &Parameters, random: &mut Random) -> Vec<PlannedFault> {
    let of = |is_mild: bool| -> Vec<FaultKind> {
        let kinds = parameters.faults.iter().copied();
        kinds
            .filter(|kind| (kind.harm() != Harm::Any) == is_mild)
            .collect()
    };
    let (mild, harsh) = (of(true), of(false));
    let end = parameters.load_ms.saturating_sub(CALM_END_MS);
    let mut at = 300 + random.between(0, 700);
    let mut faults = Vec::new();
    while at + 500 < end {
        let is_mild = harsh.is_empty() || !mild.is_empty() && random.percent(25);
        let kinds = if is_mild { &mild } else { &harsh };
        if kinds.is_empty() {
            break;
        }
        // A short run has room for several epochs, too.
        let longest_epoch = if is_mild {
            (parameters.load_ms / 4).clamp(2_501, 14_000)
        } else {
            (parameters.load_ms / 3).clamp(2_501, 7_000)
        };
        let length = random.between(2_500, longest_epoch).min(end - at);
        let count = if is_mild {
            random.between(1, 3)
        } else {
            random.between(2, 6)
        };
        for _ in 0..count {
            let Some(kind) = random.pick(kinds) else {
                break;
            };
            let begins = random.between(0, length / 2);
            let fault = PlannedFault {
                at_ms: at + begins,
                length_ms: random
                    .between(300, (length - begins).max(301))
                    .min(longest(*kind)),
                kind: *kind,
                choice: random.number(),
            };
            if !faults.iter().any(|other| is_too_near(&fault, other)) {
                faults.push(fault);
            }
        }
        at += length + random.between(200, 1_500);
        // Sometimes all is quiet for long enough that whatever is late is late for its own reasons.
        if parameters.load_ms > 60_000 && random.percent(10) {
            at += 12_000;
        }
    }
    faults.sort_by_key(|fault| fault.at_ms);
    faults
}

/// What a clock is wrong by, in milliseconds: up to ten minutes, either way.
pub fn wrong_ms(random: &mut Random) -> i64 {
    let ms = i64::try_from(random.between(0, 2 * CLOCK_ERROR_MS)).unwrap_or(0);
    ms - CLOCK_ERROR_MS.cast_signed()
}

/// True if two faults of one kind would be in each other's way.
fn is_too_near(fault: &PlannedFault, other: &PlannedFault) -> bool {
    let apart = match fault.kind {
        FaultKind::FillDisk | FaultKind::FreezePostgres => 0,
        // Another standby must be made and be in step.
        FaultKind::FailOver => 8_000,
        _ => return false,
    };
    fault.kind == other.kind
        && fault.at_ms < other.at_ms + other.length_ms + apart
        && other.at_ms < fault.at_ms + fault.length_ms + apart
}

/// How long a fault of this kind may last, in milliseconds.
fn longest(kind: FaultKind) -> u64 {
    match kind {
        FaultKind::FailIo
        | FaultKind::FailDiskFull
        | FaultKind::FailSerialization
        | FaultKind::FailInternal => 1_500,
        FaultKind::CutDatabase | FaultKind::LoseAnswers | FaultKind::CutClients => 800,
        FaultKind::FailOver => 2_000,
        FaultKind::JumpDatabaseClock => 500,
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::Plan;
    use crate::{fault_kind::FaultKind, history::Parameters};

    fn parameters(seed: u64) -> Parameters {
        Parameters {
            seed,
            load_ms: 60_000,
            tasks: 500,
            replicas: 2,
            workers: 4,
            faults: FaultKind::value_variants().to_vec(),
            lease_ms: 3_000,
            is_short: false,
        }
    }

    #[test]
    fn a_seed_decides_everything() {
        let plan = |seed| Plan::of(&parameters(seed), 1_000);
        assert_eq!(plan(5), plan(5));
        assert_ne!(plan(5), plan(6));
        assert_eq!(plan(5).tasks.len(), 500);
    }

    #[test]
    fn all_faults_end_before_the_load_does() {
        for seed in 0..200 {
            let plan = Plan::of(&parameters(seed), 1_000);
            assert!(!plan.faults.is_empty());
            for fault in &plan.faults {
                assert!(
                    fault.at_ms + fault.length_ms <= 60_000,
                    "{fault:?} of seed {seed}"
                );
            }
        }
    }

    #[test]
    fn every_kind_comes_within_a_few_seeds() {
        let all: std::collections::HashSet<_> = (0..60)
            .flat_map(|seed| Plan::of(&parameters(seed), 1_000).faults)
            .map(|fault| fault.kind)
            .collect();
        assert_eq!(all.len(), FaultKind::value_variants().len());
    }
    #[test]
    fn a_run_of_one_kind_is_struck_by_it_whatever_the_seed() {
        for kind in FaultKind::value_variants() {
            for seed in 0..40 {
                let parameters = Parameters {
                    load_ms: 6_000,
                    tasks: 150,
                    faults: vec![*kind],
                    ..parameters(seed)
                };
                assert!(Plan::of(&parameters, 1_000).has(*kind), "{kind} with seed {seed}");
            }
        }
    }

    #[test]
    fn faults_that_would_be_in_each_others_way_keep_their_distance() {
        for seed in 0..200 {
            let parameters = Parameters {
                faults: vec![FaultKind::FillDisk],
                ..parameters(seed)
            };
            let faults = Plan::of(&parameters, 1_000).faults;
            for pair in faults.windows(2) {
                assert!(
                    pair[0].at_ms + pair[0].length_ms <= pair[1].at_ms,
                    "{pair:?} of seed {seed}"
                );
            }
        }
    }

    #[test]
    fn many_tasks_a_second_meet_as_many_slots() {
        let parameters = Parameters {
            tasks: 20_000,
            ..parameters(1)
        };
        let plan = Plan::of(&parameters, 1_000);
        let slots: u32 = plan.bare_workers.iter().chain(&plan.processes).sum();
        assert!(slots > 150, "{slots}");
        assert_eq!(plan.tasks.len(), 20_000);
    }
}
