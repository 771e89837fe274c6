//! Connections driven without sockets or a clock: a scripted peer, a time that the test sets, real files.

use std::collections::VecDeque;
use std::fs;
use std::path::PathBuf;
use std::rc::Rc;

use rustix::io::Errno;

use super::*;
use crate::file::ServedFile;
use crate::root::Root;
use crate::serve::header::{V1_GAP, V1_HOLD_OK_FROM};

#[path = "conn_disk_tests.rs"]
mod bad_disks;
#[path = "conn_v2_tests.rs"]
mod version_2;

/// What the far end does, and what it got.
#[derive(Default)]
struct Peer {
    /// Pieces that arrive; an empty one stands for "nothing yet".
    input: VecDeque<Vec<u8>>,
    ended: bool,
    reset: bool,
    /// Bytes that still fit on the way to it.
    room: usize,
    /// Bytes that the kernel took and it does not have.
    held: u32,
    /// One entry a write.
    writes: Vec<Vec<u8>>,
    /// Whether what it got last may be held back for more.
    held_back: bool,
    finished: bool,
    aborted: bool,
    /// What sendfile fails with, and how often it was called.
    sendfile_error: Option<Errno>,
    sendfiles: u32,
}

impl Transport for &mut Peer {
    fn read(&mut self, buffer: &mut [u8]) -> Io {
        if self.reset && !self.ended {
            return Io::Closed(Closed::Reset);
        }
        match self.input.pop_front() {
            Some(piece) if piece.is_empty() => Io::WouldBlock,
            Some(mut piece) => {
                let n = piece.len().min(buffer.len());
                let rest = piece.split_off(n);
                buffer[..n].copy_from_slice(&piece);
                if !rest.is_empty() {
                    self.input.push_front(rest);
                }
                Io::Done(n)
            }
            None if self.ended => Io::Closed(Closed::EndOfInput),
            None => Io::WouldBlock,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Io {
        let n = bytes.len().min(self.room);
        if n == 0 {
            return Io::WouldBlock;
        }
        self.room -= n;
        self.held_back = false;
        self.writes.push(bytes[..n].to_vec());
        Io::Done(n)
    }

    fn write_more(&mut self, bytes: &[u8]) -> Io {
        let io = self.write(bytes);
        self.held_back = true;
        io
    }

    fn send_file(&mut self, file: &ServedFile, offset: u64, count: usize) -> Io {
        self.sendfiles += 1;
        if let Some(error) = self.sendfile_error {
            return Io::from(std::io::Error::from(error));
        }
        let mut bytes = vec![0; count.min(self.room)];
        if bytes.is_empty() {
            return Io::WouldBlock;
        }
        match file.read(&mut bytes, offset) {
            Ok(n) => {
                bytes.truncate(n);
                self.write(&bytes);
                Io::Done(n)
            }
            Err(error) => Io::from(std::io::Error::from(error)),
        }
    }

    fn flush(&mut self) -> Flush {
        match self.held {
            _ if self.reset => Flush::Cut,
            0 => Flush::Done,
            held => Flush::Left(held),
        }
    }

    fn is_cut(&mut self) -> bool {
        self.reset
    }

    fn finish(&mut self) {
        assert_eq!(self.held, 0, "nothing ends before the peer has it");
        self.finished = true;
    }

    fn abort(&mut self) {
        self.aborted = true;
    }
}

/// A shared directory, digest jobs, limits and a time: all that connections need.
struct World {
    dir: PathBuf,
    root: Root,
    digests: Digests,
    limits: Limits,
    log_limit: LogLimit,
    start: Instant,
    now: Instant,
    scratch: Vec<u8>,
    gathered: Vec<u8>,
    spare: Vec<u8>,
    stopping: bool,
}

impl World {
    fn new(test: &str) -> World {
        let dir = std::env::temp_dir().join(format!("xfer-conn-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("the temporary directory can be made");
        let root = Root::open(&dir, false, None, &Rc::new(())).expect("it can be served");
        let now = Instant::now();
        let limits = Limits::default();
        let (digests, scratch) = (Digests::default(), vec![0; GATHERED_MAX as usize]);
        World {
            dir,
            root,
            digests,
            limits,
            log_limit: LogLimit::new(now),
            start: now,
            now,
            scratch,
            gathered: Vec::new(),
            spare: Vec::new(),
            stopping: false,
        }
    }

    /// A file of this size, all zeros.
    fn file(&self, name: &str, size: u64) {
        fs::File::create(self.dir.join(name)).and_then(|file| file.set_len(size)).expect("a file can be made");
    }

    fn at(&mut self, seconds: f64) {
        self.now = self.start + Duration::from_secs_f64(seconds);
    }

    fn conn<'a>(&self, peer: &'a mut Peer) -> Conn<&'a mut Peer> {
        Conn::new(peer, SocketAddr::from(([127, 0, 0, 1], 1)), 1, self.now)
    }

    fn turn(&mut self, conn: &mut Conn<&mut Peer>) -> Turn {
        self.turn_with(None, conn)
    }

    /// A turn in which names are found elsewhere.
    fn turn_in(&mut self, root: &mut dyn Directory, conn: &mut Conn<&mut Peer>) -> Turn {
        self.turn_with(Some(root), conn)
    }

    fn turn_with(&mut self, root: Option<&mut dyn Directory>, conn: &mut Conn<&mut Peer>) -> Turn {
        let mut context = Context {
            now: self.now,
            me: Waiter(1),
            source: Source::of([127, 0, 0, 1].into()),
            root: root.unwrap_or(&mut self.root),
            digests: &mut self.digests,
            limits: &self.limits,
            log_limit: &mut self.log_limit,
            scratch: &mut self.scratch,
            gathered: &mut self.gathered,
            spare: &mut self.spare,
            budget: TURN_BUDGET,
            stopping: self.stopping,
        };
        let turn = conn.turn(&mut context);
        assert!(self.gathered.is_empty(), "what was gathered is sent or kept");
        turn
    }

    /// Runs all digest jobs to their end, and delivers.
    fn hash(&mut self, conn: &mut Conn<&mut Peer>) {
        while !self.digests.is_empty() {
            for finished in self.digests.run(Duration::from_millis(10), Instant::now) {
                assert_eq!(finished.waiters, [Waiter(1)]);
                conn.digest_done(&finished.outcome);
            }
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn peer_asking(name: &str) -> Peer {
    Peer { input: [v1::encode_request(name)].into(), room: usize::MAX, ..Peer::default() }
}

#[test]
fn ok_goes_out_alone_and_the_metadata_whole_after_the_gap() {
    let mut world = World::new("gap");
    world.file("a", 5);
    let mut peer = peer_asking("a");
    let mut conn = world.conn(&mut peer);
    let gap_ends = world.start + V1_GAP;
    assert_eq!(world.turn(&mut conn), Turn::Wait(gap_ends));
    world.at(0.249);
    assert_eq!(world.turn(&mut conn), Turn::Wait(gap_ends));
    assert_eq!(conn.transport.writes, [b"OK".to_vec()]);
    world.at(0.25);
    assert!(matches!(world.turn(&mut conn), Turn::Wait(_)), "lingering");
    let [_, metadata, body] = &conn.transport.writes[..] else { panic!("{:?}", conn.transport.writes) };
    assert_eq!(metadata.len(), 4 + 1 + 8 + 32);
    assert_eq!(body, &[0; 5]);
    assert!(conn.transport.finished);
    conn.transport.ended = true;
    assert_eq!(world.turn(&mut conn), Turn::Close(Reason::Complete));
}

#[test]
fn while_a_file_is_hashed_its_fields_go_out_one_by_one() {
    let mut world = World::new("fields");
    world.file("big", 1 << 20);
    let mut peer = peer_asking("big");
    let mut conn = world.conn(&mut peer);
    let steps = [(0.0, 1), (7.9, 1), (8.0, 2), (15.9, 2), (16.0, 3), (24.0, 4), (40.0, 4), (90.0, 4)];
    for (seconds, writes) in steps {
        world.at(seconds);
        let turn = world.turn(&mut conn);
        assert!(matches!(turn, Turn::Wait(until) if until > world.now), "at {seconds} s: {turn:?}");
        assert_eq!(conn.transport.writes.len(), writes, "at {seconds} s");
    }
    world.hash(&mut conn);
    world.turn(&mut conn);
    let writes = &conn.transport.writes;
    assert_eq!(writes[..4], [b"OK".to_vec(), vec![0, 0, 0, 3], b"big".to_vec(), (1u64 << 20).to_be_bytes().to_vec()]);
    assert_eq!(writes[4], b"b6d81b360a5672d80c27430f39153e2c", "MD5 of a MiB of zeros");
}

#[test]
fn a_huge_file_holds_even_ok_back_until_a_field_is_due() {
    let mut world = World::new("hold");
    world.file("huge", V1_HOLD_OK_FROM);
    let mut peer = peer_asking("huge");
    let mut conn = world.conn(&mut peer);
    for (seconds, writes) in [(0.0, 0), (7.9, 0), (8.0, 1), (15.9, 1), (16.0, 2), (32.0, 3)] {
        world.at(seconds);
        world.turn(&mut conn);
        assert_eq!(conn.transport.writes.len(), writes, "at {seconds} s");
    }
}

#[test]
fn a_header_goes_through_the_narrowest_door() {
    let mut world = World::new("narrow");
    world.file("name", 300_000);
    let mut peer = peer_asking("name");
    let mut conn = world.conn(&mut peer);
    conn.transport.room = 0;
    world.turn(&mut conn);
    world.hash(&mut conn);
    let mut seconds = 0.0;
    while !conn.transport.finished {
        seconds += 1.0;
        world.at(seconds);
        conn.transport.room = if seconds < 60.0 { 1 } else { 100_000 };
        assert!(matches!(world.turn(&mut conn), Turn::Wait(_) | Turn::Yield));
    }
    let sent = conn.transport.writes.concat();
    assert_eq!(sent.len(), 2 + 4 + 4 + 8 + 32 + 300_000);
    assert!(sent.starts_with(b"OK\0\0\0\x04name"));
}

#[test]
fn a_request_may_come_byte_by_byte_but_only_for_so_long() {
    let mut world = World::new("trickle");
    world.file("a", 5);
    let request = v1::encode_request("a");
    let mut peer = Peer { room: usize::MAX, ..Peer::default() };
    let mut conn = world.conn(&mut peer);
    let deadline = world.start + world.limits.request_timeout;
    for byte in &request[..request.len() - 1] {
        conn.transport.input.push_back(vec![*byte]);
        assert_eq!(world.turn(&mut conn), Turn::Wait(deadline), "trickling does not move the deadline");
    }
    world.at(10.0);
    assert_eq!(world.turn(&mut conn), Turn::Close(Reason::RequestTimeout));
    // Whole in time, in whichever pieces.
    for split in 1..request.len() {
        let mut peer = Peer { room: usize::MAX, ..Peer::default() };
        peer.input = [request[..split].to_vec(), vec![], request[split..].to_vec()].into();
        let mut conn = world.conn(&mut peer);
        world.turn(&mut conn);
        assert_eq!(conn.reason_to_stop(), Some(Reason::Shutdown));
        world.turn(&mut conn);
        assert_eq!(conn.reason_to_stop(), None);
        assert_eq!(conn.transport.writes, [b"OK".to_vec()]);
    }
}

#[test]
fn a_peer_that_takes_nothing_is_cut_and_one_that_takes_little_is_not() {
    let mut world = World::new("idle");
    world.file("big", 600_000);
    let mut peer = peer_asking("big");
    let mut conn = world.conn(&mut peer);
    world.turn(&mut conn);
    world.hash(&mut conn);
    conn.transport.room = 1000;
    for (seconds, room) in [(1.0, 1), (60.0, 1), (119.0, 1)] {
        world.at(seconds);
        conn.transport.room += room;
        assert!(matches!(world.turn(&mut conn), Turn::Wait(_)), "at {seconds} s");
    }
    world.at(178.9);
    assert!(matches!(world.turn(&mut conn), Turn::Wait(_)));
    world.at(179.0);
    assert_eq!(world.turn(&mut conn), Turn::Close(Reason::IdleTimeout));
}

/// A byte now and then is no progress, and time that the server takes for itself is no delay of the peer.
#[test]
fn a_peer_that_takes_too_little_for_too_long_is_cut_and_one_that_is_made_to_wait_is_not() {
    let mut world = World::new("pace");
    world.file("big", 6_000_000);
    // What fits on the way at first counts for the first period, so the next one may be the one that is too slow.
    for (room, cut_at) in [(1, Some(3)), (499 * 50, Some(6)), (501 * 50, None)] {
        let mut peer = peer_asking("big");
        let mut conn = world.conn(&mut peer);
        world.turn(&mut conn);
        // The digest takes its time: nothing of that counts.
        world.at(5000.0);
        world.hash(&mut conn);
        // The head and a few bytes.
        conn.transport.room = 100;
        let mut outcome = (0..20).map(|step| {
            world.at(5000.0 + 50.0 * f64::from(step));
            conn.transport.room += room;
            (step, world.turn(&mut conn))
        });
        let cut = outcome.find(|(_, turn)| matches!(turn, Turn::Close(_)));
        assert_eq!(cut, cut_at.map(|step| (step, Turn::Close(Reason::TooSlow))), "{room} bytes in 50 s");
        world.now = world.start;
    }
}

#[test]
fn a_peer_whose_address_has_too_many_is_told_so_in_its_protocol() {
    let mut world = World::new("too-many");
    world.file("a", 5);
    let ask = v2::encode_get(&Request {
        name: b"a",
        algorithm: crate::proto::digest::Algorithm::Md5,
        wanted: crate::proto::Wanted::ALL,
        rehash: false,
    });
    let message = "Too many connections from your address, try again later";
    let mut expected = Vec::new();
    v2::encode_error(ErrorCode::Busy, message, &mut expected);
    let rows = [(v1::encode_request("a"), v1::encode_error(message)), (ask.repeat(3), expected)];
    for (asked, expected) in rows {
        let mut peer = Peer { input: [asked[..3].to_vec(), vec![]].into(), room: usize::MAX, ..Peer::default() };
        let mut conn =
            Conn::one_too_many(&mut peer, SocketAddr::from(([127, 0, 0, 1], 1)), 1, world.now, NonZeroU32::MIN);
        // It has the time of a request, and nothing else is done for it.
        assert_eq!(world.turn(&mut conn), Turn::Wait(world.start + world.limits.request_timeout));
        conn.transport.input.push_back(asked[3..].to_vec());
        assert_eq!(world.turn(&mut conn), Turn::Wait(world.start + LINGER_TIME));
        assert_eq!(conn.transport.writes.concat(), expected);
        conn.transport.ended = true;
        assert_eq!(world.turn(&mut conn), Turn::Close(Reason::TooMany));
    }
}

#[test]
fn a_file_that_changes_is_never_sent_whole() {
    let mut world = World::new("changed");
    world.file("big", 2_400_000);
    for change in ["shorter", "written"] {
        world.file("big", 2_400_000);
        let mut peer = peer_asking("big");
        let mut conn = world.conn(&mut peer);
        world.turn(&mut conn);
        world.hash(&mut conn);
        world.at(1.0);
        assert_eq!(world.turn(&mut conn), Turn::Yield);
        let path = world.dir.join("big");
        match change {
            "shorter" => fs::OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(1_200_000)),
            _ => fs::write(path, vec![1; 2_400_000]),
        }
        .expect("the file can be changed");
        let reason = loop {
            match world.turn(&mut conn) {
                Turn::Close(reason) => break reason,
                Turn::Yield => {}
                Turn::Wait(_) | Turn::Pause(_) => panic!("{change}: waits"),
            }
        };
        assert_eq!(reason, Reason::FileChanged, "{change}");
        assert!(conn.bytes < 2_400_000, "{change}: {} bytes", conn.bytes);
        world.now = world.start;
    }
}

#[test]
fn a_reset_while_waiting_for_the_digest_frees_the_job() {
    let mut world = World::new("reset");
    world.file("big", 1 << 20);
    let mut peer = peer_asking("big");
    let mut conn = world.conn(&mut peer);
    world.turn(&mut conn);
    conn.transport.reset = true;
    assert_eq!(world.turn(&mut conn), Turn::Close(Reason::ResetByPeer));
    conn.close(Reason::ResetByPeer, &world.limits, &mut world.digests, &mut world.log_limit, Waiter(1), world.now);
    let finished = world.digests.run(Duration::from_secs(10), Instant::now);
    assert!(finished.iter().all(|finished| finished.waiters.is_empty()), "{finished:?}");
}

#[test]
fn the_end_of_a_reply_discards_only_so_much() {
    let mut world = World::new("linger");
    let mut peer = peer_asking("missing");
    peer.input.extend((0..40).map(|_| vec![b'x'; 4096]));
    let mut conn = world.conn(&mut peer);
    assert_eq!(world.turn(&mut conn), Turn::Close(Reason::Refused));
    assert_eq!(conn.transport.writes.concat(), b"ERRORFile 'missing' not found on server");
    let left: usize = conn.transport.input.iter().map(Vec::len).sum();
    assert!(left >= 40 * 4096 - LINGER_BYTES_MAX - 2 * 4096, "{left} bytes left");
    // And waits only so long.
    let mut peer = peer_asking("missing");
    let mut conn = world.conn(&mut peer);
    assert_eq!(world.turn(&mut conn), Turn::Wait(world.start + LINGER_TIME));
    world.at(2.0);
    assert_eq!(world.turn(&mut conn), Turn::Close(Reason::Refused));
}

/// Where others have had all the lines, whoever asks for a large file and does not take it has none.
#[test]
fn the_log_is_told_of_a_large_file_when_it_is_taken() {
    let mut world = World::new("announced");
    world.file("big", 4 << 20);
    while world.log_limit.take(world.now) || world.log_limit.take_reply(0, world.now) {}
    let mut peer = peer_asking("big");
    let mut conn = world.conn(&mut peer);
    world.turn(&mut conn);
    world.hash(&mut conn);
    world.at(0.25);
    conn.transport.room = LOGGED_FROM as usize;
    while world.turn(&mut conn) == Turn::Yield {}
    assert!(conn.bytes > LOGGED_FROM / 2 && !conn.is_announced(), "{} bytes", conn.bytes);
    conn.transport.room = LOGGED_FROM as usize;
    while world.turn(&mut conn) == Turn::Yield {}
    assert!(conn.bytes > LOGGED_FROM && conn.is_announced(), "{} bytes", conn.bytes);
}

#[test]
fn the_first_byte_of_a_connection_decides() {
    let mut world = World::new("first");
    for first in 0x10..=255u8 {
        let mut peer = Peer { input: [vec![first, 0, 0, 0]].into(), room: usize::MAX, ..Peer::default() };
        peer.ended = true;
        let mut conn = world.conn(&mut peer);
        assert_eq!(world.turn(&mut conn), Turn::Close(Reason::UnknownProtocol), "0x{first:02x}");
        let answer = if first.is_ascii_uppercase() { &b"HTTP/1.1 400 "[..] } else { b"ERRORBad request" };
        assert!(conn.transport.writes.concat().starts_with(answer), "0x{first:02x}");
    }
}

/// The deadline holds from the first block on, and not only from the next edge on.
#[test]
fn a_refusal_that_is_not_taken_is_waited_for_as_long_as_a_request() {
    let mut world = World::new("refused");
    let until = world.start + world.limits.request_timeout + LINGER_TIME;
    // Not even the kernel takes it; and the kernel has it, and the peer does not.
    for (room, held, replies) in [(0, 0, 0), (usize::MAX, 50, 1)] {
        world.at(9.0);
        let mut peer = peer_asking("missing");
        (peer.room, peer.held) = (room, held);
        let mut conn = Conn::new(&mut peer, SocketAddr::from(([127, 0, 0, 1], 1)), 1, world.start);
        assert_eq!(world.turn(&mut conn), Turn::Wait(until));
        world.at(12.0);
        assert_eq!(world.turn(&mut conn), Turn::Close(Reason::IdleTimeout));
        assert_eq!((conn.replies, conn.transport.finished), (replies, false));
        conn.close(Reason::IdleTimeout, &world.limits, &mut world.digests, &mut world.log_limit, Waiter(1), world.now);
        assert!(peer.aborted);
    }
}

/// Every byte that leaves the kernel is progress, and nothing is over before the last one.
#[test]
fn a_connection_ends_when_its_peer_has_the_last_byte() {
    let mut world = World::new("held");
    world.file("a", 5);
    let mut peer = peer_asking("a");
    let mut conn = world.conn(&mut peer);
    world.turn(&mut conn);
    world.at(1.0);
    conn.transport.held = 500_000;
    let mut progress = 1.0;
    for (seconds, held) in
        [(1.0, 500_000), (60.0, 499_999), (119.0, 499_999), (119.9, 300_000), (179.0, u32::MAX), (179.8, 1)]
    {
        world.at(seconds);
        conn.transport.held = held;
        if [499_999, 300_000, 1].contains(&held) && seconds != 119.0 {
            progress = seconds;
        }
        let until = world.start + Duration::from_secs_f64(progress) + world.limits.idle_timeout;
        assert_eq!(world.turn(&mut conn), Turn::Wait(until), "{held} left at {seconds} s");
        assert_eq!((conn.replies, conn.bytes, conn.reason_to_stop()), (1, 5, None), "sent, and still under way");
    }
    conn.transport.held = 0;
    assert_eq!(world.turn(&mut conn), Turn::Wait(world.now + LINGER_TIME));
    assert!(conn.transport.finished);
    // Nobody has them if the connection is cut.
    world.at(0.0);
    let mut peer = peer_asking("missing");
    peer.held = 7;
    let mut conn = world.conn(&mut peer);
    world.turn(&mut conn);
    conn.transport.reset = true;
    assert_eq!(world.turn(&mut conn), Turn::Close(Reason::ResetByPeer));
}

/// Linux reports a reset behind the end of input to nobody who reads.
#[test]
fn a_peer_that_has_gone_behind_its_end_of_input_is_not_waited_for() {
    let mut world = World::new("gone");
    world.file("big", 1 << 20);
    let mut peer = peer_asking("big");
    peer.ended = true;
    let mut conn = world.conn(&mut peer);
    assert!(matches!(world.turn(&mut conn), Turn::Wait(_)), "its end is no reason to drop what it has asked");
    conn.transport.reset = true;
    assert_eq!(world.turn(&mut conn), Turn::Close(Reason::ResetByPeer));
}
