//! `sessions`: many idle workers at one scheduler, and what an idle scheduler costs without any.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Map, Value, json};
use tasklease_lifecycle::time_span::{format_time_span, parse_time_span};

use crate::{
    cpu,
    idle_workers::{IdleWorkers, listed},
    progress::tell,
    report::{Report, joined, rounded},
    server::Server,
    stand::{Fleet, Stand},
};

/// How long a start or a rush of sessions has to settle before idleness is measured.
const SETTLE: Duration = Duration::from_secs(2);

/// Options of `sessions`.
#[derive(clap::Args)]
pub(crate) struct Sessions {
    /// Worker sessions; 0 measures only the idle scheduler.
    #[arg(long, default_value_t = 1_000)]
    workers: usize,
    /// How long to watch each kind of idleness, such as 30s or 2m.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_time_span)]
    watch: Duration,
}

/// Where the number of queries comes from.
#[derive(Debug, Clone, Copy)]
enum QueryCount {
    Statements,
    Transactions,
}

impl Sessions {
    pub(crate) async fn run(self) -> anyhow::Result<Report> {
        allow_many_files()?;
        let mut server = Server::start().await?;
        let count = if server.count_statements().await? {
            QueryCount::Statements
        } else {
            QueryCount::Transactions
        };
        let stand = Stand::start(&server, "bench", Fleet::single(1)).await?;
        if let QueryCount::Statements = count {
            stand
                .db
                .batch_execute("CREATE EXTENSION pg_stat_statements")
                .await?;
        }
        let mut figures = Map::new();
        tell(format_args!("{} without workers", format_time_span(self.watch)));
        figures.insert("without_sessions".to_owned(), self.idle(&stand, count).await?);
        let (mut notes, mut code) = (Vec::new(), ExitCode::SUCCESS);
        if self.workers > 0 {
            let (row, lost) = self.with_workers(&stand, count).await?;
            figures.insert("with_sessions".to_owned(), row);
            if let Some(lost) = lost {
                notes.push(lost);
                code = ExitCode::FAILURE;
            }
        }
        stand.end().await?;
        let parameters = json!({
            "workers": self.workers, "seconds": self.watch.as_secs_f64(),
            "queries_are": match count {
                QueryCount::Statements => "statements",
                QueryCount::Transactions => "transactions",
            },
        });
        Ok(Report::new("sessions", parameters, Value::Object(figures))
            .with_notes(notes)
            .with_code(code))
    }

    async fn with_workers(
        &self,
        stand: &Stand<'_>,
        count: QueryCount,
    ) -> anyhow::Result<(Value, Option<String>)> {
        tell(format_args!("opening {} sessions", self.workers));
        let start = Instant::now();
        let mut workers = IdleWorkers::open(stand, self.workers).await?;
        let opened_per_s = self.workers as f64 / start.elapsed().as_secs_f64();
        tell(format_args!(
            "{} with {} sessions",
            format_time_span(self.watch),
            self.workers
        ));
        let idle = self.idle(stand, count).await?;
        let listed = listed(stand.channel(0).await?).await?;
        let lost = match workers.ended() {
            Some(reason) => Some(format!("A session ended: {reason}.")),
            None if listed != self.workers => Some(format!("{listed} sessions are listed.")),
            None => None,
        };
        let opened = json!({ "opened_per_s": rounded(opened_per_s, 0), "listed": listed });
        drop(workers);
        Ok((joined(idle, opened), lost))
    }

    /// What each second of idleness takes.
    async fn idle(&self, stand: &Stand<'_>, count: QueryCount) -> anyhow::Result<Value> {
        tokio::time::sleep(SETTLE).await;
        let (queries, cpu, start) = (count.read(stand).await?, stand.cpu()?, Instant::now());
        tokio::time::sleep(self.watch).await;
        let seconds = start.elapsed().as_secs_f64();
        let cpu = stand.cpu()? - cpu;
        // Less the one that counted at the beginning.
        let queries = count.read(stand).await? - queries - 1;
        let each_second = |amount: f64| rounded(amount / seconds, 2);
        Ok(json!({
            "queries": each_second(queries as f64),
            "scheduler_cpu_ms": each_second(cpu.scheduler * 1e3),
            "postgres_cpu_ms": each_second(cpu.postgres * 1e3),
            "scheduler_rss_bytes": cpu::resident_bytes(stand.scheduler_pid()?)?,
        }))
    }
}

impl QueryCount {
    async fn read(self, stand: &Stand<'_>) -> anyhow::Result<i64> {
        let sql = match self {
            Self::Statements => "SELECT sum(calls)::bigint FROM pg_stat_statements",
            Self::Transactions => {
                "SELECT sum(xact_commit + xact_rollback)::bigint FROM pg_stat_database
                 WHERE datname = current_database()"
            }
        };
        Ok(stand.db.query_one(sql, &[]).await?.get(0))
    }
}

/// Each session is a connection, in this process and in the scheduler that it starts.
fn allow_many_files() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )?)
}
