//! How names, sizes and speeds are shown to a person or in a log.

pub mod columns;
mod hidden;
pub mod shell;

use std::fmt::{self, Display, Formatter, Write};

use hidden::{Role, role};

/// Characters of a foreign text that are shown at most, so that a 4 KiB name cannot flood a log.
const SHOWN_MAX: usize = 400;

/// A step from one unit to the next: KiB, MiB, GiB (IEC 80000-13).
const UNIT: f64 = 1024.0;

/// A foreign text in a form that can neither move a cursor, nor reorder a line, nor begin a new one, and hides nothing.
///
/// Escaped are C0, DEL, C1, the backslash, bytes that are not UTF-8, and what would not be seen (hidden.rs): so "not found"
/// shows what was wrong with a name that looks right. Emoji, and the scripts that need joiners, are shown as they are.
pub fn escaped(text: &[u8]) -> String {
    Escaped { text, quote: false }.to_string()
}

/// A foreign name, escaped and in single quotes; a quote inside is escaped too, so that a reader sees where the name ends.
pub fn quoted(name: &[u8]) -> String {
    in_quotes(name).to_string()
}

/// The same as [`quoted`], written to where it is wanted.
pub fn in_quotes(name: &[u8]) -> Escaped<'_> {
    Escaped { text: name, quote: true }
}

/// A foreign text that is escaped when it is written.
#[derive(Clone, Copy)]
pub struct Escaped<'a> {
    text: &'a [u8],
    /// Whether quotes stand around it.
    quote: bool,
}

impl Display for Escaped<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let quote = if self.quote { "'" } else { "" };
        out.write_str(quote)?;
        match std::str::from_utf8(self.text) {
            // Nearly all names.
            Ok(text) if text.len() <= SHOWN_MAX && text.bytes().all(is_plain) => out.write_str(text)?,
            _ => self.escape(out)?,
        }
        out.write_str(quote)
    }
}

impl Escaped<'_> {
    fn escape(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let elided = |out: &mut Formatter<'_>, used: usize| write!(out, "... ({} bytes more)", self.text.len() - used);
        let mut shown = 0;
        let mut used = 0;
        for chunk in self.text.utf8_chunks() {
            let mut before = Role::Escaped;
            let mut chars = chunk.valid().chars().peekable();
            while let Some(c) = chars.next() {
                if shown == SHOWN_MAX {
                    return elided(out, used);
                }
                before = role(before, c, chars.peek().copied());
                self.write_char(out, c, before)?;
                shown += 1;
                used += c.len_utf8();
            }
            for byte in chunk.invalid() {
                if shown == SHOWN_MAX {
                    return elided(out, used);
                }
                write!(out, "\\x{byte:02x}")?;
                shown += 1;
                used += 1;
            }
        }
        Ok(())
    }

    fn write_char(&self, out: &mut Formatter<'_>, c: char, role: Role) -> fmt::Result {
        match c {
            '\\' => out.write_str("\\\\"),
            '\'' if self.quote => out.write_str("\\'"),
            '\n' => out.write_str("\\n"),
            '\r' => out.write_str("\\r"),
            '\t' => out.write_str("\\t"),
            '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' => write!(out, "\\x{:02x}", u32::from(c)),
            _ if role == Role::Escaped => write!(out, "\\u{{{:x}}}", u32::from(c)),
            _ => out.write_char(c),
        }
    }
}

/// Whether a byte stands for itself wherever it is shown.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'\\' && byte != b'\''
}

/// A local path for a person, escaped like any name.
pub fn path(path: &std::path::Path) -> String {
    escaped(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()))
}

/// A number of bytes: `512 bytes`, `10.0 MiB`.
pub fn size(bytes: u64) -> String {
    size_to(bytes, 1)
}

/// The same, with two decimals from 1 GiB on, for a number that is watched while it grows: at gigabit speed 0.1 GiB takes
/// a second.
pub fn exact_size(bytes: u64) -> String {
    size_to(bytes, if bytes < 1 << 30 { 1 } else { 2 })
}

fn size_to(bytes: u64, decimals: usize) -> String {
    if bytes < 1024 {
        return if bytes == 1 { String::from("1 byte") } else { format!("{bytes} bytes") };
    }
    // 1023.95 would be printed as 1024.0.
    let limit = UNIT - if decimals == 1 { 0.05 } else { 0.005 };
    let mut value = bytes as f64 / UNIT;
    for unit in ["KiB", "MiB", "GiB", "TiB"] {
        if value < limit {
            return format!("{value:.decimals$} {unit}");
        }
        value /= UNIT;
    }
    format!("{value:.decimals$} PiB")
}

/// Bytes in a time, as a speed; a time too short to measure counts as a microsecond.
pub fn speed(bytes: u64, seconds: f64) -> String {
    let per_second = bytes as f64 / seconds.max(1e-6);
    // A cast from f64 saturates, and a speed is never negative.
    format!("{}/s", size(per_second as u64))
}

/// A time in the two largest units that it has: `38 s`, `11 min 38 s`, `3 h 11 min`, `2 d 3 h`.
pub fn duration(time: std::time::Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// A count with its noun: `1 reply`, `2 replies`.
pub fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_acts_on_a_terminal_survives() {
        let nasty = "a\nb\r\t\u{1b}[31m\u{7f}\u{9b}2J\u{202e}gpj.exe\u{2028}\\".as_bytes();
        let shown = escaped(nasty);
        assert_eq!(shown, "a\\nb\\r\\t\\x1b[31m\\x7f\\x9b2J\\u{202e}gpj.exe\\u{2028}\\\\");
        assert!(!shown.chars().any(char::is_control));
        assert_eq!(escaped(b"\xff\xc3ok"), "\\xff\\xc3ok");
        assert_eq!(escaped("größe ✓".as_bytes()), "größe ✓");
    }

    #[test]
    fn what_would_not_be_seen_is_escaped() {
        // Zero width, soft hyphen, spaces that are none, bidirectional, fillers, tags, and no character at all.
        for c in
            "\u{200b}\u{feff}\u{2060}\u{ad}\u{a0}\u{202f}\u{200e}\u{2066}\u{2028}\u{3164}\u{e0041}\u{fffff}".chars()
        {
            let shown = escaped(format!("a{c}b").as_bytes());
            assert_eq!(shown, format!("a\\u{{{:x}}}b", u32::from(c)));
        }
        assert_eq!(escaped("\u{feff}a".as_bytes()), "\\u{feff}a");
    }

    #[test]
    fn what_scripts_and_emoji_need_is_shown() {
        // Persian, Devanagari, a family, a flag with a selector and a joiner, a variant of an ideograph, a wide space.
        let words = [
            "می\u{200c}خواهم",
            "क्\u{200d}ष",
            "👨\u{200d}👩\u{200d}👧",
            "🏳\u{fe0f}\u{200d}🌈",
            "葛\u{e0100}",
            "全\u{3000}角",
        ];
        words.iter().for_each(|word| assert_eq!(escaped(word.as_bytes()), *word));
        // Where they do nothing, or stand for something else.
        let cases = [
            ("a\u{200d}b", "a\\u{200d}b"),
            ("ß\u{200c}ü", "ß\\u{200c}ü"),
            ("中\u{200d}文", "中\\u{200d}文"),
            ("👍\u{200d}", "👍\\u{200d}"),
            ("👍\u{200d}\u{200d}👍", "👍\\u{200d}\\u{200d}👍"),
            ("a\u{fe0f}", "a\\u{fe0f}"),
            ("👍\u{e0101}\u{e0102}\u{e0103}", "👍\u{e0101}\\u{e0102}\\u{e0103}"),
        ];
        cases.iter().for_each(|(text, shown)| assert_eq!(escaped(text.as_bytes()), *shown));
    }

    #[test]
    fn a_quote_cannot_end_a_quoted_name() {
        assert_eq!(quoted(b"a' to 1.2.3.4: 'b"), "'a\\' to 1.2.3.4: \\'b'");
    }

    #[test]
    fn long_names_are_cut() {
        let shown = escaped(&[b'x'; 4096]);
        assert_eq!(shown, format!("{}... (3696 bytes more)", "x".repeat(400)));
        assert_eq!(escaped(&[b'x'; 400]), "x".repeat(400));
        assert!(escaped(&[0xff; 4096]).ends_with("(3696 bytes more)"));
    }

    #[test]
    fn a_time_has_two_units_at_most() {
        let shown = |seconds| duration(std::time::Duration::from_secs(seconds));
        assert_eq!([0, 59, 60, 698].map(shown), ["0 s", "59 s", "1 min 0 s", "11 min 38 s"]);
        assert_eq!([3600, 86_399, 86_400, 187_200].map(shown), ["1 h 0 min", "23 h 59 min", "1 d 0 h", "2 d 4 h"]);
    }

    #[test]
    fn sizes_round_into_the_next_unit() {
        let cases = [(0, "0 bytes"), (1, "1 byte"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (10 << 20, "10.0 MiB")];
        for (bytes, shown) in cases {
            assert_eq!(size(bytes), shown);
        }
        assert_eq!(size((1 << 20) - 1), "1.0 MiB");
        assert_eq!(size(u64::MAX), "16384.0 PiB");
        let cases = [((1 << 30) - (1 << 20), "1023.0 MiB"), (1 << 30, "1.00 GiB"), ((1 << 40) - 1, "1.00 TiB")];
        for (bytes, shown) in cases {
            assert_eq!(exact_size(bytes), shown);
        }
    }
}
