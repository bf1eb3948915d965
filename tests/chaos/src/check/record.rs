//! A history sorted by what it is about.

use std::collections::{BTreeMap, HashMap};

use crate::{
    behaviour::CodeEnd,
    fault_kind::FaultKind,
    history::{
        Answer, Entry, Event, Gone, Micros, Parameters, ReportAnswer, Reported, Request, State, Submitted,
        TaskFound,
    },
};

/// A history, indexed.
#[derive(Debug, Default)]
pub(super) struct Record<'a> {
    /// With what the run was made.
    pub(super) parameters: Option<&'a Parameters>,
    /// Tasks by id.
    pub(super) tasks: BTreeMap<&'a str, TaskRecord<'a>>,
    /// Workers by name.
    pub(super) workers: BTreeMap<&'a str, WorkerRecord<'a>>,
    /// Faults in the order in which they began.
    pub(super) faults: Vec<FaultRecord<'a>>,
    /// When the harness itself stood still.
    pub(super) stalls: Vec<(Micros, Micros)>,
    /// Watches by the number of their call.
    pub(super) watches: BTreeMap<u64, WatchRecord<'a>>,
    /// When all faults had ended.
    pub(super) healed: Option<Micros>,
    /// When the run ended.
    pub(super) end: Micros,
    /// True if the tables were read at the end.
    pub(super) was_audited: bool,
    /// Names that clients invented: when called, when and what was answered.
    pub(super) inventions: Vec<(Micros, Micros, &'a Answer)>,
    /// Events that are about no single task, worker or fault.
    pub(super) others: Vec<&'a Entry>,
}

/// All about one task.
#[derive(Debug, Default)]
pub(super) struct TaskRecord<'a> {
    /// What was submitted.
    pub(super) submitted: Option<&'a Submitted>,
    /// When it was first submitted.
    pub(super) called: Option<Micros>,
    /// When the scheduler first said that it is stored.
    pub(super) stored: Option<Micros>,
    /// When a submit of it was refused, or came to nothing, and with which words.
    pub(super) refusals: Vec<(Micros, &'a str)>,
    /// Its cancels.
    pub(super) cancels: Vec<CancelRecord<'a>>,
    /// Calls that remove it: when called, when and what was answered.
    pub(super) deletes: Vec<(Micros, Micros, &'a Answer)>,
    /// Answers to submits of it after it was removed.
    pub(super) revivals: Vec<(Micros, &'a Answer)>,
    /// When somebody first tried to remove it.
    pub(super) delete_called: Option<Micros>,
    /// What clients were told of its state.
    pub(super) reads: Vec<Read>,
    /// Leases in the order in which workers got them.
    pub(super) leases: Vec<LeaseSeen<'a>>,
    /// Reports in the order in which they were first sent.
    pub(super) reports: Vec<ReportSeen<'a>>,
    /// Runs of its code in the order in which they began.
    pub(super) codes: Vec<CodeSeen<'a>>,
    /// What it did to the outside system.
    pub(super) effects: Vec<EffectSeen<'a>>,
    /// When workers were told to stop it, with the lease token.
    pub(super) stops: Vec<(Micros, i64)>,
    /// Leases that a worker dropped without a report.
    pub(super) forgotten: Vec<(Micros, i64)>,
    /// What the tables said at the end.
    pub(super) found: Option<&'a TaskFound>,
}

/// A call that cancels.
#[derive(Debug)]
pub(super) struct CancelRecord<'a> {
    /// When it was called.
    pub(super) called: Micros,
    /// When and what was answered.
    pub(super) answered: Option<(Micros, &'a Answer)>,
}

/// A task's state as a client was told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read {
    /// When the client asked.
    pub(super) called: Micros,
    /// When it was answered.
    pub(super) answered: Micros,
    /// The state; `None` if there was no such task.
    pub(super) state: Option<State>,
    /// The lease token.
    pub(super) token: i64,
}

/// A lease that reached a worker.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeaseSeen<'a> {
    /// When.
    pub(super) at: Micros,
    /// The worker.
    pub(super) worker: &'a str,
    /// Its session.
    pub(super) session: &'a str,
    /// The lease token.
    pub(super) token: i64,
}

/// A report and its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReportSeen<'a> {
    /// The worker.
    pub(super) worker: &'a str,
    /// The lease token.
    pub(super) token: i64,
    /// What was reported.
    pub(super) report: Reported,
    /// When it was first sent.
    pub(super) sent: Micros,
    /// When and what was answered.
    pub(super) answered: Option<(Micros, ReportAnswer)>,
}

/// A run of a task's code.
#[derive(Debug, Clone, Copy)]
pub(super) struct CodeSeen<'a> {
    /// The worker.
    pub(super) worker: &'a str,
    /// The lease token.
    pub(super) token: i64,
    /// When it began.
    pub(super) started: Micros,
    /// When and how it ended.
    pub(super) ended: Option<(Micros, Option<CodeEnd>)>,
}

/// A change that code asked for outside.
#[derive(Debug, Clone, Copy)]
pub(super) struct EffectSeen<'a> {
    /// When.
    pub(super) at: Micros,
    /// The worker.
    pub(super) worker: &'a str,
    /// The lease token.
    pub(super) token: i64,
}

/// All about one worker.
#[derive(Debug)]
pub(super) struct WorkerRecord<'a> {
    /// When it started.
    pub(super) started: Micros,
    /// The task types that it takes.
    pub(super) task_types: &'a [String],
    /// The queues that it serves.
    pub(super) queues: &'a [String],
    /// How many tasks it runs at once.
    pub(super) slots: u32,
    /// True if it speaks the bare protocol.
    pub(super) bare: bool,
    /// When and why it was gone.
    pub(super) gone: Option<(Micros, Gone)>,
    /// When it heard that its session lives, with the session and when it had asked.
    pub(super) alive: Vec<(Micros, &'a str, Micros)>,
    /// When it lost a session, with the last sign of life that it had sent, and why.
    pub(super) lost: Vec<(Micros, Micros, &'a str)>,
}

impl WorkerRecord<'_> {
    /// True if it takes tasks of this type from this queue.
    pub(super) fn takes(&self, task_type: &str, queue: &str) -> bool {
        self.task_types.iter().any(|own| own == task_type) && self.queues.iter().any(|own| own == queue)
    }
}

/// All about one fault.
#[derive(Debug)]
pub(super) struct FaultRecord<'a> {
    /// Its number.
    pub(super) number: u64,
    /// Its kind.
    pub(super) kind: FaultKind,
    /// What it struck.
    pub(super) target: &'a str,
    /// When it began.
    pub(super) begins: Micros,
    /// When it ended; `Micros::MAX` if it did not.
    pub(super) ends: Micros,
}

/// All about one watch.
#[derive(Debug)]
pub(super) struct WatchRecord<'a> {
    /// The watched task.
    pub(super) task: &'a str,
    /// When it was opened.
    pub(super) called: Micros,
    /// The progress that came: lease token and number.
    pub(super) progress: Vec<(i64, u32)>,
    /// When and how it heard of the end.
    pub(super) ended: Option<(Micros, State)>,
    /// True if the scheduler refused it or the client gave up.
    pub(super) given_up: bool,
}

impl<'a> Record<'a> {
    /// Indexes a history.
    pub(super) fn of(entries: &'a [Entry]) -> Self {
        let mut record = Self::default();
        let mut calls: HashMap<u64, (Micros, &'a Request)> = HashMap::new();
        for entry in entries {
            record.end = entry.at;
            record.add(entry, &mut calls);
        }
        record
    }

    /// How long a session lives after its last heartbeat.
    pub(super) fn lease(&self) -> Micros {
        self.parameters
            .map_or(0, |parameters| parameters.lease_ms * 1_000)
    }

    fn add(&mut self, entry: &'a Entry, calls: &mut HashMap<u64, (Micros, &'a Request)>) {
        let at = entry.at;
        match &entry.event {
            Event::RunBegins(parameters) => self.parameters = Some(parameters),
            Event::Called { call, request } => {
                calls.insert(*call, (at, request));
                self.add_call(at, *call, request);
            }
            Event::Answered { call, answer } => {
                if let Some((called, request)) = calls.get(call) {
                    self.add_answer(*call, *called, request, at, answer);
                }
            }
            Event::WatchProgress { watch, token, number } => {
                if let Some(watch) = self.watches.get_mut(watch) {
                    watch.progress.push((*token, *number));
                }
            }
            Event::WatchEnded { watch, state } => {
                if let Some(watch) = self.watches.get_mut(watch) {
                    watch.ended = Some((at, *state));
                }
            }
            Event::WorkerStarted {
                worker,
                task_types,
                queues,
                slots,
                bare,
            } => {
                let started = WorkerRecord {
                    started: at,
                    task_types,
                    queues,
                    slots: *slots,
                    bare: *bare,
                    gone: None,
                    alive: Vec::new(),
                    lost: Vec::new(),
                };
                self.workers.insert(worker, started);
            }
            Event::WorkerGone { worker, why } => {
                if let Some(worker) = self.workers.get_mut(worker.as_str()) {
                    worker.gone.get_or_insert((at, *why));
                }
            }
            Event::SessionAlive {
                worker,
                session,
                sent,
            } => {
                if let Some(worker) = self.workers.get_mut(worker.as_str()) {
                    worker.alive.push((at, session, *sent));
                }
            }
            Event::SessionLost {
                worker,
                last_sent,
                reason,
                ..
            } => {
                if let Some(worker) = self.workers.get_mut(worker.as_str()) {
                    worker.lost.push((at, *last_sent, reason));
                }
            }
            Event::FaultBegins { fault, kind, target } => self.faults.push(FaultRecord {
                number: *fault,
                kind: *kind,
                target,
                begins: at,
                ends: Micros::MAX,
            }),
            Event::FaultEnds { fault } => {
                if let Some(fault) = self.faults.iter_mut().find(|known| known.number == *fault) {
                    fault.ends = at;
                }
            }
            Event::Healed => self.healed = Some(at),
            Event::HarnessStalled { ms } => self.stalls.push((at.saturating_sub(ms * 1_000), at)),
            Event::TaskFound(found) => {
                self.was_audited = true;
                self.task(&found.task).found = Some(found);
            }
            Event::SchedulerEnded { .. }
            | Event::SchedulerMemory { .. }
            | Event::Deadlock
            | Event::Misplaced { .. } => self.others.push(entry),
            Event::FaultMissed { .. } | Event::RunEnds => {}
            _ => self.add_lease_event(at, &entry.event),
        }
    }

    fn add_lease_event(&mut self, at: Micros, event: &'a Event) {
        match event {
            Event::LeaseReceived {
                worker,
                session,
                task,
                token,
                ..
            } => self.task(task).leases.push(LeaseSeen {
                at,
                worker,
                session,
                token: *token,
            }),
            Event::LeaseDropped { task, token, .. } => self.task(task).forgotten.push((at, *token)),
            Event::ReportSent {
                worker,
                task,
                token,
                report,
            } => self.task(task).reports.push(ReportSeen {
                worker,
                token: *token,
                report: *report,
                sent: at,
                answered: None,
            }),
            Event::ReportAnswered {
                worker,
                task,
                token,
                report,
                answer,
            } => {
                let known =
                    self.task(task).reports.iter_mut().rev().find(|known| {
                        known.worker == worker && known.token == *token && known.report == *report
                    });
                if let Some(known) = known {
                    known.answered.get_or_insert((at, *answer));
                }
            }
            Event::StopReceived { task, token, .. } => self.task(task).stops.push((at, *token)),
            Event::CodeStarted {
                worker, task, token, ..
            } => self.task(task).codes.push(CodeSeen {
                worker,
                token: *token,
                started: at,
                ended: None,
            }),
            Event::CodeEnded {
                worker,
                task,
                token,
                end,
            } => {
                let codes = self.task(task).codes.iter_mut().rev();
                let mut known = codes.filter(|known| known.worker == worker && known.token == *token);
                if let Some(known) = known.next() {
                    known.ended.get_or_insert((at, *end));
                }
            }
            Event::Effect {
                worker, task, token, ..
            } => self.task(task).effects.push(EffectSeen {
                at,
                worker,
                token: *token,
            }),
            _ => {}
        }
    }

    fn add_call(&mut self, at: Micros, call: u64, request: &'a Request) {
        match request {
            Request::Submit { tasks } => {
                for submitted in tasks {
                    let task = self.task(&submitted.task);
                    task.submitted.get_or_insert(submitted);
                    task.called.get_or_insert(at);
                }
            }
            Request::Watch { task } => {
                let watch = WatchRecord {
                    task,
                    called: at,
                    progress: Vec::new(),
                    ended: None,
                    given_up: false,
                };
                self.watches.insert(call, watch);
            }
            Request::Cancel { task } => self.task(task).cancels.push(CancelRecord {
                called: at,
                answered: None,
            }),
            Request::Delete { task } => {
                self.task(task).delete_called.get_or_insert(at);
            }
            Request::Get { .. } | Request::Revive { .. } | Request::Invent { .. } => {}
        }
    }

    fn add_answer(
        &mut self,
        call: u64,
        called: Micros,
        request: &'a Request,
        at: Micros,
        answer: &'a Answer,
    ) {
        let read = match answer {
            Answer::Task { state, token, .. } => Some(Read {
                called,
                answered: at,
                state: Some(*state),
                token: *token,
            }),
            Answer::NotFound => Some(Read {
                called,
                answered: at,
                state: None,
                token: 0,
            }),
            _ => None,
        };
        match request {
            Request::Submit { tasks } if *answer == Answer::Stored => {
                for submitted in tasks {
                    self.task(&submitted.task).stored.get_or_insert(at);
                }
            }
            Request::Submit { tasks } => {
                if let Answer::Refused { status } | Answer::Unknown { status } = answer {
                    for submitted in tasks {
                        self.task(&submitted.task).refusals.push((at, status));
                    }
                }
            }
            Request::Get { task } => self.task(task).reads.extend(read),
            Request::Cancel { task } => {
                let task = self.task(task);
                task.reads.extend(read);
                let known = task.cancels.iter_mut().find(|cancel| cancel.called == called);
                if let Some(cancel) = known {
                    cancel.answered = Some((at, answer));
                }
            }
            Request::Delete { task } => self.task(task).deletes.push((called, at, answer)),
            Request::Revive { task } => self.task(task).revivals.push((at, answer)),
            Request::Invent { .. } => self.inventions.push((called, at, answer)),
            Request::Watch { .. } => {
                if let Some(watch) = self.watches.get_mut(&call) {
                    watch.given_up = true;
                }
            }
        }
    }

    fn task(&mut self, id: &'a str) -> &mut TaskRecord<'a> {
        self.tasks.entry(id).or_default()
    }
}

impl<'a> TaskRecord<'a> {
    /// True if somebody tried to cancel it.
    pub(super) fn was_cancelled(&self) -> bool {
        !self.cancels.is_empty()
    }

    /// When a client was first told that it is removed.
    pub(super) fn deleted(&self) -> Option<Micros> {
        let definite = |(_, at, answer): &(Micros, Micros, &Answer)| {
            matches!(answer, Answer::Deleted | Answer::NotFound).then_some(*at)
        };
        self.deletes.iter().filter_map(definite).min()
    }

    /// The state that the tables hold, if the task has ended.
    pub(super) fn final_state(&self) -> Option<State> {
        use crate::history::Outcome;
        let last = self.found?.runs.iter().find(|run| run.ends_task)?;
        Some(match last.outcome {
            Outcome::Succeeded => State::Succeeded,
            Outcome::Cancelled => State::Cancelled,
            _ => State::Failed,
        })
    }
}
