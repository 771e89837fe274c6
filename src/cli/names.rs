//! The names in a list (`--from-file`), one a line or each ended by a NUL byte.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;

use super::usage;
use crate::error::{Error, ExitCode, reason};
use crate::proto::NAME_MAX;
use crate::stdio::{self, Input};
use crate::text;

/// U+FEFF, as Windows editors begin a text with it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The same mark in UTF-16, of either byte order.
const UTF_16_MARKS: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];

/// Bytes of an entry that are held at most: a name, with the mark before it and the CR behind it.
const ENTRY_MAX: usize = NAME_MAX + BYTE_ORDER_MARK.len() + 1;

/// The names in this list, `-` being standard input. Empty ones do not count.
pub fn read(list: &OsStr, ends_with_nul: bool) -> Result<Vec<Vec<u8>>, Error> {
    if list.is_empty() {
        return Err(usage("--from-file '' names no file; to read standard input, use --from-file -"));
    }
    let failed = |error: std::io::Error| {
        Error::new(ExitCode::Local, format!("cannot read the list {}: {}", shown(list), reason(&error)))
    };
    let file = if list == "-" { stdio::stdin() } else { File::open(list) };
    let mut reader = BufReader::new(Input(file.map_err(failed)?));
    let mut names = Vec::new();
    let mut entry = Vec::new();
    let mut number = 0_u64;
    while read_entry(&mut reader, &mut entry, if ends_with_nul { 0 } else { b'\n' }).map_err(failed)? {
        number += 1;
        let name = match ends_with_nul {
            true if entry.len() > NAME_MAX => {
                Err("is longer than a name can be (4096 bytes); if each line is a name, do not use -0")
            }
            true => Ok(&entry[..]),
            false => of_line(&entry, number == 1),
        };
        match name {
            Ok([]) => {}
            Ok(name) => names.push(name.to_vec()),
            Err(why) => {
                let place = if ends_with_nul { "name" } else { "line" };
                return Err(usage(format!("{place} {number} of the list {} {why}", shown(list))));
            }
        }
    }
    Ok(names)
}

/// A list by its name, for an error line.
pub fn shown(list: &OsStr) -> String {
    if list == "-" { String::from("on standard input") } else { text::quoted(list.as_bytes()) }
}

/// The name in a line.
fn of_line(line: &[u8], is_first: bool) -> Result<&[u8], &'static str> {
    if is_first && UTF_16_MARKS.iter().any(|mark| line.starts_with(mark)) {
        return Err("begins with a UTF-16 byte order mark; save the list as UTF-8");
    }
    let line = line.strip_prefix(BYTE_ORDER_MARK).filter(|_| is_first).unwrap_or(line);
    if line.contains(&0) {
        return Err("contains a NUL byte; if NUL bytes end the names, use -0; if the list is UTF-16, save it as UTF-8");
    }
    let name = line.strip_suffix(b"\r").unwrap_or(line);
    if name.len() > NAME_MAX {
        return Err("is longer than a name can be (4096 bytes)");
    }
    Ok(name)
}

/// Reads up to the next `end`, into a buffer that then holds the entry without it, or as much of it as shows that it is
/// too long; whether there was one.
fn read_entry(reader: &mut impl BufRead, entry: &mut Vec<u8>, end: u8) -> std::io::Result<bool> {
    entry.clear();
    let mut any = false;
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() || entry.len() > ENTRY_MAX {
            return Ok(any);
        }
        any = true;
        let at = bytes.iter().position(|byte| *byte == end);
        entry.extend_from_slice(&bytes[..at.unwrap_or(bytes.len())]);
        let used = at.map_or(bytes.len(), |at| at + 1);
        reader.consume(used);
        if at.is_some() {
            return Ok(true);
        }
    }
}
