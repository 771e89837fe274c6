//! Peers that speak something else: refused, and the server goes on.

use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use crate::harness::content::Random;
use crate::harness::wire::{dial, drain, exchange, request};
use crate::harness::{Scratch, Server, get, logfile, process, serve};

fn assert_still_serves(scratch: &Scratch, addr: SocketAddr) {
    get(scratch, addr).args(["--force", "a"]).run().exits(0).stderr_has("verified");
}

/// Sends the bytes, says that there are no more, and waits for the server to close.
fn say_and_hang_up(addr: SocketAddr, bytes: &[u8]) {
    let mut stream = dial(addr);
    // Refused and closed already, perhaps: that is an answer too.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    drain(&mut stream);
}

#[test]
fn random_bytes_do_not_stop_the_server() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    let mut random = Random::new(2026);
    for _ in 0..300 {
        let length = random.below(300);
        let bytes: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
        say_and_hang_up(server.addr, &bytes);
    }
    assert_still_serves(&scratch, server.addr);
    server.stop();
}

/// A length that could be a name, and then anything.
#[test]
fn random_names_do_not_stop_the_server() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    let mut random = Random::new(7);
    for _ in 0..300 {
        let length = 1 + random.below(40);
        let name: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
        say_and_hang_up(server.addr, &request(&name));
    }
    assert_still_serves(&scratch, server.addr);
    server.stop();
}

#[test]
fn every_first_byte_is_answered_or_closed() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    for first in 0..=255 {
        say_and_hang_up(server.addr, &[first, 0, 0, 1, b'a', 0, 0, 0]);
        say_and_hang_up(server.addr, &[first]);
    }
    assert_still_serves(&scratch, server.addr);
    server.stop();
}

#[test]
fn http_and_tls_are_refused_as_unknown_protocols() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    let hello = [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(), &[0x5a; 200]].concat();
    let openings: [&[u8]; 5] =
        [b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n", b"POST / HTTP/1.0\r\n\r\n", &hello, b"SSH-2.0-x\r\n", b"\xff"];
    for bytes in openings {
        let start = Instant::now();
        let reply = exchange(server.addr, bytes);
        assert!(!reply.starts_with(b"OK"), "{}", reply.escape_ascii());
        assert!(start.elapsed() < Duration::from_secs(3), "closed after {:?}", start.elapsed());
    }
    assert_still_serves(&scratch, server.addr);
    let reasons = logfile::reasons(&server.stop().log);
    assert_eq!(reasons[..5], ["unknown protocol"; 5]);
}

/// Input without an end is no reason to read without an end.
#[test]
fn an_endless_talker_is_cut_off() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    let mut stream = dial(server.addr);
    let noise = vec![b'Z'; 64 * 1024];
    let start = Instant::now();
    while stream.write_all(&noise).is_ok() {
        assert!(start.elapsed() < Duration::from_secs(10), "still reading after {:?}", start.elapsed());
    }
    assert_still_serves(&scratch, server.addr);
    server.stop();
}

/// Connections that end in every way leave nothing open behind them.
#[test]
fn no_descriptor_is_left_open() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    scratch.share_sparse("big", 30_000_000);
    let server = Server::start(serve(&scratch));
    assert_still_serves(&scratch, server.addr);
    let before = process::open_files(server.pid());
    for number in 0..50 {
        let mut stream = dial(server.addr);
        let name: &[u8] = [b"a".as_slice(), b"big", b"none", b"../x", b""][number % 5];
        stream.write_all(&request(name)).unwrap();
    }
    let opened = || server.log().matches("connection from ").count();
    let closed = || server.log().matches("reason: ").count();
    crate::harness::wait_for("all connections to close", || opened() >= 51 && closed() == opened());
    // One file may stay open for a digest that was begun and that nobody waits for any more.
    crate::harness::wait_for("all descriptors to be closed", || process::open_files(server.pid()) <= before + 1);
    server.stop();
}
