//! Text within the limits of the contract.

/// Longest error type.
pub(crate) const MAX_KIND: usize = 128;
/// Longest sentence for people, also of progress.
pub(crate) const MAX_MESSAGE: usize = 1_000;
/// Longest detail of an error.
pub(crate) const MAX_DETAIL: usize = 16_000;
/// Longest log line.
pub(crate) const MAX_LOG: usize = 4_000;
/// Longest heading of a card.
pub(crate) const MAX_HEADING: usize = 200;
/// Longest text of a card.
pub(crate) const MAX_BODY: usize = 10_000;
/// Longest image address of a card.
pub(crate) const MAX_IMAGE: usize = 65_536;

/// Cuts text after `limit` characters and puts a space for each control character.
pub(crate) fn line(text: &str, limit: usize) -> String {
    text.chars()
        .take(limit)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Like [`line`], but line breaks and tabs stay.
pub(crate) fn lines(text: &str, limit: usize) -> String {
    text.chars()
        .take(limit)
        .map(|c| {
            if c.is_control() && !matches!(c, '\n' | '\t') {
                ' '
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters_and_control_characters_are_replaced() {
        assert_eq!(line("ä\u{1F600}\0b\n", 3), "ä\u{1F600} ");
        assert_eq!(lines("a\n\tb\r\x1b[0m", 100), "a\n\tb  [0m");
        assert_eq!(line(&"é".repeat(2_000), MAX_MESSAGE).chars().count(), MAX_MESSAGE);
    }
}
