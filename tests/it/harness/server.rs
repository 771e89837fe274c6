//! `xfer serve` running for a test, found by the line it prints.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::path::Path;

use rustix::process::Signal;

use super::logfile;
use super::program::{Outcome, Program, Running};
use super::scratch::Scratch;
use super::wait::wait_for_some;

/// `xfer serve` of the shared directory on a free port of the loopback, logging to `server.log`.
pub fn serve(scratch: &Scratch) -> Program {
    serve_dir(scratch, &scratch.files())
}

/// The same of any directory of this machine.
pub fn serve_dir(scratch: &Scratch, dir: &Path) -> Program {
    Program::xfer(scratch)
        .arg("serve")
        .arg(dir)
        .args(["-p", "0", "-b", "127.0.0.1"])
        .log_file(scratch.path("server.log"))
}

pub struct Server {
    running: Running,
    pub addr: SocketAddr,
}

impl Server {
    pub fn of(scratch: &Scratch) -> Server {
        Server::start(serve(scratch))
    }

    /// Waits until it listens.
    pub fn start(program: Program) -> Server {
        let mut running = program.spawn();
        let line = wait_for_some("the line `listening on ADDR:PORT` on stdout", || {
            assert!(!running.has_ended(), "the server ended before it listened");
            let stdout = String::from_utf8(running.stdout()).unwrap();
            stdout.strip_suffix('\n').map(str::to_owned)
        });
        // An interface is shown by its name, which std does not parse; the loopback's number is 1 on every Linux.
        let addr = line.strip_prefix("listening on ").and_then(|addr| addr.replace("%lo]", "%1]").parse().ok());
        let mut addr: SocketAddr = addr.unwrap_or_else(|| panic!("not an address: {line:?}"));
        if addr.ip().is_unspecified() {
            addr.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        Server { running, addr }
    }

    /// Ends it with SIGTERM: it must exit 0, having printed and logged what it should and nothing else.
    pub fn stop(self) -> Outcome {
        let outcome = self.running.finish_after(Signal::TERM);
        outcome.exits(0);
        let stdout = String::from_utf8_lossy(&outcome.stdout);
        let one_line = stdout.lines().count() == 1 && stdout.starts_with("listening on ");
        outcome.assert(one_line, "stdout must be one line `listening on ADDR:PORT`");
        outcome.shows_no_control_characters();
        if !outcome.log.is_empty() {
            logfile::assert_each_connection_closed_once(&outcome.log);
        }
        outcome
    }

    /// Ends it with SIGTERM after a test in which nothing went wrong: then no warning was due either.
    pub fn stop_content(self) -> Outcome {
        let outcome = self.stop();
        let complaints = |text: &str| [" - WARN", " - ERROR", "xfer: "].iter().any(|sign| text.contains(sign));
        outcome.assert(!complaints(&outcome.stderr), "no complaint expected on stderr");
        outcome.assert(!complaints(&outcome.log), "no complaint expected in the log");
        outcome
    }

    /// Ends it with SIGTERM after a test in which peers were refused or cut: each of them is complained of, and nothing else.
    pub fn stop_blaming_peers(self) -> Outcome {
        let outcome = self.stop();
        for line in logfile::lines(&outcome.log) {
            let is_about_peer =
                ["refused ", "closed ", "cut ", "failed to send "].iter().any(|verb| line.message.starts_with(verb));
            let is_expected = line.level == "INFO" || line.level == "WARN" && is_about_peer;
            outcome.assert(is_expected, &format!("no other complaint expected in the log: {line:?}"));
        }
        outcome
    }

    pub fn into_running(self) -> Running {
        self.running
    }
}

impl Deref for Server {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}
