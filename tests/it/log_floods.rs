//! Peers that ask for the log to be filled, and a log that has no more room: what it says is bounded, and true.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::time::Instant;

use rustix::process::{Resource, Rlimit, Signal, prlimit};

use crate::harness::wire::{ask, dial, drain, read_to_end, request};
use crate::harness::wire2::{Get, NO_DATA, Peer, frame};
use crate::harness::{Scratch, Server, cores, logfile, serve, wait_for};

/// Lines about refused requests that one connection has, and lines about peers that are given nothing that all have: at
/// once, and more in a second.
const REFUSALS_MAX: usize = 10;
const BURST: usize = 10_000;
const PER_SECOND: usize = 100;

/// Lines about small replies that all have at once.
const SMALL_BURST: usize = 100_000;

/// N in `(N lines dropped: ...)`.
fn told_dropped(line: &str) -> Option<usize> {
    let (number, rest) = line.strip_prefix('(')?.split_once(' ')?;
    let is_notice = rest.ends_with(" dropped: not written in time)");
    is_notice.then(|| number.parse().unwrap())
}

/// Lets the log file of a server grow so far and no further, as a disk does that is full; `None` is as far as it likes.
fn limit_log(server: &Server, bytes: Option<u64>) {
    let limit = Rlimit { current: bytes, maximum: None };
    prlimit(Some(server.process()), Resource::Fsize, limit).unwrap();
}

/// The console has every line, so it is known how many the file has lost.
#[test]
fn lines_lost_to_a_full_disk_are_counted_and_none_is_glued_to_half_of_another() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    let path = scratch.path("server.log");
    for round in 1..=5 {
        limit_log(&server, Some(fs::metadata(&path).unwrap().len() + 333 * round));
        for _ in 0..30 {
            ask(server.addr, b"none");
        }
        limit_log(&server, None);
        ask(server.addr, b"a");
        wait_for("a line after the gap", || server.log().matches("sent 'a'").count() as u64 == round);
    }
    let outcome = server.into_running().finish_after(Signal::TERM);
    outcome.exits(0);
    let console: HashSet<&str> = outcome.stderr.lines().collect();
    let (mut whole, mut told) = (0, 0);
    let log = &outcome.log;
    for line in log.lines() {
        match told_dropped(line) {
            Some(number) => told += number,
            None if console.contains(line) => whole += 1,
            None => assert!(console.iter().any(|whole| whole.starts_with(line)), "glued: {line:?}\nin the log:\n{log}"),
        }
    }
    assert!(told > 5 * 30, "{told} lines were dropped:\n{log}");
    assert_eq!(whole + told, outcome.stderr.lines().count(), "{whole} lines, and {told} dropped:\n{log}");
}

/// Requests of every kind that is refused, as many as one connection likes: it gets all its answers, and the log ten lines
/// and a number.
#[test]
fn one_connection_has_a_few_lines_for_its_refused_requests() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let kinds = [
        Get::of("none").bytes(),
        Get::of("../none").bytes(),
        Get::of([0xff; 400]).bytes(),
        Get::of("a").with(9).bytes(),
        frame(0x03, b""),
        frame(0x05, b"?"),
    ];
    let server = Server::of(&scratch);
    for (number, kind) in kinds.iter().enumerate() {
        let mut peer = Peer::dial(server.addr);
        let sender = std::thread::spawn({
            let (mut stream, many) = (peer.stream.try_clone().unwrap(), kind.repeat(5000));
            move || stream.write_all(&many).unwrap()
        });
        (0..5000).for_each(|_| assert!(peer.frame().is_some(), "an answer to each request of kind {number}"));
        sender.join().unwrap();
        // What is sent has its line all the same.
        (0..20).for_each(|_| peer.get(&Get::of("a")).assert_brings(b"body"));
        drop(peer);
        wait_for("its end", || server.log().matches("reason: ").count() == number + 1);
    }
    let log = server.stop_blaming_peers().log;
    for number in 1..=kinds.len() {
        let of_this = format!("conn-{number}");
        let lines: Vec<_> = logfile::lines(&log).into_iter().filter(|line| line.origin == of_this).collect();
        let count = |what: &str| lines.iter().filter(|line| line.message.starts_with(what)).count();
        // One more says that there will be no more.
        assert_eq!((count("refused "), count("sent ")), (REFUSALS_MAX + 1, 20), "{of_this}: {lines:#?}");
        assert_eq!(lines.len(), REFUSALS_MAX + 1 + 20 + 2, "{of_this}: {lines:#?}");
        let closing = &lines.last().unwrap().message;
        assert!(closing.contains("5020 replies, 80 bytes, "), "{closing}");
        assert!(closing.contains(" s, 4990 refusals without a line, reason: complete"), "{closing}");
    }
}

/// One small file, asked for only by its size, again and again: so many lines, and a number.
#[test]
fn one_connection_has_so_many_lines_for_small_replies() {
    let asked = SMALL_BURST + 20_000;
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    let mut peer = Peer::dial(server.addr);
    let sender = std::thread::spawn({
        let size_only = Get { flags: NO_DATA, offset: 999, ..Get::of("a") }.bytes();
        let (mut stream, many) = (peer.stream.try_clone().unwrap(), size_only.repeat(asked));
        move || stream.write_all(&many).unwrap()
    });
    let started = Instant::now();
    (0..asked).for_each(|number| assert!(peer.frame().is_some(), "an answer to request {number}"));
    let more = PER_SECOND * (started.elapsed().as_secs() as usize + 1);
    sender.join().unwrap();
    drop(peer);
    wait_for("its end", || server.log().contains("reason: "));
    let log = server.stop_blaming_peers().log;
    let sent = log.matches(" - sent ").count();
    assert!((SMALL_BURST - 1..SMALL_BURST + more).contains(&sent), "{sent} lines, at most {more} more than the burst");
    let closing = log.lines().find(|line| line.contains("reason: ")).unwrap();
    assert!(closing.contains(&format!(" s, {} replies without a line, reason: complete", asked - sent)), "{closing}");
}

/// Many connections with a few refused requests each: beyond so many lines they share one, whoever is sent a file has its
/// own, and every connection is in the log or counted.
#[test]
fn all_peers_that_are_given_nothing_have_so_many_lines() {
    let _cores = cores::all_cores();
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::start(serve(&scratch).arg("-q"));
    let start = Instant::now();
    let conns = 1300;
    let many = Get::of("none").bytes().repeat(REFUSALS_MAX);
    for _ in 0..conns {
        let mut peer = Peer::dial(server.addr);
        peer.say(&many);
        peer.finish_asking();
        drain(&mut peer.stream);
    }
    let mut served = dial(server.addr);
    served.write_all(&request(b"a")).unwrap();
    assert!(read_to_end(&mut served).ends_with(b"body"));
    drop(served);
    let seconds = start.elapsed().as_secs() as usize + 1;
    let outcome = server.stop();
    let lines = logfile::lines(&outcome.log);
    let count = |what: &str| lines.iter().filter(|line| line.message.starts_with(what)).count();
    let refusals = lines.iter().filter(|line| line.message.contains(": not found")).count();
    let opened = count("connection from ");
    let bound = BURST + PER_SECOND * seconds;
    assert!(opened + refusals <= bound, "{opened} openings and {refusals} refusals in {seconds} s");
    let shared = |line: &logfile::LogLine| {
        let (number, rest) = line.message.strip_prefix("omitted the lines of ")?.split_once(" connection")?;
        rest.contains(", the last from 127.0.0.1:").then(|| number.parse::<usize>().unwrap())
    };
    let counted: usize = lines.iter().filter_map(shared).sum();
    assert_eq!(opened + counted, conns + 1, "{opened} in the log, and {counted} counted: {}", outcome.log);
    assert!(counted > 0, "{opened} openings and {refusals} refusals in {seconds} s");
    outcome.log_has("sent 'a' (4 bytes)");
}
