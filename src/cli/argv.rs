//! The words of a command line: which are options, which their values, and which stand for themselves.
//!
//! Words are read as getopt_long(3) reads them, by one table of what each option takes, which is argh's own declaration
//! of the command. argh itself takes only what is spelled out, in UTF-8: it gets each option and its value in a word of
//! their own, and everything else behind `--`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use argh::{ArgsInfo, FlagInfo, FlagInfoKind, FromArgs, Optionality};

use super::{usage, version};
use crate::error::{Error, lower_case};
use crate::text;

/// What argh makes of the arguments of one command: its struct, or a text that was asked for.
pub enum Typed<T> {
    Args(T),
    Print(String),
}

/// Reads the words of one command.
pub fn typed<T: FromArgs + ArgsInfo>(command: &str, args: &[OsString]) -> Result<Typed<T>, Error> {
    let mistake = |what: &str| usage(format!("{what}; see xfer {command} --help"));
    let words = match sort(T::get_args_info().flags, args).map_err(|what| mistake(&what))? {
        Sorted::Version => return Ok(Typed::Print(version())),
        Sorted::Help => None,
        Sorted::Words(words) => Some(words),
    };
    let spelled_out = words.as_ref().map_or(vec!["--help"], Words::spelled_out);
    match T::from_args(&["xfer", command], &spelled_out) {
        Ok(args) => Ok(Typed::Args(args)),
        // The list of options is its last part, and argh does not know this one.
        Err(exit) if exit.status.is_ok() => {
            Ok(Typed::Print(format!("{}\n  --version         print the version\n", exit.output.trim_end())))
        }
        Err(exit) => Err(mistake(&words.unwrap_or_default().argh_sentence(&exit.output))),
    }
}

/// What the words of a command ask for: help and version at once, whatever else there is.
#[derive(Debug)]
enum Sorted<'a> {
    Help,
    Version,
    Words(Words<'a>),
}

/// The words of a command.
#[derive(Debug, Default)]
struct Words<'a> {
    options: Vec<Given<'a>>,
    /// What is neither an option nor the value of one.
    others: Vec<String>,
}

/// An option as it was given.
#[derive(Debug)]
struct Given<'a> {
    flag: &'a FlagInfo<'a>,
    /// Its name as typed, `-p` or `--port`.
    name: String,
    /// Only, and always, of an option that takes one.
    value: Option<String>,
}

impl<'a> Words<'a> {
    /// Takes an option. One that was given before counts as it is given last, so that an alias can be overridden.
    fn give(&mut self, flag: &'a FlagInfo<'a>, name: String, value: Option<String>) {
        if flag.optionality != Optionality::Repeating {
            self.options.retain(|given| given.flag.long != flag.long);
        }
        self.options.push(Given { flag, name, value });
    }

    /// All of it in the only form that argh cannot mistake.
    fn spelled_out(&self) -> Vec<&str> {
        let options =
            self.options.iter().flat_map(|given| [Some(given.name.as_str()), given.value.as_deref()]).flatten();
        options.chain(["--"]).chain(self.others.iter().map(String::as_str)).collect()
    }

    /// What argh has to say about them, as the middle of one of our error lines.
    fn argh_sentence(&self, output: &str) -> String {
        // Our own message about a value says the value itself, escaped.
        let ours = self.options.iter().find_map(|Given { name, value, .. }| {
            let before = format!("Error parsing option '{name}' with value '{}': ", value.as_deref()?);
            Some(format!("{name}: {}", output.strip_prefix(&before)?.trim_end()))
        });
        ours.unwrap_or_else(|| lower_case(&text::escaped(&decode(output.trim().trim_end_matches('.')).into_vec())))
    }
}

/// Tells options, values and other words apart. The word behind an option that takes a value is its value, whatever it
/// looks like.
fn sort<'a>(flags: &'a [FlagInfo<'a>], args: &[OsString]) -> Result<Sorted<'a>, String> {
    let mut words = Words::default();
    let mut args = args.iter().map(|arg| encode(arg));
    while let Some(arg) = args.next() {
        if arg == "--" {
            words.others.extend(args);
            break;
        }
        let asked = match (arg.strip_prefix("--"), arg.strip_prefix('-')) {
            (Some(_), _) => take_long(&mut words, flags, &arg, &mut args)?,
            // A hyphen alone is a name, as in cat(1).
            (None, Some(letters)) if !letters.is_empty() => take_letters(&mut words, flags, letters, &mut args)?,
            _ => {
                words.others.push(arg);
                None
            }
        };
        if let Some(asked) = asked {
            return Ok(asked);
        }
    }
    Ok(Sorted::Words(words))
}

/// `--option`, `--option value` or `--option=value`.
fn take_long<'a>(
    words: &mut Words<'a>,
    flags: &'a [FlagInfo<'a>],
    arg: &str,
    more: &mut impl Iterator<Item = String>,
) -> Result<Option<Sorted<'a>>, String> {
    let (name, value) = match arg.split_once('=') {
        Some((name, value)) => (name, Some(value.to_string())),
        None => (arg, None),
    };
    let asked = match name {
        "--help" => Some(Sorted::Help),
        "--version" => Some(Sorted::Version),
        _ => None,
    };
    let flag = flags.iter().find(|flag| flag.long == name);
    match (asked, flag.map(|flag| (flag, &flag.kind)), value) {
        (Some(_), _, Some(_)) | (None, Some((_, FlagInfoKind::Switch)), Some(_)) => {
            return Err(format!("{name} takes no value"));
        }
        (Some(asked), _, None) => return Ok(Some(asked)),
        (None, Some((flag, FlagInfoKind::Switch)), None) => words.give(flag, name.to_string(), None),
        (None, Some((flag, FlagInfoKind::Option { arg_name })), value) => {
            let value = value.or_else(|| more.next()).ok_or_else(|| needs_value(name, arg_name))?;
            words.give(flag, name.to_string(), Some(value));
        }
        (None, None, _) => return Err(unknown(flags, name, name)),
    }
    Ok(None)
}

/// `-v`, `-vq`, `-p value`, `-pvalue`, or `-vp value`.
fn take_letters<'a>(
    words: &mut Words<'a>,
    flags: &'a [FlagInfo<'a>],
    letters: &str,
    more: &mut impl Iterator<Item = String>,
) -> Result<Option<Sorted<'a>>, String> {
    // getopt(3) would save into the folder `ir`, or print the help for a host.
    if letters.len() > 1 && flags.iter().any(|flag| flag.long.strip_prefix("--") == Some(letters) && letters != "help")
    {
        let word = format!("-{letters}");
        return Err(unknown(flags, &word, &word));
    }
    let mut rest = letters.chars();
    while let Some(letter) = rest.next() {
        let name = format!("-{letter}");
        if letter == 'h' {
            return Ok(Some(Sorted::Help));
        }
        let Some(flag) = flags.iter().find(|flag| flag.short == Some(letter)) else {
            return Err(unknown(flags, &format!("-{letters}"), &name));
        };
        match (&flag.kind, rest.as_str()) {
            (FlagInfoKind::Switch, rest) if rest.starts_with('=') => return Err(format!("{name} takes no value")),
            (FlagInfoKind::Switch, _) => words.give(flag, name, None),
            (FlagInfoKind::Option { arg_name }, "") => {
                let value = more.next().ok_or_else(|| needs_value(&name, arg_name))?;
                words.give(flag, name, Some(value));
            }
            // getopt(3) would take the sign for a part of the value, and hardly anybody means that.
            (FlagInfoKind::Option { arg_name }, rest) if rest.starts_with('=') => {
                let long = flag.long;
                return Err(format!("{name} takes its value without =: type {name} {arg_name} or {long}={arg_name}"));
            }
            (FlagInfoKind::Option { .. }, rest) => {
                words.give(flag, name, Some(rest.to_string()));
                return Ok(None);
            }
        }
    }
    Ok(None)
}

fn needs_value(name: &str, arg_name: &str) -> String {
    format!("{name} needs a value: {name} {arg_name}")
}

/// What to say of an option that there is not. Options are not abbreviated: a new one could make two of one.
fn unknown(flags: &[FlagInfo<'_>], word: &str, name: &str) -> String {
    let letters = word.trim_start_matches('-');
    let mut similar =
        flags.iter().map(|flag| flag.long).filter(|long| long.trim_start_matches('-').starts_with(letters));
    let advice = match (similar.next(), similar.next()) {
        (Some(long), None) if !letters.is_empty() => format!("did you mean {long}?"),
        _ => "put -- before a name that begins with -".to_string(),
    };
    let place = if word == name { String::new() } else { format!(" in {}", shown(word)) };
    format!("unknown option {}{place} ({advice})", shown(name))
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
