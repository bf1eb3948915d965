//! A scheduler and the schema of another version.

use tasklease_tests::{Database, Scheduler, program, run_with};

#[tokio::test]
async fn a_scheduler_refuses_a_schema_that_it_does_not_know() {
    let database = Database::create().await;
    Scheduler::start(&database.url()).await.terminate().await;
    database
        .execute("INSERT INTO tasklease.migration (version, name, checksum) VALUES (9999, 'the future', '-')")
        .await;

    let url = database.url();
    let environment = [("DATABASE_URL", &*url), ("TASKLEASE_LISTEN", "127.0.0.1:0")];
    let refused = run_with(&program("tasklease-scheduler"), [""; 0], &environment).await;

    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("9999") && refused.stdout.is_empty(),
        "{refused:?}"
    );
}
