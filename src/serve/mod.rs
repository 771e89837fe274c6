//! `xfer serve`: from its configuration to a running reactor, and what it says on the way.

mod addresses;
mod answer;
mod bind;
pub(crate) mod conn;
pub(crate) mod digests;
pub(crate) mod foreign;
mod header;
pub(crate) mod log_limit;
mod options;
mod outbox;
pub(crate) mod peers;
mod reactor;
pub(crate) mod reason;
mod reply;
mod sandbox;
mod status;
mod timers;
mod turns;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::net::TcpListener;
use rustix::process::{Resource, Rlimit};
use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::error::{Error, ExitCode, reason};
use crate::logging::{LogTarget, Logs, OnConsole, Verbosity};
use crate::net;
use crate::root::{PrivateLog, Root, Shared};
use crate::{signals, stdio, text};
use addresses::Hint;
pub use bind::Bind;
use reactor::Reactor;
use sandbox::Sandbox;

/// Connections that the kernel completes before we accept them. The kernel lowers it to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// What `xfer serve` was asked to do.
#[derive(Debug)]
pub struct ServeConfig {
    /// The directory or the file to share.
    pub path: PathBuf,
    /// Whether it is made, as a directory, if it is missing: it was not named.
    pub makes_dir: bool,
    /// The port to listen on; 0 picks a free one.
    pub port: u16,
    /// The address to listen on.
    pub bind: Bind,
    /// Whether names with a component that begins with a dot are served.
    pub hidden: bool,
    /// Whether the server gives up, once all is open, what it does not need.
    pub sandbox: bool,
    /// What an operator may change of the limits.
    pub limits: Limits,
    /// Where the log goes.
    pub log: LogTarget,
    /// How much is said.
    pub verbosity: Verbosity,
}

/// Limits that an operator may change.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at once. The descriptor limit may allow fewer.
    pub max_conns: usize,
    /// Connections at once of one address.
    pub max_conns_per_ip: PerAddress,
    /// From accepting a connection to its whole request, and for later ones from their first byte; trickling does not
    /// extend it. (nginx: client_header_timeout 60 s.)
    pub request_timeout: Duration,
    /// Without a byte taken by the peer, or without a next request. (nginx: send_timeout 60 s, keepalive_timeout 75 s.)
    pub idle_timeout: Duration,
    /// Bytes a second that a peer takes at least, on average over the time for which it is waited for; 0 is no limit.
    pub min_rate: u32,
    /// For running replies at shutdown.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_conns: 20_000,
            max_conns_per_ip: PerAddress::Half,
            request_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            min_rate: crate::pace::MIN_RATE_DEFAULT,
            drain: Duration::from_secs(10),
        }
    }
}

/// How many of the connections that a server takes one address may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PerAddress {
    /// Half of them, but no less than [`PER_ADDRESS_LEAST`], no more than [`PER_ADDRESS_MOST`], and not all: no address
    /// takes the server from all others. (Postfix: smtpd_client_connection_count_limit is half of the default process limit.)
    Half,
    /// As many as there is room for.
    All,
    /// So many.
    Most(usize),
}

/// Connections that one address may have at the least if nobody has said how many: a server for so few is no public one.
const PER_ADDRESS_LEAST: usize = 16;

/// Connections that one address may have at the most if nobody has said how many: more than the machines behind one
/// address use at a time, and what the kernel holds for so many that do not read is 0.6 GB, below what Linux lets TCP have
/// on a machine with 8 GB (tcp_mem).
const PER_ADDRESS_MOST: usize = 500;

impl PerAddress {
    /// How many that is where a server takes `max_conns` in all; `None` is no limit.
    pub fn most(self, max_conns: usize) -> Option<usize> {
        match self {
            PerAddress::Half => {
                let half = (max_conns / 2).clamp(PER_ADDRESS_LEAST, PER_ADDRESS_MOST);
                Some(half.min(max_conns.saturating_sub(1)).max(1))
            }
            PerAddress::All => None,
            PerAddress::Most(most) => Some(most),
        }
    }
}

/// How a server that ran came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Everything under way was finished, or had its time.
    Drained,
    /// A second signal cut it short.
    Cut,
}

/// Runs a server until a signal ends it.
pub fn run(config: ServeConfig) -> Result<ExitCode, Error> {
    let is_new = config.makes_dir && make_dir(&config.path)?;
    // Before anything is made or taken: a wrong name should leave no log and not even begin to listen.
    let shared = Shared::at(&config.path).map_err(|error| cannot_serve(&config, &error))?;
    open_root(&config, &shared, None, &Rc::new(())).map_err(|error| cannot_serve(&config, &error))?;
    let logs = Logs::start("server", &config.log, config.verbosity, OnConsole::All).map_err(as_failure)?;
    let result = serve(&config, &shared, &logs, is_new);
    if let Err(error) = &result {
        log::error!(target: "main", "{error}");
    }
    // An error line is printed by main; said twice on one console it would only puzzle.
    logs.finish(result.is_ok());
    result.map(|end| match end {
        End::Drained => ExitCode::Done,
        End::Cut => ExitCode::Signal(2),
    })
}

/// Any failure of a server has one exit code.
fn as_failure(error: Error) -> Error {
    Error::new(ExitCode::Refused, error.to_string())
}

fn serve(config: &ServeConfig, shared: &Shared, logs: &Logs, is_new: bool) -> Result<End, Error> {
    let descriptors = raise_descriptor_limit().saturating_sub(inherited_descriptors());
    let listener = listen(config)?;
    let address = listener.local_addr().map_err(|error| failure("cannot listen", &error))?;
    let address = net::canonical(address);
    let reactor = Reactor::new(config, shared, logs, listener, address, descriptors)?;
    announce(config, shared, logs, address);
    // Looked for now: a sandbox may forbid the sockets that tell the addresses of this machine.
    let hints = addresses::hints(address, shared.only.as_deref());
    let sandbox = match config.sandbox {
        true => Sandbox::enter(&shared.dir, logs.path().as_deref()),
        false => Sandbox::none(),
    };
    if is_new {
        log::info!(target: "main", "{} is new and empty: put files into it", text::path(&config.path));
    }
    // Last, so that they stay on the screen.
    for hint in hints {
        match hint {
            Hint::Command(heading, command) => logs.offer(&heading, &command),
            Hint::Note(note) => log::info!(target: "main", "{note}"),
        }
    }
    say_ready(logs, address)?;
    reactor.run(sandbox)
}

fn failure(what: &str, error: &io::Error) -> Error {
    Error::new(ExitCode::Refused, format!("{what}: {}", reason(error)))
}

/// Makes the default directory, in which there is nothing to serve yet; whether it was missing.
fn make_dir(dir: &Path) -> Result<bool, Error> {
    match std::fs::create_dir(dir) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            let why = io::Error::other(format!("{}; name a directory or a file to share", reason(&error)));
            Err(failure(&format!("cannot create the directory {}", text::path(dir)), &why))
        }
        Err(_) => Ok(false),
    }
}

/// Opens what is shared, at the start and after SIGHUP.
fn open_root(config: &ServeConfig, shared: &Shared, log: Option<PrivateLog>, open_files: &Rc<()>) -> io::Result<Root> {
    let root = Root::open(&shared.dir, config.hidden, log, open_files)?;
    match &shared.only {
        Some(name) => root.with_only(name),
        None => Ok(root),
    }
}

/// A server that cannot start with this directory or file.
fn cannot_serve(config: &ServeConfig, error: &io::Error) -> Error {
    let advice = match error.kind() {
        io::ErrorKind::NotFound => "; check the path, or create the directory",
        _ => "",
    };
    failure(&format!("cannot share {}", text::path(&config.path)), error).with(advice)
}

/// What the server must not give out of its own.
fn private_log(config: &ServeConfig, logs: &Logs) -> Option<PrivateLog> {
    let has_folder = matches!(config.log, LogTarget::Dir(_));
    logs.real_file().map(|(path, id)| PrivateLog { path, id, has_folder })
}

/// Allows as many descriptors as the hard limit does; returns how many that is.
fn raise_descriptor_limit() -> usize {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let now = match rustix::process::setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    now.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX))
}

/// Descriptors that whoever has started the server has left open in it: none, mostly. (The standard streams, the log and
/// the folder that is read here are counted elsewhere.)
fn inherited_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(5))
}

fn listen(config: &ServeConfig) -> Result<TcpListener, Error> {
    let (address, other) = config
        .bind
        .addresses(config.port)
        .map_err(|error| failure(&format!("cannot listen on {}", config.bind), &error))?;
    let listen_on = |address| net::listen(address, BACKLOG).map_err(|error| (address, error));
    let result = listen_on(address).or_else(|(address, error)| match (error.kind(), other) {
        // Another address would be another server.
        (io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied, _) | (_, None) => Err((address, error)),
        (_, Some(other)) => listen_on(other),
    });
    result.map_err(|(address, error)| cannot_listen(address, &error))
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> Error {
    let advice = match (error.kind(), address) {
        (io::ErrorKind::AddrInUse, _) => "choose another port with -p, or stop the program that uses it",
        (io::ErrorKind::PermissionDenied, _) => "ports below 1024 need privileges; choose a higher port with -p",
        (io::ErrorKind::AddrNotAvailable, _) => "this machine does not have that address; choose another with -b",
        (_, SocketAddr::V6(address)) if address.ip().is_unicast_link_local() && address.scope_id() == 0 => {
            "a link-local address needs its interface, as in -b fe80::1%eth0"
        }
        _ => "choose another address or port with -b and -p",
    };
    failure(
        &format!("cannot listen on {}", addresses::Shown(address)),
        &io::Error::other(format!("{}; {advice}", reason(error))),
    )
}

/// `xfer VERSION (process PID) sharing the directory DIR on ADDR`; `up` is how long the server has run, if it has.
fn identity(up: Option<Duration>, shared: &str, address: SocketAddr) -> String {
    let (version, pid, on) = (env!("CARGO_PKG_VERSION"), std::process::id(), addresses::Shown(address));
    let up = up.map_or(String::new(), |up| format!(", up {}", text::duration(up)));
    format!("xfer {version} (process {pid}{up}) sharing {shared} on {on}")
}

/// Says who can read what, how that differs from the defaults, and where the log is.
fn announce(config: &ServeConfig, shared: &Shared, logs: &Logs, address: SocketAddr) {
    let identity = identity(None, &shared.described(&shared.real_path()), address);
    let who = match address.ip().is_loopback() {
        true => "only this machine can reach it",
        false => "anyone who can reach this port can read it; nothing is encrypted",
    };
    log::info!(target: "main", "{identity}: {who}");
    let options = options::changed(config);
    if !options.is_empty() {
        log::info!(target: "main", "options: {options}");
    }
    if let Some(path) = logs.path() {
        log::info!(target: "main", "log file {}", text::path(&path));
    }
}

/// The line on standard output, once all is as it will be. Programs wait for it: a server that could not print it would
/// run unseen.
fn say_ready(logs: &Logs, address: SocketAddr) -> Result<(), Error> {
    logs.flush();
    // A pipe that is full and that nobody reads: a signal that ends the server ends the wait, and is handled by the reactor.
    let is_ended = Arc::new(AtomicBool::new(false));
    let watches: Vec<SigId> = signals::not_ignored(&[SIGINT, SIGTERM])
        .into_iter()
        .filter_map(|signal| signal_hook::flag::register(signal, Arc::clone(&is_ended)).ok())
        .collect();
    let has_room = stdio::has_room_before(|| is_ended.load(Ordering::Relaxed));
    for watch in watches {
        signal_hook::low_level::unregister(watch);
    }
    if !has_room {
        return Ok(());
    }
    stdio::print(&format!("listening on {}\n", addresses::Shown(address)), ExitCode::Refused)
}
