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
        let mut sizes = random.fork(3);
        let bare = parameters.workers.div_ceil(2);
        let slots = |count: usize, random: &mut Random| {
            (0..count)
                .map(|_| u32::try_from(random.between(3, 10)).unwrap_or(3))
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
        }
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
    let mut ids = Ids::new(random.fork(4), now_ms);
    let mut tasks = Vec::with_capacity(parameters.tasks);
    let mut batch = 0;
    // One that kills its workers costs every task beside it three deaths.
    let mut killers = parameters.tasks / 250;
    while tasks.len() < parameters.tasks {
        batch += 1;
        let at_ms = random.between(0, parameters.load_ms);
        let size = if random.percent(10) {
            random.between(2, 30)
        } else {
            1
        };
        let size = usize::try_from(size)
            .unwrap_or(1)
            .min(parameters.tasks - tasks.len());
        let (insists, twice) = (random.percent(85), random.percent(10));
        for _ in 0..size {
            let mut task = task(random, &mut ids, &mut killers);
            (task.at_ms, task.batch, task.insists, task.twice) = (at_ms, batch, insists, twice);
            tasks.push(task);
        }
    }
    tasks.sort_by_key(|task| (task.at_ms, task.batch));
    tasks
}

fn task(random: &mut Random, ids: &mut Ids, killers: &mut usize) -> PlannedTask {
    let mut run_ms = match random.between(0, 10) {
        0 => random.between(500, 2_500),
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
        watched: random.percent(20),
        reads: if random.percent(25) {
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
            faults.push(PlannedFault {
                at_ms: at + begins,
                length_ms: random
                    .between(300, (length - begins).max(301))
                    .min(longest(*kind)),
                kind: *kind,
                choice: random.number(),
            });
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

/// How long a fault of this kind may last, in milliseconds.
fn longest(kind: FaultKind) -> u64 {
    match kind {
        FaultKind::FailIo
        | FaultKind::FailDiskFull
        | FaultKind::FailSerialization
        | FaultKind::FailInternal => 1_500,
        FaultKind::CutDatabase | FaultKind::LoseAnswers | FaultKind::CutClients => 800,
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
}
