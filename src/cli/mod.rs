//! Command line to configuration: the subcommands, and what they share.
//!
//! A subcommand has a file; there what was typed becomes a struct by argh, and from that, with the environment and the
//! defaults, a configuration.

mod argv;
mod environment;
mod get;
mod names;
mod serve;
#[cfg(test)]
mod tests;
mod values;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, ExitCode};
use crate::get::GetConfig;
use crate::logging::{LogTarget, Verbosity};
use crate::serve::ServeConfig;
use crate::text;
use argv::decode;
use environment::env_log;

const DEFAULT_LOGS: &str = "logs";

const USAGE: &str = "\
Usage: xfer serve [DIR] [-p PORT] [OPTIONS]     share a directory over TCP
       xfer get FILE... [-H HOST] [OPTIONS]     fetch files, verified
       xfer serve --help | xfer get --help      all options
       xfer --version

Manual: xfer(1), xfer-get(1), xfer-serve(8), xfer-protocol(5).
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
        b"help" if rest.iter().any(|word| word == "serve") => serve::serve(&["--help".into()]),
        b"help" if rest.iter().any(|word| word == "get") => get::get(&["--help".into()]),
        b"-h" | b"--help" | b"help" => Ok(Command::Print { text: USAGE.to_string(), failure: ExitCode::Local }),
        b"-V" | b"--version" => Ok(Command::Print { text: version(), failure: ExitCode::Local }),
        other => Err(usage(format!("unknown command {}: use serve or get; see xfer --help", text::quoted(other)))),
    }
}

fn version() -> String {
    format!("xfer {}\n", env!("CARGO_PKG_VERSION"))
}

fn usage(message: impl Into<String>) -> Error {
    Error::new(ExitCode::Usage, message)
}

/// Where the log goes, from the options and the environment.
fn log_target(dir: Option<String>, file: Option<String>, off: bool) -> Result<LogTarget, Error> {
    let nothing = |option: &str, what: &str| usage(format!("{option} '' names no {what}; to write no log: --no-log"));
    match (dir, file, off) {
        (Some(dir), None, false) if dir.is_empty() => Err(nothing("--log-dir", "directory")),
        (None, Some(file), false) if file.is_empty() => Err(nothing("--log-file", "file")),
        (None, None, true) => Ok(LogTarget::Off),
        (Some(dir), None, false) => Ok(LogTarget::Dir(PathBuf::from(decode(&dir)))),
        (None, Some(file), false) => Ok(LogTarget::File(PathBuf::from(decode(&file)))),
        (None, None, false) => Ok(env_log(DEFAULT_LOGS)),
        _ => Err(usage("--log-dir, --log-file and --no-log contradict each other; give one of them")),
    }
}

fn verbosity(quiet: bool, verbose: bool) -> Result<Verbosity, Error> {
    match (quiet, verbose) {
        (true, true) => Err(usage("-q and -v contradict each other; give one of them")),
        (true, false) => Ok(Verbosity::Quiet),
        (false, true) => Ok(Verbosity::Verbose),
        (false, false) => Ok(Verbosity::Normal),
    }
}
