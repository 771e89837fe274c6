//! Command line to configuration: the subcommands, and what they share.
//!
//! A subcommand has a file; there what was typed becomes a struct by argh, and from that, with the environment and the
//! defaults, a configuration.

#[cfg(test)]
mod answer_tests;
mod argv;
mod declared;
mod environment;
mod get;
mod habits;
mod help;
mod host;
mod names;
mod paste;
mod serve;
mod server;
#[cfg(test)]
mod tests;
mod unknown;
mod url;
mod values;
mod words;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use argh::{ArgsInfo, FlagInfo};

use crate::error::{Error, ExitCode};
use crate::get::GetConfig;
use crate::logging::{LogTarget, Verbosity};
use crate::serve::ServeConfig;
use crate::text;
use environment::env_log;
use words::decode;

const DEFAULT_LOGS: &str = "logs";

const USAGE: &str = "\
Usage: xfer serve [DIR|FILE] [OPTIONS]
       xfer get FILE... [-H HOST[:PORT]] [OPTIONS]

Copy files from one machine to another over TCP. One machine shares a
directory; others fetch files from it by name. Every file is verified, and an
interrupted transfer resumes where it stopped.

On the machine that has the files, share the current directory:
  xfer serve .
On the machine that needs them, fetch FILE from HOST, a name or an address:
  xfer get FILE -H HOST

All options: xfer help serve, xfer help get
Version: xfer version

Manual pages: xfer(1), xfer-get(1), xfer-serve(8), xfer-protocol(5)
";

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Run a server.
    Serve(ServeConfig),
    /// Fetch files.
    Get(GetConfig),
    /// Print this text on standard output.
    Print {
        /// What was asked for.
        text: String,
        /// How the run ends when it cannot be printed.
        failure: ExitCode,
    },
}

/// Reads a whole command line, the program's name first.
pub fn parse(argv: Vec<OsString>) -> Result<Command, Error> {
    let mut args = argv.into_iter();
    let program = args.next().unwrap_or_default();
    let rest: Vec<OsString> = args.collect();
    match Path::new(&program).file_name().map(OsStr::as_bytes) {
        Some(b"xfer-serve") => return serve::serve(&rest),
        Some(b"xfer-get") => return get::get(&rest),
        _ => {}
    }
    let Some((first, rest)) = rest.split_first() else {
        return Err(usage(format!("no command given; use serve or get\n\n{}", USAGE.trim_end())));
    };
    match first.as_bytes() {
        b"serve" => serve::serve(rest),
        b"get" => get::get(rest),
        b"help" => help(rest),
        b"-h" | b"--help" => help(&[]),
        b"-V" | b"--version" | b"version" => Ok(printed(version())),
        other => Err(usage(unknown::command(other, rest))),
    }
}

/// `xfer help [COMMAND]`.
fn help(words: &[OsString]) -> Result<Command, Error> {
    match words.first().map(|word| word.as_bytes()) {
        None | Some(b"help" | b"--help" | b"-h") => Ok(printed(USAGE.to_string())),
        Some(b"serve") => serve::serve(&["--help".into()]),
        Some(b"get") => get::get(&["--help".into()]),
        Some(b"version") => Ok(printed(version())),
        Some(other) => {
            Err(usage(format!("no help for {}; the commands are serve and get; type: xfer help", text::quoted(other))))
        }
    }
}

fn printed(text: String) -> Command {
    Command::Print { text, failure: ExitCode::Local }
}

fn version() -> String {
    format!("xfer {}\n", env!("CARGO_PKG_VERSION"))
}

/// The options of a command, as argh's declaration has them.
fn options_of(command: &str) -> &'static [FlagInfo<'static>] {
    match command {
        "serve" => serve::ServeArgs::get_args_info().flags,
        _ => get::GetArgs::get_args_info().flags,
    }
}

fn usage(message: impl Into<String>) -> Error {
    Error::new(ExitCode::Usage, message)
}

/// Where the log goes, from the options and the environment.
fn log_target(dir: Option<String>, file: Option<String>, off: bool) -> Result<LogTarget, Error> {
    let nothing =
        |option: &str, what: &str| usage(format!("{option} '' names no {what}; to write no log, use --no-log"));
    match (dir, file, off) {
        (Some(dir), None, false) if dir.is_empty() => Err(nothing("--log-dir", "directory")),
        (None, Some(file), false) if file.is_empty() => Err(nothing("--log-file", "file")),
        (None, None, true) => Ok(LogTarget::Off),
        (Some(dir), None, false) => Ok(LogTarget::Dir(PathBuf::from(decode(&dir)))),
        (None, Some(file), false) => Ok(LogTarget::File(PathBuf::from(decode(&file)))),
        (None, None, false) => Ok(env_log(DEFAULT_LOGS)),
        _ => Err(usage("--log-dir, --log-file and --no-log cannot be combined; use one of them")),
    }
}

fn verbosity(quiet: bool, verbose: bool) -> Result<Verbosity, Error> {
    match (quiet, verbose) {
        (true, true) => Err(usage("-q and -v cannot be combined; use one of them")),
        (true, false) => Ok(Verbosity::Quiet),
        (false, true) => Ok(Verbosity::Verbose),
        (false, false) => Ok(Verbosity::Normal),
    }
}
