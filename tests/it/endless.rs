//! What would hold a client for ever: attempts without a pause, and servers that always have something more to say. What
//! takes its two minutes is tried in virtual time (src/simulation/client/slow.rs).

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::wire::{ClosedPort, metadata, read_request};
use crate::harness::wire2::{self, Get};
use crate::harness::{Outcome, Scratch, cores, get, wait_for};
use crate::scripted_server::ScriptedServer;

/// The shortest pause, whatever `--max-backoff` says (xfer-get(1), Retries).
const PAUSES_A_SECOND: u128 = 10;

/// Far below the two minutes that a slow server has.
const SOON: Duration = Duration::from_secs(15);

#[test]
fn attempts_without_end_have_pauses_and_can_be_stopped() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    let port = ClosedPort::new();
    let started = Instant::now();
    let running = get(&scratch, port.addr).args(["--retries", "0", "--max-backoff", "1e-9", "a"]).spawn();
    wait_for("a dozen attempts", || running.log().matches(" - attempt ").count() >= 12);
    let outcome = running.finish_after(Signal::TERM);
    outcome.exits(143).took_less_than(Duration::from_secs(1));
    let attempts = outcome.log.matches(" - attempt ").count() as u128;
    let most = 2 + started.elapsed().as_millis() * PAUSES_A_SECOND / 1000;
    outcome.assert(attempts <= most, &format!("{attempts} attempts, {most} at most"));
}

/// A time for all of it, and not for each byte.
#[test]
fn an_error_message_byte_by_byte_ends() {
    let scratch = Scratch::new();
    let server = ScriptedServer::new(|_, stream: &mut TcpStream| {
        read_request(stream);
        // As many as it may have.
        let mut left = 1024;
        let mut said = stream.write_all(b"ERROR");
        while said.is_ok() && left > 0 {
            std::thread::sleep(Duration::from_millis(200));
            said = stream.write_all(b"x");
            left -= 1;
        }
    });
    let outcome = get(&scratch, server.addr).args(["--v1", "--timeout", "1", "--retries", "1", "a"]).run();
    outcome.exits(1).took_less_than(SOON).stderr_has("refused 'a': xx");
}

/// A server of version 2 that answers with this, and then says WAIT without end, each time a byte more.
fn waiting_without_end(said: Vec<u8>) -> ScriptedServer {
    ScriptedServer::of_any_version(move |_, stream| {
        if Get::read(stream).is_none() || stream.write_all(&said).is_err() {
            return;
        }
        let mut done = 0..;
        let mut more = || (0..1000).flat_map(|_| wire2::wait(done.next().unwrap_or(0), 1 << 40)).collect::<Vec<u8>>();
        while stream.write_all(&more()).is_ok() {}
    })
}

const BODY: &[u8] = b"body";

/// Where in a reply such a server may begin with it.
fn beginnings() -> [Vec<u8>; 4] {
    let file = wire2::File::of(BODY).bytes();
    let with_data = [file.clone(), wire2::data(BODY)].concat();
    [Vec::new(), file.clone(), [file, wire2::data(&BODY[..1])].concat(), with_data]
}

fn assert_too_slow(outcome: &Outcome) {
    outcome.exits(3).took_less_than(SOON).has_one_error_line();
    outcome.stderr_has("was slower than 500 bytes/s for 120 s");
}

#[test]
fn a_flood_of_waits_that_count_up_ends() {
    for said in beginnings() {
        let scratch = Scratch::new();
        let server = waiting_without_end(said);
        assert_too_slow(&get(&scratch, server.addr).args(["--retries", "1", "a"]).run());
        assert!(!scratch.out().join("a").exists());
    }
}

/// The same to a client that only wants to know whether it has the file already.
#[test]
fn a_flood_of_waits_instead_of_a_digest_ends() {
    let scratch = Scratch::new();
    scratch.write("out/a", BODY);
    let server = waiting_without_end(wire2::File::of(BODY).bytes());
    assert_too_slow(&get(&scratch, server.addr).args(["--retries", "1", "a"]).run());
    assert_eq!(std::fs::read(scratch.out().join("a")).unwrap(), BODY);
}

/// WAIT as our server says it, also past the size while it waits for its disk, is no flood.
#[test]
fn waits_past_the_size_are_waited_for() {
    let scratch = Scratch::new();
    let server = ScriptedServer::answering_gets(|_, get| {
        let waits: Vec<u8> = (1..=40).flat_map(|done| wire2::wait(done, done.max(BODY.len() as u64))).collect();
        let reply = wire2::honest_reply(get, BODY);
        let (file, rest) = reply.split_at(wire2::File::of(BODY).bytes().len());
        [file, &waits, rest].concat()
    });
    get(&scratch, server.addr).args(["--retries", "1", "a"]).run().exits(0).stderr_has("verified");
}

/// Nor is the time in which an old server hashes any of its sending.
#[test]
fn a_header_byte_by_byte_is_one_header() {
    let scratch = Scratch::new();
    let server = ScriptedServer::new(|_, stream: &mut TcpStream| {
        read_request(stream);
        let head = [b"OK".to_vec(), metadata("a", BODY), BODY.to_vec()].concat();
        let mut bytes = head.chunks(1);
        while bytes.next().is_some_and(|byte| stream.write_all(byte).is_ok()) {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    get(&scratch, server.addr).args(["--retries", "1", "a"]).run().exits(0).stderr_has("verified");
}
