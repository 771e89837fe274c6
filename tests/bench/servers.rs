//! The servers, each of the same folder on a free port of the loopback, with its log in a file at its default level.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use super::bench::Bench;
use super::cost;
use super::process::{Process, command};
use super::trouble::{Doing, Trouble, ensure};

/// How long a server may take to listen.
const STARTING: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A server that listens; ended on drop.
pub struct Server {
    addr: SocketAddr,
    pid: u32,
    /// All that a server needs is that this stays.
    _process: Process,
}

// Methods, so that a closure that wants an address takes the whole server and keeps it running.
impl Server {
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The process that does the work.
    pub fn pid(&self) -> u32 {
        self.pid
    }
}

/// Waits for what tells that it listens.
fn wait(process: Process, mut listens: impl FnMut() -> Option<SocketAddr>) -> Result<Server, Trouble> {
    let deadline = Instant::now() + STARTING;
    loop {
        if let Some(addr) = listens() {
            return Ok(Server { addr, pid: process.pid(), _process: process });
        }
        let late = process.ends_within(LOOK_AGAIN) || Instant::now() >= deadline;
        ensure(!late, || process.complaint("does not listen"))?;
    }
}

/// The real `xfer serve`, its console and log in files.
pub fn xfer(bench: &Bench) -> Result<Server, Trouble> {
    let home = bench.scratch.home("xfer")?;
    let announced = home.join("listening");
    let mut serve = command(env!("CARGO_BIN_EXE_xfer"), &home);
    serve.arg("serve").arg(bench.scratch.files()).args(["-b", "127.0.0.1", "-p", "0"]);
    // Half-asked connections are to stay, all from one address, and at the end nobody waits for readers.
    serve.args(["--request-timeout", "300", "--max-conns-per-ip", "0", "--drain", "0"]);
    serve.stdout(File::create(&announced).doing("cannot make a file for the server")?);
    let process = Process::start(serve, home.join("console"))?;
    wait(process, || {
        let line = fs::read_to_string(&announced).ok()?;
        line.strip_prefix("listening on ")?.strip_suffix('\n')?.parse().ok()
    })
}

/// nginx as one would set it up for files: one worker, sendfile, files kept open, log as it is by default.
pub fn nginx(bench: &Bench) -> Result<Server, Trouble> {
    let program = bench.tools.need("nginx")?;
    let home = bench.scratch.home("nginx")?;
    let addr = free_port()?;
    let config = home.join("nginx.conf");
    fs::write(&config, nginx_config(bench, addr, &home)).doing("cannot write nginx.conf")?;
    let mut serve = command(program, &home);
    serve.arg("-e").arg(home.join("start.log")).arg("-c").arg(&config);
    let process = Process::start(serve, home.join("console"))?;
    let (master, mut worker) = (process.pid(), None);
    let server = wait(process, || {
        // The master listens before it has a worker.
        worker = Some(cost::child_of(master).ok()?);
        answers(addr)
    })?;
    Ok(Server { pid: worker.unwrap_or(master), ..server })
}

fn nginx_config(bench: &Bench, addr: SocketAddr, home: &Path) -> String {
    // Started as root, it would give its worker to another user, who may not read the files.
    let user = if rustix::process::getuid().is_root() { "user root;\n" } else { "" };
    let (home, files) = (home.display(), bench.scratch.files());
    let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let folders: String = folders.iter().map(|name| format!("  {name}_temp_path {home}/{name};\n")).collect();
    format!(
        "{user}daemon off;
worker_processes 1;
pid {home}/nginx.pid;
error_log {home}/error.log;
events {{ worker_connections {connections}; }}
http {{
{folders}  access_log {home}/access.log;
  default_type application/octet-stream;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000000;
  keepalive_timeout 300;
  client_header_timeout 300;
  open_file_cache max=20000 inactive=1h;
  open_file_cache_valid 60s;
  server {{ listen {addr} backlog=4096; root {files}; }}
}}
",
        connections = bench.descriptors.saturating_sub(200).min(20_000),
        files = files.display(),
    )
}

/// An rsync daemon with one module, `files`.
pub fn rsync(bench: &Bench) -> Result<Server, Trouble> {
    let program = bench.tools.need("rsync")?;
    let home = bench.scratch.home("rsync")?;
    let addr = free_port()?;
    let config = home.join("rsyncd.conf");
    // Started as root, it would read the files as nobody.
    let user = if rustix::process::getuid().is_root() { "uid = 0\ngid = 0\n" } else { "" };
    let (log, files) = (home.join("log"), bench.scratch.files());
    let (log, files) = (log.display(), files.display());
    let text = format!("use chroot = no\nlog file = {log}\n{user}[files]\npath = {files}\nread only = yes\n");
    fs::write(&config, text).doing("cannot write rsyncd.conf")?;
    let mut serve = command(program, &home);
    serve.args(["--daemon", "--no-detach", "--address=127.0.0.1"]).arg(format!("--port={}", addr.port()));
    serve.arg("--config").arg(&config);
    let process = Process::start(serve, home.join("console"))?;
    wait(process, || answers(addr))
}

/// What comes with Python.
pub fn python(bench: &Bench) -> Result<Server, Trouble> {
    let program = bench.tools.need("python3")?;
    let home = bench.scratch.home("python")?;
    let addr = free_port()?;
    let mut serve = command(program, &home);
    serve.args(["-m", "http.server", "--bind", "127.0.0.1", "--directory"]).arg(bench.scratch.files());
    serve.arg(addr.port().to_string());
    let process = Process::start(serve, home.join("console"))?;
    wait(process, || answers(addr))
}

/// The address, if somebody takes connections there.
fn answers(addr: SocketAddr) -> Option<SocketAddr> {
    TcpStream::connect(addr).ok().map(|_| addr)
}

/// A port that was free a moment ago, for servers that cannot pick one themselves.
fn free_port() -> Result<SocketAddr, Trouble> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).doing("cannot find a free port")?;
    listener.local_addr().doing("cannot find a free port")
}
