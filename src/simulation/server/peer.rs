//! A simulated peer: what it says and when, what it takes and when, and how it goes; it is also the way to it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use super::disk::Disk;
use super::model::Model;
use crate::file::ServedFile;
use crate::net::{Closed, Flush, Io, Transport};
use crate::proto::digest::Algorithm;
use crate::proto::{NAME_MAX, Request, Version, Wanted, v1, v2};
use crate::simulation::Dice;

/// Bytes that fit on the way to a peer at first, at most.
const ROOM_MAX: u64 = 300_000;

/// How a peer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goes {
    /// It stays until the server closes.
    Never,
    /// It says that it will say nothing more, behind the last byte of its.
    EndOfInput,
    /// It cuts the connection, at some moment.
    Reset,
}

/// A peer, and the kernel between.
pub struct Peer {
    chance: Dice,
    disk: Rc<RefCell<Disk>>,
    /// What it says, from where on it was not sent.
    script: Vec<u8>,
    sent: usize,
    /// What has arrived, from where on it was not read.
    arrived: Vec<u8>,
    goes: Goes,
    ended: bool,
    /// Whether the server has read the end of input.
    pub saw_end: bool,
    /// Whether it has cut the connection.
    pub was_reset: bool,
    /// Whether it ever takes more than fits at first.
    reads: bool,
    room: usize,
    /// Bytes that the kernel took and the peer does not have.
    pub held: usize,
    /// Whether the server found no room, and is to hear when there is.
    wants_room: bool,
    /// Whether it waits until the peer has everything.
    wants_all: bool,
    /// Whether it has done so: what is said meanwhile is not read.
    pub was_flushing: bool,
    /// Whether something has happened that the server is told of.
    pub edge: bool,
    /// Whether a turn found no room since this was last unset.
    pub was_blocked: bool,
    finished: bool,
    /// Whether the server has cut the connection.
    pub was_aborted: bool,
    /// Bytes that went either way.
    pub moved: u64,
    /// The time of the turn.
    pub now: Instant,
    /// Whether the server stops.
    pub is_stopping: bool,
    /// What it makes of it all.
    pub model: Model,
}

impl Peer {
    /// Any peer.
    pub fn new(chance: &Dice, disk: &Rc<RefCell<Disk>>, now: Instant) -> Peer {
        let is_glutton = chance.happens(12, 1);
        let script = match is_glutton {
            true => {
                chance.count("peer that asks for much and takes nothing");
                request(chance, &disk.borrow(), false).repeat(12)
            }
            false => script(chance, &disk.borrow()),
        };
        let goes = chance.with(|chance| *chance.pick(&[Goes::Never, Goes::EndOfInput, Goes::EndOfInput, Goes::Reset]));
        let reads = !is_glutton && chance.happens(6, 5);
        let most = if is_glutton { 1 } else { chance.with(|chance| *chance.pick(&[1, 300, 20_000, ROOM_MAX])) };
        let room = chance.with(|chance| chance.within(0..most)) as usize;
        chance.step(|| format!("a peer with {} bytes to say, room {room}, reads {reads}, goes {goes:?}", script.len()));
        Peer {
            chance: chance.clone(),
            disk: Rc::clone(disk),
            script,
            sent: 0,
            arrived: Vec::new(),
            goes,
            ended: false,
            saw_end: false,
            was_reset: false,
            reads,
            room,
            held: 0,
            wants_room: false,
            wants_all: false,
            was_flushing: false,
            edge: false,
            was_blocked: false,
            finished: false,
            was_aborted: false,
            moved: 0,
            now,
            is_stopping: false,
            model: Model::new(disk),
        }
    }

    /// Bytes that arrived and were not read.
    pub fn unread(&self) -> usize {
        self.arrived.len()
    }

    /// Does one thing, if it does any.
    pub fn act(&mut self) {
        match self.chance.with(|chance| chance.within(0..8)) {
            0..4 => {
                let len = self.chance.with(|chance| chance.len(5000));
                self.say(len);
            }
            4..7 if self.reads => {
                let len = self.chance.with(|chance| {
                    let most = *chance.pick(&[200, 20_000, 400_000]);
                    chance.len(most)
                });
                self.take(len);
            }
            7 if (self.goes == Goes::Reset || self.ended) && self.chance.happens(8, 1) => self.reset(),
            _ => {}
        }
    }

    /// Says all that it has to say, and takes all that comes.
    pub fn cooperate(&mut self) {
        self.reads = true;
        if self.goes == Goes::Reset {
            self.goes = Goes::EndOfInput;
        }
        self.say(usize::MAX);
        self.take(ROOM_MAX as usize);
    }

    fn reset(&mut self) {
        self.chance.count("reset by a peer");
        self.was_reset = true;
        self.edge = true;
    }

    fn say(&mut self, len: usize) {
        let rest = &self.script[self.sent..];
        let len = len.min(rest.len());
        self.arrived.extend_from_slice(&rest[..len]);
        self.sent += len;
        let ends = self.sent == self.script.len() && self.goes == Goes::EndOfInput;
        self.edge |= len > 0 || ends && !self.ended;
        self.ended |= ends;
    }

    fn take(&mut self, len: usize) {
        self.room += len;
        self.held = self.held.saturating_sub(len);
        self.edge |= len > 0 && std::mem::take(&mut self.wants_room);
        self.edge |= self.held == 0 && std::mem::take(&mut self.wants_all);
    }

    /// How many of so many bytes go through now.
    fn fit(&mut self, len: usize) -> Option<usize> {
        assert!(!self.finished, "bytes behind the end");
        if self.room == 0 {
            self.chance.count("no room on the way");
            self.wants_room = true;
            self.was_blocked = true;
            self.model.was_held_up = true;
            return None;
        }
        let len = len.min(self.room);
        if len > 1 && self.chance.fault("short write", 4, 1) {
            return Some(1 + self.chance.with(|chance| chance.len(len - 1)));
        }
        Some(len)
    }

    fn deliver(&mut self, bytes: &[u8]) {
        self.room -= bytes.len();
        self.held += bytes.len();
        self.moved += bytes.len() as u64;
        self.model.got(bytes, self.now, self.is_stopping);
    }
}

/// The server's end of the way to a peer.
pub struct Wire(pub Rc<RefCell<Peer>>);

impl Transport for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> Io {
        let mut peer = self.0.borrow_mut();
        // As Linux has it: behind the end of input, reading does not tell of a reset.
        if peer.was_reset && !peer.ended {
            return Io::Closed(Closed::Reset);
        }
        if peer.arrived.is_empty() {
            peer.saw_end |= peer.ended;
            return if peer.ended { Io::Closed(Closed::EndOfInput) } else { Io::WouldBlock };
        }
        let mut len = peer.arrived.len().min(buffer.len());
        if len > 1 && peer.chance.fault("short read", 4, 1) {
            len = 1 + peer.chance.with(|chance| chance.len(len - 1));
        }
        let bytes: Vec<u8> = peer.arrived.drain(..len).collect();
        buffer[..len].copy_from_slice(&bytes);
        peer.moved += len as u64;
        peer.model.said(&bytes);
        Io::Done(len)
    }

    fn write(&mut self, bytes: &[u8]) -> Io {
        let mut peer = self.0.borrow_mut();
        if peer.was_reset {
            return Io::Closed(Closed::Reset);
        }
        let Some(len) = peer.fit(bytes.len()) else { return Io::WouldBlock };
        peer.deliver(&bytes[..len]);
        Io::Done(len)
    }

    fn write_more(&mut self, bytes: &[u8]) -> Io {
        self.write(bytes)
    }

    fn send_file(&mut self, file: &ServedFile, offset: u64, count: usize) -> Io {
        let mut peer = self.0.borrow_mut();
        if peer.was_reset {
            return Io::Closed(Closed::Reset);
        }
        let Some(len) = peer.fit(count) else { return Io::WouldBlock };
        let mut bytes = vec![0; len];
        peer.disk.borrow_mut().is_sending = true;
        let result = file.read(&mut bytes, offset);
        peer.disk.borrow_mut().is_sending = false;
        match result {
            Ok(len) => {
                peer.deliver(&bytes[..len]);
                Io::Done(len)
            }
            Err(error) => Io::from(std::io::Error::from(error)),
        }
    }

    fn flush(&mut self) -> Flush {
        let mut peer = self.0.borrow_mut();
        if peer.was_reset {
            return Flush::Cut;
        }
        if peer.held == 0 {
            return Flush::Done;
        }
        peer.chance.count("end of a reply that the kernel holds");
        (peer.wants_all, peer.was_flushing, peer.was_blocked) = (true, true, true);
        Flush::Left(u32::try_from(peer.held).expect("little fits on the way"))
    }

    fn is_cut(&mut self) -> bool {
        self.0.borrow().was_reset
    }

    fn finish(&mut self) {
        let mut peer = self.0.borrow_mut();
        assert_eq!(peer.held, 0, "the end before the peer has the last byte");
        peer.finished = true;
    }

    fn abort(&mut self) {
        self.0.borrow_mut().was_aborted = true;
    }
}

/// What a peer says: requests of one version, mostly good ones, with something else behind or between.
fn script(chance: &Dice, disk: &Disk) -> Vec<u8> {
    let speaks_v1 = chance.happens(4, 1);
    let count = if speaks_v1 { 1 } else { chance.with(|chance| *chance.pick(&[1, 1, 2, 3, 4, 6])) };
    let mut script: Vec<u8> = (0..count).flat_map(|_| request(chance, disk, speaks_v1)).collect();
    if chance.happens(6, 1) {
        chance.count("peer that says garbage");
        let garbage: Vec<u8> =
            chance.with(|chance| (0..chance.len(300)).map(|_| chance.within(0..256) as u8).collect());
        let at = if chance.happens(2, 1) {
            script.len()
        } else {
            chance.with(|c| c.within(0..script.len() as u64)) as usize
        };
        script.splice(at..at, garbage);
    }
    if chance.happens(8, 1) {
        chance.count("peer that asks half");
        script.truncate(chance.with(|chance| chance.within(0..script.len() as u64 + 1)) as usize);
    }
    script
}

fn request(chance: &Dice, disk: &Disk, speaks_v1: bool) -> Vec<u8> {
    let number = chance.with(|chance| chance.within(0..disk.count() as u64)) as usize;
    let name = match chance.with(|chance| chance.within(0..20)) {
        0 => String::from("nothing like it"),
        1 => "n".repeat(NAME_MAX),
        _ => format!("dir/file-{number}"),
    };
    if speaks_v1 {
        return v1::encode_request(&name);
    }
    if chance.happens(12, 1) {
        chance.count("request of another version");
        return chance.with(|c| *c.pick(&[&[2u8, 0, 0, 1, 9][..], &[15, 0, 0, 0], &[1, 0, 0, 2, 0, 0]])).to_vec();
    }
    let contents = disk.name(number).map_or(&[][..], |name| &name.contents);
    let (wanted, algorithm, rehash) = chance.with(|chance| {
        let content = (!contents.is_empty()).then(|| *chance.pick(contents));
        let size = content.map_or(7, |content| content.size);
        let offset = *chance.pick(&[0, 1, size / 2, size.saturating_sub(1), size, size + 1, u64::MAX]);
        let wanted = match chance.within(0..6) {
            0 => Wanted::Digest { size: if chance.happens(4, 1) { offset } else { size } },
            1 | 2 => {
                let version = content.filter(|_| !chance.happens(4, 1)).map_or(Version([3; 16]), |c| c.version());
                Wanted::Bytes { offset, version }
            }
            _ => Wanted::ALL,
        };
        (wanted, *chance.pick(&[Algorithm::Md5, Algorithm::Blake3]), chance.happens(6, 1))
    });
    v2::encode_get(&Request { name: name.as_bytes(), algorithm, wanted, rehash })
}
