//! Everything that `tasklease dev` runs: how it comes up, stays up and goes down.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tasklease_client::{Client, Endpoints};
use tasklease_lifecycle::Shutdown;
use tasklease_postgres::{Cluster, ClusterOptions};

use crate::dev::log_file;
use crate::dev::process::Process;
use crate::dev::program::{BinDir, LogTarget, Program};
use crate::dev::restarter::Restarter;
use crate::dev::say;
use crate::failure::Failure;

/// The database in the private cluster.
const DATABASE: &str = "tasklease";

/// How long scheduler and workers may take to come up.
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// How often a wait looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How often the private cluster is looked after.
const CLUSTER_CHECK: Duration = Duration::from_secs(1);

/// How long workers may finish running tasks at the stop before they hand them back.
const WORKER_GRACE: &str = "5s";

/// Which database holds the tasks.
#[derive(Clone, Debug)]
pub(crate) enum Database {
    /// One that runs already, by its URL.
    Existing(String),
    /// A private cluster in a folder.
    Private(PathBuf),
}

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) database: Database,
    /// Where the data is, for people; never the URL, which may hold a password.
    pub(crate) data_in: String,
    pub(crate) listen: SocketAddr,
    pub(crate) bin_dir: BinDir,
    /// The folder of the log files; none shows the logs instead.
    pub(crate) logs: Option<PathBuf>,
    /// The workers, if any.
    pub(crate) workers: Option<WorkerPlan>,
}

/// How to run the workers.
#[derive(Clone, Debug)]
pub(crate) struct WorkerPlan {
    /// The root of the files that they read and write.
    pub(crate) files: PathBuf,
    /// How many tasks each runs at once, unless it decides itself.
    pub(crate) slots: Option<u32>,
}

/// What runs by now.
#[derive(Debug)]
pub(crate) struct Stack {
    cluster: Option<Cluster>,
    /// In the order of their start.
    starting: Vec<(Program, Process)>,
    kept: Vec<Restarter>,
}

impl Stack {
    pub(crate) fn new() -> Self {
        Self {
            cluster: None,
            starting: Vec::new(),
            kept: Vec::new(),
        }
    }

    /// Starts everything; gives the address that the scheduler listens on.
    ///
    /// When it fails, or is dropped half-way, [`stop`](Self::stop) still ends what runs.
    pub(crate) async fn start(&mut self, plan: &Plan) -> Result<SocketAddr, Failure> {
        // Looked up before anything runs, so that a missing program costs no time.
        let scheduler = plan.bin_dir.program("tasklease-scheduler")?;
        let documents = plan
            .workers
            .as_ref()
            .map(|_| plan.bin_dir.program("tasklease-documents"))
            .transpose()?;
        let url = self.open_database(&plan.database).await?;
        let scheduler = Program {
            name: "scheduler",
            path: scheduler,
            arguments: Vec::new(),
            environment: vec![
                ("DATABASE_URL", url.into()),
                ("TASKLEASE_LISTEN", plan.listen.to_string().into()),
            ],
            log: log_target(plan, "scheduler"),
        };
        let process = Process::spawn(&scheduler)?;
        self.starting.push((scheduler, process));
        let address = self.await_announcement().await?;
        let own_address = connectable(address);
        let mut expected = None;
        if let (Some(workers), Some(path)) = (&plan.workers, documents) {
            // Unique, so that a session which a killed predecessor left is not taken for it.
            let name = format!("documents-{}", std::process::id());
            let program = documents_program(plan, workers, path, &name, own_address);
            let process = Process::spawn(&program)?;
            self.starting.push((program, process));
            expected = Some(name);
        }
        self.await_ready(own_address, expected.as_deref()).await?;
        Ok(address)
    }

    /// Waits until the scheduler, the last one started, tells where it listens.
    async fn await_announcement(&mut self) -> Result<SocketAddr, Failure> {
        let Some((scheduler, process)) = self.starting.last_mut() else {
            return Err(Failure::other("nothing was started"));
        };
        let first_line = tokio::time::timeout(READY_DEADLINE, process.first_line()).await;
        let Some(address) = first_line.ok().flatten().as_deref().and_then(parse_announcement) else {
            let ended = tokio::time::timeout(Duration::from_secs(1), process.wait())
                .await
                .ok();
            return Err(did_not_start(scheduler, ended));
        };
        // A restart must come back where clients and workers look for it.
        scheduler
            .environment
            .push(("TASKLEASE_LISTEN", address.to_string().into()));
        Ok(address)
    }

    async fn open_database(&mut self, database: &Database) -> Result<String, Failure> {
        let folder = match database {
            Database::Existing(url) => return Ok(url.clone()),
            Database::Private(folder) => folder,
        };
        let failed = |error: tasklease_postgres::Error| Failure::other(error.to_string());
        let cluster = Cluster::start(ClusterOptions::durable(folder))
            .await
            .map_err(failed)?;
        let cluster = self.cluster.insert(cluster);
        cluster.create_database(DATABASE).await.map_err(failed)?;
        Ok(cluster.url(DATABASE))
    }

    /// Waits until the scheduler answers and knows the worker of that name.
    async fn await_ready(&mut self, address: SocketAddr, worker: Option<&str>) -> Result<(), Failure> {
        let endpoints =
            Endpoints::parse(&address.to_string()).map_err(|error| Failure::other(error.to_string()))?;
        let client = Client::new(endpoints);
        let start = Instant::now();
        loop {
            for (program, process) in &mut self.starting {
                if let Some(status) = process.ended() {
                    return Err(did_not_start(program, Some(status.to_string())));
                }
            }
            let answer = tokio::time::timeout(Duration::from_secs(2), client.workers()).await;
            if let Ok(Ok(workers)) = answer
                && worker.is_none_or(|name| workers.iter().any(|worker| worker.name == name))
            {
                return Ok(());
            }
            if start.elapsed() > READY_DEADLINE {
                return Err(match self.starting.last() {
                    Some((program, _)) => did_not_start(program, None),
                    None => Failure::other("nothing was started"),
                });
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Keeps everything running until the shutdown begins.
    pub(crate) async fn keep(&mut self, shutdown: &Shutdown) {
        for (program, process) in self.starting.drain(..) {
            self.kept
                .push(Restarter::new(program, process, shutdown.hard().clone()));
        }
        loop {
            tokio::select! {
                () = shutdown.soft().cancelled() => return,
                () = tokio::time::sleep(CLUSTER_CHECK) => {}
            }
            let Some(cluster) = &mut self.cluster else {
                continue;
            };
            if cluster.is_running() {
                continue;
            }
            say(format_args!(
                "Postgres ended, see {}; starting it again",
                cluster.log_path().display()
            ));
            tokio::select! {
                () = shutdown.soft().cancelled() => return,
                restarted = cluster.restart() => if let Err(error) = restarted {
                    say(error);
                }
            }
        }
    }

    /// Stops workers, then the scheduler, then Postgres; each is gone before the next.
    pub(crate) async fn stop(self, shutdown: &Shutdown) {
        for (_, process) in self.starting.into_iter().rev() {
            process.stop(shutdown.hard()).await;
        }
        for restarter in self.kept.into_iter().rev() {
            restarter.stop().await;
        }
        let Some(mut cluster) = self.cluster else { return };
        let stopped = tokio::select! {
            biased;
            () = shutdown.hard().cancelled() => None,
            stopped = cluster.stop() => Some(stopped),
        };
        let stopped = match stopped {
            Some(stopped) => stopped,
            // The log holds all that was acknowledged: the next start recovers it.
            None => cluster.stop_immediate().await,
        };
        if let Err(error) = stopped {
            say(error);
        }
    }
}

fn documents_program(
    plan: &Plan,
    workers: &WorkerPlan,
    path: PathBuf,
    name: &str,
    scheduler: SocketAddr,
) -> Program {
    let mut arguments: Vec<OsString> = vec![
        "--name".into(),
        name.into(),
        "--grace".into(),
        WORKER_GRACE.into(),
    ];
    if let Some(slots) = workers.slots {
        arguments.extend(["--slots".into(), slots.to_string().into()]);
    }
    Program {
        name: "documents",
        path,
        arguments,
        environment: vec![
            ("TASKLEASE_ADDR", scheduler.to_string().into()),
            ("TASKLEASE_FILES", workers.files.clone().into()),
        ],
        log: log_target(plan, "documents"),
    }
}

fn log_target(plan: &Plan, name: &str) -> LogTarget {
    match &plan.logs {
        Some(folder) => LogTarget::File(folder.join(format!("{name}.log"))),
        None => LogTarget::Shown,
    }
}

fn did_not_start(program: &Program, ended: Option<String>) -> Failure {
    let how = match ended {
        Some(status) => format!("ended early ({status})"),
        None => format!("is not ready within {} s", READY_DEADLINE.as_secs()),
    };
    let tail = match &program.log {
        LogTarget::File(path) => log_file::tail(path).unwrap_or_default(),
        LogTarget::Shown => String::new(),
    };
    Failure::other(
        format!("{} {how}; {}\n{tail}", program.name, program.log.hint())
            .trim_end()
            .to_owned(),
    )
}

/// Reads the address from the line that a scheduler writes when it serves.
fn parse_announcement(line: &str) -> Option<SocketAddr> {
    line.strip_prefix("tasklease-scheduler listening on ")?
        .trim()
        .parse()
        .ok()
}

/// The address to connect to for one that is listened on: "any address" is no target.
fn connectable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::{connectable, parse_announcement};

    #[test]
    fn the_address_is_read_from_the_announcement() {
        let address = parse_announcement("tasklease-scheduler listening on 127.0.0.1:41234");
        assert_eq!(address, Some(([127, 0, 0, 1], 41234).into()));
        assert_eq!(parse_announcement("something else"), None);
    }

    #[test]
    fn workers_connect_to_loopback_when_the_scheduler_listens_everywhere() {
        assert_eq!(
            connectable("0.0.0.0:7070".parse().unwrap()).to_string(),
            "127.0.0.1:7070"
        );
        assert_eq!(
            connectable("[::]:7070".parse().unwrap()).to_string(),
            "[::1]:7070"
        );
        assert_eq!(
            connectable("10.0.0.1:7070".parse().unwrap()).to_string(),
            "10.0.0.1:7070"
        );
    }
}
