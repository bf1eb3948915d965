//! Plain tables: a header, aligned columns, no frames.

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use tasklease_proto::v1::TaskState;

use crate::screen::Colour;
use crate::terminal_text::safe_text;

/// A table under way.
pub(crate) struct TableText {
    table: Table,
    colour: Colour,
}

impl TableText {
    /// A table with these column heads.
    pub(crate) fn new(heads: &[&str], colour: Colour) -> Self {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled);
        match colour {
            Colour::On => table.enforce_styling(),
            Colour::Off => table.force_no_tty(),
        };
        table.set_header(
            heads
                .iter()
                .map(|head| Cell::new(head).add_attribute(Attribute::Bold)),
        );
        Self { table, colour }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.table.add_row(cells);
    }

    /// The text, without blanks at the ends of lines.
    pub(crate) fn finish(self) -> String {
        match self.colour {
            Colour::On => self.table.to_string(),
            Colour::Off => self
                .table
                .lines()
                .map(|line| line.trim_end().to_owned())
                .collect::<Vec<_>>()
                .join("\n"),
        }
    }
}

/// A cell with text of unknown origin.
pub(crate) fn text(text: impl AsRef<str>) -> Cell {
    Cell::new(safe_text(text.as_ref()))
}

/// A cell with a number.
pub(crate) fn number(number: impl ToString) -> Cell {
    Cell::new(number.to_string())
}

/// A cell with a task's state.
pub(crate) fn state(state: i32) -> Cell {
    let cell = Cell::new(state_name(state));
    match TaskState::try_from(state) {
        Ok(TaskState::Running) => cell.fg(Color::Cyan),
        Ok(TaskState::Succeeded) => cell.fg(Color::Green),
        Ok(TaskState::Failed) => cell.fg(Color::Red),
        Ok(TaskState::Cancelled) => cell.fg(Color::Yellow),
        _ => cell,
    }
}

/// A state's name without its prefix.
pub(crate) fn state_name(state: i32) -> String {
    match TaskState::try_from(state) {
        Ok(state) => state.as_str_name().trim_start_matches("TASK_STATE_").to_owned(),
        Err(_) => format!("STATE {state}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{TableText, number, state, text};
    use crate::screen::Colour;

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_blanks() {
        let mut table = TableText::new(&["ID", "STATE", "TITLE"], Colour::Off);
        table.row([number(1), state(5), text("")]);
        table.row([number(22), state(4), text("a\u{1b}b")]);
        assert_eq!(
            table.finish(),
            " ID  STATE      TITLE\n 1   SUCCEEDED\n 22  RUNNING    a�b"
        );
    }
}
