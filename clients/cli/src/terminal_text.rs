//! Makes text of unknown origin safe to show on a terminal.

/// Replaces every character that could steer a terminal or reorder the line; what breaks a line
/// becomes a blank.
///
/// Titles, messages and names come from the people who submit tasks or run workers.
pub(crate) fn safe_text(text: &str) -> String {
    text.replace("\r\n", " ")
        .chars()
        .map(|c| match c {
            '\n' | '\t' => ' ',
            c if steers(c) => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// As [`safe_text`], but keeps line breaks and tabs.
pub(crate) fn safe_block(text: &str) -> String {
    text.chars()
        .map(|c| {
            if steers(c) && c != '\n' && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// Splits text into lines of its own, each safe to show.
///
/// Lines end as programs on any system end them.
pub(crate) fn safe_lines(text: &str) -> impl Iterator<Item = String> {
    text.lines().map(safe_line)
}

/// As [`safe_text`], but keeps tabs.
fn safe_line(line: &str) -> String {
    line.chars()
        .map(|c| if steers(c) && c != '\t' { '\u{fffd}' } else { c })
        .collect()
}

/// Control characters, and the marks that change the direction of writing.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::{safe_block, safe_lines, safe_text};

    #[test]
    fn nothing_that_steers_a_terminal_gets_through() {
        assert_eq!(
            safe_text("red \u{1b}[31m\u{9b}2J\r\nnext\u{202e}"),
            "red �[31m�2J next�"
        );
        assert_eq!(safe_text("größer 日本 🙂"), "größer 日本 🙂");
        assert_eq!(safe_block("a\n\tb\u{7}"), "a\n\tb�");
        assert_eq!(
            safe_lines("one\r\n\ttwo\u{1b}[2J\n\nfour").collect::<Vec<_>>(),
            ["one", "\ttwo�[2J", "", "four"]
        );
    }
}
