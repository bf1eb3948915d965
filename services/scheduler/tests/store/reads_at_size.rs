//! Reads touch rows in proportion to what they return, however much there is. Rows are counted, not seconds: from the plan
//! that Postgres reports after it has run the statement as the scheduler runs it.

use serde_json::Value;
use tokio_postgres::{Client, SimpleQueryMessage};
use uuid::Uuid;

use crate::world::World;

/// As in `database.rs`, and for any parameters.
const SETTINGS: &str = "SET enable_seqscan = off; SET jit = off; SET plan_cache_mode = force_generic_plan";

/// In this order of ids: of 120,000 tasks of one start time, 20,000 that run in grants of one, and 100,000 that wait in
/// bundles of 50; 50,000 that wait for a retry under one key, 50,000 that failed.
const FILL: &str = "
CREATE FUNCTION id_of(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS
    $$ SELECT (lpad(to_hex(1700000000000 + n), 12, '0') || '70008' || lpad(to_hex(n), 15, '0'))::uuid $$;
INSERT INTO tasklease.task (id, lane, rank, max_attempts, order_key, payload)
SELECT id_of(n), 1, 0, 5, 1700000000000000, '{}' FROM generate_series(0, 219999) AS n;
INSERT INTO tasklease.ready (lane, rank, order_key, first_task, lease_token, attempt, task_ids)
SELECT 1, 0, 1700000000000000, id_of(b * 50), 1, 1, ARRAY(SELECT id_of(b * 50 + i) FROM generate_series(0, 49) AS i)
FROM generate_series(400, 2399) AS b;
INSERT INTO tasklease.session (id, name, incarnation, task_types, queues, labels, slots, scheduler, expires_at)
VALUES (id_of(1), 'w', 'i', '{t}', '{default}', '{}', 20000, 's', now() + interval '1 day');
INSERT INTO tasklease.grant (session_id, grant_id, lease_token, attempt, task_ids)
SELECT id_of(1), n, 1, 1, ARRAY[id_of(n)] FROM generate_series(0, 19999) AS n;
INSERT INTO tasklease.run (task_id, lease_token, outcome, final, attempt, started_at, finished_at, next_order_key)
SELECT id_of(n), 1, 2, false, 1, now(), now(), 1800000000000000 FROM generate_series(120000, 169999) AS n;
INSERT INTO tasklease.ready (lane, rank, order_key, first_task, lease_token, attempt, task_ids)
SELECT 1, 0, 1800000000000000, id_of(n), 2, 2, ARRAY[id_of(n)] FROM generate_series(120000, 169999) AS n;
INSERT INTO tasklease.run (task_id, lease_token, outcome, final, attempt, started_at, finished_at)
SELECT id_of(n), 1, 2, true, 1, now(), now() FROM generate_series(170000, 219999) AS n;
INSERT INTO tasklease.task_event (task_id, lease_token, event_no, kind, message)
SELECT id_of(0), 1, n, CASE WHEN n = 1 THEN 1 ELSE 2 END, 'x' FROM generate_series(1, 50000) AS n";

async fn filled() -> (World, Client) {
    let world = World::new().await;
    world.raw.batch_execute(FILL).await.unwrap();
    let client = world.connect().await;
    client.batch_execute(SETTINGS).await.unwrap();
    (world, client)
}

/// Runs a statement, and returns how many rows all steps of its plan read, those that they dropped included.
async fn rows_touched(client: &Client, types: &str, sql: &str, arguments: &str) -> u64 {
    let script = format!(
        "DEALLOCATE ALL; PREPARE statement ({types}) AS {sql}; EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE statement ({arguments})"
    );
    let messages = client.simple_query(&script).await.unwrap();
    let json = messages
        .iter()
        .find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        })
        .unwrap();
    let plan: Value = serde_json::from_str(json).unwrap();
    rows_of(&plan[0]["Plan"])
}

fn rows_of(node: &Value) -> u64 {
    let number = |name: &str| node[name].as_f64().unwrap_or(0.0);
    let rows = number("Actual Rows")
        + number("Rows Removed by Filter")
        + number("Rows Removed by Join Filter")
        + number("Rows Removed by Index Recheck");
    let own = (rows * number("Actual Loops")) as u64;
    own + node["Plans"]
        .as_array()
        .into_iter()
        .flatten()
        .map(rows_of)
        .sum::<u64>()
}

async fn ids(client: &Client, first: i64, last: i64) -> String {
    let sql = "SELECT array_agg(id_of(n))::text FROM generate_series($1::bigint, $2::bigint) AS n";
    client.query_one(sql, &[&first, &last]).await.unwrap().get(0)
}

#[tokio::test]
async fn reading_a_task_costs_the_same_however_many_wait_or_ran_with_it() {
    let (world, client) = filled().await;
    let read = include_str!("../../src/store/sql/tasks/read_tasks.sql");
    for (first, last, running) in [
        (119_990, 119_990, 0),
        (50_000, 50_099, 0),
        (169_000, 169_099, 0),
        (219_000, 219_099, 0),
        (0, 0, 20_000),
        (0, 999, 20_000),
    ] {
        let ids = ids(&client, first, last).await;
        let touched = rows_touched(&client, "uuid[], boolean", read, &format!("'{ids}', false")).await;
        let tasks = u64::try_from(last - first + 1).unwrap();
        // Each task passes some thirty steps; each lease passes four, once, if one of the tasks runs at all.
        let expected = 40 * tasks + 4 * running + 10;
        assert!(
            touched < expected,
            "{first}..={last}: {touched} rows, not below {expected}"
        );
    }
    world.end().await;
}

#[tokio::test]
async fn cancelling_a_waiting_task_costs_the_same_however_many_wait_with_it() {
    let (world, client) = filled().await;
    let cancel = include_str!("../../src/store/sql/cancels/cancel_waiting.sql");
    for task in [20_000, 50_025, 119_999, 120_000, 169_999] {
        let id = ids(&client, task, task).await.replace(['{', '}'], "");
        let touched = rows_touched(&client, "uuid, text", cancel, &format!("'{id}', 'why'")).await;
        assert!(touched < 60, "{task}: {touched} rows");
    }
    world.end().await;
}

#[tokio::test]
async fn a_list_by_state_looks_at_tasks_of_that_state_only() {
    let (world, client) = filled().await;
    macro_rules! list {
        ($name:literal, $lanes:literal) => {{
            let sql = include_str!(concat!("../../src/store/sql/tasks/list_", $name, ".sql"));
            let (low, high) = (Uuid::nil(), Uuid::max());
            let arguments = format!("'{{{low}}}', '{{{high}}}', {}, 1000, 101", $lanes);
            rows_touched(&client, "uuid[], uuid[], int[], bigint, bigint", sql, &arguments).await
        }};
    }
    // Filters that match nothing: 220,000 tasks, none of them in these states.
    for touched in [list!("scheduled", "null"), list!("cancelled", "null")] {
        assert!(touched < 10, "{touched} rows");
    }
    for touched in [
        list!("failed", "null"),
        list!("failed", "'{1}'"),
        list!("newest", "null"),
    ] {
        assert!(touched < 10 * 1_000, "{touched} rows");
    }
    // A task passes some ten steps, a bundle some five.
    let touched = list!("ready", "null");
    assert!(touched < 10 * 1_000 + 5 * 52_000, "{touched} rows");
    let touched = list!("leased", "null");
    assert!(touched < 5 * 20_000, "{touched} rows");
    world.end().await;
}
