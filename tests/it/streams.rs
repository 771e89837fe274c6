//! `-o -` and other outputs that take no byte back, in version 2: each byte once, of one version, or an error.

use std::fs;
use std::net::SocketAddr;

use crate::harness::wire2::{self, Get, SHUTTING_DOWN};
use crate::harness::{Cut, Outcome, Plan, Program, Relay, Scratch, Server, content, plain_get, wait_for};
use crate::old_server::OldServer;
use crate::scripted_server::ScriptedServer;

const SIZE: usize = 3_000_000;

fn to_stdout(scratch: &Scratch, addr: SocketAddr) -> Program {
    plain_get(scratch, addr).args(["--max-backoff", "0.01", "-o", "-", "a"])
}

fn assert_stdout(outcome: &Outcome, body: &[u8]) {
    outcome.exits(0).stderr_has("verified").assert(outcome.stdout == body, "the file, once");
}

#[test]
fn a_stream_goes_on_behind_the_last_byte() {
    for how in [Cut::Reset, Cut::Close] {
        let scratch = Scratch::new();
        let body = content(1, SIZE);
        scratch.share("a", &body);
        let server = Server::of(&scratch);
        let relay = Relay::new(server.addr, move |number| match number {
            0 => Plan::cut(1_000_000, how),
            1 => Plan::cut(0, how),
            2 => Plan::cut(1_500_000, how),
            _ => Plan::faithful(),
        });
        let outcome = to_stdout(&scratch, relay.addr).run();
        assert_stdout(&outcome, &body);
        relay.wait_until_quiet();
        assert!(relay.to_client() < SIZE as u64 + 100_000, "{}", relay.report());
        assert!(!relay.was_asked_in_version_1(), "{}", relay.report());
        assert!(relay.all_gets()[3].offset > 2_000_000, "{}", relay.report());
        server.stop();
    }
}

/// What went out is of the old version: nothing of the new one may follow it.
#[test]
fn a_stream_of_a_source_that_changed_ends() {
    let scratch = Scratch::new();
    let body = content(2, SIZE);
    let path = scratch.share("a", &body);
    let server = Server::of(&scratch);
    let relay = Relay::new(server.addr, |number| match number {
        0 => Plan::hold(1_000_000).and_cut(1_000_000, Cut::Reset),
        _ => Plan::faithful(),
    });
    let running = to_stdout(&scratch, relay.addr).spawn();
    relay.wait_until_held(0);
    fs::rename(scratch.share("new", &content(3, SIZE)), path).unwrap();
    relay.release(0);
    let outcome = running.finish();
    outcome.exits(3).has_one_error_line().stderr_lacks("verified");
    outcome.assert(body.starts_with(&outcome.stdout), "nothing but the old version");
    server.stop();
}

/// And a server that goes on with another version where the first one stopped is not believed.
#[test]
fn a_stream_takes_no_byte_of_another_version() {
    let scratch = Scratch::new();
    let (old, new) = (content(10, SIZE), content(11, SIZE));
    let first = old.clone();
    let server = ScriptedServer::answering_gets(move |number, get| {
        let whole = wire2::File::of(&first);
        if number == 0 {
            return [whole.bytes(), wire2::data(&first[..1_000_000]), wire2::error(SHUTTING_DOWN, "bye")].concat();
        }
        let version = wire2::version_of(SIZE as u64, 0, 0);
        let file = wire2::File { offset: get.offset, seconds: 0, nanos: 0, version, ..whole };
        [file.bytes(), wire2::data(&new[get.offset as usize..]), wire2::digest(&[0; 16])].concat()
    });
    let outcome = to_stdout(&scratch, server.addr).run();
    outcome.assert(matches!(outcome.status.code(), Some(3 | 4)), "an error").has_one_error_line();
    outcome.assert(outcome.stdout == old[..1_000_000], "nothing of the other version");
}

/// The same where the server says so itself, before the next attempt.
#[test]
fn a_stream_of_a_source_edited_on_the_way_ends() {
    let scratch = Scratch::new();
    let body = content(4, 20_000_000);
    let path = scratch.share("a", &body);
    let server = Server::of(&scratch);
    let relay = Relay::new(server.addr, |number| if number == 0 { Plan::hold(1_000_000) } else { Plan::faithful() });
    let running = to_stdout(&scratch, relay.addr).spawn();
    relay.wait_until_held(0);
    fs::File::options().append(true).open(path).unwrap().set_len(19_000_000).unwrap();
    relay.release(0);
    let outcome = running.finish();
    outcome.exits(3).stderr_lacks("verified");
    outcome.assert(outcome.stdout.len() < body.len(), "not all of it");
    server.stop();
}

#[test]
fn a_damaged_stream_is_an_error_of_integrity() {
    let scratch = Scratch::new();
    let body = content(5, SIZE);
    scratch.share("a", &body);
    let server = Server::of(&scratch);
    let relay = Relay::of(server.addr, Plan::flip(&[1_000_000]));
    let outcome = to_stdout(&scratch, relay.addr).run();
    outcome.exits(4).has_one_error_line().stderr_lacks("verified");
    outcome.assert(outcome.stdout.len() == SIZE, "what came went out, once");
    assert_eq!(relay.all_gets(), [Get::of("a")], "{}", relay.report());
    server.stop();
}

/// Damaged before a cut, right behind it: the digest is of all that went out.
#[test]
fn a_stream_damaged_before_a_cut_is_no_verified_one() {
    let scratch = Scratch::new();
    let body = content(6, SIZE);
    scratch.share("a", &body);
    let server = Server::of(&scratch);
    let relay = Relay::new(server.addr, |number| match number {
        0 => Plan::flip(&[500_000]).and_cut(1_000_000, Cut::Close),
        _ => Plan::faithful(),
    });
    to_stdout(&scratch, relay.addr).run().exits(4).stderr_lacks("verified");
    server.stop();
}

/// Half of it from an old server, then a cut: it comes whole all the same, byte for byte.
#[test]
fn a_stream_from_an_old_server_goes_on() {
    let scratch = Scratch::new();
    let body = content(7, SIZE);
    scratch.share("a", &body);
    let server = OldServer::of(&scratch.files());
    let relay = Relay::new(server.addr, |number| match number {
        1 => Plan::cut(1_000_000, Cut::Reset),
        _ => Plan::faithful(),
    });
    let outcome = to_stdout(&scratch, relay.addr).run();
    assert_stdout(&outcome, &body);
    assert_eq!(relay.first_bytes(), [Some(1), Some(0), Some(0)], "{}", relay.report());
}

/// A server that ends politely in the middle: the rest comes over the same connection or another.
#[test]
fn a_stream_goes_on_after_an_error_worth_a_retry() {
    let scratch = Scratch::new();
    let body = content(8, SIZE);
    let served = body.clone();
    let server = ScriptedServer::answering_gets(move |number, get| match number {
        0 => {
            let file = wire2::File::of(&served);
            [file.bytes(), wire2::data(&served[..1_000_000]), wire2::error(SHUTTING_DOWN, "bye")].concat()
        }
        _ => wire2::honest_reply(get, &served),
    });
    assert_stdout(&to_stdout(&scratch, server.addr).run(), &body);
}

/// Bytes go out as they come, not when the file is whole.
#[test]
fn a_stream_does_not_wait_for_its_end() {
    let scratch = Scratch::new();
    let body = content(9, SIZE);
    scratch.share("a", &body);
    let server = Server::of(&scratch);
    let relay = Relay::of(server.addr, Plan::hold(1_000_000));
    let running = to_stdout(&scratch, relay.addr).spawn();
    relay.wait_until_held(0);
    wait_for("what has come on standard output", || running.stdout().len() > 900_000);
    assert!(body.starts_with(&running.stdout()));
    relay.release(0);
    assert_stdout(&running.finish(), &body);
    server.stop();
}
