//! CPU time and memory of processes, as the kernel counts them.

use std::{fs, ops::Sub};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::report::rounded;

/// CPU seconds by part.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cpu {
    /// The whole Postgres server.
    pub(crate) postgres: f64,
    /// All scheduler processes.
    pub(crate) scheduler: f64,
    /// All worker processes.
    pub(crate) worker: f64,
    /// This process.
    pub(crate) client: f64,
}

impl Cpu {
    /// Microseconds of each part for one task, if this is the time of `tasks` tasks.
    pub(crate) fn per_task(self, tasks: usize) -> Value {
        let micros = |seconds: f64| rounded(seconds * 1e6 / tasks as f64, 1);
        json!({
            "postgres_cpu_us": micros(self.postgres),
            "scheduler_cpu_us": micros(self.scheduler),
            "worker_cpu_us": micros(self.worker),
            "client_cpu_us": micros(self.client),
        })
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            postgres: self.postgres - before.postgres,
            scheduler: self.scheduler - before.scheduler,
            worker: self.worker - before.worker,
            client: self.client - before.client,
        }
    }
}

/// Clock ticks per second of /proc, fixed on Linux.
const TICKS: f64 = 100.0;

/// CPU seconds of one process so far.
pub(crate) fn of_process(pid: u32) -> anyhow::Result<f64> {
    Ok(Stat::read(pid)?.own)
}

/// CPU seconds so far of a process, its children, and its children that have ended.
pub(crate) fn of_family(pid: u32) -> anyhow::Result<f64> {
    // Children first: one that ends in between is then counted twice for an instant instead of never.
    let living: f64 = children(pid)?
        .into_iter()
        .filter_map(|child| of_process(child).ok())
        .sum();
    let parent = Stat::read(pid)?;
    Ok(living + parent.own + parent.ended_children)
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .context("a process has resident memory")?
        .parse()?;
    Ok(kib * 1024)
}

/// Bytes that a process has written to its disk so far, flushed or not.
pub(crate) fn written_bytes(pid: u32) -> anyhow::Result<i64> {
    let counters = fs::read_to_string(format!("/proc/{pid}/io"))?;
    Ok(counters
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "))
        .context("a process has counters of what it writes")?
        .parse()?)
}

struct Stat {
    parent: u32,
    own: f64,
    ended_children: f64,
}

impl Stat {
    fn read(pid: u32) -> anyhow::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The command name, in parentheses, may contain spaces: the fields are counted from its end.
        let (_, fields) = stat.rsplit_once(')').context("a process status")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let field = |n: usize| fields.get(n).context("a process status has all its fields");
        let seconds = |n: usize| -> anyhow::Result<f64> { Ok(field(n)?.parse::<f64>()? / TICKS) };
        Ok(Self {
            parent: field(1)?.parse()?,
            own: seconds(11)? + seconds(12)?,
            ended_children: seconds(13)? + seconds(14)?,
        })
    }
}

fn children(parent: u32) -> anyhow::Result<Vec<u32>> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if Stat::read(pid).is_ok_and(|stat| stat.parent == parent) {
            children.push(pid);
        }
    }
    Ok(children)
}
