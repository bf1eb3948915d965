//! Every pair of moves of one task, in both orders and together: whoever comes first, one place and one end.

use std::time::Duration;

use tasklease_scheduler::{
    domain::{
        ids::{SessionId, TaskId},
        lease::Lease,
        outcome::Outcome,
        state::TaskState,
    },
    store::CancelStep,
};

use crate::world::{World, decide, failed, succeeded, tasks_of};

/// How often each pair runs together.
const ROUNDS: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    Claim,
    Succeed,
    Fail,
    Cancel,
    Expire,
    Promote,
}

const MOVES: [Move; 6] = [
    Move::Claim,
    Move::Succeed,
    Move::Fail,
    Move::Cancel,
    Move::Expire,
    Move::Promote,
];

#[derive(Debug, Clone, Copy)]
enum Start {
    Due,
    Ready,
    Leased,
    AskedToStop,
}

const STARTS: [Start; 4] = [Start::Due, Start::Ready, Start::Leased, Start::AskedToStop];

/// What a move did, as its caller was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    /// The task ends CANCELLED.
    Cancelled,
    /// The task ended SUCCEEDED.
    Succeeded,
}

/// One task, and what the moves need to know of it.
struct Subject<'a> {
    world: &'a World,
    task: TaskId,
    /// Who claims next.
    session: SessionId,
    /// The lease at the start, if there is one, and its session.
    lease: Option<(SessionId, Lease)>,
}

impl<'a> Subject<'a> {
    async fn new(world: &'a World, start: Start) -> Self {
        let (task, lease) = match start {
            Start::Due => {
                let task = world.scheduled_task().await;
                world.let_be_due(task).await;
                (task, None)
            }
            Start::Ready => (world.ready_task().await, None),
            Start::Leased | Start::AskedToStop => {
                let (session, lease) = world.running_task().await;
                if matches!(start, Start::AskedToStop) {
                    world.cancel(lease.key.task).await;
                }
                (lease.key.task, Some((session, lease)))
            }
        };
        let session = world.session("next").await;
        if let Some((holder, _)) = &lease {
            world.let_expire(*holder).await;
        }
        Self {
            world,
            task,
            session,
            lease,
        }
    }

    async fn make(&self, step: Move) -> Told {
        let world = self.world;
        match step {
            Move::Claim => {
                world.claim(self.session, 1).await;
            }
            Move::Succeed | Move::Fail => {
                let Some((_, lease)) = &self.lease else {
                    return Told::Nothing;
                };
                let verdict = if step == Move::Succeed {
                    succeeded(lease)
                } else {
                    failed(lease)
                };
                let won = world.settle(verdict).await;
                match won.first().map(|fenced| fenced.outcome) {
                    Some(Outcome::Succeeded) => return Told::Succeeded,
                    Some(Outcome::Cancelled) => return Told::Cancelled,
                    _ => {}
                }
            }
            Move::Cancel => {
                if world.cancel(self.task).await != CancelStep::Neither {
                    return Told::Cancelled;
                }
            }
            Move::Expire => {
                world.db.expire_sessions(10_000, decide).await.unwrap();
            }
            Move::Promote => {
                world.db.promote(10).await.unwrap();
            }
        }
        Told::Nothing
    }

    /// Checks what must hold after every commit, and returns the state.
    async fn check(&self, what: &str) -> TaskState {
        let row = self
            .world
            .raw
            .query_one(
                "SELECT (SELECT count(*) FROM tasklease.ready WHERE $1 = ANY (task_ids)),
                        (SELECT count(*) FROM tasklease.scheduled WHERE task_id = $1),
                        (SELECT count(*) FROM tasklease.grant g
                         WHERE $1 = ANY (g.task_ids) AND NOT EXISTS (
                             SELECT FROM tasklease.run r
                             WHERE r.task_id = $1 AND r.lease_token = g.lease_token AND r.outcome <> 0)),
                        (SELECT count(*) FROM tasklease.run WHERE task_id = $1 AND final),
                        (SELECT coalesce(max(lease_token), 0) FROM tasklease.run WHERE task_id = $1 AND outcome <> 0),
                        (SELECT min(no) FROM (
                             SELECT lease_token AS no FROM tasklease.ready WHERE $1 = ANY (task_ids)
                             UNION ALL SELECT lease_token FROM tasklease.scheduled WHERE task_id = $1) AS places)",
                &[&self.task.0],
            )
            .await
            .unwrap();
        let count = |column: usize| row.get::<_, i64>(column);
        let (ready, scheduled, leased, ended) = (count(0), count(1), count(2), count(3));
        assert_eq!(
            ready + scheduled + leased + ended,
            1,
            "{what}: one place: ready {ready}, scheduled {scheduled}, leased {leased}, ended {ended}"
        );
        if let Some(next) = row.get::<_, Option<i32>>(5) {
            assert_eq!(next, row.get::<_, i32>(4) + 1, "{what}: lease tokens have no gap");
        }
        let state = self.world.state(self.task).await;
        let expected = match (ready, scheduled, leased) {
            (1, _, _) => state == TaskState::Pending,
            (_, 1, _) => state == TaskState::Scheduled,
            (_, _, 1) => state == TaskState::Running,
            _ => state.is_final(),
        };
        assert!(expected, "{what}: the view says {state}");
        state
    }

    /// Runs the task to its end, as a healthy local_sessions would.
    async fn finish(&self) -> TaskState {
        let world = self.world;
        let work = async {
            loop {
                let state = world.state(self.task).await;
                if state.is_final() {
                    return state;
                }
                world
                    .execute(
                        "UPDATE tasklease.scheduled SET due_at = now() - interval '1 s'",
                        &[],
                    )
                    .await;
                world.db.promote(10).await.unwrap();
                world.db.end_orphans(decide).await.unwrap();
                world.claim(self.session, 1).await;
                let holders = self.lease.iter().map(|(holder, _)| *holder).chain([self.session]);
                for session in holders {
                    for lease in world.leases(session).await {
                        world.settle(succeeded(&lease)).await;
                    }
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), work)
            .await
            .expect("every task can be brought to its end")
    }

    /// What callers were told is what came to be.
    async fn check_end(&self, told: &[Told], what: &str) {
        let state = self.finish().await;
        self.check(what).await;
        let expected = if told.contains(&Told::Cancelled) {
            assert!(!told.contains(&Told::Succeeded), "{what}: both won");
            TaskState::Cancelled
        } else {
            TaskState::Succeeded
        };
        assert_eq!(state, expected, "{what}: {told:?}");
        let waiting = self.world.claim(self.session, 5).await;
        assert!(
            !tasks_of(&waiting).contains(&self.task),
            "{what}: it starts again after its end"
        );
    }
}

fn asked(start: Start) -> Told {
    match start {
        Start::AskedToStop => Told::Cancelled,
        _ => Told::Nothing,
    }
}

#[tokio::test]
async fn two_moves_one_after_the_other_leave_one_place_and_one_end() {
    let world = World::new().await;
    for start in STARTS {
        for first in MOVES {
            for second in MOVES {
                let what = format!("{start:?}, then {first:?}, then {second:?}");
                let subject = Subject::new(&world, start).await;
                let mut state = subject.check(&what).await;
                let mut told = vec![asked(start)];
                for step in [first, second] {
                    told.push(subject.make(step).await);
                    let next = subject.check(&what).await;
                    assert!(
                        state == next || state.may_become(next),
                        "{what}: {state} became {next}"
                    );
                    state = next;
                }
                subject.check_end(&told, &what).await;
            }
        }
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_moves_that_meet_leave_one_place_and_one_end() {
    let world = World::new().await;
    for start in STARTS {
        for (n, first) in MOVES.into_iter().enumerate() {
            for second in MOVES.into_iter().skip(n) {
                for _ in 0..ROUNDS {
                    let what = format!("{start:?}, then {first:?} with {second:?}");
                    let subject = Subject::new(&world, start).await;
                    let (one, two) = tokio::join!(subject.make(first), subject.make(second));
                    subject.check(&what).await;
                    subject.check_end(&[asked(start), one, two], &what).await;
                }
            }
        }
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_moves_that_meet_leave_one_place_and_one_end() {
    let world = World::new().await;
    for start in STARTS {
        for _ in 0..ROUNDS * 4 {
            let what = format!("{start:?}, then everything");
            let subject = Subject::new(&world, start).await;
            let [a, b, c, d, e, f] = MOVES;
            let (a, b, c, d, e, f) = tokio::join!(
                subject.make(a),
                subject.make(b),
                subject.make(c),
                subject.make(d),
                subject.make(e),
                subject.make(f)
            );
            subject.check(&what).await;
            subject.check_end(&[asked(start), a, b, c, d, e, f], &what).await;
        }
    }
    world.end().await;
}
