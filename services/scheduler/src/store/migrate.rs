//! Brings the schema `tasklease` to the version that this binary knows.
//!
//! Migrations are numbered, forward only, and never edited once released: the checksum of each is kept and compared.
//! One replica migrates at a time, under an advisory lock that ends with its transaction. A binary lives with a newer
//! schema if the newer migrations say so, so that an old replica may restart while others are replaced.

use std::{fmt::Write as _, time::Duration};

use sha2::{Digest as _, Sha256};
use tokio_postgres::{Client, NoTls, Transaction};

use super::{database::DatabaseConfig, error::StoreError};

struct Migration {
    version: i32,
    name: &'static str,
    /// The oldest binary, by the last migration that it knows, which works with the schema after this migration.
    oldest_binary: i32,
    sql: &'static str,
}

const MIGRATIONS: [Migration; 9] = [
    Migration {
        version: 1,
        name: "tasks",
        oldest_binary: 1,
        sql: include_str!("../../migrations/0001_tasks.sql"),
    },
    Migration {
        version: 2,
        name: "lease_storage",
        oldest_binary: 1,
        sql: include_str!("../../migrations/0002_lease_storage.sql"),
    },
    Migration {
        version: 3,
        name: "bundles",
        oldest_binary: 3,
        sql: include_str!("../../migrations/0003_bundles.sql"),
    },
    Migration {
        version: 4,
        name: "reads",
        oldest_binary: 4,
        sql: include_str!("../../migrations/0004_reads.sql"),
    },
    Migration {
        version: 5,
        name: "losses",
        oldest_binary: 4,
        sql: include_str!("../../migrations/0005_losses.sql"),
    },
    Migration {
        version: 6,
        name: "lane_spans",
        // An older one stores tasks that lists of their lane would not find.
        oldest_binary: 6,
        sql: include_str!("../../migrations/0006_lane_spans.sql"),
    },
    Migration {
        version: 7,
        name: "words",
        oldest_binary: 7,
        sql: include_str!("../../migrations/0007_words.sql"),
    },
    Migration {
        version: 8,
        name: "blame",
        oldest_binary: 8,
        sql: include_str!("../../migrations/0008_blame.sql"),
    },
    Migration {
        version: 9,
        name: "micros",
        oldest_binary: 8,
        sql: include_str!("../../migrations/0009_micros.sql"),
    },
];

/// Any constant, as long as every version uses the same.
const LOCK: i64 = 0x7461_736b_6c65;

/// How long to wait for another replica that migrates.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);

/// How long a change of a table waits for those who use it. Whoever comes later waits behind it, so it gives up soon
/// and tries again.
const TABLE_PATIENCE: Duration = Duration::from_secs(3);

/// How often it tries, and what it leaves to the others in between.
const TRIES: usize = 20;
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

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
    #[error("the database has a schema `tasklease` with tables that no scheduler made; drop or rename it")]
    Foreign,
    /// Not every text can be stored.
    #[error(
        "the database has the encoding {0}; make one with UTF8 (CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0)"
    )]
    Encoding(String),
}

impl From<tokio_postgres::Error> for MigrateError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Applies what is missing, and returns the version that the schema has then.
///
/// # Errors
/// See [`MigrateError`].
pub async fn migrate(config: &DatabaseConfig) -> Result<i32, MigrateError> {
    let mut pg: tokio_postgres::Config = config.url.parse()?;
    pg.application_name("tasklease migrations")
        .connect_timeout(Duration::from_secs(5));
    let (mut client, connection) = pg.connect(NoTls).await?;
    let driver = tokio::spawn(connection);
    let result = migrate_patiently(&mut client).await;
    drop(client);
    let _ = driver.await;
    result
}

/// Tries again while somebody uses a table that must change.
async fn migrate_patiently(client: &mut Client) -> Result<i32, MigrateError> {
    let mut tries = 1;
    loop {
        match apply(client).await {
            Err(MigrateError::Store(StoreError::TimedOut)) if tries < TRIES => {
                tracing::warn!(tries, "a table that must change is in use, trying again");
                tries += 1;
                tokio::time::sleep(BETWEEN_TRIES).await;
            }
            result => return result,
        }
    }
}

/// Applies what is missing, all or nothing.
async fn apply(client: &mut Client) -> Result<i32, MigrateError> {
    let transaction = client.transaction().await?;
    let patience = |patience: Duration| format!("SET LOCAL lock_timeout = {}", patience.as_millis());
    transaction.batch_execute(&patience(LOCK_PATIENCE)).await?;
    transaction
        .query_one("SELECT pg_advisory_xact_lock($1)::text", &[&LOCK])
        .await?;
    transaction.batch_execute(&patience(TABLE_PATIENCE)).await?;
    prepare_ledger(&transaction).await?;
    let version = check_applied(&transaction).await?;
    let known = MIGRATIONS.last().map_or(0, |last| last.version);
    for migration in MIGRATIONS.iter().filter(|m| m.version > version) {
        transaction.batch_execute(migration.sql).await?;
        transaction
            .execute(
                "INSERT INTO tasklease.migration (version, name, checksum, oldest_binary) VALUES ($1, $2, $3, $4)",
                &[
                    &migration.version,
                    &migration.name,
                    &checksum(migration.sql),
                    &migration.oldest_binary,
                ],
            )
            .await?;
        tracing::info!(
            version = migration.version,
            name = migration.name,
            "applies a migration"
        );
    }
    transaction.commit().await?;
    Ok(known.max(version))
}

/// The version that the schema has, if this binary can work with it.
async fn check_applied(transaction: &Transaction<'_>) -> Result<i32, MigrateError> {
    let applied = transaction
        .query(
            "SELECT version, name, checksum, oldest_binary FROM tasklease.migration ORDER BY version",
            &[],
        )
        .await?;
    let known = MIGRATIONS.last().map_or(0, |last| last.version);
    let mut version = 0;
    for row in &applied {
        version = row.try_get("version")?;
        let Some(migration) = MIGRATIONS.iter().find(|m| m.version == version) else {
            let oldest: Option<i32> = row.try_get("oldest_binary")?;
            if oldest.is_some_and(|oldest| oldest <= known) {
                continue;
            }
            return Err(MigrateError::TooNew {
                found: version,
                known,
            });
        };
        if row.try_get::<_, String>("checksum")? != checksum(migration.sql) {
            return Err(MigrateError::Changed {
                version,
                name: row.try_get("name")?,
            });
        }
    }
    Ok(version)
}

async fn prepare_ledger(transaction: &Transaction<'_>) -> Result<(), MigrateError> {
    let row = transaction
        .query_one(
            "SELECT to_regclass('tasklease.migration') IS NOT NULL AS ours,
                    EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                            WHERE n.nspname = 'tasklease') AS is_filled,
                    current_setting('server_encoding') AS encoding",
            &[],
        )
        .await?;
    let encoding: String = row.try_get("encoding")?;
    if encoding != "UTF8" {
        return Err(MigrateError::Encoding(encoding));
    }
    match (row.try_get("ours")?, row.try_get("is_filled")?) {
        (true, _) => {
            transaction
                .batch_execute("ALTER TABLE tasklease.migration ADD COLUMN IF NOT EXISTS oldest_binary int")
                .await?;
            Ok(())
        }
        (false, true) => Err(MigrateError::Foreign),
        // An empty schema is one that a database administrator made for us.
        (false, false) => Ok(transaction
            .batch_execute(
                "CREATE SCHEMA IF NOT EXISTS tasklease;
                 CREATE TABLE tasklease.migration (
                     version       int PRIMARY KEY,
                     name          text NOT NULL,
                     checksum      text NOT NULL,
                     applied_at    timestamptz NOT NULL DEFAULT now(),
                     oldest_binary int)",
            )
            .await?),
    }
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
