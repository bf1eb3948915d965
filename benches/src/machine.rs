//! What a figure depends on besides the code: the machine, its load, its Postgres.

use std::{
    fs,
    io::{Seek as _, SeekFrom, Write as _},
    process::Command,
    time::Instant,
};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::report::{median, rounded};

/// How many commits' worth of flushes are timed.
const FLUSHES: usize = 200;

/// Facts about this machine, now.
pub(crate) fn facts() -> anyhow::Result<Value> {
    let load = fs::read_to_string("/proc/loadavg")?;
    let load: f64 = load
        .split_whitespace()
        .next()
        .context("a load average")?
        .parse()?;
    Ok(json!({
        "cpu": proc_field("/proc/cpuinfo", "model name"),
        "cores": std::thread::available_parallelism()?.get(),
        "memory_gib": proc_field("/proc/meminfo", "MemTotal").and_then(|kib| gib(&kib)),
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
        "postgres": postgres_version(),
        "fsync_us": fsync_us()?,
        "commit": commit(),
        "load_at_start": load,
        "release_build": !cfg!(debug_assertions),
    }))
}

fn proc_field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    text.lines()
        .find_map(|line| {
            line.strip_prefix(name)?
                .trim_start()
                .strip_prefix(':')
                .map(str::trim)
        })
        .map(str::to_owned)
}

fn gib(kib: &str) -> Option<f64> {
    let kib: f64 = kib.split_whitespace().next()?.parse().ok()?;
    Some(rounded(kib / f64::from(1 << 20), 1))
}

fn postgres_version() -> Option<String> {
    let postgres = tasklease_postgres::find_binaries().ok()?.postgres();
    let answer = output(Command::new(postgres).arg("--version"))?;
    answer
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
        .map(str::to_owned)
}

/// Time of one write and flush of a page on the disk of the databases.
fn fsync_us() -> anyhow::Result<f64> {
    let mut file = tempfile::tempfile()?;
    let page = [7_u8; 8_192];
    let mut times = Vec::with_capacity(FLUSHES);
    for _ in 0..FLUSHES {
        let start = Instant::now();
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&page)?;
        file.sync_data()?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(rounded(median(&times), 0))
}

/// The commit that is checked out, marked if files differ from it.
fn commit() -> Option<String> {
    let commit = output(Command::new("git").args(["rev-parse", "--short", "HEAD"]))?;
    let changes = output(Command::new("git").args(["status", "--porcelain", "--untracked-files=no"]))?;
    let mark = if changes.is_empty() { "" } else { "-dirty" };
    Some(format!("{commit}{mark}"))
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
