//! Postgres as a run has it: the server that answers, the standby that follows it, their file system and their clock.

use std::{
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail};
use parking_lot::RwLock;
use tasklease_postgres::{Binaries, Cluster, ClusterOptions, find_binaries};
use tokio::{
    process::Command,
    sync::Mutex,
    time::{Instant, sleep},
};
use tokio_postgres::{Client, NoTls};

use crate::{
    clock::{self, Clock},
    freeze::Frozen,
    pooler::Pooler,
    volume::Volume,
};

const DATABASE: &str = "tasklease";

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(3);

/// How long a standby may take to be in step.
const IN_STEP: Duration = Duration::from_secs(10);

/// How often somebody asks whether it is.
const LOOK: Duration = Duration::from_millis(20);

/// A standby that lost its primary asks for it again soon.
const FOLLOW: &str = "ALTER SYSTEM SET wal_retrieve_retry_interval = '200ms'; SELECT pg_reload_conf()";

/// From now on a commit is acknowledged once the standby has it on disk, too.
const ASK_THE_STANDBY: &str = "ALTER SYSTEM SET synchronous_standby_names = '*'; SELECT pg_reload_conf()";

/// Few segments of the log are kept for later, so that a full file system meets it soon.
const LITTLE_LOG: &str = "ALTER SYSTEM SET max_wal_size = '96MB'; ALTER SYSTEM SET min_wal_size = '32MB';
    SELECT pg_reload_conf()";

/// Whether the synchronous standby has all that was committed up to now, also what nobody waited for because Postgres
/// crashed meanwhile.
const IS_IN_STEP: &str = "
    SELECT EXISTS (SELECT FROM pg_stat_replication
                   WHERE state = 'streaming' AND sync_state = 'sync' AND flush_lsn >= pg_current_wal_flush_lsn())";

/// What Postgres needs so that faults can strike it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wants {
    /// A file system of its own, which can be full.
    pub volume: bool,
    /// A clock that can be set; so many milliseconds wrong from the start.
    pub clock_ms: Option<i64>,
    /// A synchronous standby.
    pub standby: bool,
    /// PgBouncer before it.
    pub pooler: bool,
}

/// A running Postgres.
pub struct Database {
    cluster: Mutex<Cluster>,
    standby: Mutex<Option<Cluster>>,
    server: RwLock<Server>,
    clock: Option<(Clock, Mutex<i64>)>,
    pooler: Option<Pooler>,
    volume: Option<Volume>,
    /// What the clusters' folders lie in.
    folder: PathBuf,
}

/// The server that answers now.
struct Server {
    address: SocketAddr,
    url: String,
    /// The logs of all servers that there were.
    logs: Vec<PathBuf>,
    /// How many standbys were made.
    standbys: usize,
}

impl Database {
    /// Starts Postgres in a new folder below this one.
    ///
    /// # Errors
    /// It does not start, or a standby does not follow it.
    pub async fn start(folder: &Path, wants: Wants) -> anyhow::Result<Self> {
        let volume = wants
            .volume
            .then(|| Volume::mount(folder.join("volume")))
            .transpose()
            .context("cannot make a file system for Postgres")?;
        let folder = volume.as_ref().map_or(folder, Volume::path).to_owned();
        let clock = match wants.clock_ms {
            Some(offset) => {
                let library = clock::library().context("libfaketime is gone")?;
                let clock = Clock::create(folder.join("clock"), &library)?;
                clock.set(offset)?;
                Some((clock, Mutex::new(offset)))
            }
            None => None,
        };
        let cluster = Cluster::start(ClusterOptions::durable(folder.join("postgres"))).await?;
        cluster.create_database(DATABASE).await?;
        let server = Server::of(&cluster);
        let pooler = if wants.pooler {
            let (files, data) = (folder.join("pgbouncer"), folder.join("postgres").join("data"));
            Some(Pooler::start(&files, &server.url, &data).await?)
        } else {
            None
        };
        let own = Self {
            cluster: Mutex::new(cluster),
            standby: Mutex::default(),
            server: RwLock::new(server),
            clock,
            pooler,
            volume,
            folder,
        };
        let client = own.connect().await?;
        if own.volume.is_some() {
            execute_each(&client, LITTLE_LOG).await?;
        }
        if wants.standby {
            execute_each(&client, FOLLOW).await?;
            *own.standby.lock().await = Some(own.make_standby().await?);
        }
        Ok(own)
    }

    /// Where the server listens that answers now.
    pub fn address(&self) -> SocketAddr {
        self.server().address
    }

    /// Where schedulers are to connect: to the pooler if there is one.
    pub fn entrance(&self) -> SocketAddr {
        self.pooler
            .as_ref()
            .map_or_else(|| self.address(), Pooler::address)
    }

    /// The URL of the database, past all proxies.
    pub fn url(&self) -> String {
        self.server().url.clone()
    }

    /// The logs of all servers that there were.
    pub fn logs(&self) -> Vec<PathBuf> {
        self.server().logs.clone()
    }

    /// A connection past all proxies.
    ///
    /// # Errors
    /// Postgres does not answer.
    pub async fn connect(&self) -> anyhow::Result<Client> {
        connect(&self.url()).await
    }

    /// Stops the server as a crash would, and starts it again after a while.
    ///
    /// # Errors
    /// It does not start.
    pub async fn crash(&self, away: Duration) -> anyhow::Result<()> {
        let mut cluster = self.cluster.lock().await;
        cluster.stop_immediate().await?;
        sleep(away).await;
        Ok(cluster.restart().await?)
    }

    /// Freezes all processes of the server for a while.
    ///
    /// # Errors
    /// They do not stand still.
    pub async fn freeze(&self, length: Duration) -> anyhow::Result<()> {
        // Nobody stops it meanwhile: what stands still cannot stop.
        let cluster = self.cluster.lock().await;
        let pid = cluster.pid().context("Postgres is away")?;
        let frozen = Frozen::with_children(pid)?;
        sleep(length).await;
        drop(frozen);
        Ok(())
    }

    /// Leaves so few bytes free for a while.
    ///
    /// # Errors
    /// There is no file system of its own.
    pub async fn fill(&self, free: u64, length: Duration) -> anyhow::Result<()> {
        let volume = self
            .volume
            .as_ref()
            .context("Postgres has no file system of its own")?;
        volume.fill(free)?;
        sleep(length).await;
        volume.empty()?;
        self.start_again().await
    }

    /// Kills the pooler, and starts it again after a while.
    ///
    /// # Errors
    /// There is none, or it does not start.
    pub async fn crash_pooler(&self, away: Duration) -> anyhow::Result<()> {
        let pooler = self.pooler.as_ref().context("there is no pooler")?;
        pooler.crash(away).await
    }

    /// Lets the clock jump.
    ///
    /// # Errors
    /// It has no clock of its own.
    pub async fn jump(&self, by_ms: i64) -> anyhow::Result<()> {
        let (clock, offset) = self.clock.as_ref().context("Postgres has no clock of its own")?;
        let mut offset = offset.lock().await;
        *offset += by_ms;
        Ok(clock.set(*offset)?)
    }

    /// Kills the server for good, waits a while, and promotes the standby, which `connect` is to reach from then on.
    /// Then makes another standby. `cut` is called when the server is gone, and with the address of the new one.
    ///
    /// # Errors
    /// There is no standby that is in step.
    pub async fn fail_over(&self, away: Duration, cut: impl Fn(Option<SocketAddr>)) -> anyhow::Result<()> {
        let mut cluster = self.cluster.lock().await;
        let mut place = self.standby.lock().await;
        let standby = place.as_ref().context("Postgres has no standby")?;
        self.await_step().await.context("the standby is not in step")?;
        let new = Server::of(standby);
        cluster.stop_immediate().await?;
        cut(None);
        sleep(away).await;
        let promoted: bool = connect(&new.url)
            .await?
            .query_one("SELECT pg_promote(true, 30)", &[])
            .await?
            .try_get(0)?;
        if !promoted {
            bail!("the standby was not promoted");
        }
        if let Some(standby) = place.take() {
            // The old server is stopped and never started again.
            *cluster = standby;
        }
        {
            let mut server = self.server.write();
            server.logs.extend(new.logs);
            (server.address, server.url) = (new.address, new.url);
        }
        cut(Some(new.address));
        *place = Some(self.make_standby().await?);
        Ok(())
    }

    /// Makes room on the file system, and starts the server if it has ended.
    ///
    /// # Errors
    /// It does not start.
    pub async fn heal(&self) -> anyhow::Result<()> {
        if let Some(volume) = &self.volume {
            volume.empty()?;
        }
        self.start_again().await
    }

    async fn start_again(&self) -> anyhow::Result<()> {
        let mut cluster = self.cluster.lock().await;
        if !cluster.is_running() {
            cluster.restart().await?;
        }
        Ok(())
    }

    /// Waits until the standby has all that was committed before now.
    async fn await_step(&self) -> anyhow::Result<()> {
        let client = self.connect().await?;
        let until = Instant::now() + IN_STEP;
        while Instant::now() < until {
            if client.query_one(IS_IN_STEP, &[]).await?.try_get(0)? {
                return Ok(());
            }
            sleep(LOOK).await;
        }
        bail!("it did not follow within {IN_STEP:?}")
    }

    /// Copies the server that runs, and lets the copy follow it. No commit is acknowledged from then on that the copy
    /// does not have.
    async fn make_standby(&self) -> anyhow::Result<Cluster> {
        let number = {
            let mut server = self.server.write();
            server.standbys += 1;
            server.standbys
        };
        let client = self.connect().await?;
        let row = client
            .query_one("SELECT current_setting('data_directory')", &[])
            .await?;
        let data = PathBuf::from(row.try_get::<_, String>(0)?);
        let owner = std::fs::metadata(&data)?;
        let folder = self.folder.join(format!("standby-{number}"));
        std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
        chown(&folder, Some(owner.uid()), Some(owner.gid()))?;
        if let Some(cluster) = data.parent() {
            std::fs::copy(cluster.join("password"), folder.join("password"))?;
        }
        let program = copier(&find_binaries()?).context("there is no pg_basebackup")?;
        let output = Command::new(program)
            .args([
                "--write-recovery-conf",
                "--wal-method=stream",
                "--checkpoint=fast",
                "--no-sync",
            ])
            .arg("--pgdata")
            .arg(folder.join("data"))
            .arg("--dbname")
            .arg(self.url())
            .uid(owner.uid())
            .gid(owner.gid())
            .current_dir("/")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await?;
        if !output.status.success() {
            bail!(
                "pg_basebackup: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        let standby = Cluster::start(ClusterOptions::durable(folder)).await?;
        execute_each(&client, ASK_THE_STANDBY).await?;
        self.await_step().await?;
        Ok(standby)
    }

    fn server(&self) -> parking_lot::RwLockReadGuard<'_, Server> {
        self.server.read()
    }
}

/// The program that copies a running server, beside the server's own or where a link to that leads.
pub fn copier(binaries: &Binaries) -> Option<PathBuf> {
    let server = binaries.postgres();
    let real = server.canonicalize().ok()?;
    [server, real]
        .iter()
        .map(|server| server.with_file_name("pg_basebackup"))
        .find(|copier| copier.is_file())
}

impl Server {
    fn of(cluster: &Cluster) -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], cluster.port())),
            url: cluster.url(DATABASE),
            logs: vec![cluster.log_path()],
            standbys: 0,
        }
    }
}

async fn connect(url: &str) -> anyhow::Result<Client> {
    let connecting = tokio_postgres::connect(url, NoTls);
    let (client, connection) = tokio::time::timeout(CONNECT, connecting).await??;
    tokio::spawn(connection);
    Ok(client)
}

/// Executes statements that cannot be in one transaction.
async fn execute_each(client: &Client, statements: &str) -> anyhow::Result<()> {
    for statement in statements.split(';') {
        client.batch_execute(statement).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, time::Duration};

    use super::{Database, Wants};

    /// A folder that Postgres can enter whoever runs it.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("permissions");
        folder
    }

    #[tokio::test]
    async fn what_was_acknowledged_is_there_after_each_failover() {
        let folder = folder();
        let wants = Wants {
            standby: true,
            ..Wants::default()
        };
        let database = Database::start(folder.path(), wants).await.expect("it starts");
        let client = database.connect().await.expect("a connection");
        client
            .batch_execute("CREATE TABLE t (n int)")
            .await
            .expect("a table");
        for turn in 1..=2_i64 {
            let client = database.connect().await.expect("a connection");
            client
                .batch_execute("INSERT INTO t VALUES (1)")
                .await
                .expect("stored");
            let before = database.address();
            database
                .fail_over(Duration::ZERO, |_| {})
                .await
                .expect("promoted");
            assert_ne!(database.address(), before);
            let client = database.connect().await.expect("a connection");
            let row = client
                .query_one("SELECT count(*) FROM t", &[])
                .await
                .expect("a row");
            assert_eq!(row.get::<_, i64>(0), turn);
        }
    }
}
