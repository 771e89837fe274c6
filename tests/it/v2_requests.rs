//! Version 2 on the raw socket: requests in every shape, right and wrong, alone and in pipelines.

use std::io::Write;

use crate::harness::content::Random;
use crate::harness::wire::drain;
use crate::harness::wire2::{
    BAD_REQUEST, BLAKE3, End, Frame, Get, NO_DATA, NOT_FOUND, Peer, REHASH, UNSUPPORTED, frame, header,
};
use crate::harness::{Scratch, Server, content, logfile, process, serve};

/// Payload of a GET at most: 28 bytes and a name of 4096.
const REQUEST_MAX: usize = 4124;

/// Files `0` to `9` of these sizes.
const SIZES: [usize; 10] = [0, 1, 100, 4096, 70_000, 262_144, 262_145, 5, 33_333, 900_000];

fn share_ten(scratch: &Scratch) -> Vec<Vec<u8>> {
    let bodies: Vec<Vec<u8>> = SIZES.iter().enumerate().map(|(seed, size)| content(seed as u64, *size)).collect();
    for (number, body) in bodies.iter().enumerate() {
        scratch.share(number.to_string(), body);
    }
    bodies
}

/// Requests for these files in turn, with both digests.
fn requests(count: usize) -> Vec<Get> {
    (0..count).map(|number| Get::of((number % 10).to_string()).with(if number % 3 == 0 { BLAKE3 } else { 1 })).collect()
}

fn assert_still_answers(peer: &mut Peer) {
    peer.get(&Get::of("f")).assert_brings(b"fine");
}

/// A connection says these bytes; the answer must be this one error, and the connection go on.
fn assert_refused(peer: &mut Peer, bytes: &[u8], code: u16, what: &str) {
    peer.say(bytes);
    match peer.frame() {
        Some(Frame::Error(found, message)) if found == code && !message.is_empty() => {}
        other => panic!("{what}: ERROR {code} expected, got {other:?}"),
    }
    assert_still_answers(peer);
}

/// The same, and then the end.
fn assert_ends_it(server: &Server, bytes: &[u8], what: &str) {
    let mut peer = Peer::dial(server.addr);
    assert_still_answers(&mut peer);
    peer.say(bytes);
    match peer.frame() {
        Some(Frame::Error(BAD_REQUEST, message)) if !message.is_empty() => {}
        other => panic!("{what}: ERROR {BAD_REQUEST} expected, got {other:?}"),
    }
    peer.assert_end();
}

#[test]
fn two_hundred_requests_in_one_write_are_answered_in_order() {
    let scratch = Scratch::new();
    let bodies = share_ten(&scratch);
    let server = Server::of(&scratch);
    let gets = requests(200);
    let mut peer = Peer::dial(server.addr);
    peer.say(&gets.iter().flat_map(Get::bytes).collect::<Vec<u8>>());
    for (number, get) in gets.iter().enumerate() {
        peer.reply(get).assert_brings(&bodies[number % 10]);
    }
    drop(peer);
    let log = server.stop_content().log;
    assert!(log.contains("200 replies, "), "{log}");
    assert_eq!(log.matches("connection from ").count(), 1, "{log}");
}

#[test]
fn a_pipeline_that_comes_byte_by_byte() {
    let scratch = Scratch::new();
    let bodies = share_ten(&scratch);
    let server = Server::of(&scratch);
    let gets = requests(10);
    let mut peer = Peer::dial(server.addr);
    peer.stream.set_nodelay(true).unwrap();
    for byte in gets.iter().flat_map(Get::bytes) {
        peer.say(&[byte]);
    }
    for (number, get) in gets.iter().enumerate() {
        peer.reply(get).assert_brings(&bodies[number]);
    }
    drop(peer);
    server.stop_content();
}

/// Every split of two requests in two writes, the second of which comes when the first must have been read.
#[test]
fn a_pipeline_cut_at_every_byte() {
    let scratch = Scratch::new();
    scratch.share("f", b"fine");
    let server = Server::of(&scratch);
    let bytes = [Get::of("f").bytes(), Get::of("f").bytes()].concat();
    let mut peer = Peer::dial(server.addr);
    peer.stream.set_nodelay(true).unwrap();
    for split in 1..bytes.len() {
        let (first, second) = bytes.split_at(split);
        peer.say(first);
        // Another connection's round trip: by then the server has had its turn.
        assert_still_answers(&mut Peer::dial(server.addr));
        peer.say(second);
        (0..2).for_each(|_| peer.reply(&Get::of("f")).assert_brings(b"fine"));
    }
    drop(peer);
    server.stop_content();
}

#[test]
fn a_refusal_in_the_middle_of_a_pipeline_ends_nothing() {
    let scratch = Scratch::new();
    let bodies = share_ten(&scratch);
    let server = Server::of(&scratch);
    let gets = requests(10);
    let good = |range: std::ops::Range<usize>| gets[range].iter().flat_map(Get::bytes).collect::<Vec<u8>>();
    let refused = [Get::of("none").bytes(), frame(0x02, b"list"), Get::of("").bytes(), Get::of("../5").bytes()];
    let mut peer = Peer::dial(server.addr);
    peer.say(&[good(0..5), refused.concat(), good(5..10)].concat());
    for number in 0..10 {
        if number == 5 {
            let codes = (0..4).map(|_| peer.reply(&Get::of("none")).refusal());
            assert_eq!(codes.collect::<Vec<u16>>(), [NOT_FOUND, UNSUPPORTED, BAD_REQUEST, NOT_FOUND]);
        }
        peer.reply(&gets[number]).assert_brings(&bodies[number]);
    }
    drop(peer);
    server.stop();
}

/// Frames of a later version are skipped, whatever is in them.
#[test]
fn unknown_and_reserved_frames_are_skipped() {
    let scratch = Scratch::new();
    scratch.share("f", b"fine");
    let server = Server::of(&scratch);
    let mut peer = Peer::dial(server.addr);
    for kind in 0x02..=0x0f {
        for length in [0, 1, 28, REQUEST_MAX] {
            let what = format!("type {kind:#x} with {length} bytes");
            assert_refused(&mut peer, &frame(kind, &vec![0x01; length]), UNSUPPORTED, &what);
        }
        // The first frame of a connection is treated no otherwise.
        assert_refused(&mut Peer::dial(server.addr), &frame(kind, b"x"), UNSUPPORTED, &format!("type {kind:#x} first"));
    }
    server.stop();
}

#[test]
fn what_a_later_version_may_mean_is_unsupported() {
    let scratch = Scratch::new();
    scratch.share("f", b"fine");
    let server = Server::of(&scratch);
    let mut peer = Peer::dial(server.addr);
    for algorithm in [0, 3, 4, 0x7f, 0xff] {
        let get = Get::of("f").with(algorithm);
        assert_refused(&mut peer, &get.bytes(), UNSUPPORTED, &format!("{get:?}"));
    }
    for flag in (2..8).map(|bit| 1 << bit) {
        for flags in [flag, flag | NO_DATA, flag | REHASH] {
            let get = Get { flags, ..Get::of("f") };
            assert_refused(&mut peer, &get.bytes(), UNSUPPORTED, &format!("{get:?}"));
        }
    }
    for zero in [1, 0x8000, 0xffff] {
        let get = Get { zero, ..Get::of("f") };
        assert_refused(&mut peer, &get.bytes(), UNSUPPORTED, &format!("{get:?} with {zero:#x}"));
    }
    server.stop();
}

#[test]
fn requests_that_can_never_become_one_are_refused_alone() {
    let scratch = Scratch::new();
    scratch.share("f", b"fine");
    let server = Server::of(&scratch);
    let mut peer = Peer::dial(server.addr);
    for name in [&b""[..], b"\0", b"f\0", b"\0f", b"f\0.txt"] {
        assert_refused(&mut peer, &Get::of(name).bytes(), BAD_REQUEST, &format!("name {:?}", name.escape_ascii()));
    }
    for length in 0..28 {
        assert_refused(&mut peer, &frame(0x01, &vec![1; length]), BAD_REQUEST, &format!("a GET of {length} bytes"));
    }
    // The longest name is one; it only is not there.
    assert_refused(&mut peer, &Get::of([b'n'; 4096]).bytes(), NOT_FOUND, "a name of 4096 bytes");
    server.stop();
}

/// The length alone is enough: nothing waits for such a payload.
#[test]
fn oversized_frames_end_the_connection() {
    let scratch = Scratch::new();
    scratch.share("f", b"fine");
    let server = Server::of(&scratch);
    for kind in [0x01, 0x02, 0x0f] {
        for length in [REQUEST_MAX as u32 + 1, 65_536, 0x00ff_ffff] {
            let what = format!("type {kind:#x}, length {length}");
            assert_ends_it(&server, &header(kind, length), &what);
            assert_ends_it(&server, &[&header(kind, length)[..], &[b'n'; 60_000]].concat(), &what);
        }
    }
    server.stop();
}

#[test]
fn any_other_first_byte_ends_the_connection() {
    let scratch = Scratch::new();
    scratch.share("f", b"fine");
    let server = Server::of(&scratch);
    for kind in (0..=u8::MAX).filter(|kind| !(0x01..=0x0f).contains(kind)) {
        assert_ends_it(&server, &[kind], &format!("{kind:#x} alone"));
        assert_ends_it(&server, &[kind, 0, 0, 1, b'f'], &format!("a frame of type {kind:#x}"));
    }
    server.stop();
}

/// What was asked before is answered first.
#[test]
fn a_pipeline_before_the_mistake_is_answered() {
    let scratch = Scratch::new();
    let bodies = share_ten(&scratch);
    let server = Server::of(&scratch);
    let gets = requests(10);
    for mistake in [&b"GET / HTTP/1.1\r\n\r\n"[..], &header(0x01, 70_000), &[0; 100]] {
        let mut peer = Peer::dial(server.addr);
        peer.say(&[gets.iter().flat_map(Get::bytes).collect(), mistake.to_vec()].concat());
        for (number, get) in gets.iter().enumerate() {
            peer.reply(get).assert_brings(&bodies[number]);
        }
        assert_eq!(peer.reply(&gets[0]).refusal(), BAD_REQUEST);
        peer.assert_end();
    }
    server.stop();
}

/// A client that says that it will ask no more still wants what it has asked for.
#[test]
fn end_of_input_behind_whole_requests() {
    let scratch = Scratch::new();
    let bodies = share_ten(&scratch);
    let server = Server::of(&scratch);
    for count in [0, 1, 30] {
        let gets = requests(count);
        let mut peer = Peer::dial(server.addr);
        peer.say(&gets.iter().flat_map(Get::bytes).collect::<Vec<u8>>());
        peer.finish_asking();
        for (number, get) in gets.iter().enumerate() {
            peer.reply(get).assert_brings(&bodies[number % 10]);
        }
        peer.assert_end();
    }
    let log = server.stop_content().log;
    assert_eq!(logfile::reasons(&log), ["peer closed", "complete", "complete"], "{log}");
}

/// The whole ones are answered, and nothing for the half one.
#[test]
fn end_of_input_within_a_request() {
    let scratch = Scratch::new();
    scratch.share("f", b"fine");
    let server = Server::of(&scratch);
    let get = Get::of("f");
    for half in 1..get.bytes().len() {
        for whole in [0, 2] {
            let mut peer = Peer::dial(server.addr);
            peer.say(&[get.bytes().repeat(whole), get.bytes()[..half].to_vec()].concat());
            peer.finish_asking();
            (0..whole).for_each(|_| peer.reply(&get).assert_brings(b"fine"));
            match peer.frame() {
                None | Some(Frame::Error(BAD_REQUEST, _)) => {}
                other => panic!("{half} bytes of a request are answered by {other:?}"),
            }
        }
    }
    server.stop();
}

/// A client that asks and asks, and reads nothing: the server takes in no more than it has room for.
#[test]
fn requests_without_end_take_no_memory() {
    let scratch = Scratch::new();
    scratch.share_sparse("big", 30_000_000);
    scratch.share("f", b"fine");
    let server = Server::start(serve(&scratch));
    let get = Get::of([b'n'; 4000]);
    let asked = [Get::of("big").bytes(), get.bytes().repeat(5_000)].concat();
    let mut peer = Peer::dial_slowly(server.addr);
    let mut asking = peer.stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || asking.write_all(&asked).unwrap());
        assert_still_answers(&mut Peer::dial(server.addr));
        assert_eq!(peer.reply(&Get::of("big")).body.len(), 30_000_000);
        for number in 0..5_000 {
            assert_eq!(peer.reply(&get).refusal(), NOT_FOUND, "request {number}");
        }
    });
    let peak = process::peak_resident_kib(server.pid());
    assert!(peak < 30_000, "{peak} KiB resident at the peak, 20 MB were asked");
    server.stop();
}

/// Pipelines with a few bytes wrong, and anything else that begins like version 2.
#[test]
fn noise_does_not_stop_the_server() {
    let scratch = Scratch::new();
    scratch.share("f", b"fine");
    let server = Server::of(&scratch);
    let mut random = Random::new(3);
    for _ in 0..300 {
        let mut bytes = Get::of("f").bytes().repeat(1 + random.below(4) as usize);
        for _ in 0..random.below(6) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.next() as u8;
        }
        bytes[0] = random.below(16) as u8;
        bytes.truncate(1 + random.below(bytes.len() as u64) as usize);
        let mut peer = Peer::dial(server.addr);
        // Refused and closed already, perhaps: that is an answer too.
        let _ = peer.stream.write_all(&bytes);
        let _ = peer.stream.shutdown(std::net::Shutdown::Write);
        drain(&mut peer.stream);
    }
    assert_still_answers(&mut Peer::dial(server.addr));
    server.stop();
}

/// Offsets and sizes at the ends of their range are numbers like any other.
#[test]
fn extreme_numbers() {
    let scratch = Scratch::new();
    scratch.share("f", b"fine");
    let server = Server::of(&scratch);
    let mut peer = Peer::dial(server.addr);
    for offset in [0, 1, 4, 5, u64::from(u32::MAX), 1 << 62, (1 << 63) - 1, 1 << 63, u64::MAX] {
        let get = Get::of("f").resuming(offset, [0xff; 16]);
        peer.get(&get).assert_brings(b"fine");
        let get = Get::of("f").digest_only(offset);
        let reply = peer.get(&get);
        assert_eq!(reply.end == End::SizesDiffer, offset != 4, "{get:?}: {reply:?}");
    }
    drop(peer);
    server.stop_content();
}
