//! `xfer get`: from its configuration to files that are whole and verified.

mod beside;
mod block;
mod clock;
mod commits;
mod connect;
pub(crate) mod disk;
mod fetch;
mod flow;
mod held;
mod high_water;
mod input;
mod item;
pub(crate) mod journal;
mod ledger;
mod lines;
mod link;
mod obstacle;
pub(crate) mod part;
mod progress;
mod race;
mod receive;
mod refusal;
mod reread;
mod retry;
mod saved;
mod scale;
mod silence;
mod sink;
pub mod slot;
mod target;
mod time_limits;
mod unsupported;
mod v1;
mod v2;
mod wait;
pub(crate) mod workers;
mod wrong_server;

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use crate::console;
use crate::error::{Error, ExitCode};
use crate::logging::{LogTarget, Logs, OnConsole, Verbosity};
use crate::proto::digest::Algorithm;
use crate::proto::{self, base_name};
use crate::text;
use connect::LastAddress;
use fetch::Fetcher;
use item::Tools;
use ledger::Ledger;
use progress::Progress;
use receive::Receiver;
use silence::Silence;
use wait::Waits;

/// What `xfer get` was asked to do.
#[derive(Debug)]
pub struct GetConfig {
    /// The server's name or address.
    pub host: String,
    /// Whether the host was typed or is of the environment, and not the default.
    pub is_host_named: bool,
    /// Its port, never 0.
    pub port: u16,
    /// Names on the server, as typed; at least one.
    pub files: Vec<Vec<u8>>,
    /// Where the files go.
    pub output: Output,
    /// Attempts in all for a file; without a number, until it is there.
    pub attempts: Option<NonZeroU32>,
    /// Without a byte, after which an attempt ends.
    pub timeout: Duration,
    /// Between two attempts, at most.
    pub max_backoff: Duration,
    /// How files are digested, in version 2 of the protocol.
    pub algorithm: Algorithm,
    /// What happens to a target that exists.
    pub existing: Existing,
    /// Whether what an earlier run has left is gone on with.
    pub resume: bool,
    /// Whether only version 1 of the protocol is spoken.
    pub v1: bool,
    /// Whether a file counts as saved only when the disk has it.
    pub sync: bool,
    /// When a bar is drawn.
    pub progress: ProgressMode,
    /// Where the log goes.
    pub log: LogTarget,
    /// How much is said.
    pub verbosity: Verbosity,
}

/// Where files go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Into this folder, each under the last component of its name.
    Dir(PathBuf),
    /// The one file, as this path.
    Path(PathBuf),
    /// The one file, to standard output.
    Stdout,
}

/// What happens to a target that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// The same content is kept, another replaced.
    Compare,
    /// It is fetched again and replaced.
    Fetch,
    /// It is kept.
    Keep,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressMode {
    /// A bar, on a terminal.
    Auto,
    /// A bar.
    Always,
    /// No bar.
    Never,
    /// Lines of JSON, for programs.
    Json,
}

/// Fetches all files; the first failure decides the exit code, and has been reported.
pub fn run(config: GetConfig) -> Result<ExitCode, Error> {
    check_names(&config)?;
    let logs = Logs::start("client", &config.log, config.verbosity, OnConsole::DebugOnly)?;
    let result = fetch_all(&config, &logs);
    if let Err(error) = &result {
        log::error!(target: "main", "{error}");
    }
    logs.finish(true);
    result
}

/// Fetches all files, with logs that are open.
pub(crate) fn fetch_all(config: &GetConfig, logs: &Logs) -> Result<ExitCode, Error> {
    let server = link::server_name(&config.host, config.port);
    let files = text::count(config.files.len() as u64, "file", "files");
    log::info!(target: "main", "fetching {files} from {server}");
    let mut waits = Waits::new(logs.clone())?;
    let receiver = Receiver::start(&waits);
    let lines = waits.lines();
    let progress = Progress::new(config, &server, lines.clone());
    waits.show(progress.clone());
    let (last_address, silence, ledger) = (LastAddress::default(), Silence::new(config.attempts), Ledger::new());
    let tools = Tools {
        config,
        receiver: &receiver,
        waits,
        progress,
        server,
        last_address,
        is_xfer_server: false,
        silence,
        ledger,
    };
    let exit = Fetcher::new(tools).run();
    lines.flush();
    match config.progress {
        ProgressMode::Json if lines.is_any_lost() => Ok(without_all_lines(exit)),
        _ => Ok(exit),
    }
}

/// How a run ends whose lines for a program did not all reach standard error. They were asked for: their loss is a
/// failure, although it stops no transfer.
fn without_all_lines(exit: ExitCode) -> ExitCode {
    let (exit, files) = match exit {
        ExitCode::Done => (ExitCode::Local, "; all files were fetched"),
        other => (other, ""),
    };
    let line = format!("some lines of --progress json were lost: standard error did not accept them{files}");
    log::error!(target: "main", "{line}");
    console::print_line(&format!("xfer: {line}"));
    exit
}

/// Refuses, before anything else happens, names that no file here may get.
fn check_names(config: &GetConfig) -> Result<(), Error> {
    let usage = |message: String| Err(Error::new(ExitCode::Usage, message));
    let mut saved_as = HashSet::new();
    for name in &config.files {
        let shown = text::quoted(name);
        let checked = match config.v1 {
            true => proto::v1::check_name(name).map(drop),
            false => proto::check_name(name),
        };
        if let Err(malformed) = checked {
            return usage(format!("cannot fetch {shown}: {malformed}"));
        }
        let base = base_name(name);
        if matches!(base, b"" | b"." | b"..") {
            return usage(format!(
                "cannot fetch {shown}: it names a directory; name a file in it (to save in a directory, use -d DIR)"
            ));
        }
        if base.ends_with(b".xfer-part") || base.ends_with(b".xfer-part.state") {
            return usage(format!(
                "cannot fetch {shown}: names that end in .xfer-part or .xfer-part.state are reserved; rename it on the server"
            ));
        }
        if matches!(config.output, Output::Dir(_)) && !saved_as.insert(base) {
            let base = text::quoted(base);
            return usage(format!("two files would be saved as {base}; fetch them separately, with -o or -d"));
        }
    }
    Ok(())
}
