//! Links that die again and again, and runs that are ended in the middle: what came is kept, and the same command resumes.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;

use rustix::process::Signal;

use crate::harness::wire2::{self, Get};
use crate::harness::{Cut, Plan, Program, Relay, Scratch, Server, content, get, wait_for};
use crate::resume::{assert_saved, state};
use crate::scripted_server::ScriptedServer;

/// Bytes of a file that has a journal from its first byte on, and of one that is held in memory for a second.
const LARGE: usize = 2_000_000;
const SMALL: usize = 100_000;

/// Where both are held, and the last frame that is whole then: frames begin at 16 KiB and double up to 256 KiB.
const LARGE_HELD: (u64, u64) = (1_700_000, 1520 << 10);
const SMALL_HELD: (u64, u64) = (60_000, 48 << 10);

const PART: &str = ".a.xfer-part";
const STATE: &str = ".a.xfer-part.state";

fn impatient_get(scratch: &Scratch, addr: SocketAddr) -> Program {
    get(scratch, addr).args(["--max-backoff", "0.1"])
}

/// How far the journal says that the part is good: the third number of a slot, behind twelve bytes.
fn recorded(scratch: &Scratch) -> u64 {
    let journal = fs::read(state(scratch)).unwrap_or_default();
    let offset = |slot: usize| Some(u64::from_be_bytes(journal.get(slot + 28..slot + 36)?.try_into().unwrap()));
    [0, 8192].into_iter().filter_map(offset).max().unwrap_or(0)
}

/// With the usual number of attempts.
#[test]
fn a_link_that_dies_after_800_kb_each_time() {
    let scratch = Scratch::new();
    let body = content(1, 10_000_000);
    scratch.share("a", &body);
    let server = Server::of(&scratch);
    let relay = Relay::of(server.addr, Plan::cut(800_000, Cut::Close));
    assert_saved(&impatient_get(&scratch, relay.addr).arg("a").run(), &scratch, &body);
    // What is sent again is a piece of a frame each time.
    assert!((13..=20).contains(&relay.connections()), "{}", relay.report());
    server.stop();
}

/// Less than one of the frames that a reply ends with.
#[test]
fn a_link_that_dies_after_60_kb_each_time() {
    for size in [1_000_000, 1_500_000] {
        let scratch = Scratch::new();
        let body = content(2, size);
        scratch.share("a", &body);
        let server = Server::of(&scratch);
        let relay = Relay::of(server.addr, Plan::cut(60_000, Cut::Reset));
        assert_saved(&impatient_get(&scratch, relay.addr).arg("a").run(), &scratch, &body);
        assert!(relay.connections() > 16, "{}", relay.report());
        server.stop();
    }
}

/// Ends a client by this signal when it holds so much of the file, and runs the same command again.
fn assert_resumed(signal: Signal, size: usize, (held, recorded_then): (u64, u64)) {
    let scratch = Scratch::new();
    let body = content(3, size);
    scratch.share("a", &body);
    let server = Server::of(&scratch);
    let relay = Relay::new(server.addr, move |number| if number == 0 { Plan::hold(held) } else { Plan::faithful() });
    let running = impatient_get(&scratch, relay.addr).args(["--timeout", "60", "a"]).spawn();
    relay.wait_until_held(0);
    // What came a second ago is on its way to the disk, though it fills no block, and nothing more comes.
    wait_for("the journal", || recorded(&scratch) >= recorded_then);
    let outcome = running.finish_after(signal);
    if signal != Signal::KILL {
        outcome.stderr_has("; kept ").stderr_has("; run the same command to resume");
    }
    assert_eq!(scratch.names("out"), [PART, STATE], "{}", outcome.report());
    let outcome = impatient_get(&scratch, relay.addr).arg("a").run();
    assert_saved(&outcome, &scratch, &body);
    assert_eq!(relay.all_gets()[1].offset, recorded_then, "{}", relay.report());
    server.stop();
}

#[test]
fn a_file_of_two_megabytes_is_resumed_after_any_end() {
    for signal in [Signal::KILL, Signal::INT, Signal::TERM, Signal::HUP] {
        assert_resumed(signal, LARGE, LARGE_HELD);
    }
}

#[test]
fn a_small_file_that_takes_its_time_is_resumed_after_any_end() {
    for signal in [Signal::KILL, Signal::INT, Signal::TERM, Signal::HUP] {
        assert_resumed(signal, SMALL, SMALL_HELD);
    }
}

/// A server whose first reply breaks off with bytes of another protocol behind so many of the file, and whose others are
/// right.
fn breaking_server(body: Vec<u8>, frames: usize, frame: usize) -> ScriptedServer {
    ScriptedServer::answering_gets(move |number, get| {
        let offset = usize::try_from(get.offset).unwrap();
        let file = wire2::File { offset: get.offset, ..wire2::File::of(&body) };
        let rest: Vec<u8> = body[offset..].chunks(frame).flat_map(wire2::data).collect();
        let digest = wire2::digest(&content_digest(get, &body));
        match number {
            0 => [file.bytes(), rest[..frames * (frame + 4)].to_vec(), b"HTTP/1.1 400".to_vec()].concat(),
            _ => [file.bytes(), rest, digest].concat(),
        }
    })
}

fn content_digest(get: &Get, body: &[u8]) -> Vec<u8> {
    crate::harness::content::digest(get.algorithm, body)
}

#[test]
fn a_reply_that_breaks_the_protocol_leaves_the_part() {
    let scratch = Scratch::new();
    let body = content(4, LARGE);
    let server = breaking_server(body.clone(), 15, 100_000);
    let outcome = impatient_get(&scratch, server.addr).arg("a").run();
    outcome.exits(4).has_one_error_line().stderr_has("bad reply");
    outcome.stderr_has("; kept 1.4 MiB of 1.9 MiB in ").stderr_has("; run the same command to resume");
    let outcome = impatient_get(&scratch, server.addr).arg("a").run();
    assert_saved(&outcome, &scratch, &body);
    outcome.stderr_has("resuming 'a' at 75%");
}

/// Nobody waits long for so little, and is told.
#[test]
fn a_small_file_that_came_at_once_is_not_kept() {
    let scratch = Scratch::new();
    let server = breaking_server(content(5, SMALL), 3, 20_000);
    let outcome = impatient_get(&scratch, server.addr).arg("a").run();
    outcome.exits(4).has_one_error_line().stderr_has("; the 58.6 KiB received were not kept");
    assert_eq!(scratch.names("out"), [""; 0]);
}

/// In version 1 nothing can be resumed, however large it is.
#[test]
fn what_came_in_version_1_is_not_kept() {
    let scratch = Scratch::new();
    scratch.share("a", &content(6, LARGE));
    let server = Server::of(&scratch);
    let relay = Relay::of(server.addr, Plan::cut(1_500_000, Cut::Close));
    let outcome = impatient_get(&scratch, relay.addr).args(["--v1", "--retries", "2", "a"]).run();
    outcome.exits(3).has_one_error_line().stderr_has("; the 1.4 MiB received were not kept");
    assert_eq!(scratch.names("out"), [""; 0]);
    server.stop();
}

/// The one end behind which nothing is worth keeping.
#[test]
fn a_wrong_digest_leaves_no_part() {
    let scratch = Scratch::new();
    let body = content(7, LARGE);
    let server = ScriptedServer::of_any_version(move |_, stream| {
        while let Some(get) = Get::read(stream) {
            let frames: Vec<u8> = body.chunks(100_000).flat_map(wire2::data).collect();
            let digest = wire2::digest(&content_digest(&get, b"something else"));
            if stream.write_all(&[wire2::File::of(&body).bytes(), frames, digest].concat()).is_err() {
                return;
            }
        }
    });
    let outcome = impatient_get(&scratch, server.addr).arg("a").run();
    outcome.exits(4).stderr_has("arrived damaged").stderr_lacks("kept");
    assert_eq!(scratch.names("out"), [""; 0]);
}

#[test]
fn attempts_that_run_out_leave_the_part() {
    let scratch = Scratch::new();
    let body = content(8, LARGE);
    scratch.share("a", &body);
    let server = Server::of(&scratch);
    let relay = Relay::new(server.addr, |number| match number {
        0 => Plan::cut(LARGE_HELD.0, Cut::Reset),
        1..3 => Plan::cut(10_000, Cut::Reset),
        _ => Plan::faithful(),
    });
    let outcome = impatient_get(&scratch, relay.addr).args(["--retries", "3", "a"]).run();
    outcome.exits(3).has_one_error_line().stderr_has("after 3 attempts");
    outcome.stderr_has("; kept 1.5 MiB of 1.9 MiB in ").stderr_has("; run the same command to resume");
    assert_eq!(relay.connections(), 3, "{}", relay.report());
    assert_saved(&impatient_get(&scratch, relay.addr).arg("a").run(), &scratch, &body);
    assert_eq!(relay.all_gets()[3].offset, LARGE_HELD.1, "{}", relay.report());
    server.stop();
}

/// As much as fitted is kept, and what is said to be kept is.
#[test]
fn a_disk_that_is_full_leaves_the_part() {
    let scratch = Scratch::new();
    let body = content(9, 6_000_000);
    scratch.share("a", &body);
    let server = Server::of(&scratch);
    let relay = Relay::of(server.addr, Plan::faithful());
    // In blocks of 512 or 1024 bytes, whichever the shell takes.
    let outcome = impatient_get(&scratch, relay.addr).arg("a").after("ulimit -f 5000").run();
    outcome.exits(5).stderr_has("cannot write").stderr_has(" MiB of 5.7 MiB in ");
    assert_saved(&impatient_get(&scratch, relay.addr).arg("a").run(), &scratch, &body);
    assert!(relay.all_gets()[1].offset >= 1_500_000, "{}", relay.report());
    server.stop();
}

/// What has no name yet is gone with the run, and the line says so.
#[test]
fn a_small_file_that_cannot_be_saved_is_not_kept() {
    let scratch = Scratch::new();
    scratch.share("a", &content(10, SMALL));
    scratch.write("out/a/precious", b"precious");
    let server = Server::of(&scratch);
    let outcome = get(&scratch, server.addr).arg("a").run();
    outcome.exits(5).stderr_has("it is a directory").stderr_has("; the 97.7 KiB received were not kept");
    assert_eq!(scratch.names("out"), ["a"]);
    server.stop();
}
