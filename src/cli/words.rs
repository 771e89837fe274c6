//! A word of the command line as argh can have it, and an option as it was given.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use argh::FlagInfo;

use crate::text;

/// An option as it was given.
#[derive(Clone, Debug)]
pub struct Given {
    pub flag: &'static FlagInfo<'static>,
    /// Its name as typed, `-p` or `--port`.
    pub name: String,
    /// Only, and always, of an option that takes one.
    pub value: Option<String>,
}

/// The last 256 code points stand for bytes that are not UTF-8 while argh, which knows only `str`, has the arguments.
const BYTE_BASE: u32 = 0x10_ff00;

/// A word as argh can have it.
pub fn encode(arg: &OsStr) -> String {
    let push_bytes = |out: &mut String, bytes: &[u8]| {
        out.extend(bytes.iter().filter_map(|byte| char::from_u32(BYTE_BASE + u32::from(*byte))));
    };
    let mut out = String::with_capacity(arg.len());
    for chunk in arg.as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            if u32::from(c) >= BYTE_BASE {
                push_bytes(&mut out, c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                out.push(c);
            }
        }
        push_bytes(&mut out, chunk.invalid());
    }
    out
}

/// A word as it was typed, for an error line.
pub fn shown(text: &str) -> String {
    text::quoted(&decode(text).into_vec())
}

/// A word as it was typed.
pub fn decode(text: &str) -> OsString {
    let mut out = Vec::with_capacity(text.len());
    for c in text.chars() {
        match u32::from(c).checked_sub(BYTE_BASE).map(u8::try_from) {
            Some(Ok(byte)) => out.push(byte),
            _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    OsString::from_vec(out)
}
