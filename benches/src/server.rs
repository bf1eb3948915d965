//! A private Postgres with `fsync` on, which ends, and whose files are removed, when its value is dropped.

use anyhow::Context as _;
use tasklease_postgres::{Cluster, ClusterOptions};
use tokio_postgres::{Client, NoTls};

use crate::cpu;

/// Settings that an installation of this load would have: a checkpoint in the middle of one phase and not of another
/// would compare checkpoints, and Postgres' own default for its cache is made to start anywhere, not to work.
const SETTINGS: [(&str, &str); 3] = [
    ("max_wal_size", "8GB"),
    ("checkpoint_timeout", "30min"),
    ("shared_buffers", "2GB"),
];

/// The database that every server has.
const MAINTENANCE: &str = "postgres";

/// A running server.
pub(crate) struct Server {
    // Dropped in this order: the server first, then its folder.
    cluster: Cluster,
    folder: tempfile::TempDir,
}

impl Server {
    /// Starts a server.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let cluster = Cluster::start(ClusterOptions::durable(folder.path().join("postgres"))).await?;
        let mut server = Self { cluster, folder };
        server.set(&SETTINGS).await?;
        Ok(server)
    }

    /// Lets the server count statements; false where it is installed without that.
    pub(crate) async fn count_statements(&mut self) -> anyhow::Result<bool> {
        let admin = self.client(MAINTENANCE).await?;
        let there = admin
            .query_one(
                "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_stat_statements')",
                &[],
            )
            .await?
            .get(0);
        if there {
            self.set(&[("shared_preload_libraries", "pg_stat_statements")])
                .await?;
        }
        Ok(there)
    }

    async fn set(&mut self, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        let admin = self.client(MAINTENANCE).await?;
        for (name, value) in settings {
            admin
                .batch_execute(&format!("ALTER SYSTEM SET {name} = '{value}'"))
                .await?;
        }
        Ok(self.cluster.restart().await?)
    }

    /// Makes an empty database.
    pub(crate) async fn create(&self, database: &str) -> anyhow::Result<()> {
        Ok(self.cluster.create_database(database).await?)
    }

    /// Removes a database, and flushes so that what it left behind does not disturb the next measurement.
    pub(crate) async fn drop_database(&self, database: &str) -> anyhow::Result<()> {
        let admin = self.client(MAINTENANCE).await?;
        admin
            .batch_execute(&format!("DROP DATABASE IF EXISTS \"{database}\" WITH (FORCE)"))
            .await?;
        Ok(admin.batch_execute("CHECKPOINT").await?)
    }

    /// The URL of a database.
    pub(crate) fn url(&self, database: &str) -> String {
        self.cluster.url(database)
    }

    /// A connection to a database.
    pub(crate) async fn client(&self, database: &str) -> anyhow::Result<Client> {
        let (client, connection) = tokio_postgres::connect(&self.url(database), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// CPU seconds of the whole server so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        cpu::of_family(self.cluster.pid().context("Postgres runs")?)
    }

    /// How many bytes its disk has room for.
    pub(crate) fn free_bytes(&self) -> anyhow::Result<u64> {
        let disk = rustix::fs::statvfs(self.folder.path())?;
        Ok(disk.f_bavail * disk.f_frsize)
    }
}
