//! The server's connections and digest jobs among simulated peers and files, driven as the reactor drives them.

mod disk;
mod model;
mod peer;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{Chance, Dice, run};
use crate::serve::Limits;
use crate::serve::conn::{Conn, Context, TURN_BUDGET, Turn};
use crate::serve::digests::{Digests, Finished, Progress, UNWAITED_MAX, Waiter};
use crate::serve::log_limit::LogLimit;
use crate::serve::peers::Source;
use crate::serve::reason::Reason;
use disk::{Disk, Folder};
use model::End;
use peer::{Peer, Wire};

/// Turns in a row in which a connection may say that there is more to do, and move nothing.
const IDLE_YIELDS_MAX: u32 = 3;

/// Addresses that peers come from.
const ADDRESSES: u64 = 3;

/// Jumps of the time after which no connection and no job may be left, when peers do nothing any more: a dead disk ends
/// each of twelve requests after some 400 looks.
const JUMPS_MAX: u32 = 6000;

/// What the reactor is to its connections.
struct Server {
    chance: Dice,
    disk: Rc<RefCell<Disk>>,
    folder: Folder,
    digests: Digests,
    limits: Limits,
    log_limit: LogLimit,
    budget: usize,
    start: Instant,
    now: Instant,
    scratch: Vec<u8>,
    gathered: Vec<u8>,
    spare: Vec<u8>,
    conns: Vec<Entry>,
    accepted: usize,
    stops_at: Option<Instant>,
}

/// A connection, and what the reactor notes of it.
struct Entry {
    conn: Conn<Wire>,
    peer: Rc<RefCell<Peer>>,
    number: usize,
    source: Source,
    opened: Instant,
    is_queued: bool,
    /// Whether nothing but its deadline has come.
    is_only_late: bool,
    timer: Option<Instant>,
    pause: Option<Instant>,
    /// Turns in a row that moved nothing and ended with a yield, and what had moved before.
    yields: u32,
    moved: u64,
}

impl Server {
    fn new(chance: &Dice) -> Server {
        let disk = Rc::new(RefCell::new(Disk::new(chance)));
        let now = Instant::now();
        let budget = chance.with(|chance| *chance.pick(&[TURN_BUDGET, TURN_BUDGET, 200_000, 30_000]));
        Server {
            chance: chance.clone(),
            folder: Folder::new(&disk),
            disk,
            digests: Digests::default(),
            limits: Limits::default(),
            log_limit: LogLimit::new(now),
            budget,
            start: now,
            now,
            scratch: vec![0; 16 * 1024],
            gathered: Vec::new(),
            spare: Vec::new(),
            conns: Vec::new(),
            accepted: 0,
            stops_at: None,
        }
    }

    fn say(&self, what: impl FnOnce() -> String) {
        let at = self.now.duration_since(self.start);
        self.chance.step(|| format!("{at:?}: {}", what()));
    }

    fn accept(&mut self) {
        let peer = Rc::new(RefCell::new(Peer::new(&self.chance, &self.disk, self.now)));
        self.accepted += 1;
        let number = self.accepted;
        let host = self.chance.with(|chance| chance.within(0..ADDRESSES)) as u8;
        let address = SocketAddr::from(([127, 0, 0, host], 1));
        self.say(|| format!("conn-{number} from {address}"));
        let conn = Conn::new(Wire(Rc::clone(&peer)), address, number as u64, self.now);
        let (opened, source) = (self.now, Source::of(address.ip()));
        let (timer, pause, yields, moved) = (None, None, 0, 0);
        let (is_queued, is_only_late) = (true, false);
        let entry = Entry { conn, peer, number, source, opened, is_queued, is_only_late, timer, pause, yields, moved };
        self.conns.push(entry);
    }

    /// Puts those in the queue to whom something has happened, or whose time has come.
    fn wake(&mut self) {
        for entry in &mut self.conns {
            let edge = std::mem::take(&mut entry.peer.borrow_mut().edge);
            let pause = entry.pause.take_if(|at| *at <= self.now).is_some();
            let timer = entry.timer.take_if(|at| *at <= self.now).is_some();
            // Who pauses for the disk may find its bytes there at any time, also at an old deadline.
            let is_ready = edge || pause || entry.pause.is_some();
            entry.is_only_late = !is_ready && (entry.is_only_late || !entry.is_queued);
            entry.is_queued |= edge || pause || timer;
        }
    }

    /// A turn for somebody who is queued, if anybody is.
    fn turn_of_any(&mut self) -> bool {
        let queued: Vec<usize> = (0..self.conns.len()).filter(|at| self.conns[*at].is_queued).collect();
        if queued.is_empty() {
            return false;
        }
        let at = self.chance.with(|chance| *chance.pick(&queued));
        self.turn(at);
        true
    }

    fn turn(&mut self, at: usize) {
        let entry = &mut self.conns[at];
        entry.is_queued = false;
        {
            let mut peer = entry.peer.borrow_mut();
            peer.was_blocked = false;
            peer.now = self.now;
            peer.is_stopping = self.stops_at.is_some();
        }
        let mut context = Context {
            now: self.now,
            me: Waiter(entry.number),
            source: entry.source,
            root: &mut self.folder,
            digests: &mut self.digests,
            limits: &self.limits,
            log_limit: &mut self.log_limit,
            scratch: &mut self.scratch,
            gathered: &mut self.gathered,
            spare: &mut self.spare,
            budget: self.budget,
            stopping: self.stops_at.is_some(),
        };
        let (bytes, read) = (entry.conn.bytes, entry.peer.borrow().unread());
        let turn = entry.conn.turn(&mut context);
        let number = entry.number;
        self.chance.step(|| format!("turn of conn-{number}: {}", in_words(turn, self.now)));
        let is_ignored = entry.peer.borrow().was_reset && matches!(turn, Turn::Wait(_));
        assert!(!is_ignored || entry.peer.borrow().model.speaks_v2(), "conn-{number} waits for nobody");
        if entry.is_only_late {
            let peer = entry.peer.borrow();
            assert_eq!(peer.unread(), read, "conn-{number} reads at its deadline what came before");
            let may_begin = !peer.model.speaks_v2();
            assert!(may_begin || entry.conn.bytes == bytes, "conn-{number} sends at its deadline what it could before");
        }
        assert!(self.gathered.is_empty() && self.spare.is_empty(), "conn-{number} leaves bytes to others");
        entry.conn.check_bounds();
        let moved = entry.peer.borrow().moved;
        self.digests.check();
        let jobs_max = self.conns.len() + UNWAITED_MAX;
        assert!(self.digests.len() <= jobs_max, "{} jobs, at most {jobs_max} are of use", self.digests.len());
        let entry = &mut self.conns[at];
        match turn {
            Turn::Wait(until) => {
                assert!(until > self.now, "conn-{number} waits for what is over");
                if entry.timer.is_none_or(|timer| until < timer) {
                    entry.timer = Some(until);
                }
            }
            Turn::Pause(until) => {
                assert!(until > self.now, "conn-{number} pauses for nothing");
                entry.pause.get_or_insert(until);
            }
            Turn::Yield => {
                entry.is_queued = true;
                entry.is_only_late = false;
                entry.yields = if moved == entry.moved { entry.yields + 1 } else { 0 };
                assert!(entry.yields <= IDLE_YIELDS_MAX, "conn-{number} spins");
            }
            Turn::Close(reason) => return self.close(at, reason),
        }
        entry.moved = moved;
    }

    /// As the reactor does when another connection needs the room.
    fn make_room(&mut self) {
        if let Some(at) = self.conns.iter().position(|entry| entry.conn.idle_since().is_some()) {
            self.chance.count("room made for another");
            self.close(at, Reason::MadeRoom);
        }
    }

    fn close(&mut self, at: usize, reason: Reason) {
        let entry = self.conns.swap_remove(at);
        let number = entry.number;
        self.say(|| format!("conn-{number} closes: {reason:?}"));
        {
            let peer = entry.peer.borrow();
            let end = End {
                age: self.now - entry.opened,
                request_timeout: self.limits.request_timeout,
                unread: if peer.was_flushing { 0 } else { peer.unread() },
                saw_end: peer.saw_end,
                was_reset: peer.was_reset,
                was_aborted: peer.was_aborted,
                was_blocked: peer.was_blocked,
                is_stopping: self.stops_at.is_some(),
            };
            peer.model.closed(reason, &end);
            peer.model.counted(entry.conn.replies, entry.conn.bytes);
        }
        entry.conn.close(reason, &self.limits, &mut self.digests, &mut self.log_limit, Waiter(number), self.now);
        let peer = entry.peer.borrow();
        let keeps = !peer.was_aborted && !peer.was_reset && peer.held > 0;
        assert!(!keeps, "conn-{number} is closed as {reason:?}, and the kernel keeps {} bytes", peer.held);
        assert_eq!(self.digests.progress(Waiter(number)), None, "conn-{number} is gone, and waits for a digest");
    }

    /// A slice for the jobs, in which no address waits for more than one chunk of each other.
    fn hash(&mut self) {
        let tick = Duration::from_micros(self.chance.with(|chance| *chance.pick(&[100, 400, 2000])));
        let end = self.now + Duration::from_millis(1);
        let mut waited = HashMap::new();
        while self.now < end {
            let before = self.progress();
            let Some(finished) = self.hash_chunk(tick) else { break };
            let after = self.progress();
            for source in before.iter().map(|(_, source, _)| *source).collect::<HashSet<_>>() {
                let of = |progress: &[(usize, Source, Progress)]| -> Vec<(usize, Source, Progress)> {
                    progress.iter().filter(|(_, other, _)| *other == source).copied().collect()
                };
                let is_held_up = of(&before).iter().any(|(_, _, progress)| progress.waits_for_disk);
                let chunks = waited.entry(source).or_insert(0);
                *chunks = if is_held_up || of(&before) != of(&after) { 0 } else { *chunks + 1 };
                assert!(*chunks < ADDRESSES, "{source:?} waits for {chunks} chunks of others: {before:?}");
            }
            finished.into_iter().for_each(|finished| self.deliver(finished));
        }
        self.digests.check();
    }

    /// What each connection that waits for a job knows of it.
    fn progress(&self) -> Vec<(usize, Source, Progress)> {
        let waits = |entry: &Entry| Some((entry.number, entry.source, self.digests.progress(Waiter(entry.number))?));
        self.conns.iter().filter_map(waits).collect()
    }

    /// Lets a chunk be hashed, if any can be.
    fn hash_chunk(&mut self, tick: Duration) -> Option<Vec<Finished>> {
        let (now, mut looks) = (self.now, 0);
        let finished = self.digests.run(tick, || {
            looks += 1;
            if looks == 1 { now } else { now + tick }
        });
        self.now = if looks == 1 { now } else { now + tick };
        (looks > 1).then_some(finished)
    }

    fn deliver(&mut self, finished: Finished) {
        for Waiter(number) in finished.waiters {
            let entry = self.conns.iter_mut().find(|entry| entry.number == number);
            let entry = entry.unwrap_or_else(|| panic!("conn-{number} is gone, and has a digest"));
            entry.conn.digest_done(&finished.outcome);
            entry.is_queued = true;
            entry.is_only_late = false;
        }
    }

    /// As the reactor does at the first signal.
    fn stop(&mut self) {
        self.chance.count("shutdown");
        self.stops_at = Some(self.now + self.limits.drain);
        let numbers: Vec<usize> = self.conns.iter().map(|entry| entry.number).collect();
        for number in numbers {
            let at = self.conns.iter().position(|entry| entry.number == number).expect("only its own turn ends it");
            match self.conns[at].conn.reason_to_stop() {
                Some(Reason::Shutdown) => {
                    self.conns[at].is_only_late = false;
                    self.turn(at);
                }
                Some(reason) => self.close(at, reason),
                None => {}
            }
        }
    }

    /// Lets time pass, and ends what must end by now.
    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.say(|| format!("{time:?} later"));
        self.folder.close_old(self.now);
        if self.stops_at.is_some_and(|at| self.now >= at) {
            while let Some(entry) = self.conns.last() {
                let reason = entry.conn.reason_to_stop().unwrap_or(Reason::DrainTimeout);
                self.close(self.conns.len() - 1, reason);
            }
        }
    }

    /// One thing happens.
    fn step(&mut self) {
        match self.chance.with(|chance| chance.within(0..100)) {
            0..30 => {
                self.turn_of_any();
            }
            30..70 if !self.conns.is_empty() => {
                let at = self.chance.with(|chance| chance.within(0..self.conns.len() as u64)) as usize;
                self.conns[at].peer.borrow_mut().act();
            }
            70..80 => self.hash(),
            80..90 => {
                let micros = self.chance.with(|chance| chance.within(0..20_000));
                self.pass(Duration::from_micros(micros));
            }
            90..91 => {
                let millis = self.chance.with(|chance| *chance.pick(&[300, 1000, 1500, 9_000, 11_000, 70_000]));
                self.chance.count("time that jumps");
                self.pass(Duration::from_millis(millis));
            }
            91..98 if self.chance.happens(2, 1) => self.disk.borrow_mut().change(),
            98..99 if self.chance.happens(4, 1) => self.make_room(),
            _ if self.stops_at.is_none() && self.chance.happens(12, 1) => self.stop(),
            _ => {}
        }
        self.wake();
    }

    /// When something happens by itself.
    fn next_at(&self) -> Option<Instant> {
        let timers = self.conns.iter().flat_map(|entry| [entry.timer, entry.pause]).flatten();
        timers.chain(self.digests.next_at(self.now)).chain(self.stops_at).min()
    }

    /// Nothing new happens, but time passes: everything must end.
    fn wind_up(&mut self, all_cooperate: bool) {
        // What is broken stays so, and must end by a limit and not by chance.
        self.disk.borrow_mut().is_calm = true;
        for _ in 0..JUMPS_MAX {
            if self.conns.is_empty() && self.digests.is_empty() {
                break;
            }
            if all_cooperate {
                self.conns.iter().for_each(|entry| entry.peer.borrow_mut().cooperate());
            }
            self.wake();
            while self.turn_of_any() {}
            self.hash();
            if self.conns.iter().any(|entry| entry.is_queued || entry.peer.borrow().edge) {
                continue;
            }
            let Some(next) = self.next_at() else { break };
            let late = self.chance.with(|chance| chance.within(0..800));
            self.pass(next.saturating_duration_since(self.now) + Duration::from_millis(late));
        }
        let left: Vec<usize> = self.conns.iter().map(|entry| entry.number).collect();
        assert!(left.is_empty(), "nothing ever ends {left:?}");
        assert!(self.digests.is_empty(), "{} jobs for nobody", self.digests.len());
        self.folder.close_old(self.now + Duration::from_secs(3600));
        assert_eq!(self.folder.open_files(), 0, "files open for nobody");
    }
}

/// A turn, with its times from now on.
fn in_words(turn: Turn, now: Instant) -> String {
    match turn {
        Turn::Wait(until) => format!("Wait({:?})", until.saturating_duration_since(now)),
        Turn::Pause(until) => format!("Pause({:?})", until.saturating_duration_since(now)),
        turn => format!("{turn:?}"),
    }
}

fn one(chance: &mut Chance) {
    Dice::lend(chance, |dice| {
        let mut server = Server::new(dice);
        let (peers, steps) = dice.with(|chance| (chance.within(1..7), chance.within(20..400)));
        for step in 0..steps {
            if (server.accepted as u64) < peers && (step == 0 || dice.happens(5, 1)) && server.stops_at.is_none() {
                server.accept();
            }
            server.step();
            if server.accepted as u64 == peers && server.conns.is_empty() && server.digests.is_empty() {
                break;
            }
        }
        server.wind_up(dice.happens(2, 1));
    });
}

#[test]
fn whatever_happens() {
    run("server", 3000, one);
}
