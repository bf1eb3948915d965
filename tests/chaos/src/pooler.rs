//! PgBouncer between schedulers and Postgres.

use std::{
    net::{SocketAddr, TcpListener},
    os::unix::fs::{MetadataExt as _, chown},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    sync::Mutex,
    time::{Instant, sleep},
};
use tokio_postgres::{Config, config::Host};

/// Where packages put the program.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];

/// How long it may take to listen.
const START: Duration = Duration::from_secs(5);

/// How often somebody looks whether it does.
const LOOK: Duration = Duration::from_millis(10);

/// A running PgBouncer, which gives each client a connection of its own for as long as it stays.
pub struct Pooler {
    program: PathBuf,
    settings: PathBuf,
    owner: (u32, u32),
    address: SocketAddr,
    process: Mutex<Child>,
}

impl Pooler {
    /// Starts it on a free port before the server of this URL. Its files go to a new folder, which belongs to the owner
    /// of the server's data: it refuses to run as root, too.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub async fn start(folder: &Path, url: &str, data: &Path) -> anyhow::Result<Self> {
        let program = program().context("PgBouncer is gone")?;
        let data = std::fs::metadata(data)?;
        let owner = (data.uid(), data.gid());
        std::fs::create_dir(folder)?;
        chown(folder, Some(owner.0), Some(owner.1))?;
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let settings = folder.join("pgbouncer.ini");
        std::fs::write(&settings, text(address.port(), &url.parse()?)?)?;
        chown(&settings, Some(owner.0), Some(owner.1))?;
        let process = Mutex::new(launch(&program, &settings, owner)?);
        let own = Self {
            program,
            settings,
            owner,
            address,
            process,
        };
        own.await_start().await?;
        Ok(own)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills it, which breaks all connections, and starts it again after a while.
    ///
    /// # Errors
    /// It does not start.
    pub async fn crash(&self, away: Duration) -> anyhow::Result<()> {
        let mut process = self.process.lock().await;
        process.kill().await?;
        sleep(away).await;
        *process = launch(&self.program, &self.settings, self.owner)?;
        self.await_start().await
    }

    async fn await_start(&self) -> anyhow::Result<()> {
        let until = Instant::now() + START;
        while TcpStream::connect(self.address).await.is_err() {
            if Instant::now() > until {
                bail!(
                    "PgBouncer does not listen; see the log beside {}",
                    self.settings.display()
                );
            }
            sleep(LOOK).await;
        }
        Ok(())
    }
}

/// The program on this machine, if it is there.
pub fn program() -> Option<PathBuf> {
    let mut places = FOLDERS.iter().map(|folder| Path::new(folder).join("pgbouncer"));
    places.find(|program| program.is_file())
}

fn launch(program: &Path, settings: &Path, (uid, gid): (u32, u32)) -> anyhow::Result<Child> {
    let child = Command::new(program)
        .arg("--quiet")
        .arg(settings)
        .uid(uid)
        .gid(gid)
        .current_dir(settings.parent().unwrap_or(Path::new("/")))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    child.with_context(|| format!("cannot start {}", program.display()))
}

/// Its settings. Clients need no password; it has the one of the server.
fn text(port: u16, server: &Config) -> anyhow::Result<String> {
    let Some((Host::Tcp(host), server_port)) = server.get_hosts().first().zip(server.get_ports().first())
    else {
        bail!("the server has no address");
    };
    let (user, database) = server
        .get_user()
        .zip(server.get_dbname())
        .context("no user or database")?;
    let password = String::from_utf8_lossy(server.get_password().unwrap_or_default());
    Ok(format!(
        "[databases]\n\
         {database} = host={host} port={server_port} user={user} password={password}\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\n\
         listen_port = {port}\n\
         unix_socket_dir =\n\
         auth_type = any\n\
         pool_mode = session\n\
         default_pool_size = 90\n\
         max_client_conn = 500\n\
         logfile = pgbouncer.log\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn the_settings_lead_to_the_server_and_pool_sessions() {
        let url = "postgres://postgres:secret@127.0.0.1:5433/tasklease";
        let text = text(6_000, &url.parse().expect("a URL")).expect("settings");
        for line in [
            "tasklease = host=127.0.0.1 port=5433 user=postgres password=secret",
            "listen_port = 6000",
            "pool_mode = session",
        ] {
            assert!(text.lines().any(|own| own == line), "{line} in {text}");
        }
    }
}
