//! Transactions that end runs wait for each other, never in a circle.

use tasklease_scheduler::domain::{ids::GrantKey, state::TaskState};

use crate::{
    blocked::until_so_many_wait,
    world::{World, decide, failed, new_task, succeeded},
};

/// A session ends while its last reports are settled: both touch its grant and its runs.
#[tokio::test]
async fn the_end_of_a_session_and_a_settlement_do_not_deadlock() {
    for ending in [succeeded, failed] {
        let world = World::new().await;
        let session = world.session("w").await;
        let tasks: Vec<_> = std::iter::repeat_with(new_task).take(2).collect();
        world.submit(&tasks).await;
        let mut leases = world.claim(session, 2).await;
        leases.sort_by_key(|lease| lease.key);
        let (first, second) = (&leases[0], &leases[1]);
        let emptied = [GrantKey {
            session,
            grant: first.grant,
        }];
        // The session's end stops at its first run, with the grant in hand.
        let mut other = world.connect().await;
        let open = other.transaction().await.unwrap();
        let insert = "INSERT INTO tasklease.run (task_id, lease_token, outcome, final, attempt, finished_at)
                      VALUES ($1, $2, 2, true, 1, now())";
        open.execute(insert, &[&first.key.task.0, &first.key.token.0])
            .await
            .unwrap();
        let ends = async {
            let ended = world.db.end_session(session, decide).await.unwrap();
            assert_eq!(ended.committed.len(), 2);
        };
        let settles = async {
            until_so_many_wait(&world.raw, 1).await;
            let verdicts = [ending(second)];
            let won = world.db.settle(&verdicts, &emptied).await.unwrap();
            assert_eq!(won, [], "the session had ended before");
        };
        let lets_go = async {
            until_so_many_wait(&world.raw, 2).await;
            open.rollback().await.unwrap();
        };
        tokio::join!(ends, settles, lets_go);
        for lease in &leases {
            assert_eq!(world.state(lease.key.task).await, TaskState::Pending);
        }
        world.end().await;
    }
}
