//! `xfer serve`: its options, and the configuration that they mean.

use std::ffi::{OsStr, OsString};
use std::num::NonZeroU32;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};

use super::declared::{Typed, typed};
use super::environment::env_port;
use super::help::Page;
use super::host::parse_port;
use super::values::{parse_bind, parse_count, parse_drain, parse_own_port, parse_positive, parse_seconds, split_host};
use super::words::{Given, decode};
use super::{Command, log_target, paste, usage, verbosity};
use crate::error::{Error, ExitCode};
use crate::serve::{Bind, Limits, PerAddress, ServeConfig};
use crate::text;

const DEFAULT_ROOT: &str = "server_files";

/// Share a directory over TCP, to be fetched with 'xfer get'.
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("-h", "--help"))]
pub struct ServeArgs {
    /// directory or file to share (default: the directory server_files, created if missing)
    #[argh(positional, arg_name = "DIR|FILE")]
    path: Option<String>,
    /// port to listen on; 0: any free port (default: XFER_PORT or 9999)
    #[argh(option, short = 'p', arg_name = "PORT", from_str_fn(parse_own_port))]
    port: Option<u16>,
    /// address of this machine to listen on, or localhost (default: all addresses, IPv6 and IPv4)
    #[argh(option, short = 'b', arg_name = "ADDR")]
    bind: Option<String>,
    /// share hidden files, too (names that begin with a dot)
    #[argh(switch)]
    hidden: bool,
    /// disable the sandbox (needed if DIR is replaced while the server runs)
    #[argh(switch)]
    no_sandbox: bool,
    /// maximum number of connections (default: 20000, or fewer if 'ulimit -n' is low)
    #[argh(option, arg_name = "N", from_str_fn(parse_positive))]
    max_conns: Option<NonZeroU32>,
    /// maximum number from one address; 0: no limit (default: half of --max-conns, 16 to 500)
    #[argh(option, arg_name = "N", from_str_fn(parse_count))]
    max_conns_per_ip: Option<u32>,
    /// close a connection without a complete request after this time (default: 10)
    #[argh(option, arg_name = "SECONDS", from_str_fn(parse_seconds))]
    request_timeout: Option<Duration>,
    /// close a connection without progress after this time (default: 60)
    #[argh(option, arg_name = "SECONDS", from_str_fn(parse_seconds))]
    idle_timeout: Option<Duration>,
    /// close a connection that takes fewer BYTES per second over two minutes; 0: no limit (default: 500)
    #[argh(option, arg_name = "BYTES", from_str_fn(parse_count))]
    min_rate: Option<u32>,
    /// at shutdown, wait this long for running transfers to finish; 0: do not wait (default: 10)
    #[argh(option, arg_name = "SECONDS", from_str_fn(parse_drain))]
    drain: Option<Duration>,
    /// directory for log files (default: XFER_LOG_DIR or logs)
    #[argh(option, arg_name = "DIR")]
    log_dir: Option<String>,
    /// append the log to the file PATH instead
    #[argh(option, arg_name = "PATH")]
    log_file: Option<String>,
    /// write no log file
    #[argh(switch)]
    no_log: bool,
    /// print only warnings and errors
    #[argh(switch, short = 'q')]
    quiet: bool,
    /// print and log debug messages
    #[argh(switch, short = 'v')]
    verbose: bool,
}

/// What `xfer serve --help` prints.
pub const PAGE: Page = Page {
    command: "serve",
    head: "\
Usage: xfer serve [DIR|FILE] [OPTIONS]

Share the files in a directory, or one file, over TCP. Anyone who can reach the
port can fetch them with 'xfer get'. Nothing is encrypted. Ctrl-C stops it.

Examples:
  xfer serve /srv/files -p 8080
      shares /srv/files on port 8080
  xfer serve report.pdf
      shares this one file and nothing else, on port 9999
  xfer serve . -b localhost
      shares the current directory with this machine only, on port 9999
",
    groups: &[
        ("What to share, and where to listen", &["DIR|FILE", "--port", "--bind", "--hidden", "--no-sandbox"]),
        (
            "Limits",
            &["--max-conns", "--max-conns-per-ip", "--request-timeout", "--idle-timeout", "--min-rate", "--drain"],
        ),
        ("Output and log", &["--quiet", "--verbose", "--log-dir", "--log-file", "--no-log", "--help", "--version"]),
    ],
    foot: "\
Signals: SIGTERM and Ctrl-C stop the server, SIGHUP reopens the log file and
DIR or FILE, SIGUSR1 logs the running transfers
Manual page: xfer-serve(8)
",
};

/// What `xfer serve` with these words means.
pub fn serve(args: &[OsString]) -> Result<Command, Error> {
    let (args, options): (ServeArgs, _) = match typed(&PAGE, args)? {
        Typed::Args(args, options) => (args, options),
        Typed::Print(text) => return Ok(Command::Print { text, failure: ExitCode::Refused }),
    };
    let defaults = Limits::default();
    let named = served_path(args.path.as_deref(), &options)?;
    Ok(Command::Serve(ServeConfig {
        makes_dir: named.is_none(),
        path: named.unwrap_or_else(|| PathBuf::from(DEFAULT_ROOT)),
        port: args.port.map_or_else(|| env_port(0), Ok)?,
        bind: bind(args.bind.as_deref(), args.path.as_deref(), &options)?,
        hidden: args.hidden,
        sandbox: !args.no_sandbox,
        limits: Limits {
            max_conns: args.max_conns.map_or(defaults.max_conns, |n| n.get() as usize),
            max_conns_per_ip: match args.max_conns_per_ip {
                Some(0) => PerAddress::All,
                Some(n) => PerAddress::Most(n as usize),
                None => defaults.max_conns_per_ip,
            },
            request_timeout: args.request_timeout.unwrap_or(defaults.request_timeout),
            idle_timeout: args.idle_timeout.unwrap_or(defaults.idle_timeout),
            min_rate: args.min_rate.unwrap_or(defaults.min_rate),
            drain: args.drain.unwrap_or(defaults.drain),
        },
        log: log_target(args.log_dir, args.log_file, args.no_log)?,
        verbosity: verbosity(args.quiet, args.verbose)?,
    }))
}

/// What to share, if it was named.
fn served_path(named: Option<&str>, options: &[Given]) -> Result<Option<PathBuf>, Error> {
    let Some(named) = named else { return Ok(None) };
    if named.is_empty() {
        return Err(usage("'' names no directory or file; to share the current directory, type: xfer serve ."));
    }
    let path = PathBuf::from(decode(named));
    if path.exists() {
        return Ok(Some(path));
    }
    let missing = format!("no file or directory {} exists", text::quoted(path.as_os_str().as_bytes()));
    if named == "help" {
        return Err(usage(format!("{missing}; for help, type: xfer help serve")));
    }
    let (address, port) = match parse_port(named) {
        Ok(_) => (None, named),
        Err(_) => match address_and_port(named) {
            Some(("", port)) => (None, port),
            Some((address, port)) => (Some(address), port),
            None => return Ok(Some(path)),
        },
    };
    let added: Vec<(&str, &str)> = address.map(|address| ("-b", address)).into_iter().chain([("-p", port)]).collect();
    let after =
        if address.is_some() { "the address goes after -b, the port after -p" } else { "the port goes after -p" };
    let command = paste::serve(OsStr::new("."), &added, options).unwrap_or_default();
    Err(usage(format!("{missing}; {after}; to share the current directory, type: {command}")))
}

/// The address to listen on.
fn bind(typed: Option<&str>, path: Option<&str>, options: &[Given]) -> Result<Bind, Error> {
    let Some(typed) = typed else { return Ok(Bind::All) };
    parse_bind(typed).map_err(|message| {
        let path = path.map_or_else(|| OsString::from(DEFAULT_ROOT), decode);
        let command = match address_and_port(typed) {
            Some((address, port)) if !address.is_empty() => {
                paste::serve(&path, &[("-b", address), ("-p", port)], options)
            }
            Some((_, port)) => {
                let others: Vec<Given> = options.iter().filter(|given| given.flag.long != "--bind").cloned().collect();
                paste::serve(&path, &[("-p", port)], &others)
            }
            None => None,
        };
        let right = command.map(|command| format!("; the port goes after -p; type: {command}")).unwrap_or_default();
        usage(format!("-b: {message}{right}"))
    })
}

/// `localhost:9999`, `0.0.0.0:9999`, `[::]:9999`, and `:9999`, whose address is empty.
fn address_and_port(text: &str) -> Option<(&str, &str)> {
    let (address, port) = match text.strip_prefix(':') {
        Some(port) => ("", port),
        None => split_host(text).and_then(|(address, port)| Some((address, port?)))?,
    };
    let is_address = address.is_empty() || parse_bind(address).is_ok();
    (is_address && parse_port(port).is_ok()).then_some((address, port))
}
