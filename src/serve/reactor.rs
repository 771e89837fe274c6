//! The one thread: readiness, turns, timers, signals, digest jobs and new connections, in passes that never wait.

use std::io::{self, ErrorKind, IsTerminal};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use log::Level;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook_mio::v1_0::Signals;
use slab::Slab;

use super::addresses::Shown;
use super::conn::{Conn, Context, TURN_BUDGET, Turn};
use super::digests::{Digests, Waiter};
use super::log_limit::{LogLimit, Shared};
use super::peers::{Admission, Noted, Peers, Source};
use super::reason::Reason;
use super::sandbox::Sandbox;
use super::status::Status;
use super::timers::Timers;
use super::turns::Turns;
use super::{End, ServeConfig, cannot_serve, identity, open_root, private_log};
use crate::error::{Error, ExitCode, reason};
use crate::logging::Logs;
use crate::net::{self, Transport};
use crate::pages::Pages;
use crate::root::{Root, Shared as SharedPath};
use crate::signals;
use crate::text;

const LISTENER: Token = Token(usize::MAX);
const SIGNALS: Token = Token(usize::MAX - 1);

/// Signals that say something to the server, as far as they are not ignored.
const SIGNALS_WANTED: [i32; 4] = [SIGINT, SIGTERM, SIGHUP, SIGUSR1];

/// A token is a slab key below, and above the generation that tells a new connection from an old one under its key.
const KEY_BITS: u32 = usize::BITS / 2;
const KEY_MASK: usize = (1 << KEY_BITS) - 1;

/// Readiness events taken in one poll.
const EVENTS_MAX: usize = 1024;

/// Polls in a row that may fail before the server ends: one alone is a moment's trouble, and no reason to drop everybody.
/// Linux knows no reason at all for one to fail that has the right arguments, but for a signal (epoll_wait(2)).
const POLL_FAILURES_MAX: u32 = 100;

/// Connections accepted in one pass at most, so that a storm of them does not hold up those who are being served.
const ACCEPTS_MAX: usize = 64;

/// The same while somebody is being served: passes are short then, and accepting takes about a tenth of them.
const ACCEPTS_BUSY_MAX: usize = 4;

/// Turns go before digest jobs, but those get a quarter of a busy thread: one slice of them after so much of turns.
const TURNS_SLICE: Duration = Duration::from_millis(3);
const DIGEST_SLICE: Duration = Duration::from_millis(1);

/// After so much of turns in one pass, those who have asked meanwhile are looked for: that takes a fraction of a turn.
const PASS_SLICE: Duration = Duration::from_micros(200);

/// Deadlines are seconds ahead, and may be met this much later. 64 words of slots are 66 s, a little more than an idle
/// connection lives.
const DEADLINE_TICK: Duration = Duration::from_millis(16);
const DEADLINE_WORDS: usize = 64;

/// Pauses for the disk are 1 to 8 ms, of which this is half the shortest.
const PAUSE_TICK: Duration = Duration::from_micros(500);

/// How long the listener rests when it cannot accept, unless a connection ends before.
const REST: Duration = Duration::from_secs(1);

/// How often a console that takes no bytes is looked at.
const CONSOLE_RETRY: Duration = Duration::from_millis(100);

/// How long log lines wait at most while there is always something to do.
const LOG_PAUSE: Duration = Duration::from_millis(20);

/// Descriptors kept for log, root, epoll, signals, standard streams and what libraries open.
const RESERVED_DESCRIPTORS: usize = 64;

/// How long nothing is accepted where all that one pass accepted had gone: no peer does that on Linux, but a filter of
/// system calls can, and for ever.
const GONE_PAUSE: Duration = Duration::from_millis(10);

/// How often the log is told that the listener rests: with a connection that comes and goes at the limit it would rest
/// thousands of times a second.
const RESTS_PAUSE: Duration = Duration::from_secs(10);

/// Bytes read from a peer at a time.
const SCRATCH_LEN: usize = 16 * 1024;

/// The server's event loop.
pub struct Reactor<'a> {
    config: &'a ServeConfig,
    shared: &'a SharedPath,
    /// The real path of what is shared, when it was opened last.
    real_path: PathBuf,
    /// Where it listens, or has listened.
    address: SocketAddr,
    logs: &'a Logs,
    poll: Poll,
    signals: Signals,
    listener: Option<Listener>,
    root: Root,
    digests: Digests,
    conns: Slab<Entry>,
    /// Who has something to do.
    queue: Turns,
    peers: Peers,
    /// Connections that were closed at once.
    turned_away: Shared,
    log_limit: LogLimit,
    /// Connections that were given nothing, and have no lines of their own.
    unlogged: Shared,
    timers: Timers,
    /// Who waits for the disk, for milliseconds.
    pauses: Timers,
    /// Time that turns have taken since the last slice of the digest jobs.
    turns_took: Duration,
    /// When log lines are to be written, whatever else there is to do.
    logs_due: Instant,
    scratch: Pages,
    /// Frames that a turn gathers.
    gathered: Vec<u8>,
    /// Memory that one connection's input leaves to the next.
    spare: Vec<u8>,
    now: Instant,
    /// Connections accepted so far; also numbers them and their generations.
    accepted: u64,
    totals: Totals,
    stopping: Option<Stopping>,
    /// Descriptors that connections and files may use.
    descriptors: usize,
    /// Shared with each served file that is open.
    open_files: Rc<()>,
    /// What the server has given up; nothing before it runs.
    sandbox: Option<Sandbox>,
    /// Whether the console is a terminal; asked once, since one that has gone says no.
    on_terminal: bool,
}

struct Listener {
    socket: TcpListener,
    /// Whether somebody may wait to be accepted: no edge tells again.
    is_ready: bool,
    resting_until: Option<Instant>,
    /// Whether the log knows that it rests, and when it may hear so again.
    said: bool,
    says_again: Option<Instant>,
}

struct Entry {
    conn: Conn<TcpStream>,
    token: Token,
    source: Source,
    /// Whether it is served, and not only told that its address has too many.
    is_served: bool,
    is_queued: bool,
    /// The earliest timer set for it.
    timer: Option<Instant>,
    /// Whether a pause is set for it: an edge in between sets no second one.
    is_paused: bool,
    /// The time under which it was last noted as idle.
    idle_since: Option<Instant>,
}

/// A connection with nothing to do costs no more than this in the slab. (nginx: some 5.5 KiB in all.)
const _: () = assert!(size_of::<Entry>() <= 520);

struct Totals {
    since: Instant,
    replies: u64,
    bytes: u64,
}

struct Stopping {
    deadline: Instant,
    /// A second signal came.
    cut: bool,
}

impl<'a> Reactor<'a> {
    /// Puts everything in place, so that from here on connections are taken.
    pub fn new(
        config: &'a ServeConfig,
        shared: &'a SharedPath,
        logs: &'a Logs,
        mut socket: TcpListener,
        address: SocketAddr,
        descriptors: usize,
    ) -> Result<Reactor<'a>, Error> {
        let failed = |error: io::Error| {
            Error::new(ExitCode::Refused, format!("cannot set up the event loop: {}", reason(&error)))
        };
        let poll = Poll::new().map_err(failed)?;
        let mut signals = Signals::new(heard_signals()).map_err(failed)?;
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE).map_err(failed)?;
        poll.registry().register(&mut socket, LISTENER, Interest::READABLE).map_err(failed)?;
        let open_files = Rc::new(());
        let root = open_root(config, shared, private_log(config, logs), &open_files)
            .map_err(|error| cannot_serve(config, &error))?;
        let now = Instant::now();
        let descriptors = descriptors.saturating_sub(RESERVED_DESCRIPTORS.min(descriptors / 4));
        let max_conns = config.limits.max_conns.min(descriptors / 2);
        Ok(Reactor {
            config,
            shared,
            real_path: shared.real_path(),
            address,
            logs,
            poll,
            signals,
            listener: Some(Listener { socket, is_ready: false, resting_until: None, said: false, says_again: None }),
            root,
            digests: Digests::default(),
            conns: Slab::new(),
            queue: Turns::default(),
            peers: Peers::new(config.limits.max_conns_per_ip.most(max_conns)),
            turned_away: Shared::default(),
            log_limit: LogLimit::new(now),
            unlogged: Shared::default(),
            timers: Timers::new(DEADLINE_WORDS, DEADLINE_TICK, now),
            pauses: Timers::new(1, PAUSE_TICK, now),
            turns_took: Duration::ZERO,
            logs_due: now,
            scratch: Pages::new(SCRATCH_LEN),
            gathered: Vec::new(),
            spare: Vec::new(),
            now,
            accepted: 0,
            totals: Totals { since: now, replies: 0, bytes: 0 },
            stopping: None,
            descriptors,
            open_files,
            sandbox: None,
            on_terminal: io::stderr().is_terminal(),
        })
    }

    /// Serves until a signal ends it.
    pub fn run(mut self, sandbox: Sandbox) -> Result<End, Error> {
        self.sandbox = Some(sandbox);
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut failures = 0;
        loop {
            let timeout = self.timeout();
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    failures += 1;
                    if failures == POLL_FAILURES_MAX {
                        let why = format!("cannot wait for events: {}", reason(&error));
                        return Err(Error::new(ExitCode::Refused, why));
                    }
                }
                _ => failures = 0,
            }
            self.now = Instant::now();
            self.take_events(&events);
            self.fire_timers();
            self.log_shared();
            self.root.close_old(self.now);
            self.run_turns();
            self.run_digests();
            self.accept();
            let end = self.end();
            self.write_logs();
            if let Some(end) = end {
                return Ok(end);
            }
        }
    }

    /// How long the next poll may wait: not at all while anything can go on.
    fn timeout(&self) -> Option<Duration> {
        if !self.queue.is_empty() {
            return Some(Duration::ZERO);
        }
        let accept = self.listener.as_ref().filter(|listener| listener.is_ready);
        let times = [
            self.timers.next_at(),
            self.pauses.next_at(),
            self.digests.next_at(self.now),
            self.root.next_at(),
            accept.map(|listener| listener.resting_until.unwrap_or(self.now)),
            self.stopping.as_ref().map(|stopping| stopping.deadline),
            self.turned_away.next_at(),
            self.unlogged.next_at(),
            self.logs.is_waiting().then(|| self.now + CONSOLE_RETRY),
        ];
        times.into_iter().flatten().min().map(|at| at.saturating_duration_since(Instant::now()))
    }

    fn take_events(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                LISTENER => {
                    if let Some(listener) = &mut self.listener {
                        listener.is_ready = true;
                    }
                }
                SIGNALS => self.take_signals(),
                token => self.enqueue(token),
            }
        }
    }

    /// Gives a connection a turn in this or the next pass. A token of one that has ended means nobody.
    fn enqueue(&mut self, token: Token) {
        if let Some(entry) = self.entry(token)
            && !entry.is_queued
        {
            entry.is_queued = true;
            let asks = entry.conn.awaits_request();
            self.queue.push(token, asks);
        }
    }

    fn entry(&mut self, token: Token) -> Option<&mut Entry> {
        self.conns.get_mut(token.0 & KEY_MASK).filter(|entry| entry.token == token)
    }

    fn fire_timers(&mut self) {
        while let Some((_, who)) = self.pauses.pop_due(self.now) {
            let token = Token(who);
            if let Some(entry) = self.entry(token) {
                entry.is_paused = false;
            }
            self.enqueue(token);
        }
        while let Some((at, who)) = self.timers.pop_due(self.now) {
            let token = Token(who);
            if let Some(entry) = self.entry(token)
                && entry.timer == Some(at)
            {
                entry.timer = None;
                self.enqueue(token);
            }
        }
    }

    /// One turn for everybody who is queued now, as far as the slice goes.
    fn run_turns(&mut self) {
        let mut took = Duration::ZERO;
        for _ in 0..self.queue.len() {
            let Some(token) = self.queue.pop() else { break };
            self.turn(token);
            took = self.now.elapsed();
            if took >= PASS_SLICE {
                break;
            }
        }
        self.turns_took += took;
    }

    fn turn(&mut self, token: Token) {
        let Some(entry) = self.conns.get_mut(token.0 & KEY_MASK).filter(|entry| entry.token == token) else { return };
        entry.is_queued = false;
        let mut context = Context {
            now: self.now,
            me: Waiter(token.0),
            source: entry.source,
            root: &mut self.root,
            digests: &mut self.digests,
            limits: &self.config.limits,
            log_limit: &mut self.log_limit,
            scratch: &mut self.scratch,
            gathered: &mut self.gathered,
            spare: &mut self.spare,
            budget: TURN_BUDGET,
            stopping: self.stopping.is_some(),
        };
        match entry.conn.turn(&mut context) {
            Turn::Wait(until) => {
                let idle = entry.conn.idle_since().filter(|since| entry.idle_since.replace(*since) != Some(*since));
                if entry.timer.is_none_or(|timer| until < timer) {
                    entry.timer = Some(until);
                    self.timers.set(until, token.0);
                    self.sweep_timers();
                }
                if let Some(since) = idle {
                    self.note_idle(since, token);
                }
            }
            Turn::Pause(until) => {
                if !std::mem::replace(&mut entry.is_paused, true) {
                    self.pauses.set(until, token.0);
                }
            }
            Turn::Yield => {
                entry.is_queued = true;
                self.queue.push(token, false);
            }
            Turn::Close(reason) => self.close(token, reason),
        }
    }

    fn close(&mut self, token: Token, reason: Reason) {
        if self.entry(token).is_none() {
            return;
        }
        let Entry { mut conn, source, is_served, .. } = self.conns.remove(token.0 & KEY_MASK);
        self.peers.remove(source, is_served);
        self.totals.replies += conn.replies;
        self.totals.bytes += conn.bytes;
        if !conn.is_announced() {
            match self.log_limit.take(self.now) {
                true => conn.announce(),
                false => self.unlogged.add(conn.peer(), self.now),
            }
        }
        let limits = &self.config.limits;
        conn.close(reason, limits, &mut self.digests, &mut self.log_limit, Waiter(token.0), self.now);
        self.sweep_timers();
        if let Some(listener) = &mut self.listener {
            listener.resting_until = None;
        }
    }

    /// Forgets the deadlines of connections that have ended, or have an earlier one.
    fn sweep_timers(&mut self) {
        let conns = &self.conns;
        self.timers.sweep(conns.len(), |at, who| {
            conns.get(who & KEY_MASK).is_some_and(|entry| entry.token.0 == who && entry.timer == Some(at))
        });
    }

    /// Remembers an idle connection.
    fn note_idle(&mut self, since: Instant, token: Token) {
        let Some(source) = self.entry(token).map(|entry| entry.source) else { return };
        let conns = &self.conns;
        self.peers.note_idle(source, (since, token), conns.len(), |noted| can_go(conns, noted));
        // It can make room now.
        if let Some(listener) = &mut self.listener {
            listener.resting_until = None;
        }
    }

    /// The connection that makes room for one that is served, if there is one.
    fn makes_room(&mut self) -> Option<Token> {
        self.peers.makes_room(|noted| can_go(&self.conns, noted))
    }

    /// Closes that connection.
    fn make_room(&mut self) -> bool {
        let Some(token) = self.makes_room() else { return false };
        self.close(token, Reason::MadeRoom);
        true
    }

    /// A slice for the digest jobs: while nobody has a turn, or when it is theirs.
    fn run_digests(&mut self) {
        if !self.queue.is_empty() && self.turns_took < TURNS_SLICE {
            return;
        }
        self.turns_took = Duration::ZERO;
        for finished in self.digests.run(DIGEST_SLICE, Instant::now) {
            for Waiter(who) in finished.waiters {
                if let Some(entry) = self.entry(Token(who)) {
                    entry.conn.digest_done(&finished.outcome);
                    self.enqueue(Token(who));
                }
            }
        }
    }

    /// Writes the log lines out before there is nothing to do, and sometimes while there is: a line costs a fraction of
    /// the system call that writes it.
    fn write_logs(&mut self) {
        if self.queue.is_empty() || self.now >= self.logs_due || self.logs.are_filling() || self.stopping.is_some() {
            self.logs.flush();
            self.logs_due = self.now + LOG_PAUSE;
        }
    }

    /// Takes new connections, after those that we have got their turns.
    fn accept(&mut self) {
        let most = if self.queue.is_empty() { ACCEPTS_MAX } else { ACCEPTS_BUSY_MAX };
        let mut gone = 0;
        for _ in 0..most {
            let has_room = self.has_room_for(1) || self.makes_room().is_some();
            let Some(listener) = &mut self.listener else { return };
            if !listener.is_ready || listener.resting_until.is_some_and(|until| self.now < until) {
                return;
            }
            if !has_room && !net::has_pending(&listener.socket) {
                listener.is_ready = false;
                return;
            }
            if !has_room {
                return listener.rest(self.now, Level::Warn, "as many connections are open as the limits allow");
            }
            match listener.socket.accept() {
                Ok((stream, peer)) => self.admit(stream, net::canonical(peer)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    listener.is_ready = false;
                    listener.resting_until = None;
                    listener.said = false;
                    return;
                }
                // The next one may be there.
                Err(error) if has_gone(&error) => gone += 1,
                // Out of descriptors or memory, mostly, which may come back (accept(2)).
                Err(error) => {
                    let why = reason(&error);
                    if !is_out_of_descriptors(&error) || !(self.root.close_kept() || self.make_room()) {
                        return self.rest(&why);
                    }
                }
            }
        }
        if let Some(listener) = &mut self.listener
            && gone == most
        {
            listener.resting_until = Some(self.now + GONE_PAUSE);
        }
    }

    fn rest(&mut self, why: &str) {
        if let Some(listener) = &mut self.listener {
            listener.rest(self.now, Level::Error, why);
        }
    }

    /// Whether there is room for so many more connections, each with its file.
    fn has_room_for(&mut self, more: usize) -> bool {
        self.conns.len() + more <= self.config.limits.max_conns.min(KEY_MASK - 1)
            && (self.has_descriptors_for(more) || self.root.close_kept() && self.has_descriptors_for(more))
    }

    fn has_descriptors_for(&self, more: usize) -> bool {
        // One share of the counter is ours.
        let used = self.conns.len() + Rc::strong_count(&self.open_files) - 1;
        used + 2 * more <= self.descriptors
    }

    /// Serves a new connection, unless its address has as many as it may.
    fn admit(&mut self, stream: TcpStream, peer: SocketAddr) {
        let source = Source::of(peer.ip());
        // Its own idle connections go first, and never anybody else's for one that is refused.
        if self.peers.is_full(source)
            && let Some(token) = self.peers.oldest_idle(source, |noted| can_go(&self.conns, noted))
        {
            self.close(token, Reason::MadeRoom);
        }
        match self.peers.admit(source, self.now) {
            Admission::Served => {
                // Only for somebody who is there; that it is one more for a moment is what the reserve allows.
                while !self.has_room_for(1) && self.make_room() {}
                self.open(stream, peer, source, true);
            }
            // A place stays for somebody else.
            Admission::Told if self.has_room_for(2) => self.open(stream, peer, source, false),
            Admission::Told | Admission::TurnedAway => self.turn_away(stream, peer),
        }
    }

    /// Closes a connection without a word. A reset leaves nothing of it in the kernel, where a close would leave its
    /// remains for a minute.
    fn turn_away(&mut self, mut stream: TcpStream, peer: SocketAddr) {
        stream.abort();
        self.turned_away.add(peer, self.now);
    }

    /// Writes the lines for connections that have none of their own, when they are due.
    fn log_shared(&mut self) {
        let (turned_away, unlogged) = (self.turned_away.take_due(self.now), self.unlogged.take_due(self.now));
        self.log_counts(turned_away, unlogged);
    }

    fn log_counts(&self, turned_away: Option<(u64, SocketAddr)>, unlogged: Option<(u64, SocketAddr)>) {
        let conns = |count| text::count(count, "connection", "connections");
        if let Some((count, last)) = turned_away {
            let (closed, most) = (conns(count), self.peers.most());
            let last = Shown(last);
            log::warn!(target: "main", "closed {closed} immediately, the last from {last}: an address can have at most {most} (--max-conns-per-ip)");
        }
        if let Some((count, last)) = unlogged {
            let (closed, last) = (conns(count), Shown(last));
            log::warn!(target: "main", "omitted the lines of {closed}, the last from {last}: too many connections were sent little or nothing");
        }
    }

    fn open(&mut self, mut stream: TcpStream, peer: SocketAddr, source: Source, is_served: bool) {
        self.accepted += 1;
        let vacant = self.conns.vacant_entry();
        // Generations may repeat after 2^32 connections (2^16 on 32-bit machines): no event is that old.
        let generation = (self.accepted as usize) & KEY_MASK;
        let token = Token(generation << KEY_BITS | vacant.key());
        // Both directions, once and for all: edges are remembered by the queue.
        if let Err(error) = self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE) {
            if self.log_limit.take(self.now) {
                log::error!(target: "main", "cannot accept a connection from {}: {}", Shown(peer), reason(&error));
            }
            return;
        }
        net::prepare(&stream);
        let mut conn = match is_served {
            true => Conn::new(stream, peer, self.accepted, self.now),
            false => {
                // A limit is above 0, and one beyond a u32 is never reached.
                let most = u32::try_from(self.peers.most()).ok().and_then(NonZeroU32::new);
                Conn::one_too_many(stream, peer, self.accepted, self.now, most.unwrap_or(NonZeroU32::MAX))
            }
        };
        if self.log_limit.take(self.now) {
            conn.announce();
        }
        let (timer, idle_since) = (None, None);
        vacant.insert(Entry { conn, token, source, is_served, is_queued: false, timer, is_paused: false, idle_since });
        self.peers.add(source, is_served);
        if !is_served {
            let conns = &self.conns;
            self.peers.note_told((self.now, token), conns.len(), |noted| can_go(conns, noted));
        }
        self.enqueue(token);
    }

    fn take_signals(&mut self) {
        let pending: Vec<i32> = self.signals.pending().collect();
        for signal in pending {
            match signal {
                SIGUSR1 => self.log_status(),
                // The terminal is gone. Elsewhere the signal is how log rotation and releases call.
                SIGHUP if !self.on_terminal => self.reload(),
                signal => self.stop(signal),
            }
        }
    }

    /// How long the server has run.
    fn up(&self) -> Duration {
        self.now.duration_since(self.totals.since)
    }

    /// Logs what the server does as a whole, and then each transfer, as far as there are few.
    fn log_status(&self) {
        let mut status = Status::of_none(self.totals.bytes);
        self.conns.iter().for_each(|(key, entry)| status.add(key, &entry.conn));
        log::info!(
            target: "main",
            "status: {} ({}), {} sent, {}, up {}, sharing {}",
            text::count(self.conns.len() as u64, "connection", "connections"),
            status.activities(),
            text::size(status.bytes),
            text::count(self.digests.len() as u64, "digest job", "digest jobs"),
            text::duration(self.up()),
            self.shared.described(&self.real_path),
        );
        let (shown, more) = status.transfers(|key| Some(self.conns.get(key)?.conn.peer().ip()));
        for entry in shown.into_iter().filter_map(|key| self.conns.get(key)) {
            entry.conn.log_activity(&self.digests, Waiter(entry.token.0), self.now);
        }
        if let Some(more) = more {
            log::info!(target: "main", "{more}");
        }
    }

    /// Opens the log file and what is shared again. The first line of the new log says what the server is, like that of a
    /// start: the other one is in a log that was rotated away.
    fn reload(&mut self) {
        // What is opened again may need their descriptors.
        self.root.close_kept();
        let log = self.logs.reopen();
        let now = self.shared.real_path();
        let lets_in = self.sandbox.as_ref().map_or(Ok(()), |sandbox| sandbox.lets_in(&self.shared.dir));
        let root = lets_in
            .and_then(|()| open_root(self.config, self.shared, private_log(self.config, self.logs), &self.open_files));
        let is_elsewhere = now != self.real_path;
        let root = root.map(|root| {
            self.root = root;
            self.real_path.clone_from(&now);
        });
        let shared = self.shared.described(&self.real_path);
        log::info!(target: "main", "{}", identity(Some(self.up()), &shared, self.address));
        self.log_reopened(log);
        match root {
            Ok(()) => log::info!(target: "main", "reopened {shared}"),
            Err(error) => {
                let now = if is_elsewhere { format!(" (now {})", text::path(&now)) } else { String::new() };
                let (path, why) = (text::path(&self.config.path), reason(&error));
                log::error!(target: "main", "cannot share {path}{now}: {why}; still sharing {shared}");
            }
        }
    }

    fn log_reopened(&self, outcome: Result<(), Error>) {
        let path = self.logs.path();
        match outcome {
            Ok(()) => {
                if let Some(path) = path {
                    log::info!(target: "main", "reopened the log file {}", text::path(&path));
                }
            }
            Err(error) => {
                let log = path.unwrap_or_default();
                let advice = self.sandbox.as_ref().map_or("", |sandbox| sandbox.advice_for_log(&log));
                log::error!(target: "main", "{error}{advice}; continuing with the old one");
            }
        }
    }

    /// The first signal lets running replies finish; the second does not.
    fn stop(&mut self, signal: i32) {
        let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
        if let Some(stopping) = &mut self.stopping {
            if !std::mem::replace(&mut stopping.cut, true) {
                log::info!(target: "main", "stopping at once: {name}, the second signal");
            }
            return;
        }
        self.listener = None;
        let drain = self.config.limits.drain;
        self.stopping = Some(Stopping { deadline: self.now + drain, cut: false });
        for (token, reason) in self.each(Conn::reason_to_stop) {
            match reason {
                // A last look: what has been asked whole gets an answer, and the rest ends in this turn.
                Reason::Shutdown => self.turn(token),
                reason => self.close(token, reason),
            }
        }
        let transfers = text::count(self.conns.len() as u64, "transfer", "transfers");
        let rest = match (self.conns.len(), drain.is_zero()) {
            (0, _) => String::new(),
            (_, true) => format!("; cutting off {transfers}"),
            _ => {
                let seconds = drain.as_secs_f64();
                format!("; finishing {transfers} within {seconds} s; a second signal stops at once")
            }
        };
        log::info!(target: "main", "stopping: {name}{rest}");
    }

    /// The connections for which there is a reason to close.
    fn each(&self, reason: impl Fn(&Conn<TcpStream>) -> Option<Reason>) -> Vec<(Token, Reason)> {
        self.conns.iter().filter_map(|(_, entry)| Some((entry.token, reason(&entry.conn)?))).collect()
    }

    /// Whether this pass was the last.
    fn end(&mut self) -> Option<End> {
        let stopping = self.stopping.as_ref()?;
        let (end, reason) = match stopping {
            Stopping { cut: true, .. } => (End::Cut, Reason::Shutdown),
            Stopping { deadline, .. } if self.now >= *deadline => (End::Drained, Reason::DrainTimeout),
            _ if self.conns.is_empty() => (End::Drained, Reason::Shutdown),
            _ => return None,
        };
        for (token, reason) in self.each(|conn| conn.reason_to_stop().or(Some(reason))) {
            self.close(token, reason);
        }
        let (turned_away, unlogged) = (self.turned_away.take(), self.unlogged.take());
        self.log_counts(turned_away, unlogged);
        log::info!(
            target: "main",
            "stopped: {}, {}, {} sent, up {}",
            text::count(self.accepted, "connection", "connections"),
            text::count(self.totals.replies, "reply", "replies"),
            text::size(self.totals.bytes),
            text::duration(self.up()),
        );
        Some(end)
    }
}

/// The signals that the server hears; the log is told of those that it must not.
fn heard_signals() -> Vec<i32> {
    let heard = signals::not_ignored(&SIGNALS_WANTED);
    let ignored = SIGNALS_WANTED.iter().filter(|signal| !heard.contains(signal));
    let ignored: Vec<&str> = ignored.filter_map(|signal| signal_hook::low_level::signal_name(*signal)).collect();
    if !ignored.is_empty() {
        let (names, was, stays) = match ignored.len() {
            1 => (ignored.join(", "), "was", "stays"),
            _ => (ignored.join(", "), "were", "stay"),
        };
        log::info!(target: "main", "{names} {was} ignored at the start (as by nohup, or '&' in a script) and {stays} ignored");
    }
    heard
}

/// Whether a connection is still as it was noted: idle since then, or only told that its address has too many.
fn can_go(conns: &Slab<Entry>, (since, token): Noted) -> bool {
    let entry = conns.get(token.0 & KEY_MASK).filter(|entry| entry.token == token);
    entry.is_some_and(|entry| !entry.is_served || entry.conn.idle_since() == Some(since))
}

/// Whether accepting failed for one peer alone, who gave up before we came, or for a signal. (accept(2) names errors of
/// the network among them.)
fn has_gone(error: &io::Error) -> bool {
    use ErrorKind::{ConnectionAborted, HostUnreachable, Interrupted, NetworkDown, NetworkUnreachable};
    let is_network = matches!(error.kind(), HostUnreachable | NetworkDown | NetworkUnreachable);
    is_network
        || matches!(error.kind(), ConnectionAborted | Interrupted)
        || error.raw_os_error() == Some(Errno::PROTO.raw_os_error())
}

/// Whether descriptors are lacking, of this process or of the system.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

impl Listener {
    /// Accepts nothing for a while; says so once for as long as it lasts.
    fn rest(&mut self, now: Instant, level: Level, why: &str) {
        self.resting_until = Some(now + REST);
        if !self.said && self.says_again.is_none_or(|at| now >= at) {
            (self.said, self.says_again) = (true, Some(now + RESTS_PAUSE));
            log::log!(target: "main", level, "not accepting connections for now: {why}");
        }
    }
}
