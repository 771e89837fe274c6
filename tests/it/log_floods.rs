//! Peers that ask for the log to be filled, and a log that has no more room: what it says is bounded, and true.

use std::collections::HashSet;
use std::fs;

use rustix::process::{Resource, Rlimit, Signal, prlimit};

use crate::harness::wire::ask;
use crate::harness::{Scratch, Server, wait_for};

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
