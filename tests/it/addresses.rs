//! The cap on the connections of one address: who reaches it is told so, and nobody else notices.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::harness::wire::{ask, dial, dial_from, read_to_end, refusal, request};
use crate::harness::wire2::{BUSY, Get, Peer};
use crate::harness::{Scratch, Server, content, get, logfile, serve, wait_for};

const MESSAGE: &str = "Too many connections from your address, try again later";

/// Another client than those that `dial` and `xfer get` are, which come from 127.0.0.1.
const STRANGER: u8 = 2;

fn peer_from(n: u8, addr: SocketAddr) -> Peer {
    Peer { stream: dial_from(n, addr, None) }
}

/// Connections of an address that ask for nothing, all of them accepted.
fn held(count: usize, n: u8, server: &Server) -> Vec<TcpStream> {
    let before = server.log().matches("connection from ").count();
    let held = (0..count).map(|_| dial_from(n, server.addr, None)).collect();
    wait_for("them to be accepted", || server.log().matches("connection from ").count() == before + count);
    held
}

#[test]
fn beyond_the_cap_a_peer_is_told_and_others_are_served() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::start(serve(&scratch).args(["--max-conns-per-ip", "2"]));
    let mut held = held(2, STRANGER, &server);
    let mut third = peer_from(STRANGER, server.addr);
    // What is asked behind it is not answered.
    third.say(&Get::of("a").bytes().repeat(3));
    assert_eq!(third.reply(&Get::of("a")).refusal(), BUSY);
    third.assert_end();
    let mut third = dial_from(STRANGER, server.addr, None);
    third.write_all(&request(b"a")).unwrap();
    assert_eq!(refusal(&read_to_end(&mut third)), MESSAGE);
    get(&scratch, server.addr).arg("a").run().exits(0);
    assert!(ask(server.addr, b"a").ends_with(b"body"));
    // The cap is on those that are open.
    drop(held.pop());
    wait_for("it to be closed", || server.log().contains("reason: peer closed"));
    peer_from(STRANGER, server.addr).get(&Get::of("a")).assert_brings(b"body");
    drop((held, third));
    let log = server.stop_blaming_peers().log;
    assert_eq!(log.matches("reason: too many connections").count(), 2, "{log}");
}

/// As at the limit of all connections, but only those of the same address are closed for one of it.
#[test]
fn at_the_cap_the_oldest_idle_connection_of_the_address_makes_room() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::start(serve(&scratch).args(["--max-conns-per-ip", "2"]));
    let mut other = Peer::dial(server.addr);
    other.get(&Get::of("a")).assert_brings(b"body");
    let mut kept: Vec<Peer> = Vec::new();
    for _ in 0..2 {
        kept.push(peer_from(STRANGER, server.addr));
        kept.last_mut().unwrap().get(&Get::of("a")).assert_brings(b"body");
    }
    // Now the second one has been idle for longer.
    kept[0].get(&Get::of("a")).assert_brings(b"body");
    let mut third = peer_from(STRANGER, server.addr);
    third.get(&Get::of("a")).assert_brings(b"body");
    kept[1].assert_end();
    kept[0].get(&Get::of("a")).assert_brings(b"body");
    other.get(&Get::of("a")).assert_brings(b"body");
    drop((kept, third, other));
    let reasons = logfile::reasons(&server.stop_blaming_peers().log);
    assert_eq!(reasons.iter().filter(|reason| *reason == "closed to make room").count(), 1, "{reasons:?}");
}

/// Whoever goes on connecting gets few replies, few lines in the log, and none of the room of others.
#[test]
fn a_storm_beyond_the_cap_costs_little() {
    let scratch = Scratch::new();
    let body = content(1, 3_000_000);
    scratch.share("a", &body);
    // The cap of the storm, and room for one client more than can be told at a time.
    let limits = ["--max-conns-per-ip", "2", "--max-conns", "19", "--request-timeout", "1"];
    let server = Server::start(serve(&scratch).args(limits));
    let start = Instant::now();
    let held = held(2, STRANGER, &server);
    let count = 400;
    let mut storm: Vec<TcpStream> = (0..count).map(|_| dial_from(STRANGER, server.addr, None)).collect();
    let fetched = get(&scratch, server.addr).arg("a").run();
    fetched.exits(0).made_attempts(1);
    assert_eq!(std::fs::read(scratch.path("out/a")).unwrap(), body);
    let cut = storm.iter_mut().filter_map(|stream| stream.read(&mut [0]).err());
    let cut = cut.filter(|error| error.kind() == ErrorKind::ConnectionReset).count();
    let seconds = start.elapsed().as_secs() as usize + 1;
    assert!((count - 16 * seconds..=count - 16).contains(&cut), "{cut} of {count} were closed at once, in {seconds} s");
    drop((storm, held));
    let log = server.stop().log;
    // Each that was kept has its two lines, and those that were not share a few.
    let told: usize = log.lines().filter_map(closed_at_once).sum();
    assert_eq!(told, cut, "{log}");
    assert!(log.lines().filter_map(closed_at_once).count() <= 2 + seconds / 10, "{log}");
    assert_eq!(logfile::reasons(&log).len(), 2 + (count - cut) + 1, "{log}");
}

/// N in `closed N connections immediately, ...`.
fn closed_at_once(line: &str) -> Option<usize> {
    let (before, _) = line.split_once(" immediately, the last from 127.0.0.2:")?;
    let number = before.rsplit_once(" - closed ")?.1.split(' ').next()?;
    number.parse().ok()
}

/// Our own client waits until there is room again, also in version 1, which has no codes.
#[test]
fn a_client_that_is_one_too_many_tries_again() {
    for version in [&["a"][..], &["--v1", "a"]] {
        let scratch = Scratch::new();
        scratch.share("a", b"body");
        let server = Server::start(serve(&scratch).args(["--max-conns-per-ip", "1"]));
        let held = dial(server.addr);
        server.wait_for_log("connection from ");
        let client = get(&scratch, server.addr).args(version).spawn();
        client.wait_for_stderr(" is busy: too many connections from your address; retrying in 1 s (attempt 2 of 5)");
        drop(held);
        client.finish().exits(0).stderr_has("verified");
        assert_eq!(scratch.text("out/a"), "body");
        server.stop_blaming_peers();
    }
}

/// If nobody has said how many: half of all, or sixteen if that is more.
#[test]
fn one_address_may_have_half_of_all_connections() {
    for (args, most) in [(&["--max-conns", "40"][..], 20), (&["--max-conns", "18"], 16)] {
        let scratch = Scratch::new();
        scratch.share("a", b"body");
        let server = Server::start(serve(&scratch).args(args));
        let held = held(most, STRANGER, &server);
        assert_eq!(peer_from(STRANGER, server.addr).get(&Get::of("a")).refusal(), BUSY, "{args:?}");
        assert!(ask(server.addr, b"a").ends_with(b"body"));
        drop(held);
        server.stop_blaming_peers();
    }
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::start(serve(&scratch).args(["--max-conns", "40", "--max-conns-per-ip", "0"]));
    let held = held(39, STRANGER, &server);
    peer_from(STRANGER, server.addr).get(&Get::of("a")).assert_brings(b"body");
    drop(held);
    server.stop_blaming_peers();
}

/// Who is one too many and says nothing has the time of a request, as everybody has.
#[test]
fn one_too_many_that_says_nothing_is_closed_in_time() {
    let _cores = crate::harness::cores::quiet_cores();
    let scratch = Scratch::new();
    let server = Server::start(serve(&scratch).args(["--max-conns-per-ip", "1", "--request-timeout", "0.4"]));
    let start = Instant::now();
    let mut both = held(2, STRANGER, &server);
    both.iter_mut().for_each(|stream| drop(read_to_end(stream)));
    let expected = Duration::from_millis(390)..Duration::from_millis(1400);
    assert!(expected.contains(&start.elapsed()), "closed after {:?}", start.elapsed());
    let reasons = logfile::reasons(&server.stop_blaming_peers().log);
    assert_eq!(reasons, ["request timeout"; 2]);
}

/// Whatever one address holds, and however few places there are, another one is served at once.
#[test]
fn no_address_takes_all_places_of_a_small_server() {
    let places = ["17", "18", "24", "32", "33", "2", "3", "16"].map(|all| vec!["--max-conns", all]);
    // 24 places by descriptors.
    for (args, limit) in places.iter().map(|args| (&args[..], None)).chain([(&[][..], Some("ulimit -n 64"))]) {
        let scratch = Scratch::new();
        scratch.share("a", b"body");
        let mut program = serve(&scratch).args(args).args(["--request-timeout", "100"]);
        if let Some(limit) = limit {
            program = program.after(limit);
        }
        let server = Server::start(program);
        let storm: Vec<TcpStream> = (0..60).map(|_| dial_from(STRANGER, server.addr, None)).collect();
        let mut other = dial(server.addr);
        other.write_all(&request(b"a")).unwrap();
        other.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        let mut status = [0; 2];
        let read = other.read_exact(&mut status);
        assert!(read.is_ok() && status == *b"OK", "{args:?} {limit:?}: {read:?}; {}", server.log());
        drop((storm, other));
        server.stop();
    }
}
