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
