//! A private cluster, from its creation to its end.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

use crate::binaries::{Binaries, find_binaries, find_binaries_of};
use crate::error::Error;
use crate::folder::{Data, Folder, last_lines};
use crate::options::{Access, ClusterOptions, Durability, Port};
use crate::server::{LOOK_AGAIN, Server, StopMode, free_port, is_alive};
use crate::server_user::ServerUser;
use crate::socket_dir::SocketDir;

/// The superuser of every private cluster.
const SUPERUSER: &str = "postgres";

/// How long a start may take, recovery after a crash included.
const START_DEADLINE: Duration = Duration::from_secs(120);

/// How long a stop may take before the server is killed.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// How long to wait for the server of an owner that was just killed.
const OLD_SERVER_DEADLINE: Duration = Duration::from_secs(5);

/// How many other ports a start with any port tries if another process takes the first.
const PORT_ATTEMPTS: u32 = 3;

/// What a server says that does not know our password.
const AUTHENTICATION_FAILURES: [SqlState; 2] = [
    SqlState::INVALID_PASSWORD,
    SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
];

/// Whether this is the driver's answer to a server that wants a password which we do not have; it
/// has no code of its own.
fn asks_for_a_password(error: &(dyn std::error::Error + 'static)) -> bool {
    error.to_string() == "password missing"
}

/// Who answers on the port that our server was given.
enum Answer {
    /// Our server, ready for queries.
    Ours,
    /// A server that does not let us in, for this reason.
    Refused(String),
    /// Nothing, something else, or our server before it is ready.
    NotOurs,
}

/// A private Postgres cluster whose server ends with this value.
#[derive(Debug)]
pub struct Cluster {
    // Declared first, so that the server ends before its folder is unlocked.
    server: Option<Server>,
    sockets: SocketDir,
    folder: Folder,
    binaries: Binaries,
    user: ServerUser,
    durability: Durability,
    password: Option<String>,
    port: u16,
}

impl Cluster {
    /// Starts the cluster in a folder and creates it there first if there is none.
    ///
    /// Returns once the server answers queries.
    ///
    /// # Errors
    ///
    /// When no server is installed, when the folder is in use, foreign or out of the
    /// server's reach, when it holds data that cannot be read, and when the server does not
    /// come up; the error then shows the end of the server's log. No error removes
    /// anything that was there before.
    pub async fn start(options: ClusterOptions) -> Result<Self, Error> {
        let user = ServerUser::choose(&options.data_dir)?;
        let folder = Folder::open(&options.data_dir, user)?;
        let binaries = match folder.look_at_data()? {
            Data::Cluster { major } => find_binaries_of(major, folder.root())?,
            Data::Absent => {
                let binaries = find_binaries()?;
                create(&binaries, &folder, user, options.access, options.durability)?;
                binaries
            }
        };
        let password = folder.read_password()?;
        let sockets = SocketDir::open(&folder, user)?;
        let mut cluster = Self {
            server: None,
            sockets,
            folder,
            binaries,
            user,
            durability: options.durability,
            password,
            port: 0,
        };
        match options.port {
            Port::Fixed(port) => {
                cluster.port = port;
                cluster.launch().await?;
            }
            Port::Auto => cluster.launch_on_a_free_port().await?,
        }
        Ok(cluster)
    }

    /// The URL of one of its databases, for the superuser; holds the password, if any.
    pub fn url(&self, database: &str) -> String {
        let secret = self
            .password
            .as_ref()
            .map(|password| format!(":{password}"))
            .unwrap_or_default();
        format!(
            "postgres://{SUPERUSER}{secret}@127.0.0.1:{}/{}",
            self.port,
            percent_encode(database)
        )
    }

    /// The loopback TCP port that the server listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder that holds the server's Unix socket.
    pub fn socket_dir(&self) -> &Path {
        self.sockets.path()
    }

    /// The file of the server's log.
    pub fn log_path(&self) -> PathBuf {
        self.folder.log_path()
    }

    /// The server's process id; `None` while it is stopped.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Server::pid)
    }

    /// Whether the server runs: false after a stop, and after it ended by itself.
    pub fn is_running(&mut self) -> bool {
        self.server
            .as_mut()
            .is_some_and(|server| server.ended().is_none())
    }

    /// Creates a database if there is none of that name.
    ///
    /// # Errors
    ///
    /// When the cluster is stopped or refuses the name.
    pub async fn create_database(&self, name: &str) -> Result<(), Error> {
        if self.server.is_none() {
            return Err(Error::Stopped {
                data_dir: self.folder.root().to_owned(),
            });
        }
        let failed = |source| Error::Sql {
            what: "create a database",
            source,
        };
        let client = self.connect().await.map_err(failed)?;
        let known = client
            .query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&name])
            .await
            .map_err(failed)?;
        if known.is_none() {
            // An identifier cannot be a parameter; doubling its quotes makes it safe.
            let quoted = name.replace('"', "\"\"");
            client
                .batch_execute(&format!("CREATE DATABASE \"{quoted}\""))
                .await
                .map_err(failed)?;
        }
        Ok(())
    }

    /// Stops the server after it has ended all connections and written its data.
    ///
    /// # Errors
    ///
    /// None at present; a server that does not stop in time is killed.
    pub async fn stop(&mut self) -> Result<(), Error> {
        self.end(StopMode::Fast).await;
        Ok(())
    }

    /// Stops the server at once, as a crash would; the next start recovers.
    ///
    /// # Errors
    ///
    /// None at present; a server that does not stop in time is killed.
    pub async fn stop_immediate(&mut self) -> Result<(), Error> {
        self.end(StopMode::Immediate).await;
        Ok(())
    }

    /// Stops the server if it runs, and starts it again on the same port.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn restart(&mut self) -> Result<(), Error> {
        self.end(StopMode::Fast).await;
        self.launch().await
    }

    async fn end(&mut self, mode: StopMode) {
        if let Some(server) = self.server.take() {
            server.stop(mode, STOP_DEADLINE).await;
        }
    }

    async fn launch_on_a_free_port(&mut self) -> Result<(), Error> {
        let mut attempt = 1;
        loop {
            self.port = free_port()?;
            match self.launch().await {
                // The only failure that another port can fix is that the server ended
                // early; the few tries cost little when it was something else.
                Err(Error::Failed { .. }) if attempt < PORT_ATTEMPTS => attempt += 1,
                result => return result,
            }
        }
    }

    /// Starts the server on `self.port` and waits until it answers.
    async fn launch(&mut self) -> Result<(), Error> {
        self.await_old_server().await;
        let mut server = Server::spawn(
            &self.binaries,
            &self.folder,
            self.sockets.path(),
            self.port,
            self.durability,
            self.user,
        )?;
        let start = Instant::now();
        loop {
            let answer = tokio::time::timeout(Duration::from_secs(5), self.ask()).await;
            if let Some(status) = server.ended() {
                return Err(self.explain_early_end(status.to_string()));
            }
            match answer {
                Ok(Answer::Ours) => {
                    self.server = Some(server);
                    return Ok(());
                }
                // A stranger on our port has kept our server from saying that it is ready.
                Ok(Answer::Refused(reason)) if self.folder.server_is_ready() => {
                    return Err(Error::WrongPassword {
                        data_dir: self.folder.root().to_owned(),
                        path: self.folder.password_path(),
                        reason,
                    });
                }
                Ok(_) | Err(_) => {}
            }
            if start.elapsed() > START_DEADLINE {
                let reason = format!("it does not answer within {} s", START_DEADLINE.as_secs());
                return Err(self.failure(reason));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Asks the server on our port whose it is: a stranger may have taken the port.
    async fn ask(&self) -> Answer {
        let client = match self.connect().await {
            Ok(client) => client,
            Err(error) => match error.code() {
                Some(code) if AUTHENTICATION_FAILURES.contains(code) => {
                    return Answer::Refused(error.to_string());
                }
                _ if self.password.is_none() && error.source().is_some_and(asks_for_a_password) => {
                    return Answer::Refused("the server asks for one, and there is none".to_owned());
                }
                _ => return Answer::NotOurs,
            },
        };
        match client
            .query_one("SELECT current_setting('data_directory')", &[])
            .await
        {
            Ok(row) if Path::new(row.get::<_, &str>(0)) == self.folder.data() => Answer::Ours,
            _ => Answer::NotOurs,
        }
    }

    /// Gives the server of an owner that was killed a moment to end.
    async fn await_old_server(&self) {
        let start = Instant::now();
        while self.folder.recorded_server().is_some_and(is_alive) && start.elapsed() < OLD_SERVER_DEADLINE {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn explain_early_end(&self, reason: String) -> Error {
        // The server removes its own record when it ends, and a stale one when it
        // starts: what is left belongs to another server.
        match self.folder.recorded_server() {
            Some(pid) if is_alive(pid) => Error::InUse {
                data_dir: self.folder.root().to_owned(),
            },
            _ => self.failure(reason),
        }
    }

    fn failure(&self, reason: String) -> Error {
        Error::Failed {
            program: "postgres",
            reason,
            output: self.folder.log_tail(),
        }
    }

    async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        let mut config = Config::new();
        config
            .host("127.0.0.1")
            .port(self.port)
            .user(SUPERUSER)
            .dbname("postgres")
            .connect_timeout(Duration::from_secs(5));
        if let Some(password) = &self.password {
            config.password(password);
        }
        let (client, connection) = config.connect(NoTls).await?;
        // Ends when the client is dropped; its errors reach the client's calls.
        tokio::spawn(connection);
        Ok(client)
    }
}

/// Makes a new cluster, which appears under its name only when it is complete.
fn create(
    binaries: &Binaries,
    folder: &Folder,
    user: ServerUser,
    access: Access,
    durability: Durability,
) -> Result<(), Error> {
    // Removed again if this fails: nobody else knows its name.
    let unfinished = folder.create_unfinished()?;
    let mut command = Command::new(binaries.initdb());
    command
        .arg("-D")
        .arg(unfinished.path())
        .args(["-U", SUPERUSER, "--locale=C", "-E", "UTF8"])
        .env("LC_ALL", "C")
        .current_dir(folder.root())
        .stdin(Stdio::null());
    match access {
        Access::Trust => {
            command.arg("--auth=trust");
        }
        Access::Password => {
            folder.keep_or_create_password()?;
            command
                .arg("--auth=scram-sha-256")
                .arg("--pwfile")
                .arg(folder.password_path());
        }
    }
    if durability == Durability::Off {
        command.arg("--no-sync");
    }
    user.run_as(&mut command);
    let output = command.output().map_err(Error::file("run", binaries.initdb()))?;
    if !output.status.success() {
        return Err(Error::Failed {
            program: "initdb",
            reason: output.status.to_string(),
            output: last_lines(&String::from_utf8_lossy(&output.stderr)),
        });
    }
    folder.name_finished(unfinished)
}

/// Escapes a database's name for a URL.
fn percent_encode(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
