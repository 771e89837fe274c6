//! What changes while it is fetched, on the server or on the way: the target is the old file or the whole new one.

use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::wire2::{self, BLAKE3, CHANGED, Get, REHASH};
use crate::harness::{Cut, Outcome, Plan, Program, Relay, Scratch, Server, content, get, wait_for};
use crate::resume::{LARGE, MIB, assert_saved, part_len};
use crate::scripted_server::ScriptedServer;

/// Where the relay stands still, for the source to change.
const HALF: u64 = 20_000_000;

fn impatient_get(scratch: &Scratch, addr: SocketAddr) -> Program {
    get(scratch, addr).args(["--max-backoff", "0.01", "--no-sync", "--force"])
}

/// Changes the source when half of it has come, and lets the transfer go on, or cuts it.
fn changed_at_half(how: Option<Cut>, change: impl Fn(&Scratch, &Path)) -> (Scratch, Outcome, Vec<Get>, u64) {
    let scratch = Scratch::new();
    let path = scratch.share("a", &content(1, LARGE));
    scratch.write("out/a", b"old body");
    let server = Server::of(&scratch);
    let relay = Relay::new(server.addr, move |number| match (number, how) {
        (0, None) => Plan::hold(HALF),
        (0, Some(how)) => Plan::hold(HALF).and_cut(HALF, how),
        _ => Plan::faithful(),
    });
    let running = impatient_get(&scratch, relay.addr).arg("a").spawn();
    relay.wait_until_held(0);
    wait_for("half of the file in the part", || part_len(&scratch) >= HALF - 2 * MIB);
    change(&scratch, &path);
    relay.release(0);
    let outcome = running.finish();
    relay.wait_until_quiet();
    let (gets, sent) = (relay.all_gets(), relay.to_client());
    outcome.assert(!relay.was_asked_in_version_1(), &relay.report());
    server.stop();
    (scratch, outcome, gets, sent)
}

fn open(path: &Path) -> File {
    File::options().write(true).open(path).unwrap()
}

#[test]
fn a_source_replaced_between_two_attempts() {
    let new = content(2, LARGE + 1000);
    let (scratch, outcome, gets, sent) = changed_at_half(Some(Cut::Reset), |scratch, path| {
        fs::rename(scratch.share("new", &new), path).unwrap();
    });
    assert_saved(&outcome, &scratch, &new);
    // What there was of the old file was offered, and is of no use any more.
    assert!(gets.len() == 2 && gets[1].offset > 0, "{gets:?}");
    assert!(sent < HALF + new.len() as u64 + MIB, "{sent} bytes sent");
}

/// The same size, and other bytes.
#[test]
fn a_source_replaced_by_one_of_the_same_size() {
    let new = content(2, LARGE);
    let (scratch, outcome, ..) = changed_at_half(Some(Cut::Close), |scratch, path| {
        fs::rename(scratch.share("new", &new), path).unwrap();
    });
    assert_saved(&outcome, &scratch, &new);
}

/// While it is sent, the file that was opened is the one that comes.
#[test]
fn a_source_replaced_while_it_is_sent() {
    let (scratch, outcome, gets, _) = changed_at_half(None, |scratch, path| {
        fs::rename(scratch.share("new", b"new body"), path).unwrap();
    });
    assert_saved(&outcome, &scratch, &content(1, LARGE));
    assert_eq!(gets.len(), 1);
}

/// The server tells (ERROR 4), and the next attempt brings what there is then.
#[test]
fn a_source_truncated_while_it_is_sent() {
    let (scratch, outcome, ..) = changed_at_half(None, |_, path| open(path).set_len(35_000_000).unwrap());
    assert_saved(&outcome, &scratch, &content(1, LARGE)[..35_000_000]);
    let (scratch, outcome, ..) = changed_at_half(None, |_, path| open(path).set_len(10).unwrap());
    assert_saved(&outcome, &scratch, &content(1, LARGE)[..10]);
}

#[test]
fn a_source_edited_in_place_while_it_is_sent() {
    for at in [0, HALF, LARGE as u64 - 1] {
        let (scratch, outcome, ..) = changed_at_half(None, |_, path| open(path).write_all_at(b"edited", at).unwrap());
        let mut expected = content(1, LARGE);
        let end = (at as usize + 6).max(LARGE);
        expected.resize(end, 0);
        expected[at as usize..at as usize + 6].copy_from_slice(b"edited");
        assert_saved(&outcome, &scratch, &expected);
    }
}

#[test]
fn a_source_removed_between_two_attempts() {
    let (scratch, outcome, ..) = changed_at_half(Some(Cut::Reset), |_, path| fs::remove_file(path).unwrap());
    outcome.exits(1).stderr_has("not found").has_one_error_line();
    assert_eq!(fs::read(scratch.out().join("a")).unwrap(), b"old body");
}

/// Another version at every attempt, and never a whole one: that is no progress.
#[test]
fn a_source_that_changes_all_the_time_ends_the_attempts() {
    let scratch = Scratch::new();
    let target = scratch.write("out/a", b"old body");
    let body = content(3, 5_000_000);
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let server = ScriptedServer::answering_gets(move |number, _| {
        count.fetch_add(1, Ordering::SeqCst);
        let nanos = number as u32;
        let version = wire2::version_of(5_000_000, 1_700_000_000, nanos);
        let file = wire2::File { nanos, version, ..wire2::File::of(&body) };
        [file.bytes(), wire2::data(&body[..4_000_000]), wire2::error(CHANGED, "changed")].concat()
    });
    let outcome = impatient_get(&scratch, server.addr).args(["--retries", "4", "a"]).run();
    outcome.exits(3).has_one_error_line().stderr_has("4 attempts");
    assert_eq!(asked.load(Ordering::SeqCst), 4, "{}", outcome.report());
    assert_eq!(fs::read(target).unwrap(), b"old body");
}

/// The same where the connection ends each time: much has come, and nothing of it is of any use to the next attempt.
#[test]
fn a_source_that_changes_at_every_cut_ends_the_attempts() {
    let scratch = Scratch::new();
    let body = content(3, 5_000_000);
    let server = ScriptedServer::of_any_version(move |number, stream| {
        Get::read(stream);
        let nanos = number as u32;
        let version = wire2::version_of(5_000_000, 1_700_000_000, nanos);
        let file = wire2::File { nanos, version, ..wire2::File::of(&body) };
        let _ = stream.write_all(&[file.bytes(), wire2::data(&body[..2_000_000 + number * 200_000])].concat());
    });
    let outcome = impatient_get(&scratch, server.addr).args(["--retries", "4", "a"]).run();
    outcome.exits(3).has_one_error_line().stderr_has("4 attempts");
    assert_eq!(server.connections(), 4, "{}", outcome.report());
    outcome.stderr_has("; kept 2.5 MiB of 4.8 MiB in ");
    assert_eq!(scratch.names("out"), [".a.xfer-part", ".a.xfer-part.state"]);
}

/// Fetched once more, from zero and with a new hash on the server's side, for which an edit may be the cause.
#[test]
fn one_byte_flipped_on_the_way() {
    for (options, algorithm) in [(["--checksum", "md5"], 1), (["--checksum", "blake3"], BLAKE3)] {
        let scratch = Scratch::new();
        let body = content(4, 300_000);
        scratch.share("a", &body);
        scratch.write("out/a", b"old body");
        let server = Server::of(&scratch);
        let relay = Relay::new(server.addr, |number| if number == 0 { Plan::flip(&[1000]) } else { Plan::faithful() });
        let outcome = impatient_get(&scratch, relay.addr).args(options).arg("a").run();
        assert_saved(&outcome, &scratch, &body);
        let again = Get { flags: REHASH, ..Get::of("a").with(algorithm) };
        assert_eq!(relay.all_gets(), [Get::of("a").with(algorithm), again], "{}", outcome.report());
        server.stop();
    }
}

#[test]
fn one_byte_flipped_every_time() {
    let scratch = Scratch::new();
    let body = content(5, 300_000);
    scratch.share("a", &body);
    scratch.write("out/a", b"old body");
    let server = Server::of(&scratch);
    // In the first reply of each connection, and in the second one if it comes in the same.
    let relay = Relay::of(server.addr, Plan::flip(&[1000, 450_000]));
    let outcome = impatient_get(&scratch, relay.addr).arg("a").run();
    outcome.exits(4).has_one_error_line().stderr_lacks("verified");
    assert_eq!(fs::read(scratch.out().join("a")).unwrap(), b"old body");
    let gets = relay.all_gets();
    assert!(gets.len() == 2 && gets[1].flags == REHASH && gets[1].offset == 0, "{gets:?}\n{}", outcome.report());
    // What is left of it must not be taken for a beginning.
    let outcome = impatient_get(&scratch, server.addr).arg("a").run();
    assert_saved(&outcome, &scratch, &body);
    server.stop();
}

/// Damaged in the first run, resumed in the second: only the digest of the whole tells.
#[test]
fn one_byte_flipped_before_an_interruption() {
    let scratch = Scratch::new();
    let body = content(6, LARGE);
    scratch.share("a", &body);
    let server = Server::of(&scratch);
    let relay = Relay::new(server.addr, |number| match number {
        0 => Plan::flip(&[MIB]).and_hold(HALF),
        _ => Plan::faithful(),
    });
    let running = impatient_get(&scratch, relay.addr).arg("a").spawn();
    relay.wait_until_held(0);
    wait_for("half of the file in the part", || part_len(&scratch) >= HALF - 2 * MIB);
    running.finish_after(rustix::process::Signal::INT).exits(130);
    let outcome = impatient_get(&scratch, relay.addr).arg("a").run();
    assert_saved(&outcome, &scratch, &body);
    let gets = relay.all_gets();
    assert!(gets.len() == 3 && gets[1].offset > 0, "{gets:?}");
    assert_eq!(gets[2], Get::of("a").rehashed(), "{}", outcome.report());
    server.stop();
}

/// Between two runs somebody wrote into the part: the digest of the whole tells that, too.
#[test]
fn a_part_that_was_written_to() {
    let scratch = Scratch::new();
    let body = content(7, LARGE);
    scratch.share("a", &body);
    let server = Server::of(&scratch);
    let relay = Relay::new(server.addr, |number| if number == 0 { Plan::hold(HALF) } else { Plan::faithful() });
    let running = impatient_get(&scratch, relay.addr).args(["--checksum", "blake3", "a"]).spawn();
    relay.wait_until_held(0);
    wait_for("half of the file in the part", || part_len(&scratch) >= HALF - 2 * MIB);
    running.finish_after(rustix::process::Signal::INT).exits(130);
    open(&crate::resume::part(&scratch)).write_all_at(b"edited", MIB).unwrap();
    let outcome = impatient_get(&scratch, relay.addr).args(["--checksum", "blake3", "a"]).run();
    assert_saved(&outcome, &scratch, &body);
    server.stop();
}

/// The disk may have lost what was not synced when the client was killed: it counts only as far as it is read again.
#[test]
fn an_unsynced_end_of_a_part_that_is_damaged() {
    // Long before 59 MB lies a slot that was synced, at 32 MiB.
    for (options, size, held) in [(&["--no-sync"][..], LARGE, HALF), (&[], 60_000_000, 59_000_000)] {
        let scratch = Scratch::new();
        let body = content(9, size);
        scratch.share("a", &body);
        let server = Server::of(&scratch);
        let relay =
            Relay::new(server.addr, move |number| if number == 0 { Plan::hold(held) } else { Plan::faithful() });
        let start = || get(&scratch, relay.addr).args(["--max-backoff", "0.01"]).args(options).arg("a").spawn();
        let running = start();
        relay.wait_until_held(0);
        let last_synced = |slots: &[(u64, bool)]| slots.iter().find(|(_, is_synced)| *is_synced).map(|slot| slot.0);
        wait_for("the last slots of the journal", || {
            let slots = slots(&scratch);
            last_synced(&slots).is_some() == options.is_empty() && slots.iter().any(|slot| slot.0 + 2 * MIB > held)
        });
        running.finish_after(rustix::process::Signal::KILL);
        let slots = slots(&scratch);
        let end = slots.iter().map(|slot| slot.0).max().unwrap();
        // More than hashing may be behind writing, and behind what was synced.
        let at = end - 8 * MIB;
        assert!(last_synced(&slots).is_none_or(|synced| synced < at), "{slots:?}");
        open(&crate::resume::part(&scratch)).write_all_at(&[!body[at as usize]], at).unwrap();
        let outcome = start().finish();
        assert_saved(&outcome, &scratch, &body);
        let gets = relay.all_gets();
        assert!(gets.len() == 3 && gets[1].offset == end, "{slots:?}, {gets:?}");
        assert_eq!(gets[2], Get::of("a").rehashed(), "{}", outcome.report());
        server.stop();
    }
}

/// How far each slot of the journal says that the part is good, and whether it was synced: two slots 8 KiB apart, with
/// the flags in byte 11 and the offset in bytes 28 to 35.
fn slots(scratch: &Scratch) -> Vec<(u64, bool)> {
    let journal = fs::read(crate::resume::state(scratch)).unwrap_or_default();
    let written = journal.chunks(8192).filter(|slot| slot.starts_with(b"xferpart") && slot.len() > 36);
    written.map(|slot| (u64::from_be_bytes(slot[28..36].try_into().unwrap()), slot[11] & 1 != 0)).collect()
}

/// One bit anywhere in a whole reply, heads and fields of frames included: the right file, or none.
#[test]
fn a_flip_anywhere_is_never_a_wrong_file() {
    let body = content(8, 300);
    // FILE and what may stand behind it, 300 bytes in DATA, DIGEST.
    let length = 4 + 52 + 16 + 4 + 300 + 4 + 16;
    let places: Vec<u64> = (0..90).chain((90..length - 30).step_by(40)).chain(length - 30..length).collect();
    std::thread::scope(|scope| {
        for lane in 0..6 {
            let (body, places) = (&body, &places);
            scope.spawn(move || {
                let scratch = Scratch::new();
                scratch.share("a", body);
                let server = Server::of(&scratch);
                for at in places.iter().skip(lane).step_by(6) {
                    assert_right_or_none(&scratch, &server, *at, body);
                }
                server.stop();
            });
        }
    });
}

fn assert_right_or_none(scratch: &Scratch, server: &Server, at: u64, body: &[u8]) {
    let relay = Relay::new(server.addr, move |number| if number == 0 { Plan::flip(&[at]) } else { Plan::faithful() });
    let options = ["--timeout", "0.5", "--retries", "2", "a"];
    let outcome = get(scratch, relay.addr).args(["--max-backoff", "0.01"]).args(options).run();
    let saved = fs::read(scratch.out().join("a"));
    match outcome.status.code() {
        Some(0) => _ = outcome.assert(saved.is_ok_and(|saved| saved == *body), &format!("flipped at {at}: the file")),
        // Also a disk that is too small for a size with one bit more.
        Some(1 | 3 | 4 | 5) => {
            outcome.assert(saved.is_err(), &format!("flipped at {at}: no file")).has_one_error_line();
        }
        _ => _ = outcome.assert(false, &format!("flipped at {at}: an error of some kind")),
    }
    let _ = fs::remove_dir_all(scratch.out());
}
