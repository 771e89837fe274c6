//! `xfer serve`: its options, and the configuration that they mean.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};

use super::argv::{Typed, decode, typed};
use super::environment::env_port;
use super::values::{parse_bind, parse_count, parse_drain, parse_own_port, parse_port, parse_positive, parse_seconds};
use super::{Command, log_target, usage, verbosity};
use crate::error::{Error, ExitCode};
use crate::serve::{Bind, Limits, PerAddress, ServeConfig};
use crate::text;

const DEFAULT_ROOT: &str = "server_files";

/// Share a directory over TCP, to be fetched with 'xfer get'.
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("-h", "--help"))]
pub struct ServeArgs {
    /// directory to share (default: server_files, made if missing)
    #[argh(positional, arg_name = "DIR")]
    dir: Option<String>,
    /// port to listen on, 0 for a free one (default: XFER_PORT or 9999)
    #[argh(option, short = 'p', arg_name = "PORT", from_str_fn(parse_own_port))]
    port: Option<u16>,
    /// address to listen on, or localhost (default: every address, IPv6 and IPv4)
    #[argh(option, short = 'b', arg_name = "ADDR", from_str_fn(parse_bind))]
    bind: Option<Bind>,
    /// serve names with a component that begins with a dot, too
    #[argh(switch)]
    hidden: bool,
    /// do not give up what the server does not need; for a DIR that is replaced by another folder while it runs
    #[argh(switch)]
    no_sandbox: bool,
    /// connections at once, at most (default: 20000, and what the descriptor limit allows)
    #[argh(option, arg_name = "N", from_str_fn(parse_positive))]
    max_conns: Option<NonZeroU32>,
    /// connections at once of one address, at most, 0 for no limit (default: half of all, 16 to 500, never all)
    #[argh(option, arg_name = "N", from_str_fn(parse_count))]
    max_conns_per_ip: Option<u32>,
    /// seconds in which a request must be whole (default: 10)
    #[argh(option, arg_name = "S", from_str_fn(parse_seconds))]
    request_timeout: Option<Duration>,
    /// seconds without progress, or without a next request, after which a connection is closed (default: 60)
    #[argh(option, arg_name = "S", from_str_fn(parse_seconds))]
    idle_timeout: Option<Duration>,
    /// bytes a second that a client takes at least, over two minutes, 0 for no limit (default: 500)
    #[argh(option, arg_name = "B", from_str_fn(parse_count))]
    min_rate: Option<u32>,
    /// seconds that running transfers get at shutdown, 0 for none (default: 10)
    #[argh(option, arg_name = "S", from_str_fn(parse_drain))]
    drain: Option<Duration>,
    /// folder for log files (default: XFER_LOG_DIR or logs)
    #[argh(option, arg_name = "D")]
    log_dir: Option<String>,
    /// one log file with a stable name, appended to
    #[argh(option, arg_name = "F")]
    log_file: Option<String>,
    /// write no log file
    #[argh(switch)]
    no_log: bool,
    /// print warnings and errors only
    #[argh(switch, short = 'q')]
    quiet: bool,
    /// print and log debug messages too
    #[argh(switch, short = 'v')]
    verbose: bool,
}

/// What `xfer serve` with these words means.
pub fn serve(args: &[OsString]) -> Result<Command, Error> {
    let args: ServeArgs = match typed("serve", args)? {
        Typed::Args(args) => args,
        Typed::Print(text) => return Ok(Command::Print { text, failure: ExitCode::Refused }),
    };
    let defaults = Limits::default();
    let named = served_dir(args.dir.as_deref())?;
    Ok(Command::Serve(ServeConfig {
        makes_dir: named.is_none(),
        dir: named.unwrap_or_else(|| PathBuf::from(DEFAULT_ROOT)),
        port: args.port.map_or_else(|| env_port(0), Ok)?,
        bind: args.bind.unwrap_or(Bind::All),
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

/// The directory to serve, if it was named.
fn served_dir(named: Option<&str>) -> Result<Option<PathBuf>, Error> {
    let Some(named) = named else { return Ok(None) };
    if named.is_empty() {
        return Err(usage("'' names no directory; to share the one that you are in: xfer serve ."));
    }
    let dir = PathBuf::from(decode(named));
    if !dir.exists() && parse_port(named).is_ok() {
        return Err(usage(format!(
            "there is no directory {}; did you mean -p? To share {DEFAULT_ROOT} on port {named}: xfer serve -p {named}",
            text::quoted(dir.as_os_str().as_bytes())
        )));
    }
    Ok(Some(dir))
}
