//! Brings the schema `tasklease` to the version that this binary knows.
//!
//! Migrations are numbered, forward only, and never edited once released: the checksum of each is kept and compared.
//! One replica migrates at a time, under an advisory lock; a schema newer than the binary is refused.

use std::{fmt::Write as _, time::Duration};

use sha2::{Digest as _, Sha256};
use tokio_postgres::{Client, NoTls};

use super::{database::DatabaseConfig, error::StoreError};

struct Migration {
    version: i32,
    name: &'static str,
    sql: &'static str,
}

const MIGRATIONS: [Migration; 4] = [
    Migration {
        version: 1,
        name: "tasks",
        sql: include_str!("../../migrations/0001_tasks.sql"),
    },
    Migration {
        version: 2,
        name: "lease_storage",
        sql: include_str!("../../migrations/0002_lease_storage.sql"),
    },
    Migration {
        version: 3,
        name: "bundles",
        sql: include_str!("../../migrations/0003_bundles.sql"),
    },
    Migration {
        version: 4,
        name: "reads",
        sql: include_str!("../../migrations/0004_reads.sql"),
    },
];

/// Any constant, as long as every version uses the same.
const LOCK: i64 = 0x7461_736b_6c65;

const LOCK_PATIENCE: Duration = Duration::from_secs(60);

/// Why the schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// Postgres cannot be reached or refused a statement.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another program, or a newer version of this one, made the schema.
    #[error(
        "the database has schema version {found}, this scheduler knows up to {known}; use a newer scheduler"
    )]
    TooNew {
        /// Version in the database.
        found: i32,
        /// Highest version of this binary.
        known: i32,
    },
    /// A migration that was applied is not the one this binary knows.
    #[error(
        "migration {version} ({name}) in the database differs from this scheduler's; refusing to touch it"
    )]
    Changed {
        /// Its number.
        version: i32,
        /// Its name.
        name: String,
    },
    /// There is a schema of that name, but not ours.
    #[error("the database has a schema `tasklease` that no scheduler made; drop or rename it")]
    Foreign,
}

/// Applies what is missing, and returns the version that the schema has then.
///
/// # Errors
/// See [`MigrateError`].
pub async fn migrate(config: &DatabaseConfig) -> Result<i32, MigrateError> {
    let mut pg: tokio_postgres::Config = config.url.parse().map_err(StoreError::from)?;
    pg.application_name("tasklease migrations")
        .connect_timeout(Duration::from_secs(5));
    let (mut client, connection) = pg.connect(NoTls).await.map_err(StoreError::from)?;
    let driver = tokio::spawn(connection);
    let result = apply(&mut client).await;
    // Closing the connection also gives up the lock.
    drop(client);
    let _ = driver.await;
    result
}

async fn apply(client: &mut Client) -> Result<i32, MigrateError> {
    client
        .batch_execute(&format!("SET lock_timeout = {}", LOCK_PATIENCE.as_millis()))
        .await
        .map_err(StoreError::from)?;
    client
        .execute("SELECT pg_advisory_lock($1)", &[&LOCK])
        .await
        .map_err(StoreError::from)?;
    prepare_ledger(client).await?;
    let applied = client
        .query(
            "SELECT version, name, checksum FROM tasklease.migration ORDER BY version",
            &[],
        )
        .await
        .map_err(StoreError::from)?;
    let known = MIGRATIONS.last().map_or(0, |last| last.version);
    let mut version = 0;
    for row in &applied {
        version = row.get(0);
        let Some(migration) = MIGRATIONS.iter().find(|m| m.version == version) else {
            return Err(MigrateError::TooNew {
                found: version,
                known,
            });
        };
        if row.get::<_, String>(2) != checksum(migration.sql) {
            return Err(MigrateError::Changed {
                version,
                name: row.get(1),
            });
        }
    }
    for migration in MIGRATIONS.iter().filter(|m| m.version > version) {
        let step = client.transaction().await.map_err(StoreError::from)?;
        step.batch_execute(migration.sql)
            .await
            .map_err(StoreError::from)?;
        step.execute(
            "INSERT INTO tasklease.migration (version, name, checksum) VALUES ($1, $2, $3)",
            &[&migration.version, &migration.name, &checksum(migration.sql)],
        )
        .await
        .map_err(StoreError::from)?;
        step.commit().await.map_err(StoreError::from)?;
        tracing::info!(
            version = migration.version,
            name = migration.name,
            "applied a migration"
        );
    }
    Ok(known.max(version))
}

async fn prepare_ledger(client: &Client) -> Result<(), MigrateError> {
    let row = client
        .query_one(
            "SELECT to_regnamespace('tasklease') IS NOT NULL, to_regclass('tasklease.migration') IS NOT NULL",
            &[],
        )
        .await
        .map_err(StoreError::from)?;
    match (row.get(0), row.get(1)) {
        (true, true) => return Ok(()),
        (true, false) => return Err(MigrateError::Foreign),
        (false, _) => {}
    }
    client
        .batch_execute(
            "BEGIN;
             CREATE SCHEMA tasklease;
             CREATE TABLE tasklease.migration (
                 version    int PRIMARY KEY,
                 name       text NOT NULL,
                 checksum   text NOT NULL,
                 applied_at timestamptz NOT NULL DEFAULT now());
             COMMIT",
        )
        .await
        .map_err(StoreError::from)?;
    Ok(())
}

fn checksum(sql: &str) -> String {
    Sha256::digest(sql)
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}
