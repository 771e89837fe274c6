//! Transfers that are cut, stopped or interrupted go on where they stopped, and the file is right at the end.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::harness::wire2::{Get, NO_VERSION, version_of};
use crate::harness::{Cut, Outcome, Plan, Program, Relay, Running, Scratch, Server, content, cores, get, wait_for};

pub const MIB: u64 = 1 << 20;

/// Large enough for a synced slot in the journal, which comes with 32 MiB.
pub const LARGE: usize = 40_000_000;

/// A client that does not wait long for anything.
fn impatient_get(scratch: &Scratch, addr: SocketAddr) -> Program {
    get(scratch, addr).args(["--max-backoff", "0.01", "--no-sync"])
}

pub fn part(scratch: &Scratch) -> PathBuf {
    scratch.out().join(".a.xfer-part")
}

pub fn state(scratch: &Scratch) -> PathBuf {
    scratch.out().join(".a.xfer-part.state")
}

pub fn part_len(scratch: &Scratch) -> u64 {
    fs::metadata(part(scratch)).map_or(0, |meta| meta.len())
}

/// Saved, verified, and nothing left behind.
pub fn assert_saved(outcome: &Outcome, scratch: &Scratch, body: &[u8]) {
    outcome.exits(0).stderr_has("verified").prints_nothing_on_stdout();
    outcome.assert(fs::read(scratch.out().join("a")).unwrap() == body, "the file that was served");
    assert_eq!(scratch.names("out"), ["a"], "nothing is left behind\n{}", outcome.report());
}

/// Less than the file and this many bytes have been sent in all.
fn assert_sent(relay: &Relay, outcome: &Outcome, size: u64, more: u64) {
    relay.wait_until_quiet();
    let (sent, limit) = (relay.to_client(), size + more);
    outcome.assert(sent < limit, &format!("{sent} bytes sent, less than {limit} expected\n{}", relay.report()));
}

/// A client that holds half of the file, all of which it has written.
fn half_done(scratch: &Scratch, relay: &Relay, half: u64) -> Running {
    let running = impatient_get(scratch, relay.addr).arg("a").spawn();
    relay.wait_until_held(relay.connections().saturating_sub(1));
    // The heads of frames are no part of the file, and it is written in blocks of 1 MiB.
    wait_for("half of the file in the part", || part_len(scratch) >= half - 2 * MIB);
    running
}

#[test]
fn three_hundred_megabytes_cut_by_a_reset() {
    let _cores = cores::all_cores();
    let scratch = Scratch::new();
    let size = 300_000_000;
    scratch.share_sparse("a", size);
    let server = Server::of(&scratch);
    let relay = Relay::new(server.addr, |number| match number {
        0 => Plan::cut(180_000_000, Cut::Reset),
        _ => Plan::faithful(),
    });
    let outcome = impatient_get(&scratch, relay.addr).arg("a").run();
    outcome.exits(0).stderr_has("verified").stderr_has("resum");
    assert_eq!(relay.connections(), 2, "{}", relay.report());
    assert_sent(&relay, &outcome, size, size / 100);
    let saved = fs::File::open(scratch.out().join("a")).unwrap();
    assert_eq!(saved.metadata().unwrap().len(), size);
    assert_eq!(scratch.names("out"), ["a"]);
    server.stop();
}

#[test]
fn an_orderly_end_too_early_is_a_cut() {
    let scratch = Scratch::new();
    let body = content(1, LARGE);
    scratch.share("a", &body);
    let server = Server::of(&scratch);
    let relay = Relay::new(server.addr, |number| match number {
        0 => Plan::cut(24_000_000, Cut::Close),
        1 => Plan::cut(1_000, Cut::Close),
        _ => Plan::faithful(),
    });
    let outcome = impatient_get(&scratch, relay.addr).arg("a").run();
    assert_saved(&outcome, &scratch, &body);
    assert_eq!(relay.connections(), 3, "{}", relay.report());
    assert_sent(&relay, &outcome, LARGE as u64, MIB);
    let gets = relay.all_gets();
    assert!(gets[0].offset == 0 && gets[0].version == NO_VERSION, "{gets:?}");
    let time = fs::metadata(scratch.files().join("a")).unwrap();
    let (seconds, nanos) = (std::os::unix::fs::MetadataExt::mtime(&time), time.modified().unwrap());
    let nanos = nanos.duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    assert_eq!(gets[1].version, version_of(LARGE as u64, seconds, nanos), "{gets:?}");
    server.stop();
}

/// A link that says nothing any more, without an end.
#[test]
fn a_silent_link_is_given_up_and_resumed() {
    let scratch = Scratch::new();
    let body = content(2, LARGE);
    scratch.share("a", &body);
    let server = Server::of(&scratch);
    let relay = Relay::new(server.addr, |number| if number == 0 { Plan::hold(20_000_000) } else { Plan::faithful() });
    let outcome = impatient_get(&scratch, relay.addr).args(["--timeout", "1", "a"]).run();
    assert_saved(&outcome, &scratch, &body);
    assert_eq!(relay.connections(), 2, "{}", relay.report());
    assert_sent(&relay, &outcome, LARGE as u64, MIB);
    server.stop();
}

#[test]
fn interrupted_at_half_and_run_again() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let scratch = Scratch::new();
        let body = content(3, LARGE);
        scratch.share("a", &body);
        let old = scratch.write("out/a", b"old body");
        let server = Server::of(&scratch);
        let relay = Relay::new(server.addr, |number| match number {
            0 => Plan::hold(20_000_000),
            _ => Plan::faithful(),
        });
        let running = impatient_get(&scratch, relay.addr).args(["--force", "a"]).spawn();
        relay.wait_until_held(0);
        wait_for("half of the file in the part", || part_len(&scratch) >= 18_000_000);
        let outcome = running.finish_after(signal);
        outcome.exits(code).stderr_has(".a.xfer-part").prints_nothing_on_stdout();
        assert!(part(&scratch).is_file() && state(&scratch).is_file(), "{:?}", scratch.names("out"));
        assert_eq!(fs::read(&old).unwrap(), b"old body");
        let outcome = impatient_get(&scratch, relay.addr).args(["--force", "a"]).run();
        assert_saved(&outcome, &scratch, &body);
        outcome.stderr_has("resum");
        assert_eq!(relay.connections(), 2, "{}", relay.report());
        assert!(relay.all_gets()[1].offset >= 19 * MIB - MIB, "{}", relay.report());
        assert_sent(&relay, &outcome, LARGE as u64, LARGE as u64 / 50);
        server.stop();
    }
}

/// With the other digest there is no state of a hash to load: the part is hashed again.
#[test]
fn interrupted_with_blake3() {
    let scratch = Scratch::new();
    let body = content(4, LARGE);
    scratch.share("a", &body);
    let server = Server::of(&scratch);
    let relay = Relay::new(server.addr, |number| match number {
        0 => Plan::hold(20_000_000),
        1 => Plan::cut(5_000_000, Cut::Reset),
        _ => Plan::faithful(),
    });
    let with_blake3 = || impatient_get(&scratch, relay.addr).args(["--checksum", "blake3", "a"]);
    let running = with_blake3().spawn();
    relay.wait_until_held(0);
    wait_for("half of the file in the part", || part_len(&scratch) >= 18_000_000);
    running.finish_after(Signal::INT).exits(130);
    let outcome = with_blake3().run();
    assert_saved(&outcome, &scratch, &body);
    outcome.stderr_has(&format!("blake3 {}", crate::harness::content::hex(&content_digest(&body))));
    assert_sent(&relay, &outcome, LARGE as u64, MIB);
    server.stop();
}

fn content_digest(body: &[u8]) -> Vec<u8> {
    crate::harness::content::digest(2, body)
}

/// What was received with one digest helps the other, or is fetched again; the file is right in any case.
#[test]
fn the_digest_may_change_between_two_runs() {
    for options in [["md5", "blake3"], ["blake3", "md5"]] {
        let scratch = Scratch::new();
        let body = content(5, LARGE);
        scratch.share("a", &body);
        let server = Server::of(&scratch);
        let relay =
            Relay::new(server.addr, |number| if number == 0 { Plan::hold(20_000_000) } else { Plan::faithful() });
        let run = |option| impatient_get(&scratch, relay.addr).args(["--checksum", option, "a"]);
        let running = run(options[0]).spawn();
        relay.wait_until_held(0);
        wait_for("half of the file in the part", || part_len(&scratch) >= 18_000_000);
        running.finish_after(Signal::INT).exits(130);
        let outcome = run(options[1]).run();
        assert_saved(&outcome, &scratch, &body);
        outcome.stderr_has(&format!("{} ", options[1]));
        server.stop();
    }
}

#[test]
fn no_resume_ignores_what_is_there() {
    let scratch = Scratch::new();
    let body = content(6, LARGE);
    scratch.share("a", &body);
    let server = Server::of(&scratch);
    let relay = Relay::new(server.addr, |number| if number == 0 { Plan::hold(20_000_000) } else { Plan::faithful() });
    half_done(&scratch, &relay, 20_000_000).finish_after(Signal::KILL);
    let outcome = impatient_get(&scratch, relay.addr).args(["--no-resume", "a"]).run();
    assert_saved(&outcome, &scratch, &body);
    outcome.stderr_lacks("resum");
    assert_eq!(relay.all_gets()[1], Get::of("a"), "{}", relay.report());
    server.stop();
}

/// Each attempt brings 3 MB: in version 2 that starts the count again.
#[test]
fn a_link_that_is_cut_again_and_again_arrives() {
    let scratch = Scratch::new();
    let body = content(7, LARGE);
    scratch.share("a", &body);
    let server = Server::of(&scratch);
    let relay = Relay::of(server.addr, Plan::cut(3_000_000, Cut::Reset));
    let outcome = impatient_get(&scratch, relay.addr).args(["--retries", "3", "a"]).run();
    assert_saved(&outcome, &scratch, &body);
    assert!(relay.connections() >= 13, "{}", relay.report());
    assert_sent(&relay, &outcome, LARGE as u64, 4 * MIB);
    server.stop();
}

/// Less than a frame each time: nothing that could be resumed.
#[test]
fn a_link_that_is_cut_too_often_ends_the_attempts() {
    let scratch = Scratch::new();
    scratch.share_sparse("a", LARGE as u64);
    let server = Server::of(&scratch);
    let relay = Relay::of(server.addr, Plan::cut(10_000, Cut::Reset));
    let outcome = impatient_get(&scratch, relay.addr).args(["--retries", "4", "a"]).run();
    outcome.exits(3).has_one_error_line().made_attempts(4);
    assert_eq!(relay.connections(), 4, "{}", relay.report());
    assert!(!scratch.out().join("a").exists());
    server.stop();
}

/// In version 1 nothing can be resumed, so half of the file is no progress, however often it comes.
#[test]
fn a_link_that_dies_at_half_for_ever_ends_the_attempts_in_version_1() {
    let scratch = Scratch::new();
    scratch.share_sparse("a", LARGE as u64);
    let server = Server::of(&scratch);
    let relay = Relay::of(server.addr, Plan::cut(LARGE as u64 / 2, Cut::Reset));
    let outcome = impatient_get(&scratch, relay.addr).args(["--v1", "--retries", "3", "a"]).run();
    outcome.exits(3).has_one_error_line().made_attempts(3);
    assert_eq!(relay.first_bytes(), [Some(0); 3], "{}", relay.report());
    assert!(!scratch.out().join("a").exists());
    server.stop();
}

/// The server is killed in the middle and another one takes its place.
#[test]
fn the_server_is_restarted_during_a_transfer() {
    let scratch = Scratch::new();
    let body = content(8, LARGE);
    scratch.share("a", &body);
    let first = Server::of(&scratch);
    let relay = Relay::new(first.addr, |number| if number == 0 { Plan::hold(20_000_000) } else { Plan::faithful() });
    let running = half_done(&scratch, &relay, 20_000_000);
    first.into_running().finish_after(Signal::KILL);
    let second = Server::start(crate::harness::serve(&scratch).log_file(scratch.path("second.log")));
    relay.lead_to(second.addr);
    relay.release(0);
    let outcome = running.finish();
    assert_saved(&outcome, &scratch, &body);
    assert!(!relay.was_asked_in_version_1(), "{}", relay.report());
    assert_sent(&relay, &outcome, LARGE as u64, MIB);
    second.stop();
}

/// Another server has the same file, of the same time: what came from the first is as good there.
#[test]
fn a_mirror_goes_on_where_the_first_server_stopped() {
    let scratch = Scratch::new();
    let body = content(11, LARGE);
    let source = scratch.share("a", &body);
    let server = Server::of(&scratch);
    let relay = Relay::of(server.addr, Plan::hold(20_000_000));
    half_done(&scratch, &relay, 20_000_000).finish_after(Signal::INT).exits(130);
    let elsewhere = Scratch::new();
    let copy = elsewhere.share("a", &body);
    let time = fs::metadata(source).unwrap().modified().unwrap();
    fs::File::options().write(true).open(copy).unwrap().set_modified(time).unwrap();
    let mirror = Server::of(&elsewhere);
    let relay = Relay::of(mirror.addr, Plan::faithful());
    let outcome = impatient_get(&scratch, relay.addr).arg("a").run();
    assert_saved(&outcome, &scratch, &body);
    assert!(relay.all_gets()[0].offset > 18_000_000, "{}", relay.report());
    assert_sent(&relay, &outcome, LARGE as u64 - 18_000_000, 0);
    mirror.stop();
    server.stop();
}

/// The same, with a while in which there is no server at all.
#[test]
fn the_server_is_away_for_a_while() {
    let scratch = Scratch::new();
    let body = content(9, LARGE);
    scratch.share("a", &body);
    let first = Server::of(&scratch);
    let relay = Relay::new(first.addr, |number| if number == 0 { Plan::hold(20_000_000) } else { Plan::faithful() });
    let running = impatient_get(&scratch, relay.addr).args(["--retries", "0", "a"]).spawn();
    relay.wait_until_held(0);
    wait_for("half of the file in the part", || part_len(&scratch) >= 18_000_000);
    first.into_running().finish_after(Signal::KILL);
    relay.release(0);
    wait_for("some attempts in vain", || relay.connections() >= 5);
    let second = Server::start(crate::harness::serve(&scratch).log_file(scratch.path("second.log")));
    relay.lead_to(second.addr);
    let outcome = running.finish();
    assert_saved(&outcome, &scratch, &body);
    assert!(!relay.was_asked_in_version_1(), "{}", relay.report());
    assert_sent(&relay, &outcome, LARGE as u64, MIB);
    second.stop();
}

/// Every byte in a segment of its own, or so: FILE, WAIT, DATA and DIGEST are read as a stream.
#[test]
fn a_link_that_delivers_byte_by_byte() {
    let scratch = Scratch::new();
    let body = content(10, 5_000);
    scratch.share("a", &body);
    scratch.share("b", &body);
    let server = Server::of(&scratch);
    let relay = Relay::of(server.addr, Plan::chop());
    let outcome = impatient_get(&scratch, relay.addr).args(["a", "none", "b"]).run();
    outcome.exits(1).stderr_has("2 of 3 saved");
    assert!(["a", "b"].iter().all(|name| fs::read(scratch.out().join(name)).unwrap() == body));
    server.stop();
}
