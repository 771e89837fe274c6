//! The one place where the client waits: for its socket, its workers, a time, or a signal.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Registry, Token, Waker};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook_mio::v1_0::Signals;

use super::clock;
use super::lines::Lines;
use super::progress::Progress;
use crate::error::{Error, ExitCode, reason};
use crate::logging::Logs;
use crate::signals;
#[cfg(test)]
use crate::simulation::machine;

const SIGNALS: Token = Token(0);
const WAKER: Token = Token(1);
/// What a connection registers as.
pub const SOCKET: Token = Token(2);

/// How long a signal lets the disk take what is on its way to it.
pub const SIGNAL_GRACE: Duration = Duration::from_millis(300);

/// How often a loop that may go on without waiting looks for a signal. A look is a system call and prints the lines that
/// wait: half of what a small file costs. (A person takes 100 ms for at once.)
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Why a file, or one attempt at it, is given up.
#[derive(Debug)]
pub enum Stop {
    /// The network or the server failed in a way that may pass; why, and whether there was a connection at all.
    Again {
        /// The middle of an error line.
        why: String,
        /// What to check, said once in a run.
        hint: Option<&'static str>,
        /// Whether the server answered the connection.
        connected: bool,
    },
    /// All bytes came, and their digest is wrong; the middle of an error line.
    Mismatch(String),
    /// What an earlier run has left on this disk is not what was written, and why; without it the next attempt may succeed.
    PartUnusable(String),
    /// The server speaks another protocol; the end of an error line.
    WrongServer(String),
    /// Nothing that another attempt would change.
    Final(Error),
    /// A signal asks us to end.
    Signal(u8),
}

impl Stop {
    /// A failure of a connection that was there.
    pub fn again(why: impl Into<String>) -> Stop {
        Stop::Again { why: why.into(), hint: None, connected: true }
    }

    /// Bytes that no server of this protocol sends.
    pub fn protocol(message: impl Into<String>) -> Stop {
        Stop::Final(Error::new(ExitCode::Integrity, message))
    }

    /// A failure of this machine.
    pub fn local(message: impl Into<String>) -> Stop {
        Stop::Final(Error::new(ExitCode::Local, message))
    }

    /// Whether other files cannot be had from this host either.
    pub fn host_is_dead(&self) -> bool {
        match self {
            Stop::Again { connected, .. } => !connected,
            Stop::Final(error) => error.exit == ExitCode::Network,
            Stop::Mismatch(_) | Stop::PartUnusable(_) | Stop::WrongServer(_) | Stop::Signal(_) => false,
        }
    }

    /// The error that ends a file.
    pub fn into_error(self) -> Error {
        match self {
            Stop::Again { why, .. } => Error::new(ExitCode::Network, why),
            Stop::Mismatch(why) | Stop::WrongServer(why) => Error::new(ExitCode::Integrity, why),
            Stop::PartUnusable(why) => Error::new(ExitCode::Local, why),
            Stop::Final(error) => error,
            Stop::Signal(signal) => Error::new(ExitCode::Signal(signal), format!("stopped by {}", signal_name(signal))),
        }
    }
}

/// A signal as people know it.
pub fn signal_name(signal: u8) -> &'static str {
    match i32::from(signal) {
        SIGINT => "Ctrl-C (SIGINT)",
        SIGTERM => "SIGTERM",
        SIGHUP => "SIGHUP",
        _ => "a signal",
    }
}

/// The client's poll.
pub struct Waits {
    poll: Poll,
    events: Events,
    signals: Signals,
    waker: Arc<Waker>,
    /// While this is set, a signal ends the process at once, as if it were not caught.
    dies_of_signals: Arc<AtomicBool>,
    logs: Logs,
    lines: Lines,
    /// What goes on being shown while nothing happens.
    progress: Option<Progress>,
    signal: Option<u8>,
    /// When it was last looked for a signal.
    looked: Instant,
}

impl Waits {
    /// Sets up the poll, and catches SIGINT, SIGTERM, SIGHUP and SIGUSR1 as far as they are not ignored (nohup(1)).
    pub fn new(logs: Logs) -> Result<Waits, Error> {
        #[cfg(test)]
        if machine::is_simulated() {
            return Ok(Waits::for_test());
        }
        let failed =
            |error: io::Error| Error::new(ExitCode::Local, format!("cannot set up the event loop: {}", reason(&error)));
        let poll = Poll::new().map_err(failed)?;
        let caught = signals::not_ignored(&[SIGINT, SIGTERM, SIGHUP]);
        let dies_of_signals = Arc::default();
        for signal in &caught {
            let condition: Arc<AtomicBool> = Arc::clone(&dies_of_signals);
            signal_hook::flag::register_conditional_default(*signal, condition).map_err(failed)?;
        }
        let asking = signals::not_ignored(&[SIGUSR1]);
        let mut signals = Signals::new(caught.iter().chain(&asking)).map_err(failed)?;
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE).map_err(failed)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(failed)?);
        Ok(Waits {
            poll,
            events: Events::with_capacity(16),
            signals,
            waker,
            dies_of_signals,
            logs,
            lines: Lines::default(),
            progress: None,
            signal: None,
            looked: clock::now(),
        })
    }

    /// Where a connection registers, as [`SOCKET`].
    pub fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// What a worker calls when it has done something.
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// What is set while the main thread does what it cannot be called away from: signals end the process at once then.
    pub fn dies_of_signals(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.dies_of_signals)
    }

    /// Where lines go that are printed before the next wait.
    pub fn lines(&self) -> Lines {
        self.lines.clone()
    }

    /// Has this shown during each wait, and printed when SIGUSR1 asks for it.
    pub fn show(&mut self, progress: Progress) {
        self.progress = Some(progress);
    }

    /// Writes out the lines that are gathered, as every wait does: what comes next may take long.
    pub fn flush(&self) {
        self.logs.flush();
        self.lines.flush();
    }

    /// Waits until something may have changed, or until this time. A signal ends all waiting from now on.
    pub fn wait(&mut self, until: Option<Instant>) -> Result<(), Stop> {
        self.flush();
        if let Some(signal) = self.signal {
            return Err(Stop::Signal(signal));
        }
        #[cfg(test)]
        if machine::is_simulated() {
            self.signal = machine::wait(until);
            self.looked = clock::now();
            return self.signal.map_or(Ok(()), |signal| Err(Stop::Signal(signal)));
        }
        self.looked = clock::now();
        let tick = self.progress.as_ref().and_then(Progress::next_tick);
        // Whoever waits looks again, and waits on.
        let until = [until, tick].into_iter().flatten().min();
        let timeout = until.map(|until| until.saturating_duration_since(self.looked));
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                return Err(Stop::local(format!("cannot wait for events: {}", reason(&error))));
            }
            _ => {}
        }
        if self.events.iter().any(|event| event.token() == SIGNALS) {
            self.take_signals();
        }
        if let Some(progress) = &self.progress {
            progress.tick();
        }
        match self.signal {
            Some(signal) => Err(Stop::Signal(signal)),
            None => Ok(()),
        }
    }

    fn take_signals(&mut self) {
        let mut is_asked = false;
        for signal in self.signals.pending() {
            match signal {
                SIGUSR1 => is_asked = true,
                // The numbers of the others are below 16.
                signal => self.signal = self.signal.or(u8::try_from(signal).ok()),
            }
        }
        if let Some(progress) = self.progress.as_ref().filter(|_| is_asked) {
            progress.report();
        }
    }

    /// Whether a signal has come, without waiting.
    pub fn check(&mut self) -> Result<(), Stop> {
        self.wait(Some(clock::now()))
    }

    /// The same, but not each time: for every loop that may go on without waiting.
    pub fn glance(&mut self) -> Result<(), Stop> {
        if clock::since(self.looked) < LOOK_EVERY {
            return Ok(());
        }
        self.check()
    }
}

#[cfg(test)]
impl Waits {
    /// Hears of no signal but what a test sets: a real one would reach every test of the process.
    pub fn for_test() -> Waits {
        use crate::logging::{LogTarget, OnConsole, Verbosity};
        let logs = Logs::start("client", &LogTarget::Off, Verbosity::Quiet, OnConsole::DebugOnly);
        let poll = Poll::new().expect("a poll can be made");
        let waker = Waker::new(poll.registry(), WAKER).expect("a waker can be made");
        Waits {
            poll,
            events: Events::with_capacity(16),
            signals: Signals::new::<_, i32>([]).expect("no signal can be caught"),
            waker: Arc::new(waker),
            dies_of_signals: Arc::default(),
            logs: logs.expect("no log can be opened"),
            lines: Lines::default(),
            progress: None,
            signal: None,
            looked: clock::now(),
        }
    }

    /// As if this signal had come.
    pub fn set_signal(&mut self, signal: i32) {
        self.signal = u8::try_from(signal).ok();
    }
}
