//! Faults inside Postgres: statements that fail or are slow, and locks that somebody holds.

use std::time::Duration;

use crate::{
    fault_kind::FaultKind,
    plan::{LOAD_TYPES, QUEUES, TURN_TYPES},
    stand::Stand,
};

/// A trigger before every statement that writes to a table; it does what the row of its table says, as long as it says.
const INSTALL: &str = "
    CREATE SCHEMA IF NOT EXISTS chaos;
    CREATE UNLOGGED TABLE IF NOT EXISTS chaos.fault (
        table_name text PRIMARY KEY, until timestamptz NOT NULL, code text, pause double precision NOT NULL,
        percent int NOT NULL);
    CREATE OR REPLACE FUNCTION chaos.strike() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE fault chaos.fault;
    BEGIN
        SELECT * INTO fault FROM chaos.fault f WHERE f.table_name = TG_TABLE_NAME AND f.until > clock_timestamp();
        IF FOUND AND random() * 100 < fault.percent THEN
            PERFORM pg_sleep(fault.pause);
            IF fault.code IS NOT NULL THEN
                RAISE EXCEPTION 'a fault was planted here' USING ERRCODE = fault.code;
            END IF;
        END IF;
        RETURN NULL;
    END $$;
    DO $$
    DECLARE name text;
    BEGIN
        FOR name IN SELECT c.relname FROM pg_class c
                    WHERE c.relnamespace = 'tasklease'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        LOOP
            EXECUTE format('CREATE TRIGGER chaos BEFORE INSERT OR UPDATE OR DELETE ON tasklease.%I
                            FOR EACH STATEMENT EXECUTE FUNCTION chaos.strike()', name);
        END LOOP;
    END $$;";

/// $1 table, $2 seconds, $3 SQLSTATE, $4 pause in seconds, $5 how many of a hundred statements
const STRIKE: &str = "
    INSERT INTO chaos.fault VALUES ($1, clock_timestamp() + make_interval(secs => $2), $3, $4, $5)
    ON CONFLICT (table_name) DO UPDATE
    SET until = excluded.until, code = excluded.code, pause = excluded.pause, percent = excluded.percent";

/// Lanes that earlier clients have left behind, up to $3 with those that there are. $1 task types and $2 queues that
/// come later must not find that there are too many already.
const INVENT_LANES: &str = "
    WITH own AS (
        INSERT INTO tasklease.queue (name) SELECT unnest($2::text[])
        ON CONFLICT (namespace, name) DO UPDATE SET name = excluded.name RETURNING id),
    known AS (
        INSERT INTO tasklease.lane (queue_id, task_type) SELECT own.id, t.name FROM own, unnest($1::text[]) AS t (name)
        ON CONFLICT DO NOTHING),
    old AS (
        INSERT INTO tasklease.queue (name) VALUES ('left-behind')
        ON CONFLICT (namespace, name) DO UPDATE SET name = excluded.name RETURNING id)
    INSERT INTO tasklease.lane (queue_id, task_type)
    SELECT old.id, 'left-behind.' || n
    FROM old, generate_series(1, greatest(0, $3::bigint - (SELECT count(*) FROM tasklease.lane))) AS n
    ON CONFLICT DO NOTHING";

/// Tables that a failing or slow statement may be about.
const TABLES: [&str; 8] = [
    "run",
    "run",
    "run",
    "ready",
    "scheduled",
    "lease",
    "task",
    "session",
];

/// Puts the triggers on all tables of the schema.
///
/// # Errors
/// Postgres refuses.
pub async fn install(stand: &Stand) -> anyhow::Result<()> {
    stand.database.connect().await?.batch_execute(INSTALL).await?;
    Ok(())
}

/// The table that a choice stands for.
pub fn table(choice: u64) -> &'static str {
    let index = usize::try_from(choice).unwrap_or(0) % TABLES.len();
    TABLES.get(index).copied().unwrap_or("run")
}

/// Lets statements on a table fail, or take longer.
///
/// # Errors
/// Postgres does not answer.
pub async fn disturb(
    stand: &Stand,
    kind: FaultKind,
    table: &str,
    length: Duration,
    percent: i32,
) -> anyhow::Result<()> {
    let (code, pause) = match kind {
        FaultKind::FailIo => (Some("58030"), 0.0),
        FaultKind::FailDiskFull => (Some("53100"), 0.0),
        FaultKind::FailSerialization => (Some("40001"), 0.0),
        FaultKind::FailInternal => (Some("XX000"), 0.0),
        _ => (None, 0.3),
    };
    let client = stand.database.connect().await?;
    let seconds = length.as_secs_f64();
    client
        .execute(STRIKE, &[&table, &seconds, &code, &pause, &percent])
        .await?;
    tokio::time::sleep(length).await;
    Ok(())
}

/// Holds an exclusive lock on a table; on one only, so that it cannot make a deadlock.
///
/// # Errors
/// Postgres does not answer.
pub async fn lock(stand: &Stand, table: &str, length: Duration) -> anyhow::Result<()> {
    let mut client = stand.database.connect().await?;
    let transaction = client.transaction().await?;
    let lock = format!("LOCK TABLE tasklease.{table} IN ACCESS EXCLUSIVE MODE");
    transaction.batch_execute(&lock).await?;
    tokio::time::sleep(length).await;
    transaction.rollback().await?;
    Ok(())
}

/// Makes so many lanes, as clients may have done long ago.
///
/// # Errors
/// Postgres does not answer.
pub async fn invent_lanes(stand: &Stand, count: usize) -> anyhow::Result<()> {
    let types: Vec<&str> = LOAD_TYPES.iter().chain(&TURN_TYPES).copied().collect();
    let count = i64::try_from(count)?;
    let client = stand.database.connect().await?;
    client
        .execute(INVENT_LANES, &[&types, &QUEUES.as_slice(), &count])
        .await?;
    Ok(())
}

/// Ends all connections to the database but its own.
///
/// # Errors
/// Postgres does not answer.
pub async fn end_connections(stand: &Stand) -> anyhow::Result<()> {
    let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    stand.database.connect().await?.batch_execute(all).await?;
    Ok(())
}
