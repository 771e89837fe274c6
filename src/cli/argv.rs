//! The words of a command line: which are options and which values, in the form that argh takes.
//!
//! argh exits by itself, knows no `--opt=value` and dies on arguments that are not UTF-8; `normalise` comes first.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use argh::FromArgs;

use super::{usage, version};
use crate::error::Error;
use crate::text;

/// What argh makes of the arguments of one command: its struct, or a text that was asked for.
pub enum Typed<T> {
    Args(T),
    Print(String),
}

/// Reads the words of one command.
pub fn typed<T: FromArgs>(command: &str, args: &[OsString]) -> Result<Typed<T>, Error> {
    let args = normalise(args);
    let before_dashes = args.iter().take_while(|arg| *arg != "--");
    if before_dashes.clone().any(|arg| arg == "--version") {
        return Ok(Typed::Print(version()));
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match T::from_args(&["xfer", command], &args) {
        Ok(args) => Ok(Typed::Args(args)),
        Err(exit) if exit.status.is_ok() => Ok(Typed::Print(exit.output)),
        Err(exit) => Err(usage(format!("{}; see xfer {command} --help", argh_sentence(&exit.output)))),
    }
}

/// argh's message as the middle of one of our error lines.
fn argh_sentence(output: &str) -> String {
    let output = text::escaped(&decode(output.trim().trim_end_matches('.')).into_vec()).replace("\\n", " ");
    // "Error parsing option '-p' with value 'x': bad port 'x': ...": our own message says the value again.
    if let Some((before, ours)) = output.split_once("': bad ")
        && let Some((option, _)) = before.strip_prefix("Error parsing option '").and_then(|rest| rest.split_once('\''))
    {
        return format!("{option}: bad {ours}");
    }
    let mut chars = output.chars();
    let first = chars.next().map(|c| c.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}

/// Arguments as argh wants them: UTF-8, `--opt=value` and `-pVALUE` in two, and nothing changed behind `--`.
fn normalise(args: &[OsString]) -> Vec<String> {
    const SHORT_WITH_VALUE: &str = "pbHdo";
    let mut out = Vec::with_capacity(args.len());
    let mut args = args.iter().map(|arg| encode(arg));
    for arg in args.by_ref() {
        if arg == "--" {
            out.push(arg);
            break;
        }
        let mut chars = arg.chars();
        let short = (chars.next() == Some('-')).then(|| chars.next()).flatten();
        match (arg.strip_prefix("--").and_then(|long| long.split_once('=')), short) {
            (Some((option, value)), _) => out.extend([format!("--{option}"), value.to_string()]),
            (None, Some(letter)) if SHORT_WITH_VALUE.contains(letter) && !chars.as_str().is_empty() => {
                out.extend([format!("-{letter}"), chars.as_str().to_string()]);
            }
            _ => out.push(arg),
        }
    }
    out.extend(args);
    out
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
