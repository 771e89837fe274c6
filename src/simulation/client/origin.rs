//! The server that a simulated client talks to: honest, old, failing or hostile, as chance has it.

use std::collections::BTreeMap;
use std::io::{self, IoSliceMut};
use std::time::{Duration, Instant};

use crate::net::{Closed, Io};
use crate::proto::digest::{Algorithm, Digest, Hasher};
use crate::proto::v2::{self, Asked, ErrorCode};
use crate::proto::{Mtime, Request, Version, Wanted, base_name, v1};
use crate::simulation::Dice;

/// Bytes of a DATA frame at most; a block of the client has 256.
const FRAME_MAX: usize = 700;

/// How a server behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As the protocol says, version 2.
    New,
    /// The first system, which knows version 1 only.
    Old,
    /// Version 2 or 1, and whatever it likes.
    Hostile,
}

/// One content of a file, and when it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub bytes: Vec<u8>,
    pub mtime: Mtime,
}

impl Content {
    pub fn version(&self) -> Version {
        Version::of(self.bytes.len() as u64, self.mtime)
    }
}

/// What a server says to a request in place of its own answer: pieces, each so long after the one before.
pub type Script = fn(&Content) -> Box<dyn Iterator<Item = (Duration, Vec<u8>)>>;

/// The server.
pub struct Origin {
    dice: Dice,
    pub kind: Kind,
    /// What it says instead of an answer, if a test has words of its own.
    pub script: Option<Script>,
    /// A line that dies after so many frames, each of so many bytes.
    pub dies_after: Option<(usize, usize)>,
    /// How many of a thousand replies fail in some way.
    pub failing: u32,
    /// Its files, each with the contents that it has had, the last one being the present one.
    pub files: BTreeMap<Vec<u8>, Vec<Content>>,
    /// What a server that lies has said consistently: contents that pass for verified.
    pub lies: Vec<Vec<u8>>,
    /// What it was asked for, for as long as nobody has looked.
    pub asked: Vec<(Vec<u8>, Wanted)>,
    /// Whether a byte was ever damaged on its way.
    pub has_damaged: bool,
    connections: BTreeMap<u64, Connection>,
    count: u64,
}

#[derive(Default)]
struct Connection {
    input: Vec<u8>,
    out: Vec<u8>,
    /// Bytes of `out` that are on their way before it breaks, and how it does.
    breaks: Option<(usize, Break)>,
    /// Nothing comes before this.
    delayed: Option<Instant>,
    /// The next read finds nothing, although something has come.
    hides: bool,
    /// Whether the client knows that something has come, and has not looked: it is not told again (epoll(7), EPOLLET).
    is_told: bool,
    is_finished: bool,
    /// What is still to be said by a script.
    later: Option<Box<dyn Iterator<Item = (Duration, Vec<u8>)>>>,
}

impl Connection {
    /// Takes up the next piece of a script, once the one before is gone. It has come at its time, whenever that was read.
    fn follow_script(&mut self, now: Instant) {
        if let (true, Some(later)) = (self.out.is_empty(), &mut self.later) {
            match later.next() {
                Some((pause, piece)) => (self.out, self.delayed) = (piece, Some(self.delayed.unwrap_or(now) + pause)),
                None => self.later = None,
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Break {
    Close,
    Reset,
    Stall,
}

impl Origin {
    /// A server without files.
    pub fn new(kind: Kind, dice: Dice) -> Origin {
        Origin {
            dice,
            kind,
            script: None,
            dies_after: None,
            failing: 0,
            files: BTreeMap::new(),
            lies: Vec::new(),
            asked: Vec::new(),
            has_damaged: false,
            connections: BTreeMap::new(),
            count: 0,
        }
    }

    /// The present content of a file.
    pub fn present(&self, name: &[u8]) -> Option<&Content> {
        self.files.get(name)?.last()
    }

    /// Whether a file has, or is said to have, had this content.
    pub fn has_had(&self, name: &[u8], bytes: &[u8]) -> bool {
        self.files.get(name).is_some_and(|contents| contents.iter().any(|content| content.bytes == bytes))
            || self.lies.iter().any(|lie| lie == bytes)
    }

    /// Writes another content to a file.
    pub fn rewrite(&mut self, name: &[u8], bytes: Vec<u8>) {
        let contents = self.files.entry(name.to_vec()).or_default();
        // Never the same twice, as the server's own check of size and time has it.
        let mtime = Mtime { seconds: 1_000 + contents.len() as i64, nanos: 7 };
        contents.push(Content { bytes, mtime });
    }

    /// All connections are gone.
    pub fn hang_up(&mut self) {
        self.connections.clear();
    }

    pub fn connect(&mut self, now: Instant) -> io::Result<u64> {
        if self.fails("the connection was refused", 1) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        if self.fails("nobody answered", 1) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.count += 1;
        let delayed = self.dice.happens(4, 1).then(|| now + Duration::from_millis(self.dice.within(0..3000)));
        self.connections.insert(self.count, Connection { delayed, ..Connection::default() });
        Ok(self.count)
    }

    pub fn close(&mut self, number: u64) {
        self.connections.remove(&number);
    }

    fn fails(&self, what: &'static str, share: u32) -> bool {
        self.dice.fault(what, 1000, self.failing / 8 * share)
    }

    /// Whether a read may find something now. It may also be in vain.
    pub fn may_be_ready(&mut self, now: Instant) -> bool {
        self.connections.values_mut().any(|connection| {
            connection.hides = false;
            let is_stalled = matches!(connection.breaks, Some((0, Break::Stall)));
            let is_ready = !is_stalled
                && !connection.is_told
                && connection.delayed.is_none_or(|until| until <= now)
                && (!connection.out.is_empty() || connection.breaks.is_some() || connection.is_finished);
            connection.is_told |= is_ready;
            is_ready
        })
    }

    /// When something comes that is on its way.
    pub fn next_at(&self) -> Option<Instant> {
        let waits = |connection: &&Connection| {
            !connection.is_told && (!connection.out.is_empty() || connection.breaks.is_some() || connection.is_finished)
        };
        self.connections.values().filter(waits).filter_map(|connection| connection.delayed).min()
    }

    pub fn read(&mut self, number: u64, rooms: &mut [IoSliceMut<'_>], now: Instant) -> io::Result<usize> {
        let dice = self.dice.clone();
        let Some(connection) = self.connections.get_mut(&number) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        connection.is_told = false;
        if connection.hides || connection.delayed.is_some_and(|until| now < until) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if dice.fault("a read was interrupted", 200, 1) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let most = connection.breaks.map_or(connection.out.len(), |(left, _)| left.min(connection.out.len()));
        if most == 0 {
            return match connection.breaks {
                Some((0, Break::Reset)) => Err(io::ErrorKind::ConnectionReset.into()),
                Some((0, Break::Close)) => Ok(0),
                Some((0, Break::Stall)) => Err(io::ErrorKind::WouldBlock.into()),
                _ if connection.is_finished => Ok(0),
                _ => Err(io::ErrorKind::WouldBlock.into()),
            };
        }
        let room: usize = rooms.iter().map(|room| room.len()).sum();
        let mut n = most.min(room);
        let is_scripted = connection.later.is_some();
        if n > 1 && !is_scripted && dice.happens(4, 1) {
            n = dice.within(1..n as u64 + 1) as usize;
        }
        let mut taken = 0;
        for room in rooms {
            let len = room.len().min(n - taken);
            room[..len].copy_from_slice(&connection.out[taken..taken + len]);
            taken += len;
        }
        connection.out.drain(..n);
        if let Some((left, _)) = &mut connection.breaks {
            *left -= n;
        }
        connection.hides = !is_scripted && dice.happens(6, 1);
        if !is_scripted && dice.happens(100, 1) {
            connection.delayed = Some(now + Duration::from_millis(dice.within(0..9000)));
        }
        connection.follow_script(now);
        Ok(n)
    }

    pub fn write(&mut self, number: u64, bytes: &[u8]) -> Io {
        let dice = self.dice.clone();
        let Some(connection) = self.connections.get_mut(&number) else { return Io::Closed(Closed::Reset) };
        if matches!(connection.breaks, Some((0, Break::Reset))) {
            return Io::Closed(Closed::Reset);
        }
        let n = if dice.happens(6, 1) { dice.within(0..bytes.len() as u64 + 1) as usize } else { bytes.len() };
        if n == 0 {
            return Io::WouldBlock;
        }
        connection.input.extend_from_slice(&bytes[..n]);
        connection.is_told = false;
        self.answer(number);
        Io::Done(n)
    }

    /// Answers what was asked whole.
    fn answer(&mut self, number: u64) {
        while let Some(mut connection) = self.connections.remove(&number) {
            let goes_on = !connection.is_finished && self.answer_one(&mut connection);
            self.connections.insert(number, connection);
            if !goes_on {
                return;
            }
        }
    }

    fn answer_one(&mut self, connection: &mut Connection) -> bool {
        let input = std::mem::take(&mut connection.input);
        let mut used = 0;
        match input.first() {
            None => {}
            Some(0) => {
                if let Ok(Some((len, request))) = v1::parse_request(&input) {
                    used = len;
                    self.reply_v1(request.name, connection);
                }
            }
            Some(_) if self.kind == Kind::Old => self.misunderstand(connection),
            Some(_) => match v2::parse_asked(&input) {
                Ok(Some((len, Asked::Get(request)))) => {
                    used = len;
                    self.reply_v2(&request, connection);
                }
                Ok(None) => {}
                // It has given up, and ends the line for a server of another protocol.
                Err(_) if input == b"\r\n\r\n" => connection.is_finished = true,
                other => panic!("the client asked {other:?}"),
            },
        }
        connection.input = input[used..].to_vec();
        used > 0
    }

    /// The first system reads four bytes of a length that no name has.
    fn misunderstand(&mut self, connection: &mut Connection) {
        match self.dice.within(0..3) {
            0 => connection.out.extend_from_slice(&v1::encode_error("Invalid filename length")),
            1 => connection.breaks = Some((0, Break::Reset)),
            _ => {}
        }
        connection.is_finished = true;
    }

    fn reply_v1(&mut self, name: &[u8], connection: &mut Connection) {
        self.asked.push((name.to_vec(), Wanted::ALL));
        if self.follows_script(name, connection) {
            return;
        }
        let start = connection.out.len();
        match self.present(name).cloned() {
            None => connection.out.extend_from_slice(&v1::encode_error(&v1::not_found(&String::from_utf8_lossy(name)))),
            Some(content) => {
                let mut head = v1::Head::new(base_name(name), content.bytes.len() as u64);
                head.push_digest(&digest(Algorithm::Md5, &content.bytes));
                connection.out.extend_from_slice(&head.bytes);
                connection.out.extend_from_slice(&content.bytes);
            }
        }
        if self.kind == Kind::Hostile {
            self.garble(start, connection);
        }
        connection.is_finished = true;
        self.damage(start, start, connection);
    }

    fn reply_v2(&mut self, request: &Request<'_>, connection: &mut Connection) {
        self.asked.push((request.name.to_vec(), request.wanted));
        if self.follows_script(request.name, connection) {
            return;
        }
        let start = connection.out.len();
        let out = &mut connection.out;
        for _ in 0..self.dice.within(0..12).saturating_sub(9) {
            v2::encode_wait(self.dice.within(0..100), 100, out);
        }
        let refusals = [ErrorCode::Busy, ErrorCode::Changed, ErrorCode::ReadError, ErrorCode::ShuttingDown];
        if self.dice.fault("the server refused", 1000, self.failing / 4) {
            v2::encode_error(*self.dice.pick(&refusals), "not now", out);
        } else {
            match self.present(request.name).cloned() {
                None => v2::encode_error(ErrorCode::NotFound, "not found", out),
                Some(content) => self.send(request, &content, out),
            }
            connection.is_finished = self.dies_after.is_some();
        }
        if self.kind == Kind::Hostile {
            self.garble(start, connection);
        }
        self.damage(start, start + v2::HEADER_LEN, connection);
    }

    /// Begins with its script, if it has one.
    fn follows_script(&self, name: &[u8], connection: &mut Connection) -> bool {
        let (Some(script), Some(content)) = (self.script, self.present(name)) else { return false };
        let mut pieces = script(content);
        connection.out.extend(pieces.next().into_iter().flat_map(|(_, piece)| piece));
        connection.later = Some(pieces);
        true
    }

    /// A reply that brings what was asked for.
    fn send(&mut self, request: &Request<'_>, content: &Content, out: &mut Vec<u8>) {
        let (size, version) = (content.bytes.len() as u64, content.version());
        let (offset, sends, sizes_differ) = match request.wanted {
            Wanted::Bytes { offset, version: theirs } if theirs == version && offset <= size => (offset, true, false),
            Wanted::Bytes { .. } => (0, true, false),
            Wanted::Digest { size: theirs } => (size, false, theirs != size),
        };
        let mut content = content.clone();
        if self.kind == Kind::Hostile && self.dice.happens(3, 1) {
            // A lie that nobody can see through.
            content.bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
            if offset == 0 {
                self.lies.push(content.bytes.clone());
            }
        }
        let sum = digest(request.algorithm, &content.bytes);
        let known = self.dice.happens(2, 1).then_some(sum);
        let file = v2::File {
            size,
            offset: if sizes_differ { 0 } else { offset },
            mtime: content.mtime,
            mode: 0o644,
            version,
            algorithm: request.algorithm,
            sizes_differ,
            digest: known.filter(|_| !sizes_differ),
        };
        v2::encode_file(&file, out);
        if sizes_differ {
            return;
        }
        let mut at = if sends { offset as usize } else { content.bytes.len() };
        let mut frames = 0;
        while at < content.bytes.len() {
            if self.dies_after.is_some_and(|(most, _)| frames == most) {
                return self.dice.count("the line died");
            }
            frames += 1;
            if self.dice.fault("the file changed while it was sent", 20_000, self.failing) {
                return v2::encode_error(ErrorCode::Changed, "The file changed while it was sent", out);
            }
            if self.dice.fault("the file could not be read any more", 20_000, self.failing) {
                return v2::encode_error(ErrorCode::ReadError, "The file cannot be read", out);
            }
            let len = self.dies_after.map_or_else(|| 1 + self.dice.len(FRAME_MAX), |(_, len)| len);
            let len = len.min(content.bytes.len() - at);
            v2::encode_data_header(len, out);
            out.extend_from_slice(&content.bytes[at..at + len]);
            at += len;
            if self.dice.happens(20, 1) {
                v2::encode_wait(at as u64, size, out);
            }
        }
        v2::encode_digest(&sum, out);
    }

    /// What a hostile server makes of a reply.
    fn garble(&mut self, start: usize, connection: &mut Connection) {
        let out = &mut connection.out;
        let len = (out.len() - start) as u64;
        match self.dice.within(0..8) {
            // Any byte.
            0 if len > 0 => {
                let at = start + self.dice.within(0..len) as usize;
                out[at] = self.dice.within(0..256) as u8;
                self.dice.count("the server garbled a byte");
            }
            // Bytes that belong to nothing.
            1 => {
                let at = start + self.dice.within(0..len + 1) as usize;
                let junk: Vec<u8> = (0..self.dice.len(60)).map(|_| self.dice.within(0..256) as u8).collect();
                out.splice(at..at, junk);
                self.dice.count("the server sent junk");
            }
            // A piece left out.
            2 if len > 1 => {
                let from = start + self.dice.within(0..len) as usize;
                let to = from + self.dice.within(0..(out.len() - from) as u64 + 1) as usize;
                out.drain(from..to);
                self.dice.count("the server left out a piece");
            }
            // A piece twice.
            3 if len > 1 => {
                let from = start + self.dice.within(0..len) as usize;
                let to = from + self.dice.within(0..(out.len() - from) as u64 + 1) as usize;
                let piece = out[from..to].to_vec();
                out.splice(from..from, piece);
                self.dice.count("the server repeated a piece");
            }
            _ => {}
        }
    }

    /// What happens to a reply on its way; the bytes before `safe` are the head of its first frame.
    fn damage(&mut self, start: usize, safe: usize, connection: &mut Connection) {
        if connection.breaks.is_some() {
            return;
        }
        let len = (connection.out.len() - start) as u64;
        if len > 0 && self.fails("the connection broke", 4) {
            let at = start + self.dice.within(0..len + 1) as usize;
            connection.breaks = Some((at, *self.dice.pick(&[Break::Close, Break::Reset, Break::Stall])));
        } else if connection.out.len() > safe && self.fails("a byte was damaged on the way", 1) {
            let at = self.dice.within(safe as u64..connection.out.len() as u64) as usize;
            connection.out[at] ^= 1 << self.dice.within(0..8);
            self.has_damaged = true;
        }
    }
}

/// The digest of these bytes.
pub fn digest(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}
