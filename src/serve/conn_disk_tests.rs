//! Disks that bring nothing, late, or an error: simulated files, whose pages the test takes away and gives back.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, BorrowedFd};

use super::version_2::{ask, peer_saying, words};
use super::*;
use crate::file::{Source, Stamp};
use crate::proto::{Mtime, Wanted};
use crate::root::Found;

const SIZE: u64 = 600_000;
const PAGE: u64 = 4096;

/// What the disk does, and what was asked of it.
#[derive(Debug, Default)]
struct Disk {
    /// Pages that no look finds in memory.
    missing: RefCell<Vec<u64>>,
    /// What a plain read of a missing page comes to.
    error: Cell<Option<Errno>>,
    /// What a look into memory fails with.
    look_error: Cell<Option<Errno>>,
    /// Plain reads of missing pages.
    plain: Cell<u32>,
    /// The size that the file is said to have, and the bytes that can be read of it, if they are not `SIZE`.
    size: Cell<Option<u64>>,
    holds: Cell<Option<u64>>,
    /// What the kernel takes for the size since a read has ended early, as it does for FUSE.
    remembered: Cell<Option<u64>>,
}

impl Disk {
    /// How many of so many bytes can be read from here on.
    fn left(&self, len: usize, offset: u64) -> usize {
        let holds = self.holds.get().unwrap_or(SIZE);
        if offset + len as u64 > holds {
            self.remembered.set(Some(holds).filter(|holds| *holds < self.size.get().unwrap_or(SIZE)));
        }
        len.min(holds.saturating_sub(offset) as usize)
    }
}

/// A file of zeros, on that disk or on a good one.
#[derive(Debug)]
struct DiskFile(Rc<Disk>, Stamp);

impl AsFd for DiskFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        rustix::stdio::stdin()
    }
}

impl Source for DiskFile {
    fn stamp(&self) -> Result<Stamp, Errno> {
        Ok(Stamp { size: self.0.remembered.get().unwrap_or(self.1.size), ..self.1 })
    }

    fn refresh_stamp(&self) {
        self.0.remembered.set(None);
    }

    fn read_cached(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        if let Some(error) = self.0.look_error.get() {
            return Err(error);
        }
        let len = self.0.left(buffer.len(), offset);
        let missing = self.0.missing.borrow();
        let there = |n: &usize| !missing.contains(&((offset + *n as u64) / PAGE));
        match (0..len).take_while(there).count() {
            0 if len > 0 => Err(Errno::AGAIN),
            n => {
                buffer[..n].fill(0);
                Ok(n)
            }
        }
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        let missing = self.0.missing.borrow();
        let len = self.0.left(buffer.len(), offset);
        let until = missing.iter().map(|page| page * PAGE).filter(|at| *at >= offset).min().unwrap_or(SIZE);
        let is_missing = missing.contains(&(offset / PAGE));
        self.0.plain.set(self.0.plain.get() + u32::from(is_missing));
        match self.0.error.get() {
            Some(error) if is_missing => Err(error),
            None => Ok(len),
            // As read(2): what comes before the error.
            _ => Ok(len.min((until - offset) as usize)),
        }
    }

    fn ask_for(&self, _: u64, _: u64) {}
}

const TIME: Mtime = Mtime { seconds: 1_000_000_000, nanos: 0 };

impl Directory for Rc<Disk> {
    /// Only the file called `a` is on this disk.
    fn file(&mut self, name: &[u8], _: Instant) -> Result<Found, Refusal> {
        let (disk, inode) = if name == b"a" { (Rc::clone(self), 1) } else { (Rc::default(), 2) };
        let size = disk.size.get().unwrap_or(SIZE);
        let stamp = Stamp { device: 1, inode, size, mtime: TIME, ctime: TIME };
        let file = ServedFile::new(Box::new(DiskFile(disk, stamp)), stamp, 0o644, &Rc::new(()));
        Ok(Found { name: name.into(), file: Rc::new(file) })
    }
}

/// A connection whose file is on that disk, at second after second, with the digest jobs.
struct Watched<'a> {
    world: World,
    disk: Rc<Disk>,
    conn: Conn<&'a mut Peer>,
}

impl<'a> Watched<'a> {
    fn new(test: &str, peer: &'a mut Peer, disk: &Rc<Disk>) -> Watched<'a> {
        let world = World::new(test);
        let conn = world.conn(peer);
        Watched { world, disk: Rc::clone(disk), conn }
    }

    /// Looks every 10 ms until this time, or until the connection closes.
    fn until(&mut self, seconds: f64) -> Turn {
        let end = self.world.start + Duration::from_secs_f64(seconds);
        loop {
            let turn = self.world.turn_in(&mut self.disk, &mut self.conn);
            let mut clock = (0..3).map(|n| self.world.now + Duration::from_millis(n));
            for finished in self.world.digests.run(Duration::from_millis(2), || clock.next().expect("three looks")) {
                finished.waiters.iter().for_each(|_| self.conn.digest_done(&finished.outcome));
            }
            if matches!(turn, Turn::Close(_)) || self.world.now >= end {
                return turn;
            }
            self.world.now += Duration::from_millis(10);
        }
    }
}

/// What `WAIT` said, in order.
fn waits(peer: &Peer) -> Vec<u64> {
    let waits = words(peer).into_iter().filter_map(|word| Some(word.strip_prefix("wait ")?.split('/').next()?.into()));
    waits.map(|done: String| done.parse().expect("a number")).collect()
}

#[test]
fn a_disk_that_spins_up_is_waited_for_and_the_client_kept_patient() {
    let disk = Rc::new(Disk::default());
    disk.missing.replace((64..=146).collect());
    let mut peer = peer_saying([ask("a", Wanted::ALL)]);
    let mut watched = Watched::new("spin-up", &mut peer, &disk);
    watched.until(15.5);
    assert_eq!(disk.plain.get(), 0, "a plain read would hold the thread");
    disk.missing.replace(Vec::new());
    watched.until(16.0);
    drop(watched);
    let (words, waits) = (words(&peer), waits(&peer));
    assert_eq!(words[..2], ["file@0", "data 262144"]);
    assert_eq!(words[words.len() - 2..], ["data 337856", "md5"], "{words:?}");
    assert_eq!(waits.len(), 15, "one a second: {waits:?}");
    assert!(waits.is_sorted_by(|before, after| before < after), "each is a sign of life: {waits:?}");
}

#[test]
fn a_disk_that_fails_is_a_read_error_after_waits() {
    for (missing, error) in [(64..=146, Some(Errno::IO)), (64..=146, None), (0..=146, Some(Errno::IO))] {
        let disk = Rc::new(Disk::default());
        disk.missing.replace(missing.clone().collect());
        disk.error.set(error);
        let mut peer = peer_saying([ask("a", Wanted::ALL), ask("b", Wanted::ALL)]);
        let mut watched = Watched::new("dead", &mut peer, &disk);
        watched.until(if error.is_some() { 20.5 } else { 41.0 });
        drop(watched);
        let (words, waits) = (words(&peer), waits(&peer));
        let before = if missing.contains(&0) { &["file@0"][..] } else { &["file@0", "data 262144"] };
        assert_eq!(words[..before.len()], *before);
        let ends = ["error 5", "file@0", "data 600000", "md5"];
        assert_eq!(words[words.len() - 4..], ends, "the connection goes on: {words:?}");
        assert!(waits.is_sorted_by(|before, after| before < after), "{waits:?}");
        assert_eq!(waits.len(), if error.is_some() { 20 } else { 40 }, "{waits:?}");
        assert!(disk.plain.get() <= 2, "one for the reply and one for its digest: {}", disk.plain.get());
    }
}

/// The client has all bytes or wants none, and the file is hashed from a part of it that the disk does not bring.
#[test]
fn a_disk_that_fails_under_a_digest_is_a_read_error_after_waits() {
    for error in [Some(Errno::IO), None] {
        let disk = Rc::new(Disk::default());
        disk.missing.replace(vec![100]);
        disk.error.set(error);
        let mut peer = peer_saying([ask("a", Wanted::Digest { size: SIZE })]);
        let mut watched = Watched::new("digest", &mut peer, &disk);
        watched.until(41.0);
        assert!(watched.world.digests.is_empty());
        drop(watched);
        let (words, waits) = (words(&peer), waits(&peer));
        assert_eq!([&words[0], &words[words.len() - 1]], ["file@600000", "error 5"]);
        assert!(waits.is_sorted_by(|before, after| before < after), "{waits:?}");
        assert_eq!(waits.len(), if error.is_some() { 20 } else { 40 }, "{waits:?}");
        assert_eq!(waits[0], 100 * PAGE);
    }
}

#[test]
fn version_1_is_closed_when_the_disk_fails() {
    let disk = Rc::new(Disk::default());
    let mut peer = peer_asking("a");
    let mut watched = Watched::new("v1", &mut peer, &disk);
    watched.until(0.2);
    disk.missing.replace((64..=146).collect());
    disk.error.set(Some(Errno::IO));
    assert_eq!(watched.until(21.0), Turn::Close(Reason::ReadError));
    assert_eq!(watched.conn.bytes, WINDOW);
}

/// A page between those that a probe touches; the retry must not meet it inside of a frame again.
#[test]
fn a_page_that_cuts_a_frame_is_a_read_error_for_the_retry() {
    // Each with where its frame begins: of 32 KiB, announced together with the file, the first of 256 KiB, or the last one.
    for (bad, from) in [(5, 16 * 1024), (70, 240 * 1024), (130, 496 * 1024), (146, 496 * 1024)] {
        let disk = Rc::new(Disk::default());
        let mut peer = peer_saying([ask("a", Wanted::ALL)]);
        peer.room = 0;
        let mut watched = Watched::new("retry", &mut peer, &disk);
        watched.until(0.1);
        disk.missing.replace(vec![bad]);
        disk.error.set(Some(Errno::IO));
        watched.conn.transport.room = usize::MAX;
        let turn = watched.until(0.2);
        if bad == 146 {
            // The last page is one that every probe touches.
            assert!(matches!(turn, Turn::Pause(_)), "{turn:?}");
            continue;
        }
        assert_eq!(turn, Turn::Close(Reason::ReadError));
        assert!(watched.conn.transport.aborted);
        let version = Rc::clone(&disk).file(b"a", watched.world.now).expect("it is there").file.version();
        drop(watched);
        let mut peer = peer_saying([ask("a", Wanted::Bytes { offset: from, version })]);
        let mut watched = Watched::new("retry", &mut peer, &disk);
        watched.until(21.0);
        drop(watched);
        let words = words(&peer);
        assert_eq!(words[..2], [format!("file@{from}"), format!("data {}", bad * PAGE - from)], "page {bad}");
        assert_eq!(words.last().expect("frames"), "error 5", "page {bad}");
    }
}

#[test]
fn others_are_served_while_one_waits_for_its_disk() {
    let disk = Rc::new(Disk::default());
    disk.missing.replace((0..=146).collect());
    let mut peer = peer_saying([ask("a", Wanted::ALL)]);
    let mut watched = Watched::new("beside", &mut peer, &disk);
    for second in 1..=19 {
        watched.until(f64::from(second));
        let mut other = peer_saying([ask("b", Wanted::ALL)]);
        let mut conn = watched.world.conn(&mut other);
        watched.world.turn_in(&mut watched.disk, &mut conn);
        assert_eq!(conn.bytes, SIZE);
    }
    assert_eq!(disk.plain.get(), 0);
}

/// What a call answers that cannot be had for a file, and not what it says of bytes that cannot be read.
const REFUSALS: [Errno; 4] = [Errno::INVAL, Errno::OPNOTSUPP, Errno::NOSYS, Errno::PERM];

#[test]
fn without_sendfile_a_file_is_read_and_written() {
    for error in REFUSALS {
        for speaks_v2 in [true, false] {
            let disk = Rc::new(Disk::default());
            let mut peer = if speaks_v2 { peer_saying([ask("a", Wanted::ALL)]) } else { peer_asking("a") };
            peer.sendfile_error = Some(error);
            let mut watched = Watched::new("no-sendfile", &mut peer, &disk);
            watched.until(1.0);
            assert_eq!(watched.conn.bytes, SIZE, "{error}");
            drop(watched);
            assert_eq!(peer.sendfiles, 1, "{error}: it is not tried again");
            if speaks_v2 {
                let words = words(&peer);
                assert_eq!(words, ["file@0", "data 600000", "md5"], "{error}");
            }
        }
    }
    let disk = Rc::new(Disk::default());
    let mut peer = peer_saying([ask("a", Wanted::ALL)]);
    peer.sendfile_error = Some(Errno::IO);
    assert_eq!(Watched::new("no-sendfile", &mut peer, &disk).until(1.0), Turn::Close(Reason::ReadError));
}

/// Bytes that a window has promised leave the memory before they are copied: nobody waits for them but this connection.
#[test]
fn without_sendfile_the_disk_is_waited_for_by_looking_again() {
    let disk = Rc::new(Disk::default());
    let mut peer = peer_saying([ask("a", Wanted::ALL)]);
    (peer.sendfile_error, peer.room) = (Some(Errno::INVAL), 100_000);
    let mut watched = Watched::new("copy-waits", &mut peer, &disk);
    watched.until(0.1);
    disk.missing.replace((0..=146).collect());
    watched.conn.transport.room = usize::MAX;
    let turn = watched.until(5.0);
    assert!(matches!(turn, Turn::Pause(_)), "{turn:?}");
    assert_eq!(disk.plain.get(), 0, "a plain read would hold the thread");
    disk.missing.replace(Vec::new());
    watched.until(6.0);
    drop(watched);
    assert_eq!(words(&peer), ["file@0", "data 600000", "md5"], "no WAIT within a frame");
}

#[test]
fn a_file_that_cannot_be_looked_at_in_memory_is_read_plainly() {
    for error in REFUSALS {
        let disk = Rc::new(Disk::default());
        disk.look_error.set(Some(error));
        let mut peer = peer_saying([ask("a", Wanted::ALL)]);
        let mut watched = Watched::new("plain", &mut peer, &disk);
        watched.until(1.0);
        drop(watched);
        assert_eq!(words(&peer).last().expect("frames"), "md5", "{error}");
    }
}

/// Files whose size is none: their file system made it up, and nobody has written to them. A retry would meet the same.
#[test]
fn a_size_that_is_not_true_is_a_read_error() {
    let fewer = [(4096, 23), (SIZE, 0), (SIZE, 23), (SIZE, WINDOW), (SIZE, WINDOW + 1), (SIZE, SIZE - 1)];
    for (size, holds) in fewer.into_iter().chain([(0, 1), (23, 4096), (SIZE, SIZE + 1)]) {
        for look_error in [None, Some(Errno::OPNOTSUPP)] {
            let disk = Rc::new(Disk::default());
            disk.size.set(Some(size));
            disk.holds.set(Some(holds));
            disk.look_error.set(look_error);
            let digest = ask("a", Wanted::Digest { size });
            let mut peer = peer_saying([ask("a", Wanted::ALL), ask("b", Wanted::ALL), digest]);
            let mut watched = Watched::new("untrue", &mut peer, &disk);
            watched.until(1.0);
            drop(watched);
            let words = words(&peer);
            let ends: Vec<_> = words.iter().filter(|word| !word.starts_with("data ")).collect();
            let expected = ["file@0", "error 5", "file@0", "md5", &format!("file@{size}"), "error 5"];
            assert_eq!(ends, expected, "{size} bytes said, {holds} there, {look_error:?}: {words:?}");
            let how_many = if holds < size { "fewer" } else { "more" };
            let message = format!("The file cannot be read: it has {how_many} bytes than its size ({size} bytes)");
            let got = peer.writes.concat();
            assert!(got.windows(message.len()).any(|part| part == message.as_bytes()), "{message:?} expected");
        }
    }
}

/// Version 1 has a place for the reason before `OK`, as long as the file is so small that it is hashed at once.
#[test]
fn a_size_that_is_not_true_is_an_error_in_version_1() {
    for (size, holds, how_many) in [(4096, 23, "fewer"), (0, 23, "more")] {
        let disk = Rc::new(Disk::default());
        disk.size.set(Some(size));
        disk.holds.set(Some(holds));
        let mut peer = peer_asking("a");
        peer.ended = true;
        let mut watched = Watched::new("untrue-v1", &mut peer, &disk);
        assert_eq!(watched.until(1.0), Turn::Close(Reason::ReadError));
        drop(watched);
        let message = format!("ERRORThe file cannot be read: it has {how_many} bytes than its size ({size} bytes)");
        assert_eq!(String::from_utf8_lossy(&peer.writes.concat()), message);
    }
    let disk = Rc::new(Disk::default());
    disk.holds.set(Some(23));
    let mut peer = peer_asking("a");
    assert_eq!(Watched::new("untrue-v1", &mut peer, &disk).until(1.0), Turn::Close(Reason::ReadError));
    assert_eq!(peer.writes.concat(), b"OK", "no metadata, and no byte");
}
