//! Bringing a schema up to date, or refusing to touch it.

use tasklease_scheduler::store::{MigrateError, migrate};

use crate::{test_database::TestDatabase, world::config};

#[tokio::test]
async fn migrating_again_changes_nothing() {
    let test = TestDatabase::create().await;
    let first = migrate(&config(&test)).await.unwrap();
    let client = test.connect().await;
    let ledger = "SELECT string_agg(m::text, ';' ORDER BY version) FROM tasklease.migration m";
    let before: String = client.query_one(ledger, &[]).await.unwrap().get(0);
    assert_eq!(migrate(&config(&test)).await.unwrap(), first);
    let after: String = client.query_one(ledger, &[]).await.unwrap().get(0);
    assert_eq!(before, after);
    test.drop().await;
}

#[tokio::test]
async fn replicas_that_start_together_migrate_once() {
    let test = TestDatabase::create().await;
    let settings = config(&test);
    let (one, two, three) = tokio::join!(migrate(&settings), migrate(&settings), migrate(&settings));
    assert_eq!(one.unwrap(), two.unwrap());
    three.unwrap();
    test.drop().await;
}

#[tokio::test]
async fn a_migration_that_was_changed_after_it_was_applied_is_refused() {
    let test = TestDatabase::create().await;
    migrate(&config(&test)).await.unwrap();
    let client = test.connect().await;
    client
        .batch_execute("UPDATE tasklease.migration SET checksum = 'another' WHERE version = 1")
        .await
        .unwrap();
    let error = migrate(&config(&test)).await.unwrap_err();
    assert!(
        matches!(&error, MigrateError::Changed { version: 1, name } if name == "tasks"),
        "{error}"
    );
    test.drop().await;
}

#[tokio::test]
async fn a_schema_newer_than_the_binary_is_refused() {
    let test = TestDatabase::create().await;
    let known = migrate(&config(&test)).await.unwrap();
    let client = test.connect().await;
    client
        .execute(
            "INSERT INTO tasklease.migration (version, name, checksum) VALUES ($1, 'future', 'x')",
            &[&(known + 1)],
        )
        .await
        .unwrap();
    let error = migrate(&config(&test)).await.unwrap_err();
    assert!(
        matches!(error, MigrateError::TooNew { found, known: k } if found == known + 1 && k == known),
        "{error}"
    );
    test.drop().await;
}

#[tokio::test]
async fn a_schema_of_the_same_name_that_is_not_ours_is_refused_and_left_alone() {
    let test = TestDatabase::create().await;
    let client = test.connect().await;
    client
        .batch_execute("CREATE SCHEMA tasklease; CREATE TABLE tasklease.task (mine int)")
        .await
        .unwrap();
    let error = migrate(&config(&test)).await.unwrap_err();
    assert!(matches!(error, MigrateError::Foreign), "{error}");
    client
        .query("SELECT mine FROM tasklease.task", &[])
        .await
        .unwrap();
    test.drop().await;
}

#[tokio::test]
async fn a_newer_schema_that_this_binary_can_live_with_is_left_alone() {
    let test = TestDatabase::create().await;
    let known = migrate(&config(&test)).await.unwrap();
    let client = test.connect().await;
    client
        .execute(
            "INSERT INTO tasklease.migration (version, name, checksum, oldest_binary) VALUES ($1, 'future', 'x', $2)",
            &[&(known + 1), &known],
        )
        .await
        .unwrap();
    assert_eq!(migrate(&config(&test)).await.unwrap(), known + 1);
    test.drop().await;
}

#[tokio::test]
async fn an_empty_schema_that_somebody_made_is_filled() {
    let test = TestDatabase::create().await;
    let client = test.connect().await;
    client.batch_execute("CREATE SCHEMA tasklease").await.unwrap();
    migrate(&config(&test)).await.unwrap();
    test.drop().await;
}

#[tokio::test]
async fn a_failed_migration_leaves_nothing_and_no_lock() {
    let test = TestDatabase::create().await;
    let client = test.connect().await;
    client
        .batch_execute("CREATE SCHEMA tasklease; CREATE TABLE tasklease.task (mine int)")
        .await
        .unwrap();
    migrate(&config(&test)).await.unwrap_err();
    client.batch_execute("DROP TABLE tasklease.task").await.unwrap();
    migrate(&config(&test)).await.unwrap();
    test.drop().await;
}

#[tokio::test]
async fn tasks_that_waited_and_ran_before_there_were_bundles_still_do() {
    let test = TestDatabase::create().await;
    let client = test.connect().await;
    client
        .batch_execute(&format!(
            "CREATE SCHEMA tasklease; {} {}
             INSERT INTO tasklease.queue (name) VALUES ('q');
             INSERT INTO tasklease.lane (queue_id, task_type) VALUES (1, 't');
             INSERT INTO tasklease.task (id, lane, rank, max_attempts, order_key, payload)
             SELECT lpad(n::text, 32, '0')::uuid, 1, 0, 3, 7, '{{}}' FROM generate_series(1, 4) AS n;
             INSERT INTO tasklease.ready
             SELECT lane, rank, order_key, id, 1, 1 FROM tasklease.task ORDER BY id LIMIT 2;
             INSERT INTO tasklease.lease (session_id, grant_id, task_ids, lease_nos, attempts)
             SELECT id, 9, ARRAY(SELECT id FROM tasklease.task ORDER BY id OFFSET 2), '{{1, 5}}', '{{1, 2}}'
             FROM tasklease.task LIMIT 1",
            include_str!("../../migrations/0001_tasks.sql"),
            include_str!("../../migrations/0002_lease_storage.sql"),
        ))
        .await
        .unwrap();
    client
        .batch_execute(&format!(
            "BEGIN; {} COMMIT",
            include_str!("../../migrations/0003_bundles.sql")
        ))
        .await
        .unwrap();
    let standing = client
        .query("SELECT state, attempt FROM tasklease.task_now ORDER BY id", &[])
        .await
        .unwrap();
    let standing: Vec<(i16, i32)> = standing.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(standing, [(3, 0), (3, 0), (4, 1), (4, 2)]);
    let leases: String = client
        .query_one(
            "SELECT string_agg(lease_no || ' ' || attempt || ' ' || right(task_ids::text, 3), ', ' ORDER BY lease_no)
             FROM tasklease.lease",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(leases, "1 1 03}, 5 2 04}");
    test.drop().await;
}

/// The oldest schema, with a task that waited, one that ran, and what a run said, brought up to date.
#[tokio::test]
async fn what_the_first_schema_held_is_there_after_all_migrations() {
    let test = TestDatabase::create().await;
    migrate_to_first(&test).await;
    migrate(&config(&test)).await.unwrap();
    let client = test.connect().await;
    let places = client
        .query(
            "SELECT 'ready ' || lease_token FROM tasklease.ready
             UNION ALL SELECT 'grant ' || lease_token FROM tasklease.grant
             UNION ALL SELECT 'run ' || lease_token FROM tasklease.run
             UNION ALL SELECT 'event ' || lease_token FROM tasklease.task_event
             UNION ALL SELECT 'state ' || state FROM tasklease.task_now
             UNION ALL SELECT 'span ' || lane || ' ' || span FROM tasklease.lane_span
             ORDER BY 1",
            &[],
        )
        .await
        .unwrap();
    let places: Vec<String> = places.iter().map(|row| row.get(0)).collect();
    assert_eq!(
        places,
        [
            "event 4", "grant 5", "ready 1", "run 4", "span 1 0", "state 3", "state 4"
        ]
    );
    test.drop().await;
}

/// A waiting task keeps what its losses said; of ended tasks nobody asks.
#[tokio::test]
async fn what_losses_said_against_tasks_that_go_on_is_kept() {
    let test = TestDatabase::create().await;
    let client = test.connect().await;
    client.batch_execute("CREATE SCHEMA tasklease").await.unwrap();
    for migration in [
        include_str!("../../migrations/0001_tasks.sql"),
        include_str!("../../migrations/0002_lease_storage.sql"),
        include_str!("../../migrations/0003_bundles.sql"),
        include_str!("../../migrations/0004_reads.sql"),
        include_str!("../../migrations/0005_losses.sql"),
        include_str!("../../migrations/0006_lane_spans.sql"),
        include_str!("../../migrations/0007_words.sql"),
        "INSERT INTO tasklease.run (task_id, lease_token, outcome, final, attempt, finished_at, lost_with)
         SELECT lpad(task::text, 32, '0')::uuid, token, 5, false, 1, now(), lost_with
         FROM (VALUES (1, 1, 0), (1, 2, 7), (1, 3, NULL), (2, 1, 0), (3, 1, 0), (4, 1, 0)) AS v (task, token, lost_with);
         INSERT INTO tasklease.ready (lane, rank, order_key, first_task, lease_token, attempt, task_ids)
         SELECT 1, 0, 0, min(task_id::text)::uuid, 4, 1, ARRAY[min(task_id::text)::uuid] FROM tasklease.run;
         INSERT INTO tasklease.scheduled VALUES (lpad('2', 32, '0')::uuid, now(), 2, 1);
         INSERT INTO tasklease.grant (session_id, grant_id, task_ids, lease_token, attempt)
         SELECT lpad('3', 32, '0')::uuid, 1, ARRAY[lpad('3', 32, '0')::uuid], 2, 1",
        include_str!("../../migrations/0008_blame.sql"),
    ] {
        client
            .batch_execute(&format!("BEGIN; {migration}; COMMIT"))
            .await
            .unwrap();
    }
    let kept = "SELECT string_agg(concat_ws(' ', right(task_id::text, 1), lease_token, blame), ', '
                                  ORDER BY task_id, lease_token)
                FROM tasklease.run";
    let kept: String = client.query_one(kept, &[]).await.unwrap().get(0);
    assert_eq!(kept, "1 1 2, 1 2 0, 1 3, 2 1 2, 3 1 2, 4 1");
    test.drop().await;
}

async fn migrate_to_first(test: &TestDatabase) {
    let client = test.connect().await;
    let first = include_str!("../../migrations/0001_tasks.sql");
    client
        .batch_execute(&format!(
            "CREATE SCHEMA tasklease; {first}
             CREATE TABLE tasklease.migration (version int PRIMARY KEY, name text NOT NULL, checksum text NOT NULL,
                                               applied_at timestamptz NOT NULL DEFAULT now());
             INSERT INTO tasklease.queue (name) VALUES ('q');
             INSERT INTO tasklease.lane (queue_id, task_type) VALUES (1, 't');
             INSERT INTO tasklease.task (id, lane, rank, max_attempts, order_key, payload)
             SELECT lpad(n::text, 32, '0')::uuid, 1, 0, 9, 7, '{{}}' FROM generate_series(1, 2) AS n;
             INSERT INTO tasklease.ready SELECT lane, rank, order_key, id, 1, 1 FROM tasklease.task ORDER BY id LIMIT 1;
             INSERT INTO tasklease.run (task_id, lease_no, outcome, final, attempt, started_at, finished_at)
             SELECT id, 4, 2, false, 4, now(), now() FROM tasklease.task ORDER BY id OFFSET 1;
             INSERT INTO tasklease.task_event (task_id, lease_no, event_no, kind, message)
             SELECT id, 4, 1, 2, 'a line' FROM tasklease.task ORDER BY id OFFSET 1;
             INSERT INTO tasklease.lease (session_id, grant_id, task_ids, lease_nos, attempts)
             SELECT id, 9, ARRAY[id], '{{5}}', '{{5}}' FROM tasklease.task ORDER BY id OFFSET 1"
        ))
        .await
        .unwrap();
    let record = "INSERT INTO tasklease.migration (version, name, checksum)
                  VALUES (1, 'tasks', encode(sha256(convert_to($1, 'UTF8')), 'hex'))";
    client.execute(record, &[&first]).await.unwrap();
}
