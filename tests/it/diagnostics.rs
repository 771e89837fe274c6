//! Every message that DIAGNOSTICS of a manual page or the troubleshooting of README.md lists is one that the code can print.
//!
//! A message is put together at run time: its placeholders, in capitals, are filled in, and the rest is taken from the
//! strings of the source. So each listed message must be a row of such strings, as they are between their braces.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Pages, and the line after which each lists messages.
const PAGES: [(&str, &str); 5] = [
    ("man/xfer.1", ".Sh DIAGNOSTICS"),
    ("man/xfer-get.1", ".Sh DIAGNOSTICS"),
    ("man/xfer-serve.8", ".Sh DIAGNOSTICS"),
    ("man/xfer-protocol.5", ".Sh DIAGNOSTICS"),
    ("README.md", "## Troubleshooting"),
];

/// Reasons in the words of the system.
const SYSTEM: [Errno; 12] = [
    Errno::ADDRINUSE,
    Errno::ADDRNOTAVAIL,
    Errno::ACCESS,
    Errno::CONNREFUSED,
    Errno::HOSTUNREACH,
    Errno::INVAL,
    Errno::IO,
    Errno::NAMETOOLONG,
    Errno::NETUNREACH,
    Errno::NOENT,
    Errno::NOTDIR,
    Errno::PERM,
];

/// Reasons that come from elsewhere: the resolver, a server.
const OTHER_REASONS: [&str; 3] =
    ["name or service not known", "'SSH-2.0-OpenSSH_9.6'", "too many connections from your address"];

#[test]
fn every_listed_message_is_in_the_source() {
    let strings = strings_of_the_source();
    let mut wrong = Vec::new();
    for (page, section) in PAGES {
        let text = std::fs::read_to_string(project().join(page)).unwrap();
        let messages = listed(&text, section);
        assert!(messages.len() > 6, "{page}: only {} messages found", messages.len());
        let unknown = messages.iter().filter_map(|message| Some((message, unmatched(message, &strings)?)));
        wrong.extend(
            unknown.map(|(message, at)| format!("{page}: {message}\n    not in the source from here on: {at}")),
        );
    }
    assert!(wrong.is_empty(), "{} messages that xfer does not print:\n{}", wrong.len(), wrong.join("\n"));
}

fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The messages of a section: the items of its lists.
fn listed(page: &str, section: &str) -> Vec<String> {
    let lines = page.lines().skip_while(|line| *line != section).skip(1);
    let lines = lines.take_while(|line| !line.starts_with(".Sh ") && !line.starts_with("## "));
    let roff = lines.clone().filter_map(|line| line.strip_prefix(".It ")).map(|item| item.replace("\\&", ""));
    // `MESSAGE`, `MESSAGE`: what it means.
    let items = lines.filter_map(|line| line.strip_prefix("- `")?.split_once("`: "));
    let markdown = items.flat_map(|(messages, _)| messages.split("`, `").map(str::to_string));
    roff.chain(markdown).collect()
}

/// Where a message is no longer made of these strings, if it is not.
fn unmatched<'a>(message: &'a str, strings: &BTreeSet<String>) -> Option<&'a str> {
    let mut reached = vec![false; message.len() + 1];
    reached[0] = true;
    let mut furthest = 0;
    for at in 0..message.len() {
        if !reached[at] {
            continue;
        }
        furthest = at;
        let rest = &message[at..];
        for length in strings.iter().filter_map(|string| begins(rest, string)).chain(filled_in(rest)) {
            reached[at + length] |= is_border(message, at + length);
        }
    }
    (!reached[message.len()]).then(|| &message[furthest..])
}

/// The length of a string at the beginning. Where a message is quoted up to a placeholder, or from one on, the space
/// beside it is missing.
fn begins(rest: &str, string: &str) -> Option<usize> {
    (rest.starts_with(string) || rest == string.trim()).then_some(string.len().min(rest.len()))
}

/// The length of a placeholder, with quotes, or of a number at the beginning.
fn filled_in(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('\'').unwrap_or(rest);
    let word = inner.len() - inner.trim_start_matches(|c: char| c.is_ascii_uppercase()).len();
    let number = inner.len() - inner.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let length = match (rest.starts_with("..."), word.max(number)) {
        (true, _) => 3,
        (_, 0) => return (inner.len() < rest.len()).then_some(1),
        (_, length) => length,
    };
    let quotes = rest.len() - inner.len();
    Some(quotes + length + usize::from(quotes == 1 && inner[length..].starts_with('\'')))
}

/// Whether no word is cut in two here.
fn is_border(message: &str, at: usize) -> bool {
    let is_letter = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase());
    !(is_letter(message[..at].chars().next_back()) && is_letter(message[at..].chars().next()))
}

/// What stands between the braces of all strings in the source, without tests.
fn strings_of_the_source() -> BTreeSet<String> {
    let mut strings: BTreeSet<String> = OTHER_REASONS.map(String::from).into();
    strings.extend(SYSTEM.map(|errno| {
        let text = std::io::Error::from(errno).to_string().to_lowercase();
        text.split(" (os error").next().unwrap().to_string()
    }));
    let mut folders = vec![project().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.to_str().unwrap().ends_with("tests.rs") => {}
                false => strings.extend(strings_of(&path)),
            }
        }
    }
    strings
}

fn strings_of(path: &Path) -> Vec<String> {
    let source = std::fs::read_to_string(path).unwrap();
    let code: String = source
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap()
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect();
    // A quotation mark in a character or behind a backslash begins no string.
    let code = code.replace("'\"'", " ").replace("\\\"", "\u{1}");
    let literals = code.split('"').skip(1).step_by(2);
    literals.flat_map(pieces).filter(|piece| !piece.is_empty()).collect()
}

/// The pieces of a string between its braces; a line that ends with a backslash continues without its indentation.
fn pieces(literal: &str) -> Vec<String> {
    let mut lines = literal.split("\\\n");
    let first = lines.next().unwrap_or_default().to_string();
    let joined = lines.fold(first, |joined, line| joined + line.trim_start());
    let joined = joined.strip_prefix("xfer: ").unwrap_or(&joined);
    joined.split(['{', '}']).step_by(2).map(|piece| piece.replace("\\n", "")).collect()
}
