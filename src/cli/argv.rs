//! The words of a command line: which are options, which their values, and which stand for themselves.
//!
//! Words are read as getopt_long(3) reads them, by one table of what each option takes, which is argh's own declaration
//! of the command.

use std::ffi::OsString;

use argh::{FlagInfo, FlagInfoKind, Optionality};

use super::host::parse_port;
use super::words::{Given, encode};

/// Why words cannot be meant.
#[derive(Debug)]
pub enum Mistake {
    /// An error line.
    Line(String),
    /// An option that the command does not have.
    Unknown {
        /// Which word it is in.
        at: usize,
        /// That word.
        word: String,
        /// The option in it: of `-vx` it can be `-x`.
        name: String,
    },
}

/// What the words of a command ask for: help and version at once, whatever else there is.
#[derive(Debug)]
pub enum Sorted {
    Help,
    Version,
    Words(Words),
}

/// The words of a command.
#[derive(Debug, Default)]
pub struct Words {
    /// As given last, each with its value.
    pub options: Vec<Given>,
    /// What is neither an option nor the value of one.
    pub others: Vec<String>,
}

impl Words {
    /// Takes an option. One that was given before counts as it is given last, so that an alias can be overridden.
    fn give(&mut self, flag: &'static FlagInfo<'static>, name: String, value: Option<String>) {
        if flag.optionality != Optionality::Repeating {
            self.options.retain(|given| given.flag.long != flag.long);
        }
        self.options.push(Given { flag, name, value });
    }

    /// All of it in the only form that argh cannot mistake.
    pub fn spelled_out(&self) -> Vec<&str> {
        let options =
            self.options.iter().flat_map(|given| [Some(given.name.as_str()), given.value.as_deref()]).flatten();
        options.chain(["--"]).chain(self.others.iter().map(String::as_str)).collect()
    }
}

/// Tells options, values and other words apart. The word behind an option that takes a value is its value, whatever it
/// looks like.
pub fn sort(command: &'static str, flags: &'static [FlagInfo<'static>], args: &[OsString]) -> Result<Sorted, Mistake> {
    let mut words = Words::default();
    let count = args.len();
    let mut args = args.iter().map(|arg| encode(arg));
    while let Some(arg) = args.next() {
        let table = Table { command, flags, at: count - args.len() - 1 };
        if arg == "--" {
            words.others.extend(args);
            break;
        }
        let asked = match (arg.strip_prefix("--"), arg.strip_prefix('-')) {
            (Some(_), _) => table.take_long(&mut words, &arg, &mut args)?,
            // A hyphen alone is a name, as in cat(1).
            (None, Some(letters)) if !letters.is_empty() => table.take_letters(&mut words, letters, &mut args)?,
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

/// Whether each option of a command is one of its own and has its value, and there is what the command needs besides.
pub fn is_taken(command: &'static str, flags: &'static [FlagInfo<'static>], args: &[OsString]) -> bool {
    let is_list = |given: &Given| given.flag.long == "--from-file";
    // A number is checked where it is cheap to tell `-P 9999`, the port, from `-P DIR`.
    let is_good = |given: &Given| match &given.value {
        Some(value) if given.flag.long == "--port" => parse_port(value).is_ok(),
        _ => true,
    };
    match sort(command, flags, args) {
        Ok(Sorted::Words(words)) if command == "get" => {
            (!words.others.is_empty() || words.options.iter().any(is_list)) && words.options.iter().all(is_good)
        }
        Ok(Sorted::Words(words)) => words.others.len() <= 1 && words.options.iter().all(is_good),
        Ok(Sorted::Help | Sorted::Version) => true,
        Err(_) => false,
    }
}

/// The options of one command.
struct Table {
    command: &'static str,
    flags: &'static [FlagInfo<'static>],
    /// Which word is read.
    at: usize,
}

impl Table {
    fn unknown(&self, word: &str, name: &str) -> Mistake {
        Mistake::Unknown { at: self.at, word: word.to_string(), name: name.to_string() }
    }

    /// `--option`, `--option value` or `--option=value`.
    fn take_long(
        &self,
        words: &mut Words,
        arg: &str,
        more: &mut impl Iterator<Item = String>,
    ) -> Result<Option<Sorted>, Mistake> {
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (arg, None),
        };
        let asked = match name {
            "--help" => Some(Sorted::Help),
            "--version" => Some(Sorted::Version),
            _ => None,
        };
        let flag = self.flags.iter().find(|flag| flag.long == name);
        match (asked, flag.map(|flag| (flag, &flag.kind)), value) {
            (Some(_), _, Some(_)) | (None, Some((_, FlagInfoKind::Switch)), Some(_)) => {
                return Err(self.see_help(&format!("{name} takes no value")));
            }
            (Some(asked), _, None) => return Ok(Some(asked)),
            (None, Some((flag, FlagInfoKind::Switch)), None) => words.give(flag, name.to_string(), None),
            (None, Some((flag, FlagInfoKind::Option { arg_name })), value) => {
                let value = value.or_else(|| more.next()).ok_or_else(|| self.needs_value(name, arg_name))?;
                words.give(flag, name.to_string(), Some(value));
            }
            (None, None, _) => return Err(self.unknown(arg, name)),
        }
        Ok(None)
    }

    /// `-v`, `-vq`, `-p value`, `-pvalue`, or `-vp value`.
    fn take_letters(
        &self,
        words: &mut Words,
        letters: &str,
        more: &mut impl Iterator<Item = String>,
    ) -> Result<Option<Sorted>, Mistake> {
        let word = format!("-{letters}");
        // getopt(3) would save into the directory `ir`, or print the help for a host.
        let long = |flag: &FlagInfo<'_>| flag.long.strip_prefix("--") == Some(letters) && letters != "help";
        if letters.len() > 1 && self.flags.iter().any(long) {
            return Err(self.unknown(&word, &word));
        }
        let mut rest = letters.chars();
        while let Some(letter) = rest.next() {
            let name = format!("-{letter}");
            match letter {
                'h' => return Ok(Some(Sorted::Help)),
                'V' => return Ok(Some(Sorted::Version)),
                _ => {}
            }
            let Some(flag) = self.flags.iter().find(|flag| flag.short == Some(letter)) else {
                return Err(self.unknown(&word, &name));
            };
            match (&flag.kind, rest.as_str()) {
                (FlagInfoKind::Switch, rest) if rest.starts_with('=') => {
                    return Err(self.see_help(&format!("{name} takes no value")));
                }
                (FlagInfoKind::Switch, _) => words.give(flag, name, None),
                (FlagInfoKind::Option { arg_name }, "") => {
                    let value = more.next().ok_or_else(|| self.needs_value(&name, arg_name))?;
                    words.give(flag, name, Some(value));
                }
                // getopt(3) would take the sign for a part of the value, and hardly anybody means that.
                (FlagInfoKind::Option { arg_name }, rest) if rest.starts_with('=') => {
                    let long = flag.long;
                    let right = format!("{name} {arg_name}, or {long}={arg_name}");
                    return Err(Mistake::Line(format!("{name} takes its value without '=': {right}")));
                }
                (FlagInfoKind::Option { .. }, rest) => {
                    words.give(flag, name, Some(rest.to_string()));
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }

    fn needs_value(&self, name: &str, arg_name: &str) -> Mistake {
        self.see_help(&format!("{name} needs a value: {name} {arg_name}"))
    }

    fn see_help(&self, what: &str) -> Mistake {
        Mistake::Line(format!("{what}; see xfer {} --help", self.command))
    }
}
