//! A claim must not depend on statistics, which are missing just when a table grows fastest.

use crate::world::World;

/// As in `database.rs`; a test below fails if they part.
const CLAIM_SETTINGS: &str = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off;
                              SET enable_mergejoin = off; SET jit = off; SET plan_cache_mode = force_generic_plan";

#[tokio::test]
async fn a_claim_on_a_fresh_database_walks_its_indexes() {
    let world = World::new().await;
    let client = world.connect().await;
    client.batch_execute(CLAIM_SETTINGS).await.unwrap();
    client
        .batch_execute(&format!(
            "PREPARE claim (int, smallint, bigint, uuid, uuid[], bigint, bigint, smallint) AS {}",
            include_str!("../../src/store/sql/grants/claim.sql")
        ))
        .await
        .unwrap();
    let nil = uuid::Uuid::nil();
    let rows = client
        .query(
            &format!("EXPLAIN EXECUTE claim (1, 0, 0, '{nil}', ARRAY['{nil}']::uuid[], 1, 2, 5::smallint)"),
            &[],
        )
        .await
        .unwrap();
    let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let plan = plan.join("\n");
    assert!(!plan.contains("Seq Scan"), "{plan}");
    assert!(plan.contains("ready_pkey on ready"), "{plan}");
    assert!(plan.contains("task_pkey on task"), "{plan}");
    assert!(plan.contains("Tid Scan on ready"), "{plan}");
    let head = plan.split("CTE taken").next().unwrap();
    assert!(!head.contains("Sort"), "the index gives the order:\n{plan}");
    world.end().await;
}

#[test]
fn the_store_claims_with_these_settings() {
    let source = include_str!("../../src/store/database.rs");
    for setting in CLAIM_SETTINGS.split(';') {
        assert!(source.contains(setting.trim()), "{setting}");
    }
}
