//! Sessions: heartbeats, going on, and what becomes of the leases when one ends.

use std::time::Duration;

use tasklease_scheduler::{
    domain::{
        ids::{SessionId, TaskId},
        lease::DeadLease,
        outcome::Outcome,
        state::TaskState,
        verdict::{self, Disposition, LossLimit},
    },
    store::{Mark, TickQuestion},
};
use uuid::Uuid;

use crate::world::{LEASE, Minutes, World, decide, error_kind, key, profile, succeeded, tasks_of, worker};

#[tokio::test]
async fn a_heartbeat_keeps_a_session_that_was_about_to_expire() {
    let world = World::new().await;
    let (session, lease) = world.running_task().await;
    world.let_expire(session).await;
    let gone = SessionId(Uuid::new_v4());
    assert_eq!(
        world.heartbeat(&[session, gone]).await,
        [session],
        "a session that is over is not brought back"
    );
    let ended = world.db.expire_sessions(10, decide).await.unwrap();
    assert!(ended.sessions.is_empty());
    assert_eq!(world.state(lease.key.task).await, TaskState::Running);
    world.end().await;
}

#[tokio::test]
async fn an_expiry_that_waits_for_nobody_leaves_a_session_whose_heartbeat_is_under_way() {
    let world = World::new().await;
    let (session, _) = world.running_task().await;
    world.let_expire(session).await;
    let mut other = world.connect().await;
    let open = other.transaction().await.unwrap();
    open.query(
        include_str!("../../src/store/sql/sessions/heartbeat.sql"),
        &[&vec![session.0], &vec![Minutes(0)], &Minutes(60)],
    )
    .await
    .unwrap();
    assert!(
        world
            .db
            .expire_sessions(10, decide)
            .await
            .unwrap()
            .sessions
            .is_empty()
    );
    open.commit().await.unwrap();
    assert!(
        world
            .db
            .expire_sessions(10, decide)
            .await
            .unwrap()
            .sessions
            .is_empty()
    );
    world.end().await;
}

#[tokio::test]
async fn tasks_of_a_dead_worker_are_ready_at_once_and_counted() {
    let world = World::new().await;
    let (session, lease) = world.running_task().await;
    world.let_expire(session).await;
    let ended = world.db.expire_sessions(10, decide).await.unwrap();
    assert_eq!(ended.sessions, [session]);
    assert_eq!(ended.committed.len(), 1);
    assert_eq!(ended.verdicts[0].lane, world.lane);
    let read = world.read(lease.key.task).await;
    assert_eq!((read.standing.state(), read.attempt()), (TaskState::Pending, 1));
    assert_eq!(error_kind(&read), "WORKER_LOST");
    assert_eq!(worker(&read), Some("w"));
    assert!(world.heartbeat(&[session]).await.is_empty());
    assert_eq!(
        world.settle(succeeded(&lease)).await,
        [],
        "the zombie's report comes too late"
    );
    let next = world.session("next").await;
    let again = world.claim(next, 1).await.remove(0);
    assert_eq!((again.key, again.attempt), (key(lease.key.task, 2), 2));
    world.end().await;
}

#[tokio::test]
async fn a_task_that_kills_three_workers_is_quarantined() {
    let world = World::new().await;
    let task = world.ready_task().await;
    for death in 1..=3 {
        let session = world.session("victim").await;
        let lease = world.claim(session, 1).await.remove(0);
        assert_eq!(lease.key.token.0, death);
        world.let_expire(session).await;
        world.db.expire_sessions(10, decide).await.unwrap();
    }
    let read = world.read(task).await;
    assert_eq!(read.standing.state(), TaskState::Failed);
    assert_eq!(error_kind(&read), "POISONED");
    assert_eq!(world.outcomes(task).await, [Outcome::Lost; 3]);
    world.end().await;
}

#[tokio::test]
async fn leases_that_ended_before_are_no_business_of_an_expiry() {
    let world = World::new().await;
    let session = world.session("w").await;
    let (first, second) = (world.ready_task().await, world.ready_task().await);
    let leases = world.claim(session, 2).await;
    let done = leases.iter().find(|lease| lease.key.task == first).unwrap();
    world.settle(succeeded(done)).await;
    world.let_expire(session).await;
    let ended = world.db.expire_sessions(10, decide).await.unwrap();
    assert_eq!(ended.verdicts.len(), 1);
    assert_eq!(ended.verdicts[0].key.task, second);
    assert_eq!(world.state(first).await, TaskState::Succeeded);
    assert_eq!(world.count("SELECT count(*) FROM tasklease.grant", &[]).await, 0);
    world.end().await;
}

#[tokio::test]
async fn two_replicas_end_a_session_once() {
    let world = World::new().await;
    let (session, lease) = world.running_task().await;
    world.let_expire(session).await;
    let (one, two) = tokio::join!(
        world.db.expire_sessions(10, decide),
        world.db.expire_sessions(10, decide)
    );
    let won = one.unwrap().committed.len() + two.unwrap().committed.len();
    assert_eq!(won, 1);
    assert_eq!(world.outcomes(lease.key.task).await, [Outcome::Lost]);
    world.end().await;
}

#[tokio::test]
async fn tasks_claimed_for_a_session_that_was_over_go_back_uncounted() {
    let world = World::new().await;
    let task = world.ready_task().await;
    let gone = SessionId(Uuid::new_v4());
    world.claim(gone, 1).await;
    assert_eq!(world.state(task).await, TaskState::Running);
    let ended = world.db.end_orphans(decide).await.unwrap();
    assert_eq!(ended.committed.len(), 1);
    let read = world.read(task).await;
    assert_eq!((read.standing.state(), read.attempt()), (TaskState::Pending, 0));
    assert_eq!(error_kind(&read), "NOT_ACCEPTED");
    assert!(world.db.end_orphans(decide).await.unwrap().committed.is_empty());
    world.end().await;
}

#[tokio::test]
async fn grants_of_live_sessions_are_no_orphans() {
    let world = World::new().await;
    let (_, lease) = world.running_task().await;
    assert!(world.db.end_orphans(decide).await.unwrap().sessions.is_empty());
    assert_eq!(world.state(lease.key.task).await, TaskState::Running);
    world.end().await;
}

#[tokio::test]
async fn a_goodbye_hands_tasks_back_without_costing_an_attempt() {
    let world = World::new().await;
    let (session, lease) = world.running_task().await;
    let bystander = world.session("other").await;
    let ended = world
        .db
        .end_session(session, |dead| {
            assert_eq!(dead.worker.as_deref(), Some("w"));
            verdict::handed_back(dead, "the worker stopped")
        })
        .await
        .unwrap();
    assert!(matches!(ended.verdicts[0].disposition, Disposition::Retry { .. }));
    assert_eq!(world.state(lease.key.task).await, TaskState::Pending);
    assert_eq!(world.heartbeat(&[session, bystander]).await, [bystander]);
    let again = world.claim(bystander, 1).await.remove(0);
    assert_eq!((again.attempt, again.key.token.0), (1, 2));
    let nobody = world
        .db
        .end_session(session, verdict::never_delivered)
        .await
        .unwrap();
    assert!(nobody.sessions.is_empty());
    world.end().await;
}

#[tokio::test]
async fn a_session_goes_on_for_the_same_process_only_and_with_its_leases() {
    let world = World::new().await;
    let (session, lease) = world.running_task().await;
    let resume = |id, incarnation| world.db.resume_session(id, incarnation, "elsewhere", LEASE);
    assert!(resume(session, "w-1").await.unwrap());
    assert!(!resume(session, "w-2").await.unwrap());
    assert!(!resume(SessionId(Uuid::new_v4()), "w-1").await.unwrap());
    let workers = world.db.list_workers(SessionId(Uuid::nil()), 10).await.unwrap();
    assert_eq!(workers[0].scheduler, "elsewhere");
    let leases = world.leases(session).await;
    assert_eq!(tasks_of(&leases), [lease.key.task]);
    let loaded = &leases[0];
    assert_eq!(
        (
            loaded.key,
            loaded.grant,
            loaded.lane,
            loaded.attempt,
            loaded.max_attempts
        ),
        (
            lease.key,
            lease.grant,
            lease.lane,
            lease.attempt,
            lease.max_attempts
        )
    );
    world.end().await;
}

#[tokio::test]
async fn a_worker_is_known_while_its_session_lasts() {
    let world = World::new().await;
    let session = world.session("w").await;
    assert_eq!(
        world.db.session_worker(session).await.unwrap().as_deref(),
        Some("w")
    );
    world.let_expire(session).await;
    world.db.expire_sessions(10, decide).await.unwrap();
    assert_eq!(world.db.session_worker(session).await.unwrap(), None);
    world.end().await;
}

#[tokio::test]
async fn a_session_that_is_opened_expires_after_its_lease() {
    let world = World::new().await;
    let id = SessionId(Uuid::new_v4());
    world
        .db
        .open_session(id, &profile("w"), "replica", Duration::from_secs(15))
        .await
        .unwrap();
    let seconds = world
        .count(
            "SELECT extract(epoch FROM expires_at - heartbeat_at)::bigint FROM tasklease.session",
            &[],
        )
        .await;
    assert_eq!(seconds, 15);
    world.end().await;
}

#[tokio::test]
async fn only_old_grants_whose_runs_have_all_ended_are_swept() {
    let world = World::new().await;
    let (_, running) = world.running_task().await;
    let (_, ended) = world.running_task().await;
    world.settle(succeeded(&ended)).await;
    assert_eq!(world.db.sweep_grants().await.unwrap(), 0, "it is young");
    world
        .execute(
            "UPDATE tasklease.grant SET created_at = now() - interval '1 hour'",
            &[],
        )
        .await;
    assert_eq!(world.db.sweep_grants().await.unwrap(), 1);
    assert_eq!(world.state(running.key.task).await, TaskState::Running);
    assert_eq!(world.state(ended.key.task).await, TaskState::Succeeded);
    world.end().await;
}

#[tokio::test]
async fn a_grant_whose_ended_task_was_deleted_is_swept_too() {
    let world = World::new().await;
    let (_, ended) = world.running_task().await;
    world.settle(succeeded(&ended)).await;
    assert!(world.db.delete_task(ended.key.task).await.unwrap());
    world
        .execute(
            "UPDATE tasklease.grant SET created_at = now() - interval '1 hour'",
            &[],
        )
        .await;
    assert_eq!(world.db.sweep_grants().await.unwrap(), 1);
    world.end().await;
}

#[tokio::test]
async fn a_claim_of_many_sessions_gives_each_its_own_grant() {
    let world = World::new().await;
    let (one, two) = (world.session("one").await, world.session("two").await);
    for _ in 0..2 {
        world.ready_task().await;
    }
    world.claim_with(world.lane, Mark::START, vec![one, two]).await;
    world.let_expire(one).await;
    world.db.expire_sessions(10, decide).await.unwrap();
    assert_eq!(world.leases(two).await.len(), 1);
    world.end().await;
}

/// What a replica does that starts, or finds the database again, after nobody was at work for long.
async fn tick_after_an_outage(world: &World) -> i64 {
    world
        .execute(
            "UPDATE tasklease.scheduler SET seen_at = now() - interval '20 min'",
            &[],
        )
        .await;
    let me = tasklease_scheduler::domain::ids::ReplicaId(Uuid::new_v4());
    let question = TickQuestion {
        replica: me,
        name: "me",
        lease: LEASE,
        lanes: &[],
        sessions: &[],
    };
    let tick = world.db.tick(&question).await.unwrap();
    assert!(!tick.expired, "nobody is given up in the same moment");
    tick.spared
}

#[tokio::test]
async fn an_outage_of_all_schedulers_costs_no_session_its_life_and_no_task_an_attempt() {
    let world = World::new().await;
    let (session, lease) = world.running_task().await;
    let past = "UPDATE tasklease.session SET heartbeat_at = now() - interval '1 h', expires_at = now() - interval '1 s'";
    for _ in 0..4 {
        world.execute(past, &[]).await;
        assert_eq!(tick_after_an_outage(&world).await, 1);
        let ended = world.db.expire_sessions(10, decide).await.unwrap();
        assert!(ended.sessions.is_empty());
        assert_eq!(world.heartbeat(&[session]).await, [session]);
    }
    // A worker that is never heard again after an outage may have given up because of it.
    world.execute(past, &[]).await;
    tick_after_an_outage(&world).await;
    world.let_expire(session).await;
    world.db.expire_sessions(10, decide).await.unwrap();
    let read = world.read(lease.key.task).await;
    assert_eq!((read.standing.state(), read.attempt()), (TaskState::Pending, 0));
    assert_eq!(world.outcomes(lease.key.task).await, [Outcome::Released]);
    world.end().await;
}

#[tokio::test]
async fn a_session_that_was_heard_just_now_is_not_spared() {
    let world = World::new().await;
    let (session, lease) = world.running_task().await;
    assert_eq!(tick_after_an_outage(&world).await, 0);
    world.let_expire(session).await;
    world.db.expire_sessions(10, decide).await.unwrap();
    assert_eq!(world.outcomes(lease.key.task).await, [Outcome::Lost]);
    world.end().await;
}

#[tokio::test]
async fn a_heartbeat_that_waited_for_the_database_extends_a_lease_from_when_it_came() {
    let world = World::new().await;
    let session = world.session("w").await;
    world.let_expire(session).await;
    let late = [(session, LEASE * 2)];
    world.db.heartbeat(&late, LEASE).await.unwrap();
    let ended = world.db.expire_sessions(10, decide).await.unwrap();
    assert_eq!(ended.sessions, [session]);
    world.end().await;
}

#[tokio::test]
async fn of_tasks_that_go_down_together_again_and_again_only_the_common_one_is_quarantined() {
    let world = World::new().await;
    let killer = world.ready_task().await;
    let mut innocents = Vec::new();
    // The first loss in company says nothing, and every other counts half.
    for _ in 0..7 {
        innocents.push(world.ready_task().await);
        let session = world.session("victim").await;
        world
            .execute(
                "UPDATE tasklease.scheduled SET due_at = now() - interval '1 s'",
                &[],
            )
            .await;
        world.db.promote(10).await.unwrap();
        let leases = world.claim(session, 10).await;
        for lease in &leases {
            if lease.key.task != killer && lease.key.task != *innocents.last().unwrap() {
                world.settle(succeeded(lease)).await;
            }
        }
        world.let_expire(session).await;
        world.db.expire_sessions(10, decide).await.unwrap();
    }
    assert_eq!(error_kind(&world.read(killer).await), "POISONED");
    let last = world.read(innocents[6]).await;
    assert_eq!((last.standing.state(), last.attempt()), (TaskState::Pending, 0));
    world.end().await;
}

/// Loses a worker that held the only task that waits.
async fn lose_alone(world: &World, task: TaskId) {
    let session = world.session("victim").await;
    assert_eq!(tasks_of(&world.claim(session, 10).await), [task]);
    world.let_expire(session).await;
    world.db.expire_sessions(10, decide).await.unwrap();
}

async fn points(world: &World, task: TaskId) -> i64 {
    world
        .count(
            "SELECT coalesce(sum(blame), 0) FROM tasklease.run WHERE task_id = $1",
            &[&task.0],
        )
        .await
}

#[tokio::test]
async fn a_task_is_cleared_of_a_loss_once_its_company_of_then_kills_workers_without_it() {
    let world = World::new().await;
    let innocent = world.ready_task().await;
    lose_alone(&world, innocent).await;
    let killer = world.ready_task().await;
    let session = world.session("victim").await;
    assert_eq!(world.claim(session, 10).await.len(), 2);
    world.let_expire(session).await;
    world.db.expire_sessions(10, decide).await.unwrap();
    assert_eq!(
        (points(&world, innocent).await, points(&world, killer).await),
        (3, 0)
    );

    // The suspect waits, and the other comes back at once.
    lose_alone(&world, killer).await;

    assert_eq!(
        (points(&world, innocent).await, points(&world, killer).await),
        (2, 2)
    );
    lose_alone(&world, killer).await;
    assert_eq!(
        points(&world, innocent).await,
        2,
        "it is cleared of that loss once"
    );
    world.end().await;
}

/// The last point against one task goes in the transaction in which it would count.
#[tokio::test]
async fn a_task_that_is_cleared_in_the_moment_of_its_next_loss_is_not_quarantined() {
    let world = World::new().await;
    let innocent = world.ready_task().await;
    lose_alone(&world, innocent).await;
    let killer = world.ready_task().await;
    let mut session = world.session("victim").await;
    assert_eq!(world.claim(session, 10).await.len(), 2);
    world.let_expire(session).await;
    world.db.expire_sessions(10, decide).await.unwrap();
    world
        .execute(
            "UPDATE tasklease.run SET blame = 1 WHERE task_id = $1 AND blame = 2",
            &[&innocent.0],
        )
        .await;
    assert_eq!(points(&world, innocent).await, 2);

    let other = world.session("other victim").await;
    assert_eq!(tasks_of(&world.claim(other, 1).await), [killer]);
    world.let_be_due(innocent).await;
    world.db.promote(10).await.unwrap();
    session = world.session("victim").await;
    assert_eq!(tasks_of(&world.claim(session, 1).await), [innocent]);
    world.let_expire(session).await;
    world.let_expire(other).await;
    let strict = |dead: &DeadLease| verdict::lost(dead, LossLimit(Some(2)), 1.0);
    world.db.expire_sessions(10, strict).await.unwrap();

    assert_eq!(points(&world, innocent).await, 1 + 2);
    assert_eq!(world.state(innocent).await, TaskState::Pending);
    world.end().await;
}

#[tokio::test]
async fn a_tick_names_connected_sessions_that_are_over() {
    let world = World::new().await;
    let (lives, over) = (world.session("one").await, world.session("two").await);
    world.let_expire(over).await;
    world.db.expire_sessions(10, decide).await.unwrap();
    let question = TickQuestion {
        replica: tasklease_scheduler::domain::ids::ReplicaId(Uuid::new_v4()),
        name: "me",
        lease: LEASE,
        lanes: &[],
        sessions: &[lives, over],
    };
    assert_eq!(world.db.tick(&question).await.unwrap().gone_sessions, [over]);
    world.end().await;
}

#[tokio::test]
async fn the_leases_of_some_tasks_come_with_all_others_of_their_grants() {
    let world = World::new().await;
    let session = world.session("w").await;
    for _ in 0..3 {
        world.ready_task().await;
    }
    let together = world.claim(session, 2).await;
    let apart = world.claim(session, 1).await.remove(0);
    let asked = [together[0].key.task];
    let found = world.db.session_leases(&[session], Some(&asked)).await.unwrap();
    let mut found: Vec<_> = found.into_iter().map(|(_, known)| known.lease.key).collect();
    found.sort();
    let mut expected: Vec<_> = together.iter().map(|lease| lease.key).collect();
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(world.leases(session).await.len(), 3);
    assert_ne!(apart.grant, together[0].grant);
    world.end().await;
}
