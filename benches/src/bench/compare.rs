//! `compare`: two results of one subcommand, and what became worse.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, ensure};
use serde_json::{Map, Value, json};

use crate::report::{Report, rounded};

/// Options of `compare`.
#[derive(clap::Args)]
pub(crate) struct Compare {
    /// The result to compare with.
    old: PathBuf,
    /// The new result, which is compared.
    new: PathBuf,
    /// How many percent a figure may be worse before that counts.
    #[arg(long, default_value_t = 15.0)]
    tolerance: f64,
}

impl Compare {
    pub(crate) fn run(self) -> anyhow::Result<Report> {
        let (old, new) = (read(&self.old)?, read(&self.new)?);
        ensure!(
            old["bench"] == new["bench"],
            "the results are of two subcommands: {} and {}",
            old["bench"],
            new["bench"]
        );
        let mut notes = Vec::new();
        for part in ["parameters", "machine"] {
            if part_differs(&old[part], &new[part]) {
                notes.push(format!("The results differ in their {part}."));
            }
        }
        let lines = compared(&old["figures"], &new["figures"], self.tolerance / 100.0);
        let worse = lines.iter().filter(|line| line.verdict == Verdict::Worse).count();
        notes.push(format!(
            "{worse} of {} figures are worse by more than {} %.",
            lines.len(),
            self.tolerance
        ));
        let figures: Map<String, Value> = lines.iter().map(Line::show).collect();
        let parameters = json!({ "of": old["bench"], "tolerance": self.tolerance });
        Ok(Report::new("compare", parameters, Value::Object(figures))
            .with_notes(notes)
            .with_code(ExitCode::from(u8::from(worse > 0))))
    }
}

fn read(file: &Path) -> anyhow::Result<Value> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} holds no result", file.display()))
}

/// Whether anything but the time and the code differs.
fn part_differs(old: &Value, new: &Value) -> bool {
    let lasting = |part: &Value| {
        let mut part = part.as_object().cloned().unwrap_or_default();
        for passing in ["commit", "fsync_us", "load_at_start"] {
            part.remove(passing);
        }
        part
    };
    lasting(old) != lasting(new)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Better,
    Same,
    Worse,
    Missing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Good {
    High,
    Low,
}

struct Line {
    measure: String,
    old: f64,
    new: Option<f64>,
    verdict: Verdict,
}

impl Line {
    fn show(&self) -> (String, Value) {
        let ratio = self
            .new
            .filter(|_| self.old != 0.0)
            .map(|new| rounded(new / self.old, 3));
        let verdict = match self.verdict {
            Verdict::Better => "better",
            Verdict::Same => "same",
            Verdict::Worse => "worse",
            Verdict::Missing => "missing",
        };
        let cells = json!({ "old": self.old, "new": self.new, "new_to_old": ratio, "verdict": verdict });
        (self.measure.clone(), cells)
    }
}

/// Compares every figure of the old result that has a direction.
fn compared(old: &Value, new: &Value, tolerance: f64) -> Vec<Line> {
    figures("", old)
        .into_iter()
        .filter_map(|(measure, old_figure)| {
            let good = direction(&measure)?;
            let new_figure = figures("", new)
                .into_iter()
                .find_map(|(name, figure)| (name == measure).then_some(figure));
            let verdict = new_figure.map_or(Verdict::Missing, |new| judge(good, old_figure, new, tolerance));
            Some(Line {
                measure,
                old: old_figure,
                new: new_figure,
                verdict,
            })
        })
        .collect()
}

/// All numbers with the path of names that leads to each.
fn figures(path: &str, value: &Value) -> Vec<(String, f64)> {
    if let Some(number) = value.as_f64() {
        return vec![(path.to_owned(), number)];
    }
    let below = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    value
        .as_object()
        .into_iter()
        .flatten()
        .flat_map(|(name, value)| figures(&below(name), value))
        .collect()
}

/// Which way a figure should go, by its unit; `None` for one that only informs.
fn direction(measure: &str) -> Option<Good> {
    let name = measure.rsplit('.').next().unwrap_or(measure);
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    if has(&["ratio", "per_s"]) {
        Some(Good::High)
    } else if has(&["_us", "_ms", "bytes", "queries"]) {
        Some(Good::Low)
    } else {
        None
    }
}

fn judge(good: Good, old: f64, new: f64, tolerance: f64) -> Verdict {
    let (low, high) = (old * (1.0 - tolerance), old * (1.0 + tolerance));
    match good {
        Good::High if new < low => Verdict::Worse,
        Good::Low if new > high => Verdict::Worse,
        Good::High if new > high => Verdict::Better,
        Good::Low if new < low => Verdict::Better,
        Good::High | Good::Low => Verdict::Same,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(old: &Value, new: &Value) -> Vec<(String, Verdict)> {
        compared(old, new, 0.15)
            .into_iter()
            .map(|line| (line.measure, line.verdict))
            .collect()
    }

    #[test]
    fn a_lower_rate_and_a_longer_time_are_worse() {
        let old = json!({ "drain": { "per_s": 100, "wal_bytes": 100 }, "p99_us": 100, "to_best_ratio": 2 });
        let new = json!({ "drain": { "per_s": 84, "wal_bytes": 116 }, "p99_us": 116, "to_best_ratio": 1 });
        let all_worse = ["drain.per_s", "drain.wal_bytes", "p99_us", "to_best_ratio"]
            .map(|measure| (measure.to_owned(), Verdict::Worse));
        assert_eq!(verdicts(&old, &new), all_worse);
    }

    #[test]
    fn the_other_way_round_they_are_better() {
        let old = json!({ "per_s": 100, "p99_us": 100 });
        let new = json!({ "per_s": 116, "p99_us": 84 });
        let better = ["p99_us", "per_s"].map(|measure| (measure.to_owned(), Verdict::Better));
        assert_eq!(verdicts(&old, &new), better);
    }

    #[test]
    fn within_the_tolerance_nothing_changed() {
        let old = json!({ "per_s": 100, "p99_us": 100 });
        let new = json!({ "per_s": 86, "p99_us": 114 });
        assert!(
            verdicts(&old, &new)
                .iter()
                .all(|(_, verdict)| *verdict == Verdict::Same)
        );
    }

    #[test]
    fn a_ratio_of_latencies_is_good_when_it_is_high() {
        assert_eq!(direction("to a.latency_p50_ratio"), Some(Good::High));
        assert_eq!(direction("idle.queries"), Some(Good::Low));
        assert_eq!(direction("with_sessions.listed"), None);
    }

    #[test]
    fn a_figure_that_vanished_is_missing() {
        let verdicts = verdicts(&json!({ "a": { "per_s": 1 } }), &json!({}));
        assert_eq!(verdicts, [("a.per_s".to_owned(), Verdict::Missing)]);
    }

    #[test]
    fn another_load_of_the_machine_is_no_other_machine() {
        let machine = |cores: u32, load: f64| json!({ "cores": cores, "load_at_start": load });
        assert!(!part_differs(&machine(2, 0.1), &machine(2, 3.0)));
        assert!(part_differs(&machine(2, 0.1), &machine(4, 0.1)));
    }
}
