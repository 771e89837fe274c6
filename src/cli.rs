//! Command line to configuration: the only file that knows argh.
//!
//! What was typed becomes `ServeArgs` or `GetArgs`, and from there, with the environment and the defaults, what it
//! means. argh exits by itself, knows no `--opt=value` and dies on arguments that are not UTF-8; `normalise` comes first.

use std::ffi::{OsStr, OsString};
use std::io::BufRead;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use argh::FromArgs;

use crate::error::{Error, ExitCode, reason};
use crate::get::{Existing, GetConfig, Output, ProgressMode};
use crate::logging::{LogTarget, Verbosity};
use crate::proto::DEFAULT_PORT;
use crate::proto::digest::Algorithm;
use crate::serve::{Limits, PerAddress, ServeConfig};
use crate::text;

const DEFAULT_HOST: &str = "localhost";
const DEFAULT_ROOT: &str = "server_files";
const DEFAULT_DOWNLOADS: &str = "client_downloads";
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
    /// Print this text on standard output and succeed.
    Print(String),
}

/// Share a directory over TCP, to be fetched with 'xfer get'.
#[derive(FromArgs)]
#[argh(help_triggers("-h", "--help"))]
struct ServeArgs {
    /// directory to share (default: server_files, made if missing)
    #[argh(positional, arg_name = "DIR")]
    dir: Option<String>,
    /// port to listen on, 0 for a free one (default: XFER_PORT or 9999)
    #[argh(option, short = 'p', arg_name = "PORT", from_str_fn(parse_own_port))]
    port: Option<u16>,
    /// address to listen on (default: every address, IPv6 and IPv4)
    #[argh(option, short = 'b', arg_name = "ADDR", from_str_fn(parse_address))]
    bind: Option<IpAddr>,
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

/// Fetch files from a server started with 'xfer serve', verify and save them.
#[derive(FromArgs)]
#[argh(help_triggers("-h", "--help"))]
struct GetArgs {
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
    from_file: Option<String>,
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
    /// keep what is already there, whatever it holds
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

/// Reads a whole command line, the program's name first.
pub fn parse(argv: Vec<OsString>) -> Result<Command, Error> {
    let mut args = argv.into_iter();
    let program = args.next().unwrap_or_default();
    let rest: Vec<OsString> = args.collect();
    match Path::new(&program).file_name().map(OsStr::as_bytes) {
        Some(b"xfer-serve") => return serve(&rest),
        Some(b"xfer-get") => return get(&rest),
        _ => {}
    }
    let Some((first, rest)) = rest.split_first() else {
        return Err(usage(format!("no command given; use serve or get\n\n{}", USAGE.trim_end())));
    };
    match first.as_bytes() {
        b"serve" => serve(rest),
        b"get" => get(rest),
        b"-h" | b"--help" | b"help" => Ok(Command::Print(USAGE.to_string())),
        b"-V" | b"--version" => Ok(Command::Print(version())),
        other => Err(usage(format!("unknown command {}: use serve or get; see xfer --help", text::quoted(other)))),
    }
}

fn version() -> String {
    format!("xfer {}\n", env!("CARGO_PKG_VERSION"))
}

fn usage(message: impl Into<String>) -> Error {
    Error::new(ExitCode::Usage, message)
}

/// What argh makes of the arguments of one command: its struct, or a text that was asked for.
enum Typed<T> {
    Args(T),
    Print(String),
}

fn typed<T: FromArgs>(command: &str, args: &[OsString]) -> Result<Typed<T>, Error> {
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

fn serve(args: &[OsString]) -> Result<Command, Error> {
    let args: ServeArgs = match typed("serve", args)? {
        Typed::Args(args) => args,
        Typed::Print(text) => return Ok(Command::Print(text)),
    };
    let defaults = Limits::default();
    let named = served_dir(args.dir.as_deref())?;
    Ok(Command::Serve(ServeConfig {
        makes_dir: named.is_none(),
        dir: named.unwrap_or_else(|| PathBuf::from(DEFAULT_ROOT)),
        port: args.port.map_or_else(|| env_port(0), Ok)?,
        bind: args.bind,
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
    let dir = PathBuf::from(decode(named));
    if !dir.exists() && parse_port(named).is_ok() {
        return Err(usage(format!(
            "there is no directory {}; did you mean -p? To share {DEFAULT_ROOT} on port {named}: xfer serve -p {named}",
            text::quoted(dir.as_os_str().as_bytes())
        )));
    }
    Ok(Some(dir))
}

fn get(args: &[OsString]) -> Result<Command, Error> {
    let args: GetArgs = match typed("get", args)? {
        Typed::Args(args) => args,
        Typed::Print(text) => return Ok(Command::Print(text)),
    };
    let mut files: Vec<Vec<u8>> = args.files.iter().map(|name| decode(name).into_vec()).collect();
    if args.host.is_none() {
        ask_about_host(&files)?;
    }
    if let Some(list) = &args.from_file {
        files.extend(names_from(&decode(list))?);
    }
    if files.is_empty() {
        return Err(usage("no file named; use xfer get FILE -H HOST; see xfer get --help"));
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

/// The names in a list, one a line; empty lines do not count.
fn names_from(list: &OsStr) -> Result<Vec<Vec<u8>>, Error> {
    let failed = |error: std::io::Error| {
        let shown = text::escaped(list.as_bytes());
        Error::new(ExitCode::Local, format!("cannot read the list of names {shown}: {}", reason(&error)))
    };
    let reader: Box<dyn BufRead> = if list == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::io::BufReader::new(std::fs::File::open(list).map_err(failed)?))
    };
    let lines: Result<Vec<Vec<u8>>, _> = reader.split(b'\n').collect();
    let mut names = lines.map_err(failed)?;
    for name in &mut names {
        if name.last() == Some(&b'\r') {
            name.pop();
        }
    }
    names.retain(|name| !name.is_empty());
    Ok(names)
}

/// Host and port of the server, from `-H HOST[:PORT]`, `-p`, the environment and the defaults, in this order.
fn server(host: Option<String>, port: Option<u16>) -> Result<(String, u16), Error> {
    let named = match host {
        Some(host) => Some(host),
        None => env_text("XFER_HOST")?,
    };
    let (host, own_port) = split_host(named.as_deref().unwrap_or(DEFAULT_HOST))?;
    let port = match (own_port, port) {
        (Some(a), Some(b)) if a != b => {
            return Err(usage(format!("two ports given, {a} with the host and {b} with -p; give one of them")));
        }
        (Some(port), _) | (None, Some(port)) => port,
        (None, None) => env_port(1)?,
    };
    if port == 0 {
        return Err(usage("bad port '0': a server to fetch from has a port from 1 to 65535"));
    }
    Ok((host, port))
}

/// `host`, `host:port`, `1.2.3.4:port`, `::1`, `[::1]` or `[::1]:port`.
fn split_host(text: &str) -> Result<(String, Option<u16>), Error> {
    let port_of = |port: &str| parse_port(port).map_err(usage);
    let (host, port) = if let Some(inner) = text.strip_prefix('[') {
        match inner.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, rest)) => match rest.strip_prefix(':') {
                Some(port) => (host, Some(port_of(port)?)),
                None => return Err(bad_host(text)),
            },
            None => return Err(bad_host(text)),
        }
    } else {
        match text.split_once(':') {
            // More than one colon and no brackets: an IPv6 address.
            Some((_, rest)) if rest.contains(':') => (text, None),
            Some((host, port)) => (host, Some(port_of(port)?)),
            None => (text, None),
        }
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/') {
        return Err(bad_host(text));
    }
    Ok((host.to_string(), port))
}

fn bad_host(text: &str) -> Error {
    usage(format!("bad host {}: give NAME, ADDRESS, NAME:PORT or [IPv6]:PORT", text::quoted(text.as_bytes())))
}

fn output(dir: Option<String>, path: Option<String>, files: usize) -> Result<Output, Error> {
    match (path.map(|path| decode(&path)), dir) {
        (Some(_), Some(_)) => Err(usage("-o and -d contradict each other; give one of them")),
        (Some(_), None) if files != 1 => Err(usage(format!("-o takes one FILE and {files} are named; use -d DIR"))),
        (Some(path), None) if path == "-" => Ok(Output::Stdout),
        (Some(path), None) if path.is_empty() || path.as_bytes().ends_with(b"/") => {
            Err(usage(format!("-o {} names no file; use -d to save into a folder", text::quoted(path.as_bytes()))))
        }
        (Some(path), None) => Ok(Output::Path(PathBuf::from(path))),
        (None, Some(dir)) => Ok(Output::Dir(PathBuf::from(decode(&dir)))),
        (None, None) => Ok(Output::Dir(env_path("XFER_DOWNLOAD_DIR").unwrap_or_else(|| DEFAULT_DOWNLOADS.into()))),
    }
}

fn log_target(dir: Option<String>, file: Option<String>, off: bool) -> Result<LogTarget, Error> {
    match (dir, file, off) {
        (None, None, true) => Ok(LogTarget::Off),
        (Some(dir), None, false) => Ok(LogTarget::Dir(PathBuf::from(decode(&dir)))),
        (None, Some(file), false) => Ok(LogTarget::File(PathBuf::from(decode(&file)))),
        (None, None, false) => Ok(match env_path("XFER_LOG_DIR") {
            Some(dir) => LogTarget::Dir(dir),
            None => LogTarget::Default(PathBuf::from(DEFAULT_LOGS)),
        }),
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

/// A variable of the environment; an empty one counts as absent.
fn env_path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn env_text(name: &str) -> Result<Option<String>, Error> {
    match env_path(name).map(|value| value.into_os_string().into_string()) {
        Some(Ok(value)) => Ok(Some(value)),
        Some(Err(_)) => Err(usage(format!("the environment variable {name} is not UTF-8"))),
        None => Ok(None),
    }
}

fn env_port(least: u16) -> Result<u16, Error> {
    let Some(value) = env_text("XFER_PORT")? else { return Ok(DEFAULT_PORT) };
    match parse_port(&value) {
        Ok(port) if port >= least => Ok(port),
        _ => Err(usage(format!(
            "bad port {} in XFER_PORT: give a number from {least} to 65535",
            text::quoted(value.as_bytes())
        ))),
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits => Ok(port),
        _ => Err(format!("bad port {}: give a number from 1 to 65535", text::quoted(text.as_bytes()))),
    }
}

/// A port to listen on, which may be left to the kernel.
fn parse_own_port(text: &str) -> Result<u16, String> {
    parse_port(text).map_err(|_| format!("bad port {}: give a number from 0 to 65535", text::quoted(text.as_bytes())))
}

fn parse_address(text: &str) -> Result<IpAddr, String> {
    text.trim_start_matches('[').trim_end_matches(']').parse().map_err(|_| {
        format!("bad address {}: give an IPv4 or IPv6 address of this machine", text::quoted(text.as_bytes()))
    })
}

fn parse_positive(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| format!("bad number {}: give a whole number from 1", text::quoted(text.as_bytes())))
}

fn parse_count(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("bad number {}: give a whole number from 0", text::quoted(text.as_bytes())))
}

/// Seconds, whole or not, above zero and at most a year.
fn parse_seconds(text: &str) -> Result<Duration, String> {
    const YEAR: f64 = 365.0 * 86_400.0;
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= YEAR => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("bad time {}: give seconds above 0, such as 10 or 0.5", text::quoted(text.as_bytes()))),
    }
}

/// Seconds for what is under way at the end; none at all is a choice.
fn parse_drain(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(0.0) => Ok(Duration::ZERO),
        _ => parse_seconds(text).map_err(|message| message.replace("seconds above 0", "seconds from 0")),
    }
}

fn parse_progress(text: &str) -> Result<ProgressMode, String> {
    match text {
        "auto" => Ok(ProgressMode::Auto),
        "always" => Ok(ProgressMode::Always),
        "never" => Ok(ProgressMode::Never),
        "json" => Ok(ProgressMode::Json),
        _ => Err(format!("bad choice {}: give auto, always, never or json", text::quoted(text.as_bytes()))),
    }
}

fn parse_checksum(text: &str) -> Result<Algorithm, String> {
    match text {
        "md5" => Ok(Algorithm::Md5),
        "blake3" => Ok(Algorithm::Blake3),
        _ => Err(format!("bad choice {}: give md5 or blake3", text::quoted(text.as_bytes()))),
    }
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

fn encode(arg: &OsStr) -> String {
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

fn decode(text: &str) -> OsString {
    let mut out = Vec::with_capacity(text.len());
    for c in text.chars() {
        match u32::from(c).checked_sub(BYTE_BASE).map(u8::try_from) {
            Some(Ok(byte)) => out.push(byte),
            _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    OsString::from_vec(out)
}

#[cfg(test)]
#[path = "cli_tests.rs"]
mod tests;
