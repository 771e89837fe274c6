//! `xfer get`: its options, and the configuration that they mean.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};

use super::argv::{Typed, decode, shown, typed};
use super::environment::{env_host, env_path, env_port};
use super::names;
use super::values::{HOST_FORMS, parse_checksum, parse_count, parse_port, parse_progress, parse_seconds, split_host};
use super::{Command, log_target, usage, verbosity};
use crate::error::{Error, ExitCode};
use crate::get::{Existing, GetConfig, Output, ProgressMode};
use crate::proto::digest::Algorithm;
use crate::text;

const DEFAULT_HOST: &str = "localhost";
const DEFAULT_DOWNLOADS: &str = "client_downloads";

/// Fetch files from a server started with 'xfer serve', verify and save them.
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("-h", "--help"))]
pub struct GetArgs {
    /// names of files on the server
    #[argh(positional, arg_name = "FILE")]
    files: Vec<String>,
    /// server, with its port if need be (default: XFER_HOST or localhost)
    #[argh(option, short = 'H', arg_name = "HOST[:PORT]")]
    host: Option<String>,
    /// port of the server (default: XFER_PORT or 9999)
    #[argh(option, short = 'p', arg_name = "PORT", from_str_fn(parse_port))]
    port: Option<u16>,
    /// folder to save in, made if missing (default: XFER_DOWNLOAD_DIR or client_downloads)
    #[argh(option, short = 'd', arg_name = "DIR")]
    dir: Option<String>,
    /// save the one FILE as PATH; '-' writes it to standard output
    #[argh(option, short = 'o', arg_name = "PATH")]
    output: Option<String>,
    /// read more names from F, one a line; '-' reads standard input
    #[argh(option, arg_name = "F")]
    from_file: Vec<String>,
    /// names in F end with a NUL byte, as find -print0 prints them
    #[argh(switch, short = '0')]
    null: bool,
    /// digest that verifies the files: md5 or blake3, which is faster (default: md5)
    #[argh(option, arg_name = "ALGORITHM", from_str_fn(parse_checksum))]
    checksum: Option<Algorithm>,
    /// attempts in all for a file, 0 for no limit (default: 5)
    #[argh(option, arg_name = "N", from_str_fn(parse_count))]
    retries: Option<u32>,
    /// seconds without a byte after which an attempt ends (default: 10)
    #[argh(option, arg_name = "S", from_str_fn(parse_seconds))]
    timeout: Option<Duration>,
    /// seconds between two attempts, at most; never less than 0.1 (default: 32)
    #[argh(option, arg_name = "S", from_str_fn(parse_seconds))]
    max_backoff: Option<Duration>,
    /// fetch even what is already there
    #[argh(switch)]
    force: bool,
    /// keep a file that is already there, whatever it holds
    #[argh(switch)]
    no_clobber: bool,
    /// begin at the beginning, whatever an interrupted run has left
    #[argh(switch)]
    no_resume: bool,
    /// do not wait until the disk has the bytes
    #[argh(switch)]
    no_sync: bool,
    /// speak only version 1 of the protocol, as the first system did
    #[argh(switch)]
    v1: bool,
    /// bar: auto (on a terminal), always or never; or json, a line of it for each event (default: auto)
    #[argh(option, arg_name = "WHEN", from_str_fn(parse_progress))]
    progress: Option<ProgressMode>,
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

/// What `xfer get` with these words means.
pub fn get(args: &[OsString]) -> Result<Command, Error> {
    let args: GetArgs = match typed("get", args)? {
        Typed::Args(args) => args,
        Typed::Print(text) => return Ok(Command::Print { text, failure: ExitCode::Local }),
    };
    let mut files: Vec<Vec<u8>> = args.files.iter().map(|name| decode(name).into_vec()).collect();
    if args.host.is_none() {
        ask_about_host(&files)?;
    }
    if args.null && args.from_file.is_empty() {
        return Err(usage("-0 says how --from-file separates names; give a list with --from-file F"));
    }
    for list in &args.from_file {
        files.extend(names::read(&decode(list), args.null)?);
    }
    if files.is_empty() {
        return Err(usage(match args.from_file.last() {
            Some(list) => format!("no file named: there is no name in the list {}", shown(list)),
            None => "no file named; use xfer get FILE -H HOST; see xfer get --help".to_string(),
        }));
    }
    if args.v1 && args.checksum == Some(Algorithm::Blake3) {
        return Err(usage("--v1 and --checksum blake3 contradict each other: version 1 knows only md5"));
    }
    let (host, port) = server(args.host, args.port)?;
    Ok(Command::Get(GetConfig {
        host,
        port,
        output: output(args.dir, args.output, files.len())?,
        files,
        attempts: NonZeroU32::new(args.retries.unwrap_or(5)),
        timeout: args.timeout.unwrap_or(Duration::from_secs(10)),
        max_backoff: args.max_backoff.unwrap_or(Duration::from_secs(32)),
        algorithm: args.checksum.unwrap_or(Algorithm::Md5),
        resume: !args.no_resume,
        v1: args.v1,
        existing: match (args.force, args.no_clobber) {
            (true, true) => return Err(usage("--force and --no-clobber contradict each other; give one of them")),
            (true, false) => Existing::Fetch,
            (false, true) => Existing::Keep,
            (false, false) => Existing::Compare,
        },
        sync: !args.no_sync,
        progress: args.progress.unwrap_or(ProgressMode::Auto),
        log: log_target(args.log_dir, args.log_file, args.no_log)?,
        verbosity: verbosity(args.quiet, args.verbose)?,
    }))
}

/// `xfer get a.bin 10.0.0.5` is meant otherwise than it is typed.
fn ask_about_host(files: &[Vec<u8>]) -> Result<(), Error> {
    for other in files.iter().skip(1) {
        let Ok(word) = std::str::from_utf8(other) else { continue };
        let option = if parse_port(word).is_ok() {
            "-p"
        } else if looks_like_host(word) {
            "-H"
        } else {
            continue;
        };
        let names: Vec<String> = files.iter().filter(|name| *name != other).map(|name| text::escaped(name)).collect();
        return Err(usage(format!(
            "{} looks like a server and not like a file; did you mean {option}? Type: xfer get {} {option} {word} \
             (a file of that name: ./{word})",
            text::quoted(other),
            names.join(" "),
        )));
    }
    Ok(())
}

fn looks_like_host(word: &str) -> bool {
    if word == "localhost" || word.parse::<IpAddr>().is_ok() {
        return true;
    }
    match word.rsplit_once(':') {
        Some((host, port)) => !host.is_empty() && !host.contains('/') && parse_port(port).is_ok(),
        None => false,
    }
}

/// Host and port of the server, from `-H HOST[:PORT]`, `-p`, the environment and the defaults, in this order. A host that
/// is typed stands alone: no port comes from XFER_HOST then, which is about another one.
fn server(host: Option<String>, port: Option<u16>) -> Result<(String, u16), Error> {
    let (host, own_port) = match host {
        Some(host) => typed_host(&host)?,
        None => env_host(port.is_none())?.unwrap_or((DEFAULT_HOST.to_string(), None)),
    };
    let port = match (own_port, port) {
        (Some(a), Some(b)) if a != b => {
            return Err(usage(format!("two ports given, {a} with -H and {b} with -p; give one of them")));
        }
        (Some(port), _) | (None, Some(port)) => port,
        (None, None) => env_port(1)?,
    };
    if port == 0 {
        return Err(usage("bad port '0': a server to fetch from has a port from 1 to 65535"));
    }
    // The kernel cannot tell which link it is on (RFC 4007, section 6).
    if host.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_unicast_link_local()) {
        return Err(usage(format!("{host} needs the interface that leads there: {host}%eth0; see ip link")));
    }
    Ok((host, port))
}

/// The value of `-H`.
fn typed_host(typed: &str) -> Result<(String, Option<u16>), Error> {
    let text = decode(typed).into_string().unwrap_or_default();
    let Some((host, port)) = split_host(&text) else {
        return Err(usage(format!("bad host {}: {HOST_FORMS}", shown(typed))));
    };
    let port = port.map(parse_port).transpose().map_err(usage)?;
    Ok((host.to_string(), port))
}

fn output(dir: Option<String>, path: Option<String>, files: usize) -> Result<Output, Error> {
    match (path.map(|path| decode(&path)), dir) {
        (Some(_), Some(_)) => Err(usage("-o and -d contradict each other; give one of them")),
        (Some(_), None) if files != 1 => Err(usage(format!("-o takes one FILE and {files} are named; use -d DIR"))),
        (Some(path), None) if path == "-" => Ok(Output::Stdout),
        (Some(path), None) if path.is_empty() || path.as_bytes().ends_with(b"/") => {
            Err(usage(format!("-o {} names no file; use -d to save into a directory", text::quoted(path.as_bytes()))))
        }
        (None, Some(dir)) if dir.is_empty() => {
            Err(usage("-d '' names no directory; for the directory that you are in: -d ."))
        }
        (Some(path), None) => Ok(Output::Path(PathBuf::from(path))),
        (None, Some(dir)) => Ok(Output::Dir(PathBuf::from(decode(&dir)))),
        (None, None) => Ok(Output::Dir(env_path("XFER_DOWNLOAD_DIR").unwrap_or_else(|| DEFAULT_DOWNLOADS.into()))),
    }
}
