//! A file that this machine cannot save costs the others nothing: the rest of its reply is discarded if it is short.

use std::fs;
use std::io::Write;

use crate::harness::wire2::{self, Get};
use crate::harness::{Cut, Outcome, Plan, Relay, Scratch, Server, content, get};
use crate::scripted_server::{ScriptedServer, hold};

/// Files that are asked for behind the one that fails, fewer than are asked for at once.
const OTHERS: usize = 40;

/// Bytes of a file that has a journal, and where its first transfer breaks off: the rest is short.
const LARGE: usize = 34_000_000;
const BROKEN_AT: u64 = 33_900_000;

/// Shares a file of this size, and others; their names in this order.
fn share(scratch: &Scratch, size: usize) -> Vec<String> {
    scratch.share("large", &content(1, size));
    let others = (0..OTHERS).map(|number| number.to_string());
    let others: Vec<String> = others.inspect(|name| drop(scratch.share(name, name.as_bytes()))).collect();
    [vec!["large".to_owned()], others].concat()
}

/// Puts a directory where the large file goes: that is found out when the reply has begun.
fn stand_in_the_way(scratch: &Scratch) {
    fs::create_dir_all(scratch.out().join("large")).unwrap();
}

fn assert_only_the_large_one_failed(outcome: &Outcome, scratch: &Scratch, names: &[String]) {
    assert_one_failure(outcome);
    outcome.stderr_has("large: it is a directory");
    for name in &names[1..] {
        assert_eq!(fs::read(scratch.out().join(name)).unwrap(), name.as_bytes());
    }
}

fn assert_one_failure(outcome: &Outcome) {
    outcome.exits(5).stderr_has("40 of 41 saved: ").stderr_has("; 1 failed: 'large'\n").log_lacks("attempt 2 of");
}

/// Fetches a large file of which only the end is missing, and which cannot be saved, and others; through a relay that does
/// this to the first connection.
fn fetch_an_end(plan: Plan) -> Relay {
    let scratch = Scratch::new();
    let names = share(&scratch, LARGE);
    let server = Server::of(&scratch);
    let broken = Relay::of(server.addr, Plan::cut(BROKEN_AT, Cut::Close));
    let first = get(&scratch, broken.addr).log_file(scratch.path("first.log")).args(["--retries", "1", "large"]).run();
    first.exits(3).stderr_has("; kept ");
    stand_in_the_way(&scratch);
    let relay = Relay::new(server.addr, move |number| if number == 0 { plan.clone() } else { Plan::faithful() });
    let outcome = get(&scratch, relay.addr).args(&names).run();
    assert_only_the_large_one_failed(&outcome, &scratch, &names);
    outcome.stderr_has("; kept ");
    server.stop();
    relay
}

#[test]
fn the_short_rest_of_a_reply_is_discarded() {
    let relay = fetch_an_end(Plan::faithful());
    assert_eq!(relay.connections(), 1, "{}", relay.report());
    assert_eq!(relay.all_gets().len(), 1 + OTHERS, "each is asked for once: {}", relay.report());
}

/// A connection that breaks meanwhile is nobody's failed attempt.
#[test]
fn a_connection_that_breaks_meanwhile_is_made_again() {
    for how in [Cut::Reset, Cut::Close] {
        let relay = fetch_an_end(Plan::cut(50_000, how));
        assert_eq!(relay.connections(), 2, "{}", relay.report());
    }
}

#[test]
fn what_takes_longer_than_a_connection_is_not_discarded() {
    let scratch = Scratch::new();
    let names = share(&scratch, 3_000_000);
    let server = Server::of(&scratch);
    let relay = Relay::of(server.addr, Plan::faithful());
    stand_in_the_way(&scratch);
    let outcome = get(&scratch, relay.addr).args(&names).run();
    assert_only_the_large_one_failed(&outcome, &scratch, &names);
    assert_eq!(relay.connections(), 2, "{}", relay.report());
    server.stop();
}

/// A disk that is full in the middle of a frame, or only found so at the end: whichever comes first, the rest is short.
#[test]
fn the_rest_of_a_frame_is_discarded() {
    let scratch = Scratch::new();
    let names = share(&scratch, 0);
    let large = content(1, (1 << 20) + 150_000);
    let server = ScriptedServer::answering_gets(move |_, get| match get.name.as_slice() {
        b"large" => {
            let frames: Vec<u8> = large.chunks(70_001).flat_map(wire2::data).collect();
            let digest = wire2::digest(&crate::harness::content::digest(wire2::MD5, &large));
            [wire2::File::of(&large).bytes(), frames, digest].concat()
        }
        name => wire2::honest_reply(get, name),
    });
    // In blocks of 512 or 1024 bytes, whichever the shell takes: less than the file in both.
    let outcome = get(&scratch, server.addr).args(&names).after("ulimit -f 1000").run();
    assert_one_failure(&outcome);
    outcome.stderr_has("the limit on file sizes (see ulimit -f)");
    assert_eq!(server.connections(), 1, "{}", outcome.report());
}

/// The digest of such a file may take its time: it is not waited for.
#[test]
fn a_digest_that_nobody_wants_is_not_waited_for() {
    let scratch = Scratch::new();
    let names = share(&scratch, LARGE);
    let broken = Server::of(&scratch);
    let relay = Relay::of(broken.addr, Plan::cut(BROKEN_AT, Cut::Close));
    get(&scratch, relay.addr).log_file(scratch.path("first.log")).args(["--retries", "1", "large"]).run().exits(3);
    stand_in_the_way(&scratch);
    let (path, large) = (scratch.files().join("large"), content(1, LARGE));
    let modified = fs::metadata(path).unwrap();
    let server = ScriptedServer::of_any_version(move |_, stream| {
        while let Some(get) = Get::read(stream) {
            let is_large = get.name == b"large";
            let reply = match is_large {
                true => unfinished_reply(&get, &large, &modified),
                false => wire2::honest_reply(&get, &get.name),
            };
            if stream.write_all(&reply).is_err() || is_large {
                return hold(stream);
            }
        }
    });
    let outcome = get(&scratch, server.addr).args(["--timeout", "30"]).args(&names).run();
    assert_only_the_large_one_failed(&outcome, &scratch, &names);
    assert_eq!(server.connections(), 2, "{}", outcome.report());
}

/// All bytes that are missing, and a WAIT.
fn unfinished_reply(get: &Get, body: &[u8], modified: &fs::Metadata) -> Vec<u8> {
    use std::os::unix::fs::MetadataExt;
    let (seconds, nanos) = (modified.mtime(), u32::try_from(modified.mtime_nsec()).unwrap());
    let size = body.len() as u64;
    let version = wire2::version_of(size, seconds, nanos);
    assert_eq!(get.version, version, "{get:?} is to resume");
    let file = wire2::File { offset: get.offset, seconds, nanos, version, ..wire2::File::of(body) };
    let rest = &body[usize::try_from(get.offset).unwrap()..];
    [file.bytes(), wire2::data(rest), wire2::wait(1, size)].concat()
}
