//! Version 2 connections between and behind their requests: how long they live, and how they end.

use std::time::Duration;

use rustix::process::Signal;

use crate::harness::wire::{ask, dial, read_to_end};
use crate::harness::wire2::{End, Get, Peer, SHUTTING_DOWN};
use crate::harness::{Scratch, Server, logfile, serve, wait_for};

/// Far more than the kernel takes in for a reader that does not read.
const BIG: u64 = 40_000_000;

fn assert_answers(peer: &mut Peer) {
    peer.get(&Get::of("f")).assert_brings(b"fine");
}

/// A connection that has its answer and may ask again.
fn kept(server: &Server) -> Peer {
    let mut peer = Peer::dial(server.addr);
    assert_answers(&mut peer);
    peer
}

#[test]
fn an_idle_connection_is_closed_after_its_time() {
    let scratch = Scratch::new();
    scratch.share("f", b"fine");
    let server = Server::start(serve(&scratch).args(["--idle-timeout", "0.5"]));
    let mut peer = Peer::dial(server.addr);
    assert_answers(&mut peer);
    assert_answers(&mut peer);
    peer.assert_end();
    let log = server.stop_content().log;
    assert!(log.contains("2 replies, "), "{log}");
    assert_eq!(logfile::reasons(&log), ["keep-alive timeout"], "{log}");
}

/// The time for a request runs from its first byte: a connection may be silent in between for longer.
#[test]
fn silence_between_two_requests_is_no_late_request() {
    let scratch = Scratch::new();
    scratch.share("f", b"fine");
    let server = Server::start(serve(&scratch).args(["--request-timeout", "0.4"]));
    let mut peer = Peer::dial(server.addr);
    assert_answers(&mut peer);
    // Two connections that ask nothing, one after the other, tell that the time has passed.
    (0..2).for_each(|_| assert_eq!(read_to_end(&mut dial(server.addr)), b""));
    assert_answers(&mut peer);
    // And half a request has that time and no more.
    peer.say(&Get::of("f").bytes()[..10]);
    peer.frame();
    let log = server.stop().log;
    assert_eq!(logfile::reasons(&log), ["request timeout"; 3], "{log}");
}

#[test]
fn at_the_limit_the_oldest_idle_connection_makes_room() {
    let scratch = Scratch::new();
    scratch.share("f", b"fine");
    scratch.share_sparse("big", BIG);
    let server = Server::start(serve(&scratch).args(["--max-conns", "3", "--max-conns-per-ip", "0"]));
    let mut busy = Peer::dial_slowly(server.addr);
    busy.ask(&Get::of("big"));
    let file = busy.file();
    let [mut first, mut second] = [kept(&server), kept(&server)];
    // The first is now the one that was idle for the shortest time.
    assert_answers(&mut first);
    let mut third = kept(&server);
    second.assert_end();
    assert_answers(&mut first);
    let fourth = kept(&server);
    third.assert_end();
    // Who is served is not in the way, however long it was there.
    assert_eq!(busy.rest(&Get::of("big"), file).body.len() as u64, BIG);
    assert_answers(&mut first);
    drop((busy, first, fourth));
    let log = server.stop().log;
    assert_eq!(log.matches("reason: closed to make room").count(), 2, "{log}");
    assert_eq!(log.matches("not accepting connections").count(), 0, "{log}");
}

/// Who has not asked yet or waits for an answer keeps the place; then the newcomer waits.
#[test]
fn only_idle_connections_make_room() {
    let scratch = Scratch::new();
    scratch.share("f", b"fine");
    let server = Server::start(serve(&scratch).args(["--max-conns", "2", "--max-conns-per-ip", "0"]));
    let mut silent = Peer::dial(server.addr);
    let mut half = kept(&server);
    let request = Get::of("f").bytes();
    half.say(&request[..9]);
    // Idle until the server has seen these bytes, and in the way of nobody yet.
    std::thread::sleep(Duration::from_millis(200));
    let mut third = Peer::dial(server.addr);
    third.ask(&Get::of("f"));
    server.wait_for_log("not accepting connections");
    half.say(&request[9..]);
    half.reply(&Get::of("f")).assert_brings(b"fine");
    third.reply(&Get::of("f")).assert_brings(b"fine");
    half.assert_end();
    assert_answers(&mut silent);
    server.stop();
}

/// 128 descriptors, and hundreds of connections that stay: the latest are kept.
#[test]
fn out_of_descriptors_idle_connections_make_room() {
    let scratch = Scratch::new();
    scratch.share("f", b"fine");
    let server = Server::start(serve(&scratch).after("ulimit -n 128"));
    let _kept: Vec<Peer> = (0..300).map(|_| kept(&server)).collect();
    assert!(ask(server.addr, b"f").ends_with(b"fine"));
    let log = server.stop().log;
    assert!(log.matches("reason: closed to make room").count() >= 300 - 128, "{log}");
    assert_eq!(log.matches("not accepting connections").count(), 0, "{log}");
}

/// What runs is finished, what waits behind it is refused, what is idle ends at once.
#[test]
fn sigterm_finishes_the_reply_and_refuses_what_is_queued() {
    let scratch = Scratch::new();
    scratch.share("f", b"fine");
    scratch.share_sparse("big", BIG);
    let server = Server::of(&scratch);
    let mut idle = Peer::dial(server.addr);
    assert_answers(&mut idle);
    let mut busy = Peer::dial_slowly(server.addr);
    busy.ask(&Get::of("big"));
    busy.say(&Get::of("f").bytes().repeat(200));
    let file = busy.file();
    server.signal(Signal::TERM);
    idle.assert_end();
    let reply = busy.rest(&Get::of("big"), file);
    assert!(reply.body.len() as u64 == BIG && matches!(reply.end, End::Digest(_)), "{reply:?}");
    for _ in 0..200 {
        assert_eq!(busy.reply(&Get::of("f")).refusal(), SHUTTING_DOWN);
    }
    busy.assert_end();
    drop((idle, busy));
    let mut running = server.into_running();
    wait_for("the server to end", || running.has_ended());
    let outcome = running.finish();
    outcome.exits(0).log_lacks("drain timeout");
    logfile::assert_each_connection_closed_once(&outcome.log);
}

/// A reply that waits for its digest runs, too.
#[test]
fn sigterm_waits_for_a_digest() {
    let scratch = Scratch::new();
    scratch.share_sparse("big", 200_000_000);
    let server = Server::of(&scratch);
    let mut peer = Peer::dial(server.addr);
    let get = Get::of("big").digest_only(200_000_000);
    peer.ask(&get);
    let file = peer.file();
    server.signal(Signal::TERM);
    let reply = peer.rest(&get, file);
    assert!(matches!(reply.end, End::Digest(_)), "{reply:?}");
    peer.assert_end();
    server.into_running().finish().exits(0).log_lacks("drain timeout");
}

/// Half a request is none that would be waited for.
#[test]
fn sigterm_does_not_wait_for_half_a_request() {
    let scratch = Scratch::new();
    scratch.share("f", b"fine");
    let server = Server::of(&scratch);
    let mut peer = Peer::dial(server.addr);
    assert_answers(&mut peer);
    peer.say(&Get::of("f").bytes()[..10]);
    server.signal(Signal::TERM);
    peer.frame();
    server.into_running().finish().exits(0).log_lacks("drain timeout");
}

/// Every reply has its line in the log, and the connection one at its end that counts them.
#[test]
fn the_log_has_a_line_for_every_reply() {
    let scratch = Scratch::new();
    scratch.share("f", b"fine");
    let server = Server::of(&scratch);
    let mut peer = Peer::dial(server.addr);
    let address = peer.stream.local_addr().unwrap();
    (0..3).for_each(|_| assert_answers(&mut peer));
    peer.get(&Get::of("none"));
    peer.get(&Get::of("f").digest_only(4)).assert_compares(b"fine");
    drop(peer);
    wait_for("the closing line", || server.log().contains(&format!("closed {address}: ")));
    let log = server.stop().log;
    assert_eq!(log.matches("sent 'f' (4 bytes) to ").count(), 3, "{log}");
    assert_eq!(log.matches("refused 'none'").count(), 1, "{log}");
    assert!(log.contains(&format!("closed {address}: 5 replies, ")), "{log}");
    logfile::assert_each_connection_closed_once(&log);
}
