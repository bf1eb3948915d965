//! Databases for tests: one of its own in the shared cluster, or a cluster of its own.

use tasklease_postgres::{Cluster, ClusterOptions};
use tempfile::TempDir;
use tokio_postgres::NoTls;
use url::Url;
use uuid::Uuid;

/// Names the superuser URL of a throw-away cluster.
const SHARED_CLUSTER: &str = "TASKLEASE_TEST_DATABASE_URL";

/// An empty database in the shared cluster; removed when dropped.
#[derive(Debug)]
pub struct Database {
    cluster: Url,
    name: String,
}

impl Database {
    /// Creates a database that no other test uses.
    ///
    /// # Panics
    /// If there is no cluster for tests.
    pub async fn create() -> Self {
        let cluster = std::env::var(SHARED_CLUSTER).unwrap_or_else(|_| {
            panic!("{SHARED_CLUSTER} is not set; run the tests with `make test`, or under `with-postgres`")
        });
        let cluster = Url::parse(&cluster).expect("a URL");
        let name = format!("t_{}", Uuid::new_v4().simple());
        execute(&cluster, &format!("CREATE DATABASE {name}")).await;
        Self { cluster, name }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        let mut url = self.cluster.clone();
        url.set_path(&self.name);
        url.into()
    }

    /// Runs a statement in it.
    pub async fn execute(&self, sql: &str) {
        execute(&Url::parse(&self.url()).expect("a URL"), sql).await;
    }

    /// A connection to it that lasts as long as the value.
    pub async fn connect(&self) -> tokio_postgres::Client {
        connect(self.url().as_str()).await
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (cluster, name) = (self.cluster.clone(), std::mem::take(&mut self.name));
        // Drop cannot await, and the test's runtime cannot be entered again.
        let removing = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(execute(&cluster, &format!("DROP DATABASE {name} WITH (FORCE)")));
        });
        // The cluster is thrown away; a database left behind harms nobody.
        let _ = removing.join();
    }
}

async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .expect("a connection to Postgres");
    tokio::spawn(connection);
    client
}

async fn execute(url: &Url, sql: &str) {
    let client = connect(url.as_str()).await;
    client
        .batch_execute(sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// A Postgres of its own that keeps what it acknowledged, for tests that stop it.
#[derive(Debug)]
pub struct OwnCluster {
    cluster: Cluster,
    // Declared last: the server ends before its folder goes.
    _folder: TempDir,
}

impl OwnCluster {
    /// The database that schedulers use in it.
    const DATABASE: &str = "tasklease";

    /// Creates and starts it.
    ///
    /// # Panics
    /// If Postgres does not start.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let options = ClusterOptions::durable(folder.path());
        let cluster = Cluster::start(options).await.expect("a running Postgres");
        cluster.create_database(Self::DATABASE).await.expect("a database");
        Self {
            cluster,
            _folder: folder,
        }
    }

    /// The URL of its database.
    pub fn url(&self) -> String {
        self.cluster.url(Self::DATABASE)
    }

    /// Stops it in order and starts it again.
    pub async fn restart(&mut self) {
        self.cluster.restart().await.expect("Postgres starts again");
    }

    /// Lets it crash and starts it again.
    pub async fn crash_and_restart(&mut self) {
        self.cluster.stop_immediate().await.expect("Postgres stops");
        self.cluster.restart().await.expect("Postgres starts again");
    }
}
