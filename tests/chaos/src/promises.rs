//! The page that says what is promised, how it is tested, and what was seen.

use std::{collections::BTreeMap, fmt::Write as _};

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
    writeln!(
        page,
        "| fault | what must go on meanwhile | times |\n|---|---|---|"
    )?;
    for kind in FaultKind::value_variants() {
        let harm = match kind.harm() {
            Harm::Any => "nothing that was acknowledged is lost",
            Harm::SparesSessions => "workers keep their sessions",
            Harm::None => "workers keep their sessions, tasks start",
        };
        let count = faults.get(kind.to_string().as_str()).copied().unwrap_or(0);
        writeln!(page, "| {} | {harm} | {count} |", kind.about())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::page;

    #[test]
    fn the_page_names_every_promise_even_without_results() {
        let page = page(&[]);
        assert!(
            page.contains("| A submit that was acknowledged is never lost | `acknowledged-kept` | 0 |"),
            "{page}"
        );
        assert!(page.contains("| runs | 0 |"));
    }
}
