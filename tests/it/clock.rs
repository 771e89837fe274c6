//! What can only be seen by waiting: scenarios that run on the real clock for ten seconds or more.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::wire::ClosedPort;
use crate::harness::{Scratch, Server, content, get};
use crate::old_client::{self, Fetched};
use crate::old_server::OldServer;

/// They hardly use a core, so they all wait at the same time instead of one after the other.
#[test]
fn all_that_takes_its_time() {
    let scenarios: [(&str, fn()); 5] = [
        ("an old client waits 25 s for a digest", an_old_client_waits_25_s_for_a_digest),
        ("an old client waits 20 s for a larger file", an_old_client_waits_20_s_for_the_digest_of_a_larger_file),
        ("our client waits 15 s for an old server", our_client_waits_15_s_for_an_old_server_to_hash),
        ("five attempts take 15 s", five_attempts_take_15_s),
        ("a request has 10 s by default", a_request_has_10_s_by_default),
    ];
    std::thread::scope(|scope| {
        for (name, scenario) in scenarios {
            // The name stands in the message of a panic.
            std::thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, scenario).unwrap();
        }
    });
}

/// A slowed process runs this long at a time, and then stands still this long: it gets a hundredth of a core.
const RUN: Duration = Duration::from_millis(1);
const STAND_STILL: Duration = Duration::from_millis(99);

/// Stops and continues the process in turns until told that it is enough, and leaves it running.
fn slow_down(process: Pid, enough: &AtomicBool) {
    while !enough.load(Ordering::SeqCst) {
        kill_process(process, Signal::STOP).unwrap();
        sleep(STAND_STILL);
        kill_process(process, Signal::CONT).unwrap();
        sleep(RUN);
    }
}

/// An old client waits 10 s for each field of the metadata. On a slowed server hashing takes that much longer, without
/// the giant file that it would take on a fast one: the server has to send the fields one by one meanwhile.
fn old_client_gets_a_file_of(size: u64, slow_for: Duration) {
    let scratch = Scratch::new();
    scratch.share_sparse("big", size);
    fs::create_dir(scratch.out()).unwrap();
    let server = Server::of(&scratch);
    let start = Instant::now();
    let enough = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| slow_down(server.process(), &enough));
        scope.spawn(|| {
            sleep(slow_for);
            enough.store(true, Ordering::SeqCst);
        });
        let fetched = old_client::fetch(server.addr, b"big", &scratch.out());
        let took = start.elapsed();
        enough.store(true, Ordering::SeqCst);
        assert_eq!(fetched, Ok(Fetched::Verified { path: scratch.out().join("big"), size }), "after {took:?}");
        assert!(took > slow_for * 3 / 4, "hashed in {took:?}: too fast to show anything");
    });
    server.stop_content();
}

fn an_old_client_waits_25_s_for_a_digest() {
    old_client_gets_a_file_of(400_000_000, Duration::from_secs(25));
}

/// From 1 GiB on the server may hold back `OK` as well. Most of this file is left to hash at full speed, so that starts
/// earlier.
fn an_old_client_waits_20_s_for_the_digest_of_a_larger_file() {
    old_client_gets_a_file_of(1_100_000_000, Duration::from_secs(20));
}

fn our_client_waits_15_s_for_an_old_server_to_hash() {
    let scratch = Scratch::new();
    let body = content(1, 100_000);
    scratch.share("a", &body);
    let server = OldServer::hashing_for(Duration::from_secs(15), &scratch.files());
    let outcome = get(&scratch, server.addr).arg("a").run();
    outcome.exits(0).made_attempts(1).stderr_has("verified");
    assert!(fs::read(scratch.out().join("a")).unwrap() == body);
}

/// 1, 2, 4 and 8 s between the five attempts.
fn five_attempts_take_15_s() {
    let scratch = Scratch::new();
    let port = ClosedPort::new();
    let outcome = get(&scratch, port.addr).arg("a").run();
    outcome.exits(3).has_one_error_line().made_attempts(5);
    let expected = Duration::from_millis(14_900)..Duration::from_secs(18);
    outcome.assert(expected.contains(&outcome.elapsed), &format!("{expected:?} expected"));
    for (attempt, wait) in [(1, 0), (2, 1), (3, 2), (4, 4), (5, 8)] {
        outcome.log_has(&format!("attempt {attempt} of 5: 'a' from {}", port.addr));
        if wait > 0 {
            outcome.log_has(&format!("; retrying in {wait} s (attempt {attempt} of 5)"));
        }
    }
}

/// 10 s after it was opened, a connection without a whole request is closed.
fn a_request_has_10_s_by_default() {
    let scratch = Scratch::new();
    let server = Server::of(&scratch);
    let start = Instant::now();
    let reply = crate::harness::wire::exchange(server.addr, b"\0\0");
    let took = start.elapsed();
    let expected = Duration::from_millis(9_500)..Duration::from_secs(13);
    assert!(expected.contains(&took), "closed after {took:?} with {:?}", reply.escape_ascii().to_string());
    server.wait_for_log("reason: request timeout");
    server.stop();
}
