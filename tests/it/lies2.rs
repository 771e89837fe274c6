//! A server that lies in version 2: an error with the right code, the old file untouched, no memory by its numbers.

use std::fs;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::content::{self, content};
use crate::harness::wire2::{
    self, BAD_REQUEST, BLAKE3, BUSY, CHANGED, File, Get, MD5, NO_DATA, NOT_FOUND, READ_ERROR, SHUTTING_DOWN,
    SIZES_DIFFER, UNSUPPORTED, data, digest, error, frame, header, wait,
};
use crate::harness::{Outcome, Plan, Relay, Scratch, cores, get, wait_for};
use crate::scripted_server::{ScriptedServer, hold};

const BODY: &[u8] = b"the body of the file";

/// Address space of a client that is lied to, in KiB: plenty for an honest transfer, too little for a claimed 4 GiB.
const ADDRESS_SPACE: &str = "ulimit -v 1048576";

/// Fetches once from the liar, over an old file of another size.
fn get_from_liar(liar: &ScriptedServer) -> Outcome {
    let scratch = Scratch::new();
    let target = scratch.write("out/a", b"old body");
    let program = get(&scratch, liar.addr).args(["--force", "--retries", "1", "--timeout", "5", "a"]);
    let outcome = program.after(ADDRESS_SPACE).run();
    outcome.prints_nothing_on_stdout().has_one_error_line().shows_no_control_characters();
    outcome.assert(fs::read(target).unwrap() == b"old body", "the old file stays");
    let is_expected = |name: &String| name == "a" || name.starts_with(".a.xfer-part");
    outcome.assert(scratch.names("out").iter().all(is_expected), "nothing but a part beside it");
    assert_eq!(scratch.names(""), ["client.log", "files", "out"], "nothing outside the target directory");
    outcome
}

/// Answers every request like this, then holds the connection: no end of it helps the client to an error.
fn liar(reply: Vec<u8>) -> ScriptedServer {
    ScriptedServer::of_any_version(move |_, stream| {
        if Get::read(stream).is_some() && stream.write_all(&reply).is_ok() {
            hold(stream);
        }
    })
}

fn assert_protocol_error(what: &str, reply: Vec<u8>) {
    let outcome = get_from_liar(&liar(reply));
    outcome.assert(outcome.status.code() == Some(4), &format!("{what}: a protocol error expected")).made_attempts(1);
}

fn body_digest() -> Vec<u8> {
    digest(&content::digest(MD5, BODY))
}

#[test]
fn the_honest_reply_of_these_tests_is_accepted() {
    let scratch = Scratch::new();
    let server = liar([File::of(BODY).bytes(), data(BODY), body_digest()].concat());
    get(&scratch, server.addr).arg("a").run().exits(0).stderr_has("verified");
    assert_eq!(fs::read(scratch.out().join("a")).unwrap(), BODY);
}

#[test]
fn frames_that_no_server_sends() {
    let file = File::of(BODY).bytes();
    for kind in [0x00, 0x01, 0x14, 0x1e, 0x20, b'E', 0xff] {
        assert_protocol_error(&format!("type {kind:#x}"), [file.clone(), frame(kind, b"payload")].concat());
    }
    for (kind, length) in [(0x10, 51), (0x10, 53), (0x12, 15), (0x12, 17), (0x13, 0), (0x13, 15), (0x13, 33)] {
        let wrong = frame(kind, &vec![1; length]);
        assert_protocol_error(&format!("type {kind:#x} of {length} bytes"), [file.clone(), wrong].concat());
    }
    // Claims alone: nothing may wait for such a payload, nor make room for it.
    for kind in [0x10, 0x11, 0x12, 0x13, 0x1f] {
        let claim = header(kind, 0x00ff_ffff).to_vec();
        assert_protocol_error(&format!("16 MiB of type {kind:#x}"), [file.clone(), claim].concat());
    }
    assert_protocol_error("DATA of no byte", [file.clone(), frame(0x11, b"")].concat());
    assert_protocol_error("DATA of more than 1 MiB", [file, header(0x11, (1 << 20) + 1).to_vec()].concat());
}

#[test]
fn frames_in_the_wrong_place() {
    let file = File::of(BODY).bytes();
    let all = data(BODY);
    assert_protocol_error("DATA first", all.clone());
    assert_protocol_error("DIGEST first", body_digest());
    assert_protocol_error("FILE twice", [file.clone(), file.clone()].concat());
    assert_protocol_error("DIGEST before the last byte", [file.clone(), data(&BODY[..5]), body_digest()].concat());
    assert_protocol_error("DIGEST before any byte", [file.clone(), body_digest()].concat());
    assert_protocol_error("more bytes than FILE said", [file.clone(), all.clone(), data(b"x")].concat());
    assert_protocol_error("more bytes in one frame", [file.clone(), data(&[BODY, b"x"].concat())].concat());
    assert_protocol_error("a whole MiB more", [file, data(&content(1, 1 << 20))].concat());
}

#[test]
fn numbers_that_mean_nothing() {
    let good = File::of(BODY);
    let lies = [
        ("a size past the largest file", File { size: 1 << 63, ..good.clone() }),
        ("the largest number as size", File { size: u64::MAX, ..good.clone() }),
        ("an offset that was not asked for", File { offset: 5, ..good.clone() }),
        ("an offset past the end", File { offset: 21, ..good.clone() }),
        ("a nanosecond too many", File { nanos: 1_000_000_000, ..good.clone() }),
        ("another digest algorithm", File { algorithm: BLAKE3, ..good.clone() }),
        ("an unknown digest algorithm", File { algorithm: 9, ..good.clone() }),
        ("a digest of the wrong length", File { digest: vec![1; 32], ..good.clone() }),
        ("the flag of another question", File { flags: SIZES_DIFFER, ..good.clone() }),
    ];
    assert_protocol_error(
        "an offset that was not asked for, and all bytes",
        [File { offset: 5, ..good }.bytes(), data(BODY), body_digest()].concat(),
    );
    for (what, file) in lies {
        let rest = data(&BODY[..BODY.len().min(file.size.saturating_sub(file.offset) as usize)]);
        assert_protocol_error(what, [file.bytes(), rest, body_digest()].concat());
    }
}

/// A digest that is not of the bytes.
#[test]
fn digests_of_something_else() {
    let other = content::digest(MD5, b"other");
    for (what, known, last) in
        [("wrong at the end", Vec::new(), other.clone()), ("wrong in both places", other.clone(), other)]
    {
        let file = File { digest: known, ..File::of(BODY) };
        let reply = [file.bytes(), data(BODY), digest(&last)].concat();
        let server = ScriptedServer::answering_gets(move |_, _| reply.clone());
        let outcome = get_from_liar(&server);
        outcome.assert(outcome.status.code() == Some(4), &format!("{what}: an error of integrity expected"));
    }
}

/// The digest of the other algorithm, well-formed in itself.
#[test]
fn a_digest_of_the_other_algorithm() {
    let other = digest(&content::digest(BLAKE3, BODY));
    assert_protocol_error("32 bytes for MD5", [File::of(BODY).bytes(), data(BODY), other].concat());
}

/// What each code means to the user, and whether it is worth another attempt.
#[test]
fn error_codes_and_exit_codes() {
    let codes = [
        (NOT_FOUND, 1, false),
        (BAD_REQUEST, 4, false),
        (BUSY, 3, true),
        (CHANGED, 3, true),
        (READ_ERROR, 1, false),
        (SHUTTING_DOWN, 3, true),
        (UNSUPPORTED, 1, false),
    ];
    for in_the_middle in [false, true] {
        for (code, exit, retried) in codes {
            let scratch = Scratch::new();
            let head = [File::of(BODY).bytes(), data(&BODY[..7])].concat();
            let asked = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&asked);
            let server = ScriptedServer::answering_gets(move |_, _| {
                count.fetch_add(1, Ordering::SeqCst);
                let head = if in_the_middle { &head[..] } else { &[] };
                [head, &error(code, "why \u{1b}[31m it is so")].concat()
            });
            let program = get(&scratch, server.addr).args(["--retries", "3", "--max-backoff", "0.01", "a"]);
            let outcome = program.run();
            let what = format!("ERROR {code}, behind some bytes: {in_the_middle}: exit code {exit} expected");
            outcome.assert(outcome.status.code() == Some(exit), &what).has_one_error_line();
            assert_eq!(asked.load(Ordering::SeqCst), if retried { 3 } else { 1 }, "{}", outcome.report());
            outcome.shows_no_control_characters();
            assert!(!scratch.out().join("a").exists());
        }
    }
}

#[test]
fn a_message_that_is_too_long_or_no_text() {
    assert_protocol_error("1025 bytes of message", error(NOT_FOUND, &"x".repeat(1025)));
    assert_protocol_error("half a code", frame(0x1f, &[0]));
    for message in [&b"\xff\xfe\x80"[..], b"\x1b[2J\r\nxfer: forged: line", b""] {
        let outcome = get_from_liar(&liar(frame(0x1f, &[&[0, 1], message].concat())));
        outcome.exits(1);
    }
    get_from_liar(&liar(error(NOT_FOUND, &"ä".repeat(512)))).exits(1);
}

/// A server that is only ever busy, and gets nowhere.
#[test]
fn waits_without_progress_end_the_attempt() {
    let scratch = Scratch::new();
    let server = ScriptedServer::of_any_version(|_, stream| {
        Get::read(stream);
        let _ = stream.write_all(&[File::of(BODY).bytes(), data(BODY)].concat());
        while stream.write_all(&wait(5, 20)).is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let outcome = get(&scratch, server.addr).args(["--timeout", "0.5", "--retries", "1", "a"]).run();
    outcome.exits(3).has_one_error_line();
}

/// One that gets on may take its time: far longer than the timeout, in steps far shorter.
#[test]
fn waits_with_progress_keep_the_attempt_alive() {
    let scratch = Scratch::new();
    let server = ScriptedServer::of_any_version(|_, stream| {
        Get::read(stream);
        let _ = stream.write_all(&[File::of(BODY).bytes(), data(BODY)].concat());
        for done in 1..=20 {
            std::thread::sleep(Duration::from_millis(100));
            let _ = stream.write_all(&wait(done, 20));
        }
        let _ = stream.write_all(&body_digest());
        hold(stream);
    });
    let outcome = get(&scratch, server.addr).args(["--timeout", "1", "--retries", "1", "a"]).run();
    outcome.exits(0).stderr_has("verified");
}

/// To a question for the digest alone no bytes are an answer, and the file is fetched only for a reason.
#[test]
fn lies_about_a_file_that_is_there() {
    let file = File::of(BODY);
    let replies = [
        ("bytes", [file.bytes(), data(BODY), body_digest()].concat()),
        ("sizes that differ and do not", File { flags: SIZES_DIFFER, ..file.clone() }.bytes()),
        ("sizes that do not differ and do", [File { size: 5, ..file }.bytes(), body_digest()].concat()),
    ];
    for (what, reply) in replies {
        let scratch = Scratch::new();
        let target = scratch.write("out/a", BODY);
        let server = ScriptedServer::answering_gets(move |_, _| reply.clone());
        let outcome = get(&scratch, server.addr).args(["--retries", "1", "--timeout", "5", "a"]).run();
        outcome.assert(outcome.status.code() == Some(4), &format!("{what}: a protocol error expected"));
        assert_eq!(fs::read(target).unwrap(), BODY);
    }
}

/// Bytes behind the last reply are nobody's.
#[test]
fn surplus_behind_a_reply_harms_nothing() {
    let scratch = Scratch::new();
    let server = liar([File::of(BODY).bytes(), data(BODY), body_digest(), vec![0xee; 100_000]].concat());
    let outcome = get(&scratch, server.addr).args(["--retries", "1", "a"]).run();
    match outcome.status.code() {
        Some(0) => assert_eq!(fs::read(scratch.out().join("a")).unwrap(), BODY),
        _ => _ = outcome.exits(4).has_one_error_line(),
    }
}

/// A resume is offered and the server answers with bytes of another version from that offset: nothing of it counts.
#[test]
fn a_resume_of_another_version() {
    let scratch = Scratch::new();
    let (old, new) = (content(1, 40_000_000), content(2, 40_000_000));
    let server = ScriptedServer::answering_gets(move |number, get| {
        let file = |body: &[u8], nanos| {
            let version = wire2::version_of(40_000_000, 1_700_000_000, nanos);
            File { nanos, version, ..File::of(body) }
        };
        match number {
            0 => [file(&old, 1).bytes(), data(&old[..20_000_000]), error(SHUTTING_DOWN, "")].concat(),
            _ => {
                let from = usize::try_from(get.offset).unwrap();
                let file = File { offset: get.offset, ..file(&new, 2) };
                [file.bytes(), data(&new[from..]), digest(&content::digest(MD5, &new))].concat()
            }
        }
    });
    let program = get(&scratch, server.addr).args(["--retries", "3", "--max-backoff", "0.01", "--no-sync", "a"]);
    let outcome = program.run();
    outcome.exits(4).has_one_error_line().stderr_has("bad reply");
    assert!(!scratch.out().join("a").exists(), "{}", outcome.report());
}

/// Well-formed in itself, and not what was asked for: no reason to fetch a file that is there.
#[test]
fn a_digest_of_the_other_algorithm_for_a_file_that_is_there() {
    let scratch = Scratch::new();
    let target = scratch.write("out/a", BODY);
    let before = fs::metadata(&target).unwrap().modified().unwrap();
    let server = ScriptedServer::answering_gets(|_, get| match get.flags & NO_DATA {
        0 => wire2::honest_reply(get, BODY),
        _ => [File::of(BODY).bytes(), digest(&content::digest(BLAKE3, BODY))].concat(),
    });
    let outcome = get(&scratch, server.addr).args(["--retries", "1", "a"]).run();
    outcome.exits(4).has_one_error_line().stderr_has("bad reply");
    assert_eq!(fs::metadata(&target).unwrap().modified().unwrap(), before);
}

/// Where a flood of WAITs begins, as error lines have it: in place of FILE, of the digest of a file that is there, and of
/// the digest behind the last byte.
const FLOODED: [&str; 3] = ["before replying", "before sending the digest", "after 20 bytes of 20 bytes"];

/// Comes that far, and then says WAIT without end: there is always something to read, and never anything new.
fn flood(scratch: &Scratch, when: &str) -> ScriptedServer {
    let head = match when {
        "before replying" => Vec::new(),
        "before sending the digest" => File::of(BODY).bytes(),
        _ => [File::of(BODY).bytes(), data(BODY)].concat(),
    };
    if when == "before sending the digest" {
        scratch.write("out/a", BODY);
    }
    let waits = wait(5, 20).repeat(10_000);
    ScriptedServer::of_any_version(move |_, stream| {
        Get::read(stream);
        let _ = stream.write_all(&head);
        while stream.write_all(&waits).is_ok() {}
    })
}

#[test]
fn a_flood_of_waits_without_progress_ends_the_attempt() {
    let _cores = cores::quiet_cores();
    for when in FLOODED {
        let scratch = Scratch::new();
        let server = flood(&scratch, when);
        // The client may be well on its way before the harness begins to count.
        let start = Instant::now();
        let outcome = get(&scratch, server.addr).args(["--timeout", "0.4", "--retries", "1", "a"]).run();
        let took = start.elapsed();
        outcome.exits(3).has_one_error_line().stderr_has(&format!("made no progress for 0.4 s {when}"));
        let limits = Duration::from_millis(400)..Duration::from_millis(2500);
        outcome.assert(limits.contains(&took), &format!("{limits:?} expected, took {took:?}"));
    }
}

#[test]
fn a_flood_of_waits_can_be_interrupted() {
    let _cores = cores::quiet_cores();
    for when in FLOODED {
        let scratch = Scratch::new();
        let server = flood(&scratch, when);
        let relay = Relay::of(server.addr, Plan::faithful());
        let running = get(&scratch, relay.addr).args(["--timeout", "60", "a"]).spawn();
        wait_for("the flood", || relay.to_client() > 1_000_000);
        running.finish_after(Signal::INT).exits(130).took_less_than(Duration::from_secs(1));
    }
}
