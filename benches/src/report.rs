//! The result of a measurement, for people and for programs.

use std::{collections::BTreeSet, fs, path::Path, process::ExitCode};

use comfy_table::{Table, presets};
use serde_json::{Map, Value, json};

/// The result of one subcommand.
pub(crate) struct Report {
    bench: &'static str,
    parameters: Value,
    figures: Value,
    rounds: Vec<Value>,
    notes: Vec<String>,
    code: ExitCode,
}

impl Report {
    /// A report of figures that were taken under these parameters.
    pub(crate) fn new(bench: &'static str, parameters: Value, figures: Value) -> Self {
        Self {
            bench,
            parameters,
            figures,
            rounds: Vec::new(),
            notes: Vec::new(),
            code: ExitCode::SUCCESS,
        }
    }

    /// A report whose figures are the medians of several rounds of the same shape.
    pub(crate) fn of_rounds(bench: &'static str, parameters: Value, rounds: Vec<Value>) -> Self {
        let mut report = Self::new(bench, parameters, medians(&rounds));
        if rounds.len() > 1 {
            report.rounds = rounds;
        }
        report
    }

    /// Adds the single rounds, which show how much the figures vary.
    pub(crate) fn with_rounds(mut self, rounds: Vec<Value>) -> Self {
        self.rounds = rounds;
        self
    }

    /// Adds sentences that a reader of the figures must know.
    pub(crate) fn with_notes(mut self, notes: Vec<String>) -> Self {
        self.notes = notes;
        self
    }

    /// Makes the process end with this code.
    pub(crate) fn with_code(mut self, code: ExitCode) -> Self {
        self.code = code;
        self
    }

    /// Prints a table and, as the last line, the JSON; writes the JSON to a file too.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn publish(self, machine: Value, out: Option<&Path>) -> anyhow::Result<ExitCode> {
        let mut whole = Map::new();
        whole.insert("bench".to_owned(), json!(self.bench));
        whole.insert("parameters".to_owned(), self.parameters);
        whole.insert("figures".to_owned(), self.figures.clone());
        if !self.rounds.is_empty() {
            whole.insert("rounds".to_owned(), json!(self.rounds));
        }
        if !self.notes.is_empty() {
            whole.insert("notes".to_owned(), json!(self.notes));
        }
        whole.insert("machine".to_owned(), machine);
        let whole = Value::Object(whole);
        if let Some(file) = out {
            fs::write(file, format!("{whole:#}\n"))?;
        }
        show(self.bench, &self.figures, &self.notes, &whole);
        Ok(self.code)
    }
}

#[expect(clippy::print_stdout, reason = "the result of a benchmark is its output")]
fn show(bench: &str, figures: &Value, notes: &[String], whole: &Value) {
    println!("{bench}");
    for table in tables(figures) {
        println!("{table}\n");
    }
    for note in notes {
        println!("{note}");
    }
    println!("{whole}");
}

/// Objects of objects become matrices, one for all rows that have names in common; anything else becomes a list.
fn tables(figures: &Value) -> Vec<Table> {
    let Some(rows) = figures.as_object() else {
        return Vec::new();
    };
    if !rows.values().any(Value::is_object) {
        let mut table = empty_table();
        for (name, value) in rows {
            table.add_row([name.clone(), cell(value)]);
        }
        return vec![table];
    }
    groups(rows).iter().map(Group::table).collect()
}

/// Rows that have names in common.
#[derive(Default)]
struct Group<'a> {
    columns: BTreeSet<&'a String>,
    rows: Vec<(&'a String, &'a Value)>,
}

impl Group<'_> {
    fn table(&self) -> Table {
        let mut table = empty_table();
        let heads = self.columns.iter().map(|column| (*column).clone());
        table.set_header(std::iter::once(String::new()).chain(heads));
        for (name, row) in &self.rows {
            let cells = self
                .columns
                .iter()
                .map(|column| row.get(*column).map_or_else(String::new, cell));
            table.add_row(std::iter::once((*name).clone()).chain(cells));
        }
        table
    }
}

fn groups(rows: &Map<String, Value>) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for (name, row) in rows {
        let columns: BTreeSet<&String> = row.as_object().into_iter().flat_map(Map::keys).collect();
        let place = groups
            .iter()
            .position(|group| !group.columns.is_disjoint(&columns))
            .unwrap_or_else(|| {
                groups.push(Group::default());
                groups.len() - 1
            });
        groups[place].columns.extend(columns);
        groups[place].rows.push((name, row));
    }
    groups
}

fn empty_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Number(number) => number
            .as_f64()
            .map(|number| number.to_string())
            .unwrap_or_default(),
        other => other.to_string(),
    }
}

/// A number rounded to `decimals` decimals.
pub(crate) fn rounded(number: f64, decimals: i32) -> f64 {
    let shift = 10_f64.powi(decimals);
    (number * shift).round() / shift
}

/// The middle of some numbers; zero if there are none.
pub(crate) fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (middle, odd) = (sorted.len() / 2, sorted.len() % 2 == 1);
    match (sorted.get(middle), sorted.get(middle.wrapping_sub(1))) {
        (Some(upper), Some(lower)) if !odd => (upper + lower) / 2.0,
        (Some(middle), _) => *middle,
        (None, _) => 0.0,
    }
}

/// Merges results of one shape: every number becomes the median of that number in all of them.
///
/// A result that lacks a name of the others does not count for it.
pub(crate) fn medians(rounds: &[Value]) -> Value {
    let numbers: Vec<f64> = rounds.iter().filter_map(Value::as_f64).collect();
    if !numbers.is_empty() {
        return json!(rounded(median(&numbers), 3));
    }
    let mut merged = Map::new();
    for name in rounds.iter().filter_map(Value::as_object).flat_map(Map::keys) {
        if !merged.contains_key(name) {
            let values: Vec<Value> = rounds
                .iter()
                .filter_map(|round| round.get(name))
                .cloned()
                .collect();
            merged.insert(name.clone(), medians(&values));
        }
    }
    if merged.is_empty() {
        return rounds.first().cloned().unwrap_or_default();
    }
    Value::Object(merged)
}

/// Each rate of one object divided by the rate of that name in another.
pub(crate) fn ratios(rates: &Value, to: &Value) -> Value {
    let mut ratios = Map::new();
    for (name, rate) in rates.as_object().into_iter().flatten() {
        if let (Some(rate), Some(to), Some(measure)) =
            (rate.as_f64(), to[name].as_f64(), name.strip_suffix("_per_s"))
        {
            ratios.insert(format!("{measure}_ratio"), json!(rounded(rate / to, 3)));
        }
    }
    Value::Object(ratios)
}

/// Merges the names of two objects into one.
pub(crate) fn joined(mut first: Value, second: Value) -> Value {
    if let (Some(first), Value::Object(second)) = (first.as_object_mut(), second) {
        first.extend(second);
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn rounds_merge_number_by_number() {
        let rounds = [
            json!({ "a": { "per_s": 10 }, "name": "x" }),
            json!({ "a": { "per_s": 30 } }),
            json!({ "a": { "per_s": 20 }, "b": 7 }),
        ];
        let merged = medians(&rounds);
        assert_eq!(merged, json!({ "a": { "per_s": 20.0 }, "b": 7.0, "name": "x" }));
    }

    #[test]
    fn rows_with_names_in_common_share_a_table() {
        let figures = json!({
            "drain": { "per_s": 4, "wal": 9 }, "enqueue": { "per_s": 5 }, "to_floor": { "ratio": 0.5 },
        });
        let tables: Vec<String> = tables(&figures).iter().map(Table::to_string).collect();
        assert_eq!(tables.len(), 2);
        assert!(
            tables[0].contains("per_s") && tables[0].contains("enqueue"),
            "{tables:?}"
        );
        assert!(
            tables[1].contains("to_floor") && !tables[1].contains("per_s"),
            "{tables:?}"
        );
    }
}
