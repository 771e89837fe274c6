//! The words of a command to the struct that argh declares for it.
//!
//! argh takes only what is spelled out, in UTF-8: it gets each option and its value in a word of their own, and everything
//! else after `--`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use argh::{ArgsInfo, FlagInfo, FromArgs, Optionality};

use super::argv::{Mistake, Sorted, Words, sort};
use super::help::Page;
use super::unknown::{self, Context};
use super::words::{Given, decode};
use super::{usage, version};
use crate::error::{Error, lower_case};
use crate::text;

/// What argh makes of the arguments of one command: its struct, and the options as they were typed; or a text that was
/// asked for.
pub enum Typed<T> {
    Args(T, Vec<Given>),
    Print(String),
}

/// Reads the words of one command.
pub fn typed<T: FromArgs + ArgsInfo>(page: &Page, args: &[OsString]) -> Result<Typed<T>, Error> {
    let info = T::get_args_info();
    let words = match sort(page.command, info.flags, args) {
        Err(mistake) => return Err(usage(explained(mistake, page.command, info.flags, args))),
        Ok(Sorted::Version) => return Ok(Typed::Print(version())),
        Ok(Sorted::Help) => return Ok(Typed::Print(page.text(&info))),
        Ok(Sorted::Words(words)) => words,
    };
    let takes = info.positionals;
    let is_bounded = !takes.iter().any(|it| matches!(it.optionality, Optionality::Repeating | Optionality::Greedy));
    if is_bounded && words.others.len() > takes.len() {
        return Err(usage(unknown::argument(&words.others, &words.options)));
    }
    match T::from_args(&["xfer", page.command], &words.spelled_out()) {
        Ok(args) => Ok(Typed::Args(args, words.options)),
        Err(exit) => Err(usage(format!("{}; see xfer {} --help", argh_sentence(&words, &exit.output), page.command))),
    }
}

fn explained(
    mistake: Mistake,
    command: &'static str,
    flags: &'static [FlagInfo<'static>],
    args: &[OsString],
) -> String {
    match mistake {
        Mistake::Line(line) => line,
        Mistake::Unknown { at, word, name } => unknown::option(Context { command, flags, args, at }, &word, &name),
    }
}

/// What argh has to say about the words, as the middle of one of our error lines.
fn argh_sentence(words: &Words, output: &str) -> String {
    // Our own message about a value says the value itself, escaped.
    let ours = words.options.iter().find_map(|Given { name, value, .. }| {
        let before = format!("Error parsing option '{name}' with value '{}': ", value.as_deref()?);
        Some(format!("{name}: {}", output.strip_prefix(&before)?.trim_end()))
    });
    ours.unwrap_or_else(|| lower_case(&text::escaped(&decode(output.trim().trim_end_matches('.')).into_vec())))
}
