//! How many columns of a terminal a text takes, and texts that fit into a number of columns.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Stands for what a shortened text has lost.
const CUT: &str = "...";

/// Columns that a text takes at most. Terminals differ about characters that are joined: an old one shows a family as four
/// people, a new one as one picture. The larger number leaves a line short; the smaller one would let it wrap.
pub fn columns(text: &str) -> usize {
    text.graphemes(true).map(grapheme_columns).sum()
}

fn grapheme_columns(grapheme: &str) -> usize {
    let apart: usize = grapheme.chars().filter_map(UnicodeWidthChar::width).sum();
    apart.max(grapheme.width())
}

/// The text, or its end behind three dots: the end tells the names of files apart more often than the beginning. Never
/// takes more than `limit` columns, and never begins in the middle of a grapheme.
pub fn shortened(text: &str, limit: usize) -> String {
    if columns(text) <= limit {
        return text.to_string();
    }
    let Some(mut room) = limit.checked_sub(CUT.len()) else { return ".".repeat(limit) };
    let mut start = text.len();
    for (at, grapheme) in text.grapheme_indices(true).rev() {
        match room.checked_sub(grapheme_columns(grapheme)) {
            Some(left) => (room, start) = (left, at),
            None => break,
        }
    }
    // A boundary of a grapheme is one of a character.
    format!("{CUT}{}", text.get(start..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_not_characters() {
        let cases = [
            ("large.bin", 9),
            ("größe", 5),
            // Two letters and a combining diaeresis.
            ("ou\u{308}", 2),
            ("測定結果.txt", 12),
            ("ｆｕｌｌ", 8),
            ("🦀", 2),
            // One picture, or two of people and one of a rocket.
            ("👩\u{200d}🚀", 4),
            ("🇨🇭", 2),
            ("❤\u{fe0f}", 2),
        ];
        for (text, expected) in cases {
            assert_eq!(columns(text), expected, "{text}");
        }
    }

    #[test]
    fn a_shortened_text_fits_and_begins_with_a_whole_grapheme() {
        assert_eq!(shortened("large.bin", 9), "large.bin");
        assert_eq!(shortened("large.bin", 8), "...e.bin");
        // Half of an ideograph does not fit.
        assert_eq!(shortened("測定結果.txt", 10), "...果.txt");
        assert_eq!(shortened("測定結果.txt", 9), "...果.txt");
        assert_eq!(shortened("測定結果.txt", 11), "...結果.txt");
        // The diaeresis stays with its letter, and the rocket with its pilot.
        assert_eq!(shortened("wxyu\u{308}bin", 6), "...bin");
        assert_eq!(shortened("abcd👩\u{200d}🚀", 5), "...");
        let long = "a👩\u{200d}🚀u\u{308}測🇨🇭".repeat(5);
        for limit in 0..columns(&long) {
            let short = shortened(&long, limit);
            assert!(columns(&short) <= limit, "{short:?} takes more than {limit} columns");
        }
    }
}
