//! Words for a POSIX shell, in commands that a message tells the user to type.

use super::escaped;

/// A word, whatever bytes it has.
pub fn word(bytes: &[u8]) -> String {
    readable(bytes).unwrap_or_else(|| printed(bytes))
}

/// A word; none for one that a terminal would not show as it is, or that is too long to be read.
pub fn readable(word: &[u8]) -> Option<String> {
    let word = std::str::from_utf8(word).ok()?;
    // These two are escaped elsewhere, and shown here as a shell needs them.
    let without = word.replace(['\\', '\''], "/");
    (escaped(without.as_bytes()) == without).then(|| quoted(word))
}

/// A text that a terminal shows as it is, in quotes if it needs them.
pub fn quoted(word: &str) -> String {
    // Not '=' (zsh expands it at the beginning), '~', nor what may be a pattern.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:@%+,".contains(&byte);
    match !word.is_empty() && word.bytes().all(is_plain) {
        true => word.to_string(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Any bytes, by printf(1), but for line feeds at their end. A hyphen at the beginning would make them options of it.
fn printed(bytes: &[u8]) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_./".contains(&byte);
    let shown = |byte: &u8| if is_plain(*byte) { char::from(*byte).to_string() } else { format!("\\{byte:03o}") };
    format!("\"$(printf '{}')\"", bytes.iter().map(shown).collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_reads_every_word_as_it_was() {
        let words: [&[u8]; 12] = [
            b"",
            b"plain-1.txt",
            b"-n",
            b"it's",
            b"$(echo x)`echo x`\"\\",
            b"~root *?[a] {1,2} #!; & | > <",
            "größe".as_bytes(),
            b"\x1b[2J",
            b"-\xff",
            b"-e\xff%s%d\\n",
            b"\xff$(echo x)'\"",
            &[b'x'; 500],
        ];
        for bytes in words {
            let script = format!("printf %s {}", word(bytes));
            let output = Command::new("sh").arg("-c").arg(&script).output().expect("sh runs");
            assert_eq!(output.stdout, bytes, "{script}");
            assert_eq!(output.stderr, b"", "{script}");
        }
        assert_eq!(word(OsStr::new("a b").as_bytes()), "'a b'");
    }
}
