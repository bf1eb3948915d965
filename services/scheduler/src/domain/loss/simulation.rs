//! Plays fleets in which some tasks kill every worker that runs them.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use uuid::Uuid;

use super::{Company, Loss};
use crate::domain::ids::TaskId;

/// The losses of workers that quarantine a task which had no company.
const LIMIT: i32 = 3;
/// From the death of a worker until its tasks run again.
const UNNOTICED: Duration = Duration::from_secs(17);

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);

/// What a task's code does.
#[derive(Clone, Copy, PartialEq)]
enum Code {
    KillsItsWorker,
    Takes(Duration),
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum End {
    Succeeded,
    Quarantined,
}

struct Task {
    arrives: Duration,
    code: Code,
    loss: Loss,
    /// Whom its first loss made a suspect.
    accused: Option<usize>,
    end: Option<End>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Due(usize),
    /// The code of a task comes to its point, in the worker and the life of it that runs the task.
    Acts(usize, usize, u32),
}

#[derive(Default)]
struct Worker {
    life: u32,
    held: Vec<usize>,
}

/// Workers that are started again as often as they die.
struct Fleet {
    random: StdRng,
    now: Duration,
    tasks: Vec<Task>,
    workers: Vec<Worker>,
    slots: usize,
    waiting: Vec<usize>,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    deaths: usize,
}

impl Fleet {
    fn new(seed: u64, workers: usize, slots: usize) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            now: Duration::ZERO,
            tasks: Vec::new(),
            workers: std::iter::repeat_with(Worker::default).take(workers).collect(),
            slots,
            waiting: Vec::new(),
            events: BinaryHeap::new(),
            deaths: 0,
        }
    }

    /// Submits tasks at random times within a period.
    fn submit(&mut self, count: usize, within: Duration, code: Code) -> &mut Self {
        for _ in 0..count {
            let arrives = within.mul_f64(self.random.random());
            self.submit_at(arrives, code);
        }
        self
    }

    fn submit_at(&mut self, arrives: Duration, code: Code) -> &mut Self {
        let task = self.tasks.len();
        self.tasks.push(Task {
            arrives,
            code,
            loss: Loss::default(),
            accused: None,
            end: None,
        });
        self.at(arrives, Event::Due(task));
        self
    }

    /// What comes at one time comes in random order.
    fn at(&mut self, time: Duration, event: Event) {
        let order = self.random.random();
        self.events.push(Reverse((time, order, event)));
    }

    /// Plays until nothing is left to do. Only killers are quarantined, and all of them; returns how many workers died.
    fn play(&mut self) -> usize {
        while let Some(Reverse((time, _, event))) = self.events.pop() {
            self.now = time;
            match event {
                Event::Due(task) => self.waiting.push(task),
                Event::Acts(task, worker, life) if self.workers[worker].life == life => {
                    if self.tasks[task].code == Code::KillsItsWorker {
                        self.die(worker);
                    } else {
                        self.workers[worker].held.retain(|held| *held != task);
                        self.tasks[task].end = Some(End::Succeeded);
                    }
                }
                Event::Acts(..) => {}
            }
            self.hand_out();
        }
        for (number, task) in self.tasks.iter().enumerate() {
            let right = match task.code {
                Code::KillsItsWorker => End::Quarantined,
                Code::Takes(_) => End::Succeeded,
            };
            assert_eq!(
                task.end,
                Some(right),
                "task {number}, which came at {:?}",
                task.arrives
            );
        }
        self.deaths
    }

    /// Gives waiting tasks to workers with a free slot, both at random.
    fn hand_out(&mut self) {
        loop {
            let free: Vec<usize> = (0..self.workers.len())
                .filter(|worker| self.workers[*worker].held.len() < self.slots)
                .collect();
            let Some(worker) = free
                .choose(&mut self.random)
                .copied()
                .filter(|_| !self.waiting.is_empty())
            else {
                return;
            };
            let task = self
                .waiting
                .swap_remove(self.random.random_range(0..self.waiting.len()));
            self.workers[worker].held.push(task);
            let takes = match self.tasks[task].code {
                Code::KillsItsWorker => (SECOND / 20).mul_f64(self.random.random()),
                Code::Takes(time) => time,
            };
            let life = self.workers[worker].life;
            self.at(self.now + takes, Event::Acts(task, worker, life));
        }
    }

    /// Does with the tasks of a dead worker what the scheduler does.
    fn die(&mut self, worker: usize) {
        self.deaths += 1;
        self.workers[worker].life += 1;
        let held = std::mem::take(&mut self.workers[worker].held);
        let ids: BTreeMap<TaskId, usize> = held.iter().map(|task| (id(*task), *task)).collect();
        let suspects: Vec<TaskId> = ids
            .iter()
            .filter(|(_, task)| self.tasks[**task].loss.before > 0)
            .map(|(id, _)| *id)
            .collect();
        for task in &held {
            let loss = &mut self.tasks[*task].loss;
            loss.company = Company::of(id(*task), held.len(), &suspects);
            if loss.raises_suspicion()
                && let Some(accused) = self.tasks[*task].accused.take()
            {
                self.tasks[accused].loss.points_before -= 1;
            }
        }
        for task in held {
            let state = &mut self.tasks[task];
            if state.loss.convicts(LIMIT) {
                state.end = Some(End::Quarantined);
                continue;
            }
            let blame = state.loss.blame();
            if state.loss.before == 0 {
                state.accused = blame.suspect.map(|suspect| ids[&suspect]);
            }
            let delay = state.loss.delay(self.random.random());
            state.loss.before += 1;
            state.loss.points_before += i32::from(blame.points);
            self.at(self.now + UNNOTICED + delay, Event::Due(task));
        }
    }
}

fn id(task: usize) -> TaskId {
    TaskId(Uuid::from_u128(task as u128))
}

#[test]
fn forty_killers_are_found_and_no_innocent_pays() {
    for seed in 0..10 {
        let mut fleet = Fleet::new(seed, 3, 20);
        fleet
            .submit(40, SECOND, Code::KillsItsWorker)
            .submit(100, SECOND, Code::Takes(SECOND))
            .submit(60, SECOND, Code::Takes(30 * SECOND))
            .submit(40, SECOND, Code::Takes(300 * SECOND));
        let deaths = fleet.play();
        assert!(deaths <= 40 * 25, "seed {seed}: {deaths} workers died");
    }
}

#[test]
fn a_killer_among_ever_new_innocents_is_found() {
    for seed in 0..10 {
        let mut fleet = Fleet::new(seed, 5, 10);
        fleet
            .submit(20_000, HOUR, Code::Takes(8 * SECOND))
            .submit_at(10 * SECOND, Code::KillsItsWorker);
        let deaths = fleet.play();
        assert!(deaths <= 20, "seed {seed}: {deaths} workers died");
    }
}

#[test]
fn a_long_task_that_is_struck_by_one_new_killer_after_the_other_is_innocent() {
    for seed in 0..20 {
        let mut fleet = Fleet::new(seed, 1, 4);
        fleet.submit_at(Duration::ZERO, Code::Takes(5 * HOUR));
        for killer in 1..=20 {
            fleet.submit_at(600 * SECOND * killer, Code::KillsItsWorker);
        }
        let deaths = fleet.play();
        assert!(deaths <= 20 * 15, "seed {seed}: {deaths} workers died");
    }
}

#[test]
fn of_a_killer_and_three_tasks_that_meet_in_one_worker_only_the_killer_is_quarantined() {
    for seed in 0..200 {
        let mut fleet = Fleet::new(seed, 1, 4);
        fleet
            .submit(1, SECOND, Code::KillsItsWorker)
            .submit(3, SECOND, Code::Takes(60 * SECOND));
        let deaths = fleet.play();
        assert!(deaths <= 30, "seed {seed}: {deaths} workers died");
    }
}

#[test]
fn a_worker_with_one_slot_loses_three_lives_to_a_killer() {
    let mut fleet = Fleet::new(1, 1, 1);
    fleet
        .submit(1, SECOND, Code::KillsItsWorker)
        .submit(10, HOUR, Code::Takes(SECOND));
    assert_eq!(fleet.play(), 3);
}
