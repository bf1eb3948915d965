//! Hand-written histories for the tests of the checks.

use crate::{
    behaviour::{Behaviour, CodeEnd, End},
    fault_kind::FaultKind,
    history::{
        Answer, Entry, Event, Gone, Micros, Outcome, Parameters, Place, PlaceKind, ReportAnswer, Reported,
        Request, RunFound, State, Submitted, TaskFound,
    },
};

use super::{Breach, Invariant, check};

/// A history that grows event by event; times are given in milliseconds.
#[derive(Debug)]
pub(super) struct Sample {
    entries: Vec<Entry>,
    calls: u64,
}

const MS: Micros = 1_000;

/// A task of type `t` in the queue `default` that succeeds.
pub(super) fn task(id: &str) -> Submitted {
    Submitted {
        task: id.to_owned(),
        task_type: "t".to_owned(),
        queue: "default".to_owned(),
        priority: 0,
        delay_ms: 0,
        max_attempts: 1_000,
        backoff_ms: 100,
        run_timeout_ms: None,
        behaviour: Behaviour {
            run_ms: 0,
            progress: 0,
            end: End::Succeed,
        },
        padding: 0,
    }
}

/// A run as the tables hold it.
pub(super) fn run(token: i64, outcome: Outcome, ends_task: bool) -> RunFound {
    RunFound {
        token,
        outcome,
        ends_task,
        attempt: u32::try_from(token).expect("small"),
        result_token: (outcome == Outcome::Succeeded).then_some(token),
        error: None,
    }
}

impl Sample {
    /// A run with a lease of three seconds.
    pub(super) fn new() -> Self {
        let parameters = Parameters {
            seed: 1,
            load_ms: 0,
            tasks: 0,
            replicas: 1,
            workers: 1,
            faults: Vec::new(),
            lease_ms: 3_000,
            is_short: false,
        };
        Self {
            entries: vec![Entry {
                at: 0,
                event: Event::RunBegins(parameters),
            }],
            calls: 0,
        }
    }

    pub(super) fn event(mut self, ms: u64, event: Event) -> Self {
        self.entries.push(Entry { at: ms * MS, event });
        self
    }

    pub(super) fn call(mut self, called: u64, answered: u64, request: Request, answer: Answer) -> Self {
        let call = self.calls;
        self.calls += 1;
        self = self.event(called, Event::Called { call, request });
        self.event(answered, Event::Answered { call, answer })
    }

    /// A task that is stored at once.
    pub(super) fn submit(self, ms: u64, task: Submitted) -> Self {
        self.call(ms, ms, Request::Submit { tasks: vec![task] }, Answer::Stored)
    }

    pub(super) fn read(self, called: u64, answered: u64, id: &str, state: State, token: i64) -> Self {
        let answer = Answer::Task {
            state,
            token,
            cancel_requested: false,
        };
        self.call(called, answered, Request::Get { task: id.to_owned() }, answer)
    }

    pub(super) fn cancel(self, ms: u64, id: &str, answer: Answer) -> Self {
        self.call(ms, ms, Request::Cancel { task: id.to_owned() }, answer)
    }

    /// A worker that takes tasks of type `t` from the queue `default`.
    pub(super) fn worker(self, ms: u64, worker: &str, slots: u32) -> Self {
        self.worker_of(ms, worker, slots, &["t"])
    }

    pub(super) fn worker_of(self, ms: u64, worker: &str, slots: u32, task_types: &[&str]) -> Self {
        self.event(
            ms,
            Event::WorkerStarted {
                worker: worker.to_owned(),
                task_types: task_types.iter().map(|name| (*name).to_owned()).collect(),
                queues: vec!["default".to_owned()],
                slots,
                bare: true,
            },
        )
    }

    pub(super) fn gone(self, ms: u64, worker: &str, why: Gone) -> Self {
        self.event(
            ms,
            Event::WorkerGone {
                worker: worker.to_owned(),
                why,
            },
        )
    }

    pub(super) fn alive(self, sent: u64, ms: u64, worker: &str) -> Self {
        self.event(
            ms,
            Event::SessionAlive {
                worker: worker.to_owned(),
                session: format!("session of {worker}"),
                sent: sent * MS,
            },
        )
    }

    pub(super) fn lease(self, ms: u64, worker: &str, task: &str, token: i64) -> Self {
        self.event(
            ms,
            Event::LeaseReceived {
                worker: worker.to_owned(),
                session: format!("session of {worker}"),
                task: task.to_owned(),
                token,
                attempt: 1,
            },
        )
    }

    pub(super) fn report(
        self,
        (sent, answered): (u64, u64),
        worker: &str,
        (task, token): (&str, i64),
        report: Reported,
        answer: ReportAnswer,
    ) -> Self {
        let (worker, task) = (worker.to_owned(), task.to_owned());
        self.event(
            sent,
            Event::ReportSent {
                worker: worker.clone(),
                task: task.clone(),
                token,
                report,
            },
        )
        .event(
            answered,
            Event::ReportAnswered {
                worker,
                task,
                token,
                report,
                answer,
            },
        )
    }

    pub(super) fn code(self, (from, to): (u64, u64), worker: &str, task: &str, token: i64) -> Self {
        let (worker, task) = (worker.to_owned(), task.to_owned());
        self.event(
            from,
            Event::CodeStarted {
                worker: worker.clone(),
                task: task.clone(),
                token,
                attempt: 1,
            },
        )
        .event(
            to,
            Event::CodeEnded {
                worker,
                task,
                token,
                end: Some(CodeEnd::Succeeded),
            },
        )
    }

    pub(super) fn fault(self, (from, to): (u64, u64), kind: FaultKind) -> Self {
        let fault = from;
        self.event(
            from,
            Event::FaultBegins {
                fault,
                kind,
                target: String::new(),
            },
        )
        .event(to, Event::FaultEnds { fault })
    }

    pub(super) fn found(self, ms: u64, task: &str, places: &[(PlaceKind, i64)], runs: Vec<RunFound>) -> Self {
        let places = places
            .iter()
            .map(|&(kind, token)| Place { kind, token })
            .collect();
        self.event(
            ms,
            Event::TaskFound(TaskFound {
                task: task.to_owned(),
                places,
                runs,
            }),
        )
    }

    /// The promises that the history breaks.
    pub(super) fn breaks(mut self) -> Vec<Invariant> {
        let mut found: Vec<Invariant> = self
            .breaches()
            .into_iter()
            .map(|breach| breach.invariant)
            .collect();
        found.dedup();
        found
    }

    fn breaches(&mut self) -> Vec<Breach> {
        self.entries.sort_by_key(|entry| entry.at);
        check(&self.entries)
    }
}
