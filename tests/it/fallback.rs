//! Which version a client speaks: old servers are found out at once, and no cut makes an old one of a new one.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use rustix::process::Signal;

use crate::harness::wire::{metadata, read_request};
use crate::harness::wire2::Get;
use crate::harness::{Cut, Plan, Program, Relay, Scratch, Server, content, get, md5_hex, wait_for};
use crate::old_server::OldServer;
use crate::resume::{LARGE, assert_saved, part, part_len};
use crate::scripted_server::{ScriptedServer, hold};

const V1: Option<u8> = Some(0x00);
const V2: Option<u8> = Some(0x01);

fn impatient_get(scratch: &Scratch, addr: SocketAddr) -> Program {
    get(scratch, addr).args(["--max-backoff", "0.01", "--no-sync"])
}

/// Asked once, then never again in this run; and the question is no attempt.
#[test]
fn an_old_server_is_asked_once_in_version_2() {
    let scratch = Scratch::new();
    let names = ["a", "b", "c"];
    names.iter().for_each(|name| drop(scratch.share(name, name.as_bytes())));
    let server = OldServer::of(&scratch.files());
    let relay = Relay::of(server.addr, Plan::faithful());
    let outcome = impatient_get(&scratch, relay.addr).args(["--retries", "1"]).args(names).run();
    outcome.exits(0).stderr_has("3 of 3 saved").made_attempts(3);
    assert_eq!(relay.first_bytes(), [V2, V1, V1, V1], "{}", relay.report());
    let gets = relay.all_gets();
    assert_eq!(gets, [Get::of("a")], "one GET, alone");
    assert!(names.iter().all(|name| fs::read(scratch.out().join(name)).unwrap() == name.as_bytes()));
}

#[test]
fn what_an_old_server_says_of_a_missing_file_is_final() {
    let scratch = Scratch::new();
    let server = OldServer::of(&scratch.files());
    let relay = Relay::of(server.addr, Plan::faithful());
    let outcome = impatient_get(&scratch, relay.addr).arg("none").run();
    outcome.exits(1).stderr_has("not found").made_attempts(1).has_one_error_line();
    assert_eq!(relay.first_bytes(), [V2, V1], "{}", relay.report());
}

/// However it shows that it does not understand: with a refusal, in silence, or with a reset.
#[test]
fn an_old_server_is_known_by_any_of_its_ends() {
    for answer in ["refusal", "close", "reset"] {
        let scratch = Scratch::new();
        let server = ScriptedServer::of_any_version(move |number, stream| {
            if number > 0 {
                return crate::scripted_server::answer(stream, &metadata("a", b"body"), b"body");
            }
            if answer != "reset" {
                Get::read(stream);
            } else {
                // Closing with the request unread makes it a reset.
                std::io::Read::read_exact(stream, &mut [0]).unwrap();
            }
            if answer == "refusal" {
                stream.write_all(b"ERRORFile '\0' not found on server").unwrap();
            }
        });
        let outcome = impatient_get(&scratch, server.addr).args(["--retries", "1", "a"]).run();
        outcome.exits(0).stderr_has("verified").made_attempts(1);
        assert_eq!(server.connections(), 2, "{answer}: {}", outcome.report());
    }
}

/// The first connection breaks before any byte of a reply, the server is a new one: one question in version 1 is
/// allowed, and answered.
#[test]
fn a_new_server_that_is_taken_for_an_old_one_still_serves() {
    let scratch = Scratch::new();
    let body = content(1, 100_000);
    scratch.share("a", &body);
    let server = Server::of(&scratch);
    let relay = Relay::new(server.addr, |number| match number {
        0 => Plan::cut(0, Cut::Reset),
        _ => Plan::faithful(),
    });
    let outcome = impatient_get(&scratch, relay.addr).args(["--retries", "1", "a"]).run();
    assert_saved(&outcome, &scratch, &body);
    assert_eq!(relay.first_bytes(), [V2, V1], "{}", relay.report());
    server.stop();
}

/// One connection that ends without a word may be a moment's failure; with the second, the server is an old one.
#[test]
fn it_takes_two_ends_without_a_word_to_make_an_old_server() {
    for how in [Cut::Reset, Cut::Close] {
        for (cuts, expected) in [(&[0][..], &[V2, V1, V2][..]), (&[0, 2], &[V2, V1, V2, V1, V1, V1])] {
            let scratch = Scratch::new();
            let names = ["a", "b", "c", "d"];
            names.iter().for_each(|name| drop(scratch.share(name, name.as_bytes())));
            let server = Server::of(&scratch);
            let relay = Relay::new(server.addr, move |number| match cuts.contains(&number) {
                true => Plan::cut(0, how),
                false => Plan::faithful(),
            });
            let outcome = impatient_get(&scratch, relay.addr).args(["--retries", "1"]).args(names).run();
            outcome.exits(0).stderr_has("4 of 4 saved").made_attempts(4);
            assert_eq!(relay.first_bytes(), expected, "{}", relay.report());
            assert!(names.iter().all(|name| fs::read(scratch.out().join(name)).unwrap() == name.as_bytes()));
            server.stop();
        }
    }
}

/// Version 1 cannot ask for it: that is no mistake of the user's, and no reason to stop trying.
#[test]
fn a_name_that_version_1_cannot_say_is_tried_again() {
    let scratch = Scratch::new();
    let name = OsStr::from_bytes(b"\xff");
    scratch.share(name, b"body");
    let server = Server::of(&scratch);
    for (cuts, code) in [(3, 3), (2, 0)] {
        let relay = Relay::new(server.addr, move |number| match number < cuts {
            true => Plan::cut(0, Cut::Reset),
            false => Plan::faithful(),
        });
        let log = scratch.path(format!("{cuts}.log"));
        let outcome = impatient_get(&scratch, relay.addr).log_file(log).args(["--retries", "3"]).arg(name).run();
        outcome.exits(code).made_attempts(3);
        assert_eq!(relay.first_bytes(), [V2; 3], "{}", relay.report());
    }
    assert_eq!(fs::read(scratch.out().join(name)).unwrap(), b"body");
    server.stop();
}

/// Silence says nothing about the version.
#[test]
fn a_silent_server_is_not_asked_in_version_1() {
    let scratch = Scratch::new();
    let server = ScriptedServer::of_any_version(|_, stream| {
        Get::read(stream);
        hold(stream);
    });
    let relay = Relay::of(server.addr, Plan::faithful());
    let outcome = impatient_get(&scratch, relay.addr).args(["--timeout", "0.3", "--retries", "2", "a"]).run();
    outcome.exits(3).made_attempts(2);
    assert_eq!(relay.first_bytes(), [V2, V2], "{}", relay.report());
}

/// One byte of version 2 in this run is enough: whatever happens afterwards, it is a cut.
#[test]
fn a_server_that_has_spoken_version_2_is_never_asked_in_version_1() {
    for how in [Cut::Reset, Cut::Close] {
        let scratch = Scratch::new();
        let body = content(2, 1_000_000);
        scratch.share("a", &body);
        let server = Server::of(&scratch);
        let relay = Relay::new(server.addr, move |number| match number {
            0 => Plan::cut(500_000, how),
            1..=4 => Plan::cut(0, how),
            _ => Plan::faithful(),
        });
        let outcome = impatient_get(&scratch, relay.addr).args(["--retries", "10", "a"]).run();
        assert_saved(&outcome, &scratch, &body);
        assert_eq!(relay.first_bytes(), [V2; 6], "{}", relay.report());
        server.stop();
    }
}

/// A refusal in version 2 is a word of version 2 as well.
#[test]
fn a_refusal_in_version_2_tells_the_version() {
    let scratch = Scratch::new();
    let names = ["none", "a"];
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    let refusal = 4 + 2 + "File 'none' not found on server".len() as u64;
    let relay = Relay::new(server.addr, move |number| match number {
        0 => Plan::cut(refusal, Cut::Reset),
        1..=3 => Plan::cut(0, Cut::Reset),
        _ => Plan::faithful(),
    });
    let outcome = impatient_get(&scratch, relay.addr).args(["--retries", "10"]).args(names).run();
    outcome.exits(1).stderr_has("1 of 2 saved");
    assert_eq!(relay.first_bytes(), [V2; 5], "{}", relay.report());
    server.stop();
}

/// Nor in a later run, as long as the journal tells of it.
#[test]
fn a_journal_remembers_that_the_server_speaks_version_2() {
    let scratch = Scratch::new();
    let body = content(3, LARGE);
    scratch.share("a", &body);
    let server = Server::of(&scratch);
    let relay = Relay::new(server.addr, |number| match number {
        0 => Plan::hold(20_000_000),
        1..=3 => Plan::cut(0, Cut::Reset),
        _ => Plan::faithful(),
    });
    let running = impatient_get(&scratch, relay.addr).arg("a").spawn();
    relay.wait_until_held(0);
    wait_for("half of the file in the part", || part_len(&scratch) >= 18_000_000);
    running.finish_after(Signal::KILL);
    let again = impatient_get(&scratch, relay.addr).log_file(scratch.path("again.log"));
    let outcome = again.args(["--retries", "3", "a"]).run();
    outcome.exits(3).has_one_error_line().made_attempts(3);
    let outcome = impatient_get(&scratch, relay.addr).arg("a").run();
    assert_saved(&outcome, &scratch, &body);
    assert_eq!(relay.first_bytes(), [V2; 5], "{}", relay.report());
    assert!(relay.all_gets().iter().skip(1).all(|get| get.offset > 10_000_000), "{}", relay.report());
    assert!(relay.to_client() < LARGE as u64 + 5_000_000, "{}", relay.report());
    server.stop();
}

/// Also where nothing is left of the part that it is about.
#[test]
fn a_journal_without_its_part_remembers_the_version() {
    let scratch = Scratch::new();
    let body = content(7, LARGE);
    scratch.share("a", &body);
    let server = Server::of(&scratch);
    let relay = Relay::new(server.addr, |number| match number {
        0 => Plan::hold(20_000_000),
        1..=3 => Plan::cut(0, Cut::Close),
        _ => Plan::faithful(),
    });
    let running = impatient_get(&scratch, relay.addr).arg("a").spawn();
    relay.wait_until_held(0);
    wait_for("half of the file in the part", || part_len(&scratch) >= 18_000_000);
    running.finish_after(Signal::INT).exits(130);
    fs::File::options().write(true).open(part(&scratch)).unwrap().set_len(0).unwrap();
    assert_saved(&impatient_get(&scratch, relay.addr).arg("a").run(), &scratch, &body);
    assert_eq!(relay.first_bytes(), [V2; 5], "{}", relay.report());
    server.stop();
}

/// Also where it lies beside a file that comes later in the command: what there is of that one is worth as much.
#[test]
fn the_journal_of_a_later_file_is_not_thrown_away() {
    let scratch = Scratch::new();
    let body = content(6, LARGE);
    scratch.share("a", &body);
    scratch.share("first", b"small");
    let server = Server::of(&scratch);
    let relay = Relay::new(server.addr, |number| match number {
        0 => Plan::hold(20_000_000),
        1 => Plan::cut(0, Cut::Reset),
        _ => Plan::faithful(),
    });
    let running = impatient_get(&scratch, relay.addr).arg("a").spawn();
    relay.wait_until_held(0);
    wait_for("half of the file in the part", || part_len(&scratch) >= 18_000_000);
    running.finish_after(Signal::INT).exits(130);
    let outcome = impatient_get(&scratch, relay.addr).args(["first", "a"]).run();
    outcome.exits(0).stderr_has("2 of 2 saved");
    assert!(fs::read(scratch.out().join("a")).unwrap() == body);
    relay.wait_until_quiet();
    let sent = relay.to_client();
    outcome.assert(sent < LARGE as u64 + 5_000_000, &format!("{sent} bytes sent\n{}", relay.report()));
    server.stop();
}

/// Not even where the server counts as an old one by then.
#[test]
fn a_journal_outweighs_two_ends_without_a_word() {
    let scratch = Scratch::new();
    let body = content(8, LARGE);
    scratch.share("a", &body);
    ["first", "second"].iter().for_each(|name| drop(scratch.share(name, name.as_bytes())));
    let server = Server::of(&scratch);
    let relay = Relay::new(server.addr, |number| match number {
        0 => Plan::hold(20_000_000),
        1 | 3 => Plan::cut(0, Cut::Close),
        _ => Plan::faithful(),
    });
    let running = impatient_get(&scratch, relay.addr).arg("a").spawn();
    relay.wait_until_held(0);
    wait_for("half of the file in the part", || part_len(&scratch) >= 18_000_000);
    running.finish_after(Signal::INT).exits(130);
    let outcome = impatient_get(&scratch, relay.addr).args(["first", "second", "a"]).run();
    outcome.exits(0).stderr_has("3 of 3 saved").stderr_has("resuming 'a'");
    assert!(fs::read(scratch.out().join("a")).unwrap() == body);
    assert_eq!(relay.first_bytes(), [V2, V2, V1, V2, V1, V2], "{}", relay.report());
    server.stop();
}

#[test]
fn v1_forces_version_1() {
    let scratch = Scratch::new();
    let body = content(4, 100_000);
    ["a", "b"].iter().for_each(|name| drop(scratch.share(name, &body)));
    let server = Server::of(&scratch);
    let relay = Relay::new(server.addr, |number| match number {
        0 => Plan::cut(50_000, Cut::Reset),
        1 => Plan::cut(0, Cut::Close),
        _ => Plan::faithful(),
    });
    let outcome = impatient_get(&scratch, relay.addr).args(["--v1", "a", "none", "b"]).run();
    outcome.exits(1).stderr_has("2 of 3 saved");
    assert!(relay.first_bytes().iter().all(|first| *first == V1), "{}", relay.report());
    assert_eq!(relay.connections(), 5, "{}", relay.report());
    server.stop();
}

/// Version 1 has MD5 and nothing else.
#[test]
fn blake3_from_an_old_server_is_no_quiet_md5() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = OldServer::of(&scratch.files());
    let outcome = impatient_get(&scratch, server.addr).args(["--checksum", "blake3", "a"]).run();
    outcome.stderr_lacks("blake3 ");
    match outcome.status.code() {
        // Either it is refused, or what was verified is said.
        Some(0) => _ = outcome.stderr_has("md5 "),
        _ => _ = outcome.has_one_error_line(),
    }
}

/// So what is there already is compared by that.
#[test]
fn blake3_and_an_old_server_find_what_is_there() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let target = scratch.write("out/a", b"body");
    let before = fs::metadata(&target).unwrap();
    let server = OldServer::of(&scratch.files());
    let outcome = impatient_get(&scratch, server.addr).args(["--checksum", "blake3", "a"]).run();
    outcome.exits(0).stderr_has("already up to date").stderr_has(&format!("md5 {}", md5_hex(b"body")));
    let after = fs::metadata(&target).unwrap();
    assert_eq!((before.ino(), before.ctime_nsec()), (after.ino(), after.ctime_nsec()), "{}", outcome.report());
    assert_eq!(scratch.names("out"), ["a"]);
}

/// A part of a new server is of no use with an old one, and no danger: the file comes whole.
#[test]
fn a_part_of_version_2_and_an_old_server() {
    let scratch = Scratch::new();
    let body = content(5, LARGE);
    scratch.share("a", &body);
    let server = Server::of(&scratch);
    let relay = Relay::of(server.addr, Plan::hold(20_000_000));
    let running = impatient_get(&scratch, relay.addr).arg("a").spawn();
    relay.wait_until_held(0);
    wait_for("half of the file in the part", || part_len(&scratch) >= 18_000_000);
    running.finish_after(Signal::INT).exits(130);
    let old = OldServer::of(&scratch.files());
    assert_saved(&impatient_get(&scratch, old.addr).args(["--v1", "a"]).run(), &scratch, &body);
    server.stop();
}

/// The request of version 1 behind the probe comes in one piece, as an old server needs it.
#[test]
fn the_second_question_is_a_plain_one() {
    let scratch = Scratch::new();
    let server = ScriptedServer::new(|_, stream| {
        assert_eq!(read_request(stream), b"dir/name");
        stream.write_all(b"ERRORasked rightly").unwrap();
    });
    impatient_get(&scratch, server.addr).arg("dir/name").run().exits(1).stderr_has("asked rightly");
    assert_eq!(server.connections(), 1);
}
