//! Texts for people, brought within what the contract allows.
//!
//! A text is cut between characters, never within one. White space that ends a line or moves the cursor becomes a
//! space, or a line break where line breaks may stay. Every other control character, such as NUL, which Postgres cannot
//! store, or the escape that begins a terminal's commands, becomes `U+FFFD`.

/// What stands in the place of a control character.
const REPLACEMENT: char = '\u{fffd}';

/// One line of at most `limit` characters.
pub fn line(text: &str, limit: usize) -> String {
    clean(text, limit, |c| {
        if c == '\t' || is_line_break(c) {
            ' '
        } else {
            REPLACEMENT
        }
    })
}

/// At most `limit` characters, in which line breaks and tabs stay. `CR LF` and a lone `CR` become `LF`.
pub fn lines(text: &str, limit: usize) -> String {
    clean(text, limit, |c| match c {
        '\t' => '\t',
        c if is_line_break(c) => '\n',
        _ => REPLACEMENT,
    })
}

/// Line feed, vertical tab, form feed, carriage return, next line.
fn is_line_break(c: char) -> bool {
    matches!(c, '\n'..='\r' | '\u{85}')
}

fn clean(text: &str, limit: usize, control: impl Fn(char) -> char) -> String {
    let mut cleaned = String::with_capacity(text.len().min(limit.saturating_mul(4)));
    let mut after_return = false;
    let mut room = limit;
    for c in text.chars() {
        // CR LF is one line break.
        let ends_pair = after_return && c == '\n';
        after_return = c == '\r';
        if ends_pair {
            continue;
        }
        if room == 0 {
            break;
        }
        room -= 1;
        cleaned.push(if c.is_control() { control(c) } else { c });
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(line("ä\u{1F600}b", 2), "ä\u{1F600}");
        assert_eq!(line("ä\u{1F600}b", 3), "ä\u{1F600}b");
        // One emoji of several code points: what is left is whole characters.
        assert_eq!(line("\u{1F468}\u{200D}\u{1F469}", 2), "\u{1F468}\u{200D}");
        assert_eq!(lines("abc", 0), "");
        assert_eq!(line("", 0), "");
    }

    #[test]
    fn line_breaks_and_tabs_become_spaces_in_one_line_and_stay_in_several() {
        let text = "a\r\nb\rc\n\nd\te\u{85}f\u{b}g";
        assert_eq!(line(text, 100), "a b c  d e f g");
        assert_eq!(lines(text, 100), "a\nb\nc\n\nd\te\nf\ng");
    }

    #[test]
    fn a_pair_of_cr_and_lf_counts_as_one_character_also_at_the_cut() {
        assert_eq!(lines("ab\r\ncd", 3), "ab\n");
        assert_eq!(lines("ab\r\ncd", 4), "ab\nc");
        assert_eq!(line("\r\n\r\n", 1), " ");
    }

    #[test]
    fn control_characters_are_replaced_so_that_a_terminal_and_postgres_take_the_text() {
        for clean in [line, lines] {
            assert_eq!(clean("a\0b", 100), "a\u{fffd}b");
            assert_eq!(
                clean("\u{1b}[31mred\u{9b}0m\u{7f}", 100),
                "\u{fffd}[31mred\u{fffd}0m\u{fffd}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_cleaned_text_is_within_its_limit_and_stays_as_it_is(text in "(?s).{0,40}", limit in 0_usize..50) {
            for clean in [line, lines] {
                let cleaned = clean(&text, limit);
                prop_assert!(cleaned.chars().count() <= limit);
                prop_assert!(!cleaned.contains(|c: char| c.is_control() && c != '\n' && c != '\t'));
                prop_assert_eq!(&clean(&cleaned, limit), &cleaned);
            }
        }
    }
}
