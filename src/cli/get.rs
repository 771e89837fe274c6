//! `xfer get`: its options, and the configuration that they mean.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use argh::{ArgsInfo, FlagInfo, FlagInfoKind, FromArgs};

use super::declared::{Typed, typed};
use super::environment::env_path;
use super::help::Page;
use super::server::Asked;
use super::url::is_url;
use super::values::{parse_checksum, parse_count, parse_progress, parse_seconds, parse_server_port};
use super::words::{Given, decode, shown};
use super::{Command, habits, log_target, names, paste, printed, usage, verbosity};
use crate::error::Error;
use crate::get::{Existing, GetConfig, Output, ProgressMode};
use crate::proto::digest::Algorithm;
use crate::text;

const DEFAULT_DOWNLOADS: &str = "client_downloads";

/// Fetch files from a server started with 'xfer serve', verify and save them.
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("-h", "--help"))]
pub struct GetArgs {
    /// path of a file in the directory that the server shares, or xfer://HOST[:PORT]/FILE
    #[argh(positional, arg_name = "FILE")]
    files: Vec<String>,
    /// name or address of the server (default: XFER_HOST or localhost)
    #[argh(option, short = 'H', arg_name = "HOST[:PORT]")]
    host: Option<String>,
    /// port of the server (default: XFER_PORT or 9999)
    #[argh(option, short = 'p', arg_name = "PORT", from_str_fn(parse_server_port))]
    port: Option<u16>,
    /// directory to save in, created if missing (default: XFER_DOWNLOAD_DIR or client_downloads)
    #[argh(option, short = 'd', arg_name = "DIR")]
    dir: Option<String>,
    /// save FILE as PATH (one FILE only); '-' is standard output
    #[argh(option, short = 'o', arg_name = "PATH")]
    output: Option<String>,
    /// read more names from LIST, one per line; '-' is standard input
    #[argh(option, arg_name = "LIST")]
    from_file: Vec<String>,
    /// names in LIST end with a NUL byte (find -print0)
    #[argh(switch, short = '0')]
    null: bool,
    /// digest to verify with: md5, or blake3, which is faster (default: md5)
    #[argh(option, arg_name = "DIGEST", from_str_fn(parse_checksum))]
    checksum: Option<Algorithm>,
    /// give up on a file after N failed attempts in a row; 0: never give up (default: 5)
    #[argh(option, arg_name = "N", from_str_fn(parse_count))]
    retries: Option<u32>,
    /// end an attempt after this time without data (default: 10)
    #[argh(option, arg_name = "SECONDS", from_str_fn(parse_seconds))]
    timeout: Option<Duration>,
    /// longest pause between two attempts (default: 32)
    #[argh(option, arg_name = "SECONDS", from_str_fn(parse_seconds))]
    max_backoff: Option<Duration>,
    /// fetch a file even if it is already up to date
    #[argh(switch)]
    force: bool,
    /// keep a file that already exists
    #[argh(switch)]
    no_clobber: bool,
    /// start over, even if a partial file exists
    #[argh(switch)]
    no_resume: bool,
    /// do not wait until the files are on the disk
    #[argh(switch)]
    no_sync: bool,
    /// use only version 1 of the protocol (old servers)
    #[argh(switch)]
    v1: bool,
    /// progress line: auto (on a terminal), always, never, or json for programs (default: auto)
    #[argh(option, arg_name = "WHEN", from_str_fn(parse_progress))]
    progress: Option<ProgressMode>,
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

/// What `xfer get --help` prints.
pub const PAGE: Page = Page {
    command: "get",
    head: "\
Usage: xfer get FILE... [-H HOST[:PORT]] [OPTIONS]

Fetch files from a machine that runs 'xfer serve', verify them, and save them.
To resume after a failure or Ctrl-C, run the same command again.

Examples:
  xfer get report.pdf -H 192.168.1.5
      saves client_downloads/report.pdf
  xfer get a.iso sub/b.txt -H nas:8080 -d /tmp
      saves /tmp/a.iso and /tmp/b.txt
",
    groups: &[
        ("What to fetch, and from where", &["FILE", "--host", "--port", "--from-file", "--null", "--v1"]),
        ("Where to save", &["--dir", "--output", "--force", "--no-clobber", "--no-sync"]),
        ("Verify and retry", &["--checksum", "--retries", "--timeout", "--max-backoff", "--no-resume"]),
        (
            "Output and log",
            &["--progress", "--quiet", "--verbose", "--log-dir", "--log-file", "--no-log", "--help", "--version"],
        ),
    ],
    foot: "\
Exit status: 0 success, 1 not found or refused, 2 usage, 3 network, 4 wrong
digest or protocol, 5 local file or disk, above 128 stopped by a signal
Manual page: xfer-get(1)
",
};

/// What `xfer get` with these words means.
pub fn get(args: &[OsString]) -> Result<Command, Error> {
    let (args, options): (GetArgs, _) = match typed(&PAGE, args)? {
        Typed::Args(args, options) => (args, options),
        Typed::Print(text) => return Ok(printed(text)),
    };
    let mut files: Vec<Vec<u8>> = args.files.iter().map(|name| decode(name).into_vec()).collect();
    if args.null && args.from_file.is_empty() {
        return Err(usage("-0 works only with --from-file LIST"));
    }
    let words = files.len();
    check_values(&options, words)?;
    for list in &args.from_file {
        files.extend(names::read(&decode(list), args.null)?);
    }
    let has_host = args.host.is_some() || env_path("XFER_HOST").is_some();
    let is_host_named = has_host || files.iter().any(|file| is_url(file));
    if !is_host_named {
        match args.from_file.is_empty() {
            true => habits::check(&files, &options)?,
            false => habits::check_list(&files[words..])?,
        }
    }
    if args.v1 && args.checksum == Some(Algorithm::Blake3) {
        return Err(usage("--v1 and --checksum blake3 cannot be combined: version 1 of the protocol has only md5"));
    }
    let again = Some(&files[..words]).filter(|_| args.output.as_deref() != Some("-"));
    let again = again.and_then(|typed| paste::again(&typed.iter().map(Vec::as_slice).collect::<Vec<_>>(), &options));
    let asked = Asked { host: args.host.as_deref(), port: args.port, options: &options, words };
    let (host, port, files) = asked.server(files)?;
    if files.is_empty() {
        return Err(usage(match args.from_file.last() {
            None if args.host.is_some() => no_file(&options),
            Some(list) => format!("no file named: the list {} contains no names", names::shown(&decode(list))),
            None => "no file named; see xfer get --help; type: xfer get FILE -H HOST".to_string(),
        }));
    }
    Ok(Command::Get(GetConfig {
        host,
        is_host_named,
        port,
        output: output(args.dir, args.output, files.len(), again)?,
        files,
        attempts: NonZeroU32::new(args.retries.unwrap_or(5)),
        timeout: args.timeout.unwrap_or(Duration::from_secs(10)),
        max_backoff: args.max_backoff.unwrap_or(Duration::from_secs(32)),
        algorithm: args.checksum.unwrap_or(Algorithm::Md5),
        resume: !args.no_resume,
        v1: args.v1,
        existing: match (args.force, args.no_clobber) {
            (true, true) => return Err(usage("--force and --no-clobber cannot be combined; use one of them")),
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

/// What to say where every word is an option or its value.
fn no_file(options: &[Given]) -> String {
    let host = options.iter().find(|given| given.flag.long == "--host").and_then(|given| given.value.as_deref());
    let shown = shown(host.unwrap_or_default());
    let command = paste::again(&[b"FILE"], options).map(|command| format!("; type: {command}")).unwrap_or_default();
    format!("no file named: {shown} is the host{command}")
}

/// A value that is the name of an option, where the next word shows that a value was forgotten.
fn check_values(options: &[Given], words: usize) -> Result<(), Error> {
    let flags = GetArgs::get_args_info().flags;
    for given in options {
        let value = given.value.as_deref().unwrap_or_default();
        let is_it = |flag: &&FlagInfo<'_>| flag.long == value || flag.short.is_some_and(|c| value == format!("-{c}"));
        let named = flags.iter().find(is_it).filter(|flag| matches!(flag.kind, FlagInfoKind::Option { .. }));
        let is_missing = |flag: &&FlagInfo<'_>| !options.iter().any(|other| other.flag.long == flag.long);
        let FlagInfoKind::Option { arg_name } = given.flag.kind else { continue };
        if words > 1 && named.filter(is_missing).is_some() {
            let name = &given.name;
            return Err(usage(format!(
                "{name} took {value} as its value; after {name}, give {arg_name} (a path that begins with '-': \
                 ./{value}); see xfer get --help"
            )));
        }
    }
    Ok(())
}

fn output(dir: Option<String>, path: Option<String>, files: usize, again: Option<String>) -> Result<Output, Error> {
    let right = again.map(|command| format!("; type: {command}")).unwrap_or_default();
    match (path.map(|path| decode(&path)), dir) {
        (Some(_), Some(_)) => Err(usage("-o and -d cannot be combined; use one of them")),
        (Some(path), None) if path == "-" && files == 1 => Ok(Output::Stdout),
        (Some(path), None) if path.is_empty() => {
            Err(usage("-o '' names no file; to save into a directory, use -d DIR"))
        }
        (Some(_), None) if files != 1 => {
            Err(usage(format!("-o saves one file, but {files} are named; to save into a directory, use -d DIR{right}")))
        }
        (Some(path), None) if paste::is_directory(&path) => Err(usage(format!(
            "-o {} is a directory; to save into a directory, use -d DIR{right}",
            text::quoted(path.as_bytes())
        ))),
        (None, Some(dir)) if dir.is_empty() => {
            Err(usage("-d '' names no directory; for the current directory, use -d ."))
        }
        (Some(path), None) => Ok(Output::Path(PathBuf::from(path))),
        (None, Some(dir)) => Ok(Output::Dir(PathBuf::from(decode(&dir)))),
        (None, None) => Ok(Output::Dir(env_path("XFER_DOWNLOAD_DIR").unwrap_or_else(|| DEFAULT_DOWNLOADS.into()))),
    }
}
