//! How names, sizes and speeds are shown to a person or in a log.

use std::fmt::Write;

/// Characters of a foreign text that are shown at most, so that a 4 KiB name cannot flood a log.
const SHOWN_MAX: usize = 400;

/// One binary unit step. Sizes count in 1,024 and say KB, MB, GB, as the first system and the progress bar do.
const UNIT: f64 = 1024.0;

/// A foreign text in a form that can neither move a cursor, nor reorder a line, nor begin a new one.
///
/// Escaped are C0, DEL, C1, the bidirectional controls, the line separators, the backslash, and bytes that are not UTF-8.
pub fn escaped(text: &[u8]) -> String {
    // Most names, and as often as there are files.
    let is_plain = text.len() <= SHOWN_MAX && text.iter().all(|byte| matches!(byte, b' '..=b'~' if *byte != b'\\'));
    if let (true, Ok(plain)) = (is_plain, str::from_utf8(text)) {
        return plain.to_string();
    }
    let mut out = String::with_capacity(text.len().min(SHOWN_MAX));
    let mut shown = 0;
    let mut used = 0;
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            if shown == SHOWN_MAX {
                return elided(out, text.len() - used);
            }
            push_escaped(&mut out, c);
            shown += 1;
            used += c.len_utf8();
        }
        for byte in chunk.invalid() {
            if shown == SHOWN_MAX {
                return elided(out, text.len() - used);
            }
            let _ = write!(out, "\\x{byte:02x}");
            shown += 1;
            used += 1;
        }
    }
    out
}

fn elided(mut out: String, left: usize) -> String {
    let _ = write!(out, "... ({left} bytes more)");
    out
}

fn push_escaped(out: &mut String, c: char) {
    match c {
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' => {
            let _ = write!(out, "\\x{:02x}", u32::from(c));
        }
        // Bidirectional controls (Unicode UAX 9) and the two line separators.
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        }
        _ => out.push(c),
    }
}

/// A foreign name, escaped and in single quotes; a quote inside is escaped too, so that a reader sees where the name ends.
pub fn quoted(name: &[u8]) -> String {
    format!("'{}'", escaped(name).replace('\'', "\\'"))
}

/// A local path for a person, escaped like any name.
pub fn path(path: &std::path::Path) -> String {
    escaped(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()))
}

/// A number of bytes: `512 bytes`, `10.0 MB`.
pub fn size(bytes: u64) -> String {
    if bytes < 1024 {
        return if bytes == 1 { String::from("1 byte") } else { format!("{bytes} bytes") };
    }
    let mut value = bytes as f64 / UNIT;
    for unit in ["KB", "MB", "GB", "TB"] {
        // 1023.95 would be printed as 1024.0.
        if value < UNIT - 0.05 {
            return format!("{value:.1} {unit}");
        }
        value /= UNIT;
    }
    format!("{value:.1} PB")
}

/// Bytes in a time, as a speed; a time too short to measure counts as a microsecond.
pub fn speed(bytes: u64, seconds: f64) -> String {
    let per_second = bytes as f64 / seconds.max(1e-6);
    // A cast from f64 saturates, and a speed is never negative.
    format!("{}/s", size(per_second as u64))
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
    fn sizes_round_into_the_next_unit() {
        let cases = [(0, "0 bytes"), (1, "1 byte"), (1023, "1023 bytes"), (1024, "1.0 KB"), (10 << 20, "10.0 MB")];
        for (bytes, shown) in cases {
            assert_eq!(size(bytes), shown);
        }
        assert_eq!(size((1 << 20) - 1), "1.0 MB");
        assert_eq!(size(u64::MAX), "16384.0 PB");
    }
}
