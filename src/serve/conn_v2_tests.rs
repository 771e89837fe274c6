//! Version 2: frames in, frames out, many requests a connection.

use super::*;
use crate::proto::digest::Algorithm;
use crate::proto::v2::{File, Reply as Frame};
use crate::proto::{Version, Wanted};

/// What a GET asks for that says no more than a name.
pub fn ask(name: &str, wanted: Wanted) -> Vec<u8> {
    ask_with(name, wanted, Algorithm::Md5, false)
}

fn ask_with(name: &str, wanted: Wanted, algorithm: Algorithm, rehash: bool) -> Vec<u8> {
    v2::encode_get(&Request { name: name.as_bytes(), algorithm, wanted, rehash })
}

pub fn peer_saying(pieces: impl IntoIterator<Item = Vec<u8>>) -> Peer {
    Peer { input: pieces.into_iter().collect(), room: usize::MAX, ..Peer::default() }
}

/// The frames that a peer got, those of data joined into one, and the bytes of them all.
fn heard(peer: &Peer) -> (Vec<Frame>, Vec<u8>) {
    let bytes = peer.writes.concat();
    let (mut rest, mut frames, mut data) = (&bytes[..], Vec::new(), Vec::new());
    while let Some((used, frame)) = v2::parse_reply(rest).expect("frames of a server") {
        rest = &rest[used..];
        match (frame, frames.last_mut()) {
            (Frame::Data(more), last) => {
                let len = rest.len().min(more as usize);
                data.extend_from_slice(&rest[..len]);
                rest = &rest[len..];
                match last {
                    Some(Frame::Data(joined)) => *joined += more,
                    _ => frames.push(Frame::Data(more)),
                }
            }
            (frame, _) => frames.push(frame),
        }
    }
    (frames, data)
}

/// Frames as a word each.
pub fn words(peer: &Peer) -> Vec<String> {
    let word = |frame: Frame| match frame {
        Frame::File(File { sizes_differ: true, .. }) => String::from("differs"),
        Frame::File(file) => format!("file@{}", file.offset),
        Frame::Data(len) => format!("data {len}"),
        Frame::Wait { done, total } => format!("wait {done}/{total}"),
        Frame::Digest(digest) => digest.algorithm().to_string(),
        Frame::Error(code, _) => format!("error {}", code.number()),
    };
    heard(peer).0.into_iter().map(word).collect()
}

impl World {
    /// Turns until one waits or closes.
    fn settle(&mut self, conn: &mut Conn<&mut Peer>) -> Turn {
        loop {
            let turn = self.turn(conn);
            assert!(!conn.transport.held_back || conn.transport.room == 0, "nothing follows a header that waits");
            match turn {
                Turn::Yield => {}
                Turn::Pause(_) => std::thread::sleep(Duration::from_millis(1)),
                turn => return turn,
            }
        }
    }

    /// Answers everything that a peer says at once; the words of what it got.
    fn answers(&mut self, pieces: impl IntoIterator<Item = Vec<u8>>) -> Vec<String> {
        let mut peer = peer_saying(pieces);
        peer.ended = true;
        let mut conn = self.conn(&mut peer);
        loop {
            match self.settle(&mut conn) {
                Turn::Close(_) => break,
                _ => self.hash(&mut conn),
            }
        }
        drop(conn);
        words(&peer)
    }

    fn version(&mut self, name: &str) -> Version {
        self.root.file(name.as_bytes(), self.now).expect("it is there").file.version()
    }

    fn change(&self, name: &str, bytes: &[u8]) {
        fs::write(self.dir.join(name), bytes).expect("the file can be changed");
    }

    fn idle_at(&self, seconds: f64) -> Turn {
        Turn::Wait(self.start + Duration::from_secs_f64(seconds))
    }
}

#[test]
fn a_file_is_described_sent_and_verified_and_the_connection_kept() {
    let mut world = World::new("v2-whole");
    world.change("a", b"body");
    let mut peer = peer_saying([ask("a", Wanted::ALL)]);
    let mut conn = world.conn(&mut peer);
    assert_eq!(world.settle(&mut conn), world.idle_at(60.0));
    assert_eq!((conn.idle_since(), conn.input.capacity(), conn.bytes), (Some(world.start), 0, 4));
    assert!(!conn.transport.finished);
    let file = world.root.file(b"a", world.now).expect("it is there").file;
    let (frames, data) = heard(conn.transport);
    let digest = Digest::Md5(*b"\x84\x1a\x2d\x68\x9a\xd8\x6b\xd1\x61\x14\x47\x45\x3c\x22\xc6\xfc");
    let described = File {
        size: 4,
        offset: 0,
        mtime: file.stamp.mtime,
        mode: file.mode,
        version: file.version(),
        algorithm: Algorithm::Md5,
        sizes_differ: false,
        digest: Some(digest),
    };
    assert_eq!(frames[..2], [Frame::File(described), Frame::Data(4)]);
    assert_eq!((frames.len(), &frames[2], &data[..]), (3, &Frame::Digest(digest), &b"body"[..]));
    // The next one on the same connection, in the other algorithm.
    world.at(59.0);
    conn.transport.input.push_back(ask_with("a", Wanted::ALL, Algorithm::Blake3, false));
    assert_eq!(world.settle(&mut conn), world.idle_at(119.0));
    assert_eq!(words(conn.transport)[3..], ["file@0", "data 4", "blake3"]);
}

#[test]
fn small_replies_share_a_write_and_a_window_follows_its_header() {
    let mut world = World::new("v2-gathered");
    world.change("a", &[b'x'; 1000]);
    world.file("big", 60_000);
    let small = ask("a", Wanted::ALL).repeat(3);
    let mut peer = peer_saying([[small, ask("big", Wanted::ALL)].concat()]);
    let mut conn = world.conn(&mut peer);
    world.settle(&mut conn);
    let writes: Vec<usize> = conn.transport.writes.iter().map(Vec::len).collect();
    assert_eq!(writes.len(), 3, "three files and the first frame of the fourth, its second one, the rest: {writes:?}");
    assert_eq!(writes[1], 32 * 1024);
    drop(conn);
    let four = ["file@0", "data 1000", "md5"].repeat(3).into_iter().chain(["file@0", "data 60000", "md5"]);
    assert!(words(&peer).into_iter().eq(four), "{:?}", words(&peer));
}

/// A peer that asks and does not read costs little memory; it gets it all when it does.
#[test]
fn what_a_peer_does_not_take_is_bounded_and_comes_later() {
    let mut world = World::new("v2-unsent");
    world.change("a", &[b'x'; 4000]);
    let mut peer = peer_saying([ask("a", Wanted::ALL).repeat(50)]);
    peer.room = 0;
    peer.ended = true;
    let mut conn = world.conn(&mut peer);
    assert_eq!(world.settle(&mut conn), world.idle_at(60.0));
    let kept = conn.unsent.len();
    assert!((1..=GATHERED_ENOUGH + GATHERED_MAX as usize + 100).contains(&kept), "{kept} bytes are kept");
    // What goes through moves the deadline on, and nothing else does.
    world.at(50.0);
    conn.transport.room = 1;
    assert_eq!(world.settle(&mut conn), world.idle_at(110.0));
    world.at(109.0);
    assert_eq!(world.settle(&mut conn), world.idle_at(110.0));
    while !matches!(world.settle(&mut conn), Turn::Close(Reason::Complete)) {
        assert_eq!(conn.transport.room, 0);
        conn.transport.room = 7777;
    }
    assert_eq!(conn.unsent.capacity(), 0);
    drop(conn);
    assert_eq!(words(&peer), ["file@0", "data 4000", "md5"].repeat(50));
}

/// What lies in our own memory when the peer goes was not sent.
#[test]
fn only_what_the_kernel_took_counts() {
    let mut world = World::new("v2-counts");
    world.change("a", &[b'x'; 1000]);
    let asked = [ask("a", Wanted::ALL).repeat(3), ask("missing", Wanted::ALL)].concat();
    let mut peer = peer_saying([asked.clone()]);
    let mut conn = world.conn(&mut peer);
    world.settle(&mut conn);
    let (all, reply) = (conn.transport.writes.concat().len(), 76 + 1000 + 20);
    drop(conn);
    for room in 0..=all {
        // As between two turns: small files may be hashed on the spot again.
        assert!(world.digests.run(Duration::ZERO, Instant::now).is_empty());
        let mut peer = peer_saying([asked.clone()]);
        peer.room = room;
        let mut conn = world.conn(&mut peer);
        world.settle(&mut conn);
        let replies = (room / reply).min(3) + usize::from(room == all);
        // FILE, here with the digest, and the header of DATA.
        let bytes: usize = (0..3).map(|n| room.saturating_sub(n * reply + 76).min(1000)).sum();
        assert_eq!((conn.replies, conn.bytes), (replies as u64, bytes as u64), "{room} of {all} bytes");
    }
}

#[test]
fn a_reply_goes_on_where_the_client_stopped_if_it_is_the_same_file() {
    let mut world = World::new("v2-resume");
    let content: Vec<u8> = (0..600_000u32).map(|n| n as u8).collect();
    world.change("a", &content);
    let version = world.version("a");
    let stale = Version([7; 16]);
    let rows = [
        (0, version, 0),
        (1, version, 1),
        (299_999, version, 299_999),
        (600_000, version, 600_000),
        (600_001, version, 0),
        (u64::MAX, version, 0),
        (1000, stale, 0),
        (1000, Version::UNKNOWN, 0),
    ];
    for (offset, version, from) in rows {
        let mut peer = peer_saying([ask("a", Wanted::Bytes { offset, version })]);
        let mut conn = world.conn(&mut peer);
        world.settle(&mut conn);
        world.hash(&mut conn);
        world.settle(&mut conn);
        assert_eq!((conn.bytes, conn.replies), (600_000 - from, 1), "{offset}");
        drop(conn);
        let (_, data) = heard(&peer);
        assert!(data == content[from as usize..], "{offset}: {} bytes", data.len());
        let data = format!("data {}", 600_000 - from);
        let first = format!("file@{from}");
        match from {
            600_000 => assert_eq!(words(&peer), [&first, "md5"]),
            _ => assert_eq!(words(&peer), [&first, &data, "md5"], "{offset}"),
        }
    }
}

#[test]
fn no_frame_is_longer_than_a_window_or_follows_nothing() {
    let mut world = World::new("v2-frames");
    world.change("a", &[1; 600_000]);
    let mut peer = peer_saying([ask("a", Wanted::ALL)]);
    // One byte at a time fits while a header goes out: it is neither lost nor repeated.
    peer.room = 0;
    let mut conn = world.conn(&mut peer);
    for _ in 0..4000 {
        conn.transport.room += if conn.bytes % 262_144 < 10 { 1 } else { 5000 };
        world.settle(&mut conn);
        world.hash(&mut conn);
    }
    drop(conn);
    let (bytes, mut at, mut lengths) = (peer.writes.concat(), 0, Vec::new());
    while let Some((used, frame)) = v2::parse_reply(&bytes[at..]).expect("frames") {
        at += used;
        if let Frame::Data(len) = frame {
            lengths.push(len);
            at += len as usize;
        }
    }
    assert_eq!((at, lengths.iter().sum::<u32>()), (bytes.len(), 600_000));
    let first: [u32; 5] = std::array::from_fn(|number| 16_384 << number);
    assert!(lengths.starts_with(&first) && lengths.iter().all(|len| *len <= 262_144), "{lengths:?}");
}

#[test]
fn only_a_digest_is_sent_to_who_has_as_many_bytes_and_not_even_that_to_others() {
    let mut world = World::new("v2-digest");
    world.file("a", 600_000);
    assert_eq!(world.answers([ask("a", Wanted::Digest { size: 599_999 })]), ["differs"]);
    assert!(world.digests.is_empty(), "no job for what nobody wants");
    assert_eq!(world.answers([ask("a", Wanted::Digest { size: 600_000 })]), ["file@600000", "md5"]);
}

/// Everything that can be asked, in one pipeline.
fn pipeline(world: &World) -> (Vec<u8>, [&'static str; 11]) {
    world.change("a", b"body");
    world.change("b", b"another");
    let frames = [
        ask("a", Wanted::ALL),
        ask("missing", Wanted::ALL),
        vec![0x02, 0, 0, 3, b'x', b'y', b'z'],
        vec![0x0f, 0, 0, 0],
        vec![v2::GET, 0, 0, 2, 1, 0],
        ask("b", Wanted::Digest { size: 1 }),
        ask("b", Wanted::ALL),
    ];
    let answers =
        ["file@0", "data 4", "md5", "error 1", "error 8", "error 8", "error 2", "differs", "file@0", "data 7", "md5"];
    (frames.concat(), answers)
}

#[test]
fn requests_in_a_pipeline_are_answered_in_order_however_they_are_cut() {
    let mut world = World::new("v2-pipeline");
    let (bytes, answers) = pipeline(&world);
    assert_eq!(world.answers([bytes.clone()]), answers);
    for split in 1..bytes.len() {
        let (front, back) = bytes.split_at(split);
        assert_eq!(world.answers([front.to_vec(), vec![], back.to_vec()]), answers, "split at {split}");
    }
    assert_eq!(world.answers(bytes.iter().map(|byte| vec![*byte])), answers);
}

#[test]
fn nothing_is_read_while_a_reply_is_under_way() {
    let mut world = World::new("v2-unread");
    world.file("big", 600_000);
    let mut peer = peer_saying([ask("big", Wanted::ALL), ask("big", Wanted::ALL)]);
    peer.room = 1000;
    let mut conn = world.conn(&mut peer);
    world.settle(&mut conn);
    assert_eq!(conn.transport.input.len(), 1);
    conn.transport.room = usize::MAX;
    world.settle(&mut conn);
    assert_eq!((conn.transport.input.len(), conn.replies), (1, 0), "still without its digest");
    world.hash(&mut conn);
    world.settle(&mut conn);
    assert_eq!((conn.transport.input.len(), conn.replies), (0, 1));
}

#[test]
fn a_pipeline_of_small_requests_leaves_others_their_turns() {
    let mut world = World::new("v2-fair");
    world.change("a", b"body");
    let mut peer = peer_saying([ask("a", Wanted::ALL).repeat(100), ask("missing", Wanted::ALL).repeat(100)]);
    let mut conn = world.conn(&mut peer);
    for turns in 1.. {
        let turn = world.turn(&mut conn);
        assert!(conn.replies <= turns * (TURN_BUDGET / REQUEST_COST) as u64, "{} in {turns} turns", conn.replies);
        if turn != Turn::Yield {
            break;
        }
    }
    assert_eq!(conn.replies, 200);
}

#[test]
fn what_cannot_be_understood_ends_the_connection_behind_the_answers_before_it() {
    let mut world = World::new("v2-bad");
    world.change("a", b"body");
    let oversize = vec![v2::GET, 0, 0x10, 0x1d];
    for bad in [oversize, vec![0x10, 0, 0, 0], vec![0], b"GET / HTTP/1.1".to_vec()] {
        let mut peer = peer_saying([ask("a", Wanted::ALL), bad, ask("a", Wanted::ALL)]);
        let mut conn = world.conn(&mut peer);
        assert_eq!(world.settle(&mut conn), Turn::Wait(world.now + LINGER_TIME));
        assert!(conn.transport.finished);
        conn.transport.ended = true;
        assert_eq!(world.settle(&mut conn), Turn::Close(Reason::BadRequest));
        assert_eq!(conn.replies, 2);
        drop(conn);
        assert_eq!(words(&peer), ["file@0", "data 4", "md5", "error 2"]);
    }
    // The longest that is allowed is only not found.
    let longest = ask(&"n".repeat(NAME_MAX), Wanted::ALL);
    assert_eq!(longest.len(), INPUT_MAX);
    assert_eq!(world.answers([longest]), ["error 1"]);
}

#[test]
fn the_end_of_input_drops_nothing_that_was_asked_whole() {
    let mut world = World::new("v2-end");
    world.change("a", b"body");
    let whole = ask("a", Wanted::ALL);
    for (said, reason, replies) in [
        (whole.clone(), Reason::Complete, 1),
        ([&whole[..], &whole[..10]].concat(), Reason::Complete, 1),
        (whole[..10].to_vec(), Reason::PeerClosed, 0),
    ] {
        let mut peer = peer_saying([said]);
        peer.ended = true;
        let mut conn = world.conn(&mut peer);
        assert_eq!(world.settle(&mut conn), Turn::Close(reason));
        assert_eq!(conn.replies, replies);
    }
}

#[test]
fn who_waits_for_a_digest_hears_once_a_second_how_far_it_is() {
    let mut world = World::new("v2-wait");
    world.file("big", 600_000);
    let mut peer = peer_saying([ask("big", Wanted::ALL)]);
    let mut conn = world.conn(&mut peer);
    assert_eq!(world.settle(&mut conn), world.idle_at(1.0));
    let sent = ["file@0", "data 600000"];
    assert_eq!(words(conn.transport), sent);
    world.at(0.9);
    assert_eq!(world.settle(&mut conn), world.idle_at(1.0));
    world.at(1.0);
    assert_eq!(world.settle(&mut conn), world.idle_at(2.0));
    assert_eq!(words(conn.transport)[2..], ["wait 0/600000"]);
    // One step of the job.
    let mut clock = [world.now, world.now + Duration::from_secs(1)].into_iter();
    world.digests.run(Duration::from_secs(1), || clock.next().expect("one step"));
    world.at(2.0);
    world.settle(&mut conn);
    assert_eq!(words(conn.transport)[3..], ["wait 131072/600000"]);
    world.hash(&mut conn);
    world.at(2.5);
    assert_eq!(world.settle(&mut conn), world.idle_at(62.5));
    assert_eq!(words(conn.transport)[4..], ["md5"]);
}

#[test]
fn who_takes_nothing_of_what_is_owed_is_cut() {
    let mut world = World::new("v2-idle");
    world.file("big", 600_000);
    // In FILE, in DATA, and in the first WAIT.
    for room in [0, 10_000, 80_000 + 600_000] {
        world.now = world.start;
        let mut peer = peer_saying([ask("big", Wanted::ALL)]);
        let mut conn = world.conn(&mut peer);
        conn.transport.room = room;
        let turn = world.settle(&mut conn);
        conn.transport.room = 0;
        let Turn::Wait(first) = turn else { panic!("{turn:?}") };
        world.now = first;
        let turn = match world.settle(&mut conn) {
            Turn::Wait(next) => {
                world.now = next;
                world.settle(&mut conn)
            }
            turn => turn,
        };
        assert_eq!(turn, Turn::Close(Reason::IdleTimeout), "after {room} bytes");
        world.digests.leave(Waiter(1));
    }
}

#[test]
fn a_file_that_changes_between_frames_ends_its_reply_and_no_other() {
    let mut world = World::new("v2-border");
    for change in ["shorter", "written", "longer", "after the last byte"] {
        let content = vec![1; 2_400_000];
        world.change("big", &content);
        world.change("a", b"body");
        let mut peer = peer_saying([ask("big", Wanted::ALL), ask("a", Wanted::ALL)]);
        let mut conn = world.conn(&mut peer);
        let all = change == "after the last byte";
        while conn.bytes < if all { 2_400_000 } else { 1 } {
            world.turn(&mut conn);
        }
        match change {
            "shorter" => world.change("big", &content[..100_000]),
            "longer" => world.change("big", &[&content[..], b"more"].concat()),
            _ => world.change("big", &vec![2; 2_400_000]),
        }
        if all {
            world.hash(&mut conn);
        }
        world.settle(&mut conn);
        assert!(world.digests.progress(Waiter(1)).is_none(), "{change}: the job is left");
        drop(conn);
        let words = words(&peer);
        assert_eq!(words[2..], ["error 4", "file@0", "data 4", "md5"], "{change}: {words:?}");
        assert_eq!(all, words[1] == "data 2400000", "{change}: {words:?}");
        world.digests = Digests::default();
    }
}

/// Its digest may be known long before its last byte goes out.
#[test]
fn a_file_that_changes_inside_its_last_frame_has_no_digest() {
    let mut world = World::new("v2-last");
    world.change("big", &[1; 200_000]);
    let mut peer = peer_saying([ask("big", Wanted::ALL)]);
    // The frames before the last one have 16 + 32 + 64 KiB.
    peer.room = 150_000;
    let mut conn = world.conn(&mut peer);
    world.settle(&mut conn);
    world.hash(&mut conn);
    world.change("big", &[2; 200_000]);
    conn.transport.room = usize::MAX;
    world.settle(&mut conn);
    drop(conn);
    assert_eq!(words(&peer), ["file@0", "data 200000", "error 4"]);
}

/// A frame that was begun is filled, since its length has been announced.
#[test]
fn a_file_that_ends_inside_a_frame_leaves_zeros_and_an_error_behind_them() {
    let mut world = World::new("v2-inside");
    for size in [600_000, 200_000] {
        world.change("big", &vec![1; size]);
        world.change("a", b"body");
        let mut peer = peer_saying([ask("big", Wanted::ALL), ask("a", Wanted::ALL)]);
        peer.room = 60_000;
        let mut conn = world.conn(&mut peer);
        world.settle(&mut conn);
        world.change("big", &vec![1; 50_000]);
        conn.transport.room = 10_000;
        world.settle(&mut conn);
        conn.transport.room = usize::MAX;
        world.settle(&mut conn);
        drop(conn);
        // The frames up to there have 16 + 32 + 64 KiB.
        let frame = 112 * 1024;
        let (_, data) = heard(&peer);
        let real = data.iter().take_while(|byte| **byte == 1).count();
        assert!((50_000..60_000).contains(&real), "{real} bytes of the file");
        assert!(data[real..frame].iter().all(|byte| *byte == 0));
        assert_eq!(words(&peer)[1..], [&format!("data {frame}"), "error 4", "file@0", "data 4", "md5"]);
        world.digests = Digests::default();
    }
}

#[test]
fn a_digest_that_cannot_be_made_is_an_error_at_the_next_border() {
    let mut world = World::new("v2-no-digest");
    world.file("big", 600_000);
    let failures = [(Failure::Changed, "error 4"), (Failure::Unreadable(String::from("worn out")), "error 5")];
    for (failure, error) in failures {
        for room in [10, 1000, usize::MAX] {
            let mut peer = peer_saying([ask("big", Wanted::ALL)]);
            peer.room = room;
            let mut conn = world.conn(&mut peer);
            world.settle(&mut conn);
            conn.digest_done(&Err(failure.clone()));
            conn.transport.room = usize::MAX;
            world.settle(&mut conn);
            assert_eq!((conn.replies, conn.transport.aborted), (1, false));
            // The first two frames are announced together with the file.
            assert_eq!(conn.bytes, if room == usize::MAX { 600_000 } else { 48 * 1024 });
            drop(conn);
            assert_eq!(words(&peer).last().expect("frames"), error, "with room for {room} bytes");
            world.digests.leave(Waiter(1));
        }
    }
}

#[test]
fn when_the_server_stops_what_has_not_begun_is_turned_away() {
    let mut world = World::new("v2-stop");
    world.file("big", 600_000);
    let mut peer = peer_saying([[ask("big", Wanted::ALL), ask("big", Wanted::ALL)].concat(), ask("a", Wanted::ALL)]);
    peer.room = 1000;
    let mut conn = world.conn(&mut peer);
    world.settle(&mut conn);
    assert_eq!(conn.reason_to_stop(), None);
    world.stopping = true;
    conn.transport.room = usize::MAX;
    world.settle(&mut conn);
    world.hash(&mut conn);
    assert_eq!(world.settle(&mut conn), Turn::Wait(world.now + LINGER_TIME));
    assert!(conn.transport.finished);
    assert_eq!(words(conn.transport), ["file@0", "data 600000", "md5", "error 6", "error 6"]);
    conn.transport.ended = true;
    assert_eq!(world.settle(&mut conn), Turn::Close(Reason::Complete));
    // Nothing begun: whole and still to be read, half, idle.
    let whole = ask("a", Wanted::ALL);
    for (said, first, turned_away) in [(whole.clone(), false, 1), (whole[..9].to_vec(), false, 0), (whole, true, 0)] {
        world.stopping = false;
        let mut peer = Peer { room: usize::MAX, ..Peer::default() };
        let mut conn = world.conn(&mut peer);
        world.settle(&mut conn);
        conn.transport.input.push_back(said);
        if first {
            world.settle(&mut conn);
            conn.transport.writes.clear();
        }
        assert_eq!(conn.reason_to_stop(), Some(Reason::Shutdown));
        world.stopping = true;
        let turn = world.settle(&mut conn);
        assert_eq!(words(conn.transport), vec!["error 6"; turned_away]);
        match turned_away {
            1 => assert_eq!(turn, Turn::Wait(world.now + LINGER_TIME)),
            _ => assert_eq!(turn, Turn::Close(Reason::Shutdown)),
        }
    }
}

#[test]
fn a_connection_is_kept_only_so_long_and_a_request_has_its_time() {
    let mut world = World::new("v2-keep");
    world.change("a", b"body");
    let mut peer = peer_saying([ask("a", Wanted::ALL)]);
    let mut conn = world.conn(&mut peer);
    world.at(3.0);
    assert_eq!(world.settle(&mut conn), world.idle_at(63.0));
    // From its first byte on, however it trickles.
    world.at(62.0);
    conn.transport.input.push_back(vec![v2::GET]);
    assert_eq!(world.settle(&mut conn), world.idle_at(72.0));
    assert_eq!(conn.idle_since(), None);
    world.at(71.9);
    conn.transport.input.push_back(vec![0]);
    assert_eq!(world.settle(&mut conn), world.idle_at(72.0));
    conn.transport.input.push_back(ask("a", Wanted::ALL)[2..].to_vec());
    assert_eq!(world.settle(&mut conn), world.idle_at(131.9));
    world.at(131.9);
    assert_eq!(world.settle(&mut conn), Turn::Close(Reason::KeepAliveTimeout));
    conn.close(Reason::KeepAliveTimeout, &world.limits, &mut world.digests, &mut world.log_limit, Waiter(1), world.now);
    assert!(!peer.aborted);
    // Half of the first one, and half of a later one.
    for before in [0, 1] {
        world.at(0.0);
        let mut peer = peer_saying([ask("a", Wanted::ALL).repeat(before), vec![v2::GET]]);
        let mut conn = world.conn(&mut peer);
        assert_eq!(world.settle(&mut conn), world.idle_at(10.0));
        world.at(10.0);
        assert_eq!(world.settle(&mut conn), Turn::Close(Reason::RequestTimeout));
    }
}

#[test]
fn a_client_that_does_not_trust_a_digest_gets_a_job_of_its_own() {
    let mut world = World::new("v2-rehash");
    world.file("big", 600_000);
    let [mut usual, mut fresh] =
        [false, true].map(|rehash| peer_saying([ask_with("big", Wanted::ALL, Algorithm::Blake3, rehash)]));
    let (mut first, mut second) = (world.conn(&mut usual), world.conn(&mut fresh));
    world.settle(&mut first);
    assert_eq!(world.digests.len(), 1);
    world.settle(&mut second);
    assert_eq!(world.digests.len(), 2);
}
