//! Connections of version 2 that are kept after a reply: for the next request, and for as long as there is room.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::wire::{ask, dial, read_array, read_to_end};
use crate::harness::{Scratch, Server, cores, logfile, serve, wait_for};

const GET: u8 = 0x01;
const FILE: u8 = 0x10;
const DATA: u8 = 0x11;
const DIGEST: u8 = 0x13;
const ERROR: u8 = 0x1f;

/// Asks for all of a file, with MD5.
fn get(name: &str) -> Vec<u8> {
    let length = u32::try_from(28 + name.len()).unwrap().to_be_bytes();
    [&[GET], &length[1..], &[1, 0, 0, 0], &[0; 24], name.as_bytes()].concat()
}

/// The next frame: its type and its payload.
fn read_frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let [kind, length @ ..]: [u8; 4] = read_array(stream);
    let mut payload = vec![0; length.into_iter().fold(0, |sum, byte| sum << 8 | usize::from(byte))];
    stream.read_exact(&mut payload).unwrap();
    (kind, payload)
}

/// The types of the frames up to the end of a reply, and the bytes of the file.
fn read_reply(stream: &mut TcpStream) -> (Vec<u8>, Vec<u8>) {
    let (mut kinds, mut body) = (Vec::new(), Vec::new());
    loop {
        let (kind, payload) = read_frame(stream);
        kinds.push(kind);
        match kind {
            DATA => body.extend_from_slice(&payload),
            DIGEST | ERROR => return (kinds, body),
            _ => {}
        }
    }
}

/// A connection that has got its file and may ask again.
fn kept(addr: SocketAddr) -> TcpStream {
    let mut stream = dial(addr);
    assert_served(&mut stream);
    stream
}

fn assert_served(stream: &mut TcpStream) {
    stream.write_all(&get("a")).unwrap();
    assert_eq!(read_reply(stream), (vec![FILE, DATA, DIGEST], b"body".to_vec()));
}

#[test]
fn the_one_that_was_idle_for_the_longest_makes_room() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::start(serve(&scratch).args(["--max-conns", "3"]));
    let mut streams: Vec<TcpStream> = (0..3).map(|_| kept(server.addr)).collect();
    // The first is now the one that was idle for the shortest time.
    assert_served(&mut streams[0]);
    assert_eq!(server.log().matches("closed to make room").count(), 0, "nobody waits");
    let mut newcomers: Vec<TcpStream> = (0..2).map(|_| kept(server.addr)).collect();
    assert!(read_to_end(&mut streams[1]).is_empty() && read_to_end(&mut streams[2]).is_empty());
    for stream in newcomers.iter_mut().chain([&mut streams[0]]) {
        assert_served(stream);
    }
    let log = server.stop().log;
    assert_eq!(log.matches("reason: closed to make room").count(), 2, "{log}");
    assert_eq!(log.matches("accepting no connections").count(), 0, "{log}");
}

/// Who has not asked yet or waits for an answer keeps the place; then the newcomer waits.
#[test]
fn only_idle_ones_make_room() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::start(serve(&scratch).args(["--max-conns", "2"]));
    let mut silent = dial(server.addr);
    let mut half = kept(server.addr);
    half.write_all(&get("a")[..9]).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let mut third = dial(server.addr);
    third.write_all(&get("a")).unwrap();
    server.wait_for_log("accepting no connections");
    half.write_all(&get("a")[9..]).unwrap();
    assert_eq!(read_reply(&mut half).1, b"body");
    assert_eq!(read_reply(&mut third).1, b"body");
    assert!(read_to_end(&mut half).is_empty());
    assert_served(&mut silent);
    server.stop();
}

/// 128 descriptors, and hundreds of connections that stay: the latest are kept.
#[test]
fn out_of_descriptors_idle_ones_make_room() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::start(serve(&scratch).after("ulimit -n 128"));
    let _held: Vec<TcpStream> = (0..300).map(|_| kept(server.addr)).collect();
    assert!(ask(server.addr, b"a").ends_with(b"body"));
    let log = server.stop().log;
    assert!(log.matches("reason: closed to make room").count() >= 300 - 128, "{log}");
    assert_eq!(log.matches("accepting no connections").count(), 0, "{log}");
}

#[test]
fn a_long_pipeline_is_answered_also_behind_the_end_of_input() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    scratch.share_sparse("big", 3_000_000);
    let server = Server::of(&scratch);
    let mut stream = dial(server.addr);
    let names = |number: usize| ["a", "big", "none"][number % 3];
    let requests: Vec<u8> = (0..300).flat_map(|number| get(names(number))).collect();
    stream.write_all(&requests).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    for number in 0..300 {
        let (kinds, body) = read_reply(&mut stream);
        match names(number) {
            "a" => assert_eq!((&kinds[..], &body[..]), (&[FILE, DATA, DIGEST][..], &b"body"[..])),
            "big" => assert_eq!((kinds[0], body.len(), kinds.last()), (FILE, 3_000_000, Some(&DIGEST))),
            _ => assert_eq!((&kinds[..], body.len()), (&[ERROR][..], 0)),
        }
    }
    assert!(read_to_end(&mut stream).is_empty());
    let log = server.stop().log;
    assert_eq!(logfile::reasons(&log), ["complete"]);
    assert!(log.contains("300 replies, 300000400 bytes"), "{log}");
}

#[test]
fn an_idle_connection_does_not_hold_up_the_end() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    let mut stream = kept(server.addr);
    let outcome = server.stop();
    outcome.took_less_than(Duration::from_secs(1));
    assert_eq!(logfile::reasons(&outcome.log), ["shutdown"], "{}", outcome.log);
    assert!(read_to_end(&mut stream).is_empty());
}

/// What runs is finished, what is behind it is turned away, and all of that arrives.
#[test]
fn at_the_end_a_pipeline_is_turned_away_behind_its_running_reply() {
    const BIG: usize = 50_000_000;
    let scratch = Scratch::new();
    scratch.share_sparse("big", BIG as u64);
    let server = Server::of(&scratch);
    let mut stream = crate::harness::wire::dial_slowly(server.addr);
    stream.write_all(&get("big").repeat(200)).unwrap();
    assert_eq!(read_frame(&mut stream).0, FILE);
    server.signal(Signal::TERM);
    server.wait_for_log("shutting down");
    assert_eq!(read_reply(&mut stream).1.len(), BIG);
    for _ in 1..200 {
        let (kind, payload) = read_frame(&mut stream);
        assert_eq!((kind, &payload[..2]), (ERROR, &[0, 6][..]));
    }
    assert!(read_to_end(&mut stream).is_empty());
    drop(stream);
    server.into_running().finish().exits(0).log_has("reason: complete");
}

#[test]
fn an_idle_connection_is_closed_after_a_while() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::start(serve(&scratch).args(["--idle-timeout", "0.3"]));
    let mut stream = kept(server.addr);
    assert!(read_to_end(&mut stream).is_empty());
    wait_for("its reason", || server.log().contains("reason: keep-alive timeout"));
    server.stop();
}
