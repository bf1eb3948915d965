//! The page that says what is promised, how it is tested, and what was seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use clap::ValueEnum as _;

use crate::{
    check::Invariant,
    fault_kind::{FaultKind, Harm},
    run::{RunResult, broken},
};

/// The page, made from the results of runs.
pub fn page(results: &[RunResult]) -> String {
    let mut page = String::new();
    // Writing to a string cannot fail.
    let _ = write_page(&mut page, results);
    page
}

fn write_page(page: &mut String, results: &[RunResult]) -> std::fmt::Result {
    let sum = |part: fn(&RunResult) -> usize| results.iter().map(part).sum::<usize>();
    let mut faults: BTreeMap<&str, usize> = BTreeMap::new();
    for result in results {
        for (kind, count) in &result.faults {
            *faults.entry(kind).or_insert(0) += count;
        }
    }
    writeln!(page, "# What we promise, and how it is tested\n")?;
    writeln!(
        page,
        "`tasklease-chaos` wrote this page from results of its runs; `tests/chaos/README.md` says how to make more.\n"
    )?;
    writeln!(
        page,
        "Each run starts Postgres with `fsync` on, several schedulers and workers, and a proxy on every link between them."
    )?;
    writeln!(
        page,
        "A seed decides the tasks and the timetable of faults; a history of everything that clients, workers and an \
         outside system saw is checked in the end."
    )?;
    writeln!(
        page,
        "Half of the workers speak the bare protocol, the others are processes over the worker runtime.\n"
    )?;
    writeln!(page, "## What was seen\n")?;
    writeln!(page, "| | |\n|---|---|")?;
    writeln!(page, "| runs | {} |", results.len())?;
    let minutes = results.iter().map(|result| result.seconds).sum::<u64>() / 60;
    writeln!(page, "| minutes | {minutes} |")?;
    writeln!(page, "| tasks | {} |", sum(|result| result.tasks))?;
    writeln!(page, "| runs of their code | {} |", sum(|result| result.runs))?;
    writeln!(page, "| faults | {} |", faults.values().sum::<usize>())?;
    writeln!(page, "| workers that died | {} |", sum(|result| result.deaths))?;
    writeln!(
        page,
        "| side effects under an old lease token, refused outside | {} |",
        sum(|result| result.overlaps)
    )?;
    writeln!(page, "\n## The promises\n")?;
    let broken = broken(results);
    writeln!(page, "| promise | check | runs that broke it |\n|---|---|---|")?;
    for invariant in Invariant::value_variants() {
        let count = broken.get(invariant).copied().unwrap_or(0);
        writeln!(page, "| {} | `{invariant}` | {count} |", invariant.promise())?;
    }
    writeln!(
        page,
        "\nNot promised: exactly-once side effects (compare lease tokens), an order among tasks of one priority beyond \
         taking turns, and acknowledged work on an asynchronous standby.\n"
    )?;
    writeln!(page, "## The faults\n")?;
    let (seeds, strikes) = least(results);
    writeln!(
        page,
        "Every kind has runs of its own, in which no other comes, and runs in which any may come. \
         The kind with the fewest runs was seen under {seeds} seeds; the one with the fewest strikes struck {strikes} times.\n"
    )?;
    writeln!(
        page,
        "| fault | what must go on meanwhile | times | seeds | tasks | runs that broke a promise |\n|---|---|---|---|---|---|"
    )?;
    for kind in FaultKind::value_variants() {
        let harm = match kind.harm() {
            Harm::Any => "nothing that was acknowledged is lost",
            Harm::SparesSessions => "workers keep their sessions",
            Harm::None => "workers keep their sessions, tasks start",
        };
        let seen = Seen::of(*kind, results);
        writeln!(
            page,
            "| {} | {harm} | {} | {} | {} | {} |",
            kind.about(),
            seen.times,
            seen.seeds,
            seen.tasks,
            seen.broken
        )?;
    }
    Ok(())
}

/// The fewest seeds under which a kind came, and the fewest times that one came.
fn least(results: &[RunResult]) -> (usize, usize) {
    let seen = || {
        FaultKind::value_variants()
            .iter()
            .map(|kind| Seen::of(*kind, results))
    };
    let seeds = seen().map(|seen| seen.seeds).min();
    let times = seen().map(|seen| seen.times).min();
    (seeds.unwrap_or(0), times.unwrap_or(0))
}

/// What was seen of one kind of fault.
struct Seen {
    /// How often it struck.
    times: usize,
    /// Under how many seeds it did.
    seeds: usize,
    /// How many tasks the runs had in which it did.
    tasks: usize,
    /// How many of these runs broke a promise.
    broken: usize,
}

impl Seen {
    fn of(kind: FaultKind, results: &[RunResult]) -> Self {
        let name = kind.to_string();
        let times = |result: &RunResult| result.faults.get(&name).copied().unwrap_or(0);
        let runs: Vec<&RunResult> = results.iter().filter(|result| times(result) > 0).collect();
        let seeds: BTreeSet<u64> = runs.iter().map(|result| result.parameters.seed).collect();
        Self {
            times: runs.iter().copied().map(times).sum(),
            seeds: seeds.len(),
            tasks: runs.iter().map(|result| result.tasks).sum(),
            broken: runs.iter().filter(|result| !result.breaches.is_empty()).count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::page;
    use crate::{
        check::{Breach, Invariant},
        fault_kind::FaultKind,
        history::Parameters,
        run::RunResult,
    };

    #[test]
    fn the_page_names_every_promise_even_without_results() {
        let page = page(&[]);
        assert!(
            page.contains("| A submit that was acknowledged is never lost | `acknowledged-kept` | 0 |"),
            "{page}"
        );
        assert!(page.contains("| runs | 0 |"));
    }
    #[test]
    fn the_page_tells_under_how_many_seeds_each_kind_came_and_what_it_broke() {
        let run = |seed, times, is_broken| RunResult {
            parameters: Parameters {
                seed,
                load_ms: 6_000,
                tasks: 100,
                replicas: 2,
                workers: 4,
                faults: vec![FaultKind::KillWorker],
                lease_ms: 3_000,
                is_short: true,
            },
            tasks: 100,
            runs: 110,
            overlaps: 0,
            faults: [("kill-worker".to_owned(), times)].into(),
            missed: 0,
            deaths: 1,
            seconds: 10,
            breaches: if is_broken {
                vec![Breach {
                    invariant: Invariant::OneLease,
                    task: None,
                    at: 1,
                    text: String::new(),
                }]
            } else {
                Vec::new()
            },
        };
        let page = page(&[
            run(1, 2, false),
            run(2, 3, true),
            run(2, 1, false),
            run(3, 0, true),
        ]);
        let about = FaultKind::KillWorker.about();
        let line = format!("| {about} | nothing that was acknowledged is lost | 6 | 2 | 300 | 1 |");
        assert!(page.contains(&line), "{page}");
    }
}
