//! `--progress json`: one object a line, for programs, whatever happens.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::harness::content::{digest, hex};
use crate::harness::wire::{ClosedPort, metadata};
use crate::harness::wire2;
use crate::harness::{Cut, Outcome, Plan, Program, Relay, Scratch, Server, content, get, wait_for};
use crate::resume::{LARGE, part_len};
use crate::scripted_server::{ScriptedServer, answer};

fn json_get(scratch: &Scratch, addr: SocketAddr) -> Program {
    get(scratch, addr).args(["--progress", "json", "--max-backoff", "0.01", "--no-sync"])
}

type Object = Map<String, Value>;

/// Objects of progress come this often at most.
const REFRESH: Duration = Duration::from_millis(500);

/// Every line on stderr, each of which must be an object of the documented form.
fn events(outcome: &Outcome) -> Vec<Object> {
    outcome.prints_nothing_on_stdout();
    let read = |line: &str| {
        let Ok(Value::Object(object)) = serde_json::from_str(line) else {
            panic!("not an object: {line:?}\n{}", outcome.report());
        };
        assert_eq!(number(&object, "v"), 1.0, "{line}");
        text(&object, "event");
        object
    };
    outcome.stderr.lines().map(read).collect()
}

fn kinds(events: &[Object]) -> Vec<&str> {
    events.iter().map(|event| text(event, "event")).collect()
}

fn text<'a>(event: &'a Object, key: &str) -> &'a str {
    match event.get(key) {
        Some(Value::String(text)) => text,
        other => panic!("{key} is {other:?} in {event:?}"),
    }
}

fn number(event: &Object, key: &str) -> f64 {
    match event.get(key) {
        Some(Value::Number(number)) => number.as_f64().unwrap(),
        other => panic!("{key} is {other:?} in {event:?}"),
    }
}

fn of_kind<'a>(events: &'a [Object], kind: &str) -> Vec<&'a Object> {
    events.iter().filter(|event| text(event, "event") == kind).collect()
}

#[test]
fn a_file_from_start_to_done() {
    let scratch = Scratch::new();
    let name = "with \"quotes\", \\ and\nnewline 🦀";
    scratch.share(name, &content(1, 1_000_000));
    let server = Server::of(&scratch);
    let outcome = json_get(&scratch, server.addr).arg(name).run();
    outcome.exits(0);
    let events = events(&outcome);
    let kinds = kinds(&events);
    assert_eq!((kinds.first(), kinds.last()), (Some(&"start"), Some(&"summary")), "{}", outcome.report());
    assert_eq!(kinds[kinds.len() - 2], "done", "{}", outcome.report());
    for event in events.iter().filter(|event| event.contains_key("file")) {
        assert_eq!(text(event, "file"), name, "{}", outcome.report());
    }
    let done = of_kind(&events, "done")[0];
    assert_eq!(number(done, "bytes"), 1_000_000.0, "{done:?}");
    server.stop_content();
}

/// Bytes never shrink, nor exceed the whole.
#[test]
fn progress_counts_up() {
    let scratch = Scratch::new();
    scratch.share_sparse("a", LARGE as u64);
    let server = Server::of(&scratch);
    let relay = Relay::of(server.addr, Plan::hold(20_000_000));
    let running = json_get(&scratch, relay.addr).arg("a").spawn();
    relay.wait_until_held(0);
    // With the next bytes one is due.
    std::thread::sleep(REFRESH * 2);
    relay.release(0);
    let outcome = running.finish();
    outcome.exits(0);
    let events = events(&outcome);
    let progress = of_kind(&events, "progress");
    let bytes: Vec<f64> = progress.iter().map(|event| number(event, "bytes")).collect();
    outcome.assert(
        !bytes.is_empty() && bytes.is_sorted() && bytes.iter().all(|bytes| *bytes <= LARGE as f64),
        "bytes that count up",
    );
    for event in progress {
        assert_eq!((text(event, "file"), number(event, "total")), ("a", LARGE as f64), "{event:?}");
        assert!(event.contains_key("rate") && event.contains_key("eta"), "{event:?}");
    }
    server.stop();
}

#[test]
fn a_retry_and_a_resume_are_told() {
    let scratch = Scratch::new();
    scratch.share_sparse("a", LARGE as u64);
    let server = Server::of(&scratch);
    let relay = Relay::new(server.addr, |number| match number {
        0 => Plan::cut(20_000_000, Cut::Reset),
        1 => Plan::hold(10_000_000),
        _ => Plan::faithful(),
    });
    let running = json_get(&scratch, relay.addr).arg("a").spawn();
    relay.wait_until_held(1);
    wait_for("three quarters in the part", || part_len(&scratch) >= 28_000_000);
    let outcome = running.finish_after(rustix::process::Signal::INT);
    outcome.exits(130);
    let first = events(&outcome);
    outcome.assert(!of_kind(&first, "retry").is_empty() && !of_kind(&first, "resume").is_empty(), "both events");
    let outcome = json_get(&scratch, relay.addr).arg("a").run();
    outcome.exits(0);
    let second = events(&outcome);
    let resumed = of_kind(&second, "resume");
    outcome.assert(resumed.len() == 1 && of_kind(&second, "retry").is_empty(), "a resume and no retry");
    assert!(number(resumed[0], "bytes") > 20_000_000.0, "{resumed:?}");
    server.stop();
}

#[test]
fn errors_are_objects_too() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    let outcome = json_get(&scratch, server.addr).args(["none", "a"]).run();
    outcome.exits(1);
    let told = events(&outcome);
    assert_eq!(text(of_kind(&told, "error")[0], "file"), "none", "{}", outcome.report());
    assert_eq!(text(of_kind(&told, "done")[0], "file"), "a", "{}", outcome.report());
    server.stop();
    let port = ClosedPort::new();
    let outcome = json_get(&scratch, port.addr).args(["--retries", "3", "b", "c"]).run();
    outcome.exits(3);
    let told = events(&outcome);
    outcome.assert(of_kind(&told, "retry").len() == 2 && !of_kind(&told, "error").is_empty(), "two retries, an error");
}

#[test]
fn many_files_and_one_that_is_there() {
    let scratch = Scratch::new();
    let names: Vec<String> = (0..20).map(|number| format!("f{number}")).collect();
    names.iter().for_each(|name| drop(scratch.share(name, name.as_bytes())));
    scratch.write("out/f7", b"f7");
    let server = Server::of(&scratch);
    let outcome = json_get(&scratch, server.addr).args(&names).run();
    outcome.exits(0);
    let events = events(&outcome);
    let mut done: Vec<&str> = of_kind(&events, "done").into_iter().map(|event| text(event, "file")).collect();
    done.sort_unstable();
    done.dedup();
    outcome.assert(done.len() == 20, "each of the twenty is done");
    server.stop_content();
}

/// A program need not take the digest out of the sentence, nor wait for the end to know the exit code.
#[test]
fn digests_and_exit_codes_are_fields() {
    for (algorithm, number_of) in [("md5", wire2::MD5), ("blake3", wire2::BLAKE3)] {
        let scratch = Scratch::new();
        ["a", "b"].iter().for_each(|name| drop(scratch.share(name, b"body")));
        scratch.write("out/b", b"body");
        let server = Server::of(&scratch);
        let outcome = json_get(&scratch, server.addr).args(["--checksum", algorithm, "a", "b", "none"]).run();
        outcome.exits(1);
        let told = events(&outcome);
        let done = of_kind(&told, "done");
        let digest = hex(&digest(number_of, b"body"));
        let is_right = |event: &&Object| {
            let others = ["md5", "blake3"].into_iter().filter(|other| *other != algorithm);
            text(event, algorithm) == digest && others.into_iter().all(|other| !event.contains_key(other))
        };
        outcome.assert(done.len() == 2 && done.iter().all(is_right), "each with the digest that was asked for");
        assert_eq!(number(of_kind(&told, "error")[0], "code"), 1.0, "{}", outcome.report());
        server.stop();
    }
    let scratch = Scratch::new();
    let port = ClosedPort::new();
    let outcome = json_get(&scratch, port.addr).args(["--retries", "1", "a"]).run();
    outcome.exits(3);
    assert_eq!(number(of_kind(&events(&outcome), "error")[0], "code"), 3.0, "{}", outcome.report());
}

/// The only event of this kind.
fn only<'a>(outcome: &Outcome, events: &'a [Object], kind: &str) -> &'a Object {
    let found = of_kind(events, kind);
    outcome.assert(found.len() == 1, &format!("one {kind} expected"));
    found[0]
}

/// What became of the file, where it is, and how large, as far as somebody has looked.
#[test]
fn done_tells_what_became_of_the_file() {
    let scratch = Scratch::new();
    scratch.share("dir/a", b"new body");
    let server = Server::of(&scratch);
    let done_after = |words: &[&str]| {
        let outcome = json_get(&scratch, server.addr).args(words).arg("dir/a").run();
        outcome.exits(0);
        only(&outcome, &events(&outcome), "done").clone()
    };
    let path = scratch.out().join("a");
    let done = done_after(&[]);
    assert_eq!((text(&done, "result"), text(&done, "path")), ("saved", path.to_str().unwrap()), "{done:?}");
    assert!(number(&done, "seconds") >= 0.0 && number(&done, "bytes") == 8.0, "{done:?}");
    let done = done_after(&[]);
    assert_eq!((text(&done, "result"), number(&done, "bytes")), ("unchanged", 8.0), "{done:?}");
    assert_eq!(text(&done_after(&["--force"]), "result"), "replaced");
    scratch.write("out/a", b"old");
    let done = done_after(&["--no-clobber"]);
    assert_eq!((text(&done, "result"), number(&done, "bytes")), ("kept", 3.0), "{done:?}");
    assert!(!done.contains_key("md5") && text(&done, "path") == path.to_str().unwrap(), "{done:?}");
    let outcome =
        Program::xfer(&scratch).args(["get", "dir/a", "-o", "/dev/null", "--progress", "json", "--no-log", "-H"]);
    let outcome = outcome.arg(server.addr.to_string()).run();
    let events = events(&outcome);
    let done = only(&outcome, &events, "done");
    assert!(text(done, "result") == "written" && !done.contains_key("path"), "{done:?}");
    server.stop_content();
}

/// Its size is not that of the file that was fetched in vain.
#[test]
fn a_file_that_appears_during_the_transfer_is_kept() {
    let scratch = Scratch::new();
    let (body, appearing) = (content(7, 100_000), scratch.out().join("a"));
    let head = metadata("a", &body);
    let server = ScriptedServer::new(move |_, stream| {
        std::fs::create_dir_all(appearing.parent().unwrap()).unwrap();
        std::fs::write(&appearing, b"other").unwrap();
        answer(stream, &head, &body);
    });
    let outcome = json_get(&scratch, server.addr).args(["--no-clobber", "a"]).run();
    outcome.exits(0);
    let events = events(&outcome);
    let done = only(&outcome, &events, "done");
    assert_eq!(text(done, "result"), "kept", "{done:?}");
    assert!(!done.contains_key("bytes") && !done.contains_key("total") && !done.contains_key("md5"), "{done:?}");
    let summary = only(&outcome, &events, "summary");
    assert_eq!((number(summary, "files_kept"), number(summary, "bytes_received")), (1.0, 100_000.0), "{summary:?}");
}

/// Each file is in one of the counts, and the numbers of the end are final.
#[test]
fn the_summary_counts_every_file() {
    let scratch = Scratch::new();
    ["new", "other", "same"].iter().for_each(|name| drop(scratch.share(name, name.as_bytes())));
    scratch.write("out/other", b"older");
    scratch.write("out/same", b"same");
    let server = Server::of(&scratch);
    let outcome = json_get(&scratch, server.addr).args(["new", "other", "same", "none"]).run();
    outcome.exits(1);
    let told = events(&outcome);
    assert_eq!(kinds(&told).last(), Some(&"summary"), "{}", outcome.report());
    let summary = only(&outcome, &told, "summary");
    let counts = ["done", "known", "new", "replaced", "unchanged", "kept", "failed", "not_tried"];
    let counts = counts.map(|count| number(summary, &format!("files_{count}")));
    assert_eq!(counts, [3.0, 4.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0], "{summary:?}");
    let numbers = ["bytes_done", "bytes_known", "bytes_received", "code"].map(|key| number(summary, key));
    // Of the file that is the same, no byte came.
    assert_eq!(numbers, [12.0, 12.0, 8.0, 1.0], "{summary:?}");
    assert_eq!((&summary["files_final"], &summary["bytes_final"]), (&Value::Bool(true), &Value::Bool(true)));
    let message = text(summary, "message");
    assert!(message.starts_with("3 of 4 saved (1 replaced, 1 already up to date): 8 bytes, "), "{message}");
    assert!(message.ends_with("/s; 1 failed: 'none'"), "{message}");
    server.stop();
}

/// Those that nobody came to are not tried, and the reason is told.
#[test]
fn the_summary_of_a_run_that_is_cut_short() {
    let scratch = Scratch::new();
    scratch.share_sparse("a", LARGE as u64);
    let server = Server::of(&scratch);
    let relay = Relay::of(server.addr, Plan::hold(20_000_000));
    let running = json_get(&scratch, relay.addr).args(["a", "b", "c"]).spawn();
    relay.wait_until_held(0);
    wait_for("half in the part", || part_len(&scratch) >= 15_000_000);
    let outcome = running.finish_after(rustix::process::Signal::TERM);
    outcome.exits(143);
    let told = events(&outcome);
    let summary = only(&outcome, &told, "summary");
    let numbers = ["files_done", "files_failed", "files_not_tried", "code"].map(|key| number(summary, key));
    assert_eq!(numbers, [0.0, 1.0, 2.0, 143.0], "{summary:?}");
    server.stop();
    let port = ClosedPort::new();
    let outcome = json_get(&scratch, port.addr).args(["--retries", "1", "-q", "b", "c"]).run();
    outcome.exits(3);
    let told = events(&outcome);
    let not_tried = |event: &&&Object| event.contains_key("reason");
    let errors = of_kind(&told, "error");
    let not_tried: Vec<_> = errors.iter().filter(not_tried).collect();
    outcome.assert(not_tried.len() == 1 && text(not_tried[0], "file") == "c", "one that is not tried");
    let summary = only(&outcome, &told, "summary");
    let numbers = ["files_failed", "files_not_tried", "code"].map(|key| number(summary, key));
    assert_eq!(numbers, [1.0, 1.0, 3.0], "{summary:?}");
}

/// With -q a success says nothing.
#[test]
fn a_quiet_success_has_no_summary() {
    let scratch = Scratch::new();
    scratch.share("a", &content(1, 3_000_000));
    let server = Server::of(&scratch);
    json_get(&scratch, server.addr).args(["-q", "a"]).run().exits(0).assert_quiet();
    server.stop_content();
}

/// No name is lost in a replacement character.
#[test]
fn a_name_that_is_not_utf_8() {
    let scratch = Scratch::new();
    let name = OsStr::from_bytes(b"gr\xf6\xdfe 100%");
    scratch.share(Path::new(name), b"body");
    let server = Server::of(&scratch);
    let outcome = json_get(&scratch, server.addr).arg(name).run();
    outcome.exits(0);
    let events = events(&outcome);
    let done = only(&outcome, &events, "done");
    assert_eq!(text(done, "file"), "gr\u{fffd}\u{fffd}e 100%", "{done:?}");
    assert_eq!(text(done, "file_bytes"), "gr%F6%DFe%20100%25", "{done:?}");
    assert!(text(done, "path_bytes").ends_with("/out/gr%F6%DFe%20100%25"), "{done:?}");
    server.stop_content();
}

/// The fields of each event, as the manual has them.
fn fields_in_the_manual() -> BTreeSet<BTreeSet<String>> {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("man/xfer-get.1")).unwrap();
    let examples = page.lines().filter(|line| line.starts_with('{'));
    examples.map(|line| fields(&serde_json::from_str(line).unwrap())).collect()
}

/// The names of the fields, and the kind of the event.
fn fields(event: &Object) -> BTreeSet<String> {
    let names = event.keys().map(|key| if key == "blake3" { "md5".to_owned() } else { key.clone() });
    names.chain([format!("event is {}", text(event, "event"))]).collect()
}

/// Every example of the manual has the fields of a real object, and every real object those of an example.
#[test]
fn the_manual_has_all_fields() {
    let expected = fields_in_the_manual();
    assert!(expected.len() >= 9, "{expected:?}");
    let scratch = Scratch::new();
    scratch.share_sparse("a", LARGE as u64);
    let server = Server::of(&scratch);
    let relay = Relay::new(server.addr, |number| match number {
        0 => Plan::cut(20_000_000, Cut::Reset),
        1 => Plan::hold(10_000_000),
        _ => Plan::faithful(),
    });
    scratch.write("out/.a.xfer-part", &[1; 5000]);
    scratch.write("out/.a.xfer-part.state", &[1; 5000]);
    let running = json_get(&scratch, relay.addr).args(["a", "none"]).spawn();
    relay.wait_until_held(1);
    std::thread::sleep(REFRESH * 2);
    relay.release(1);
    let outcome = running.finish();
    outcome.exits(1);
    let mut told = events(&outcome);
    server.stop();
    let port = ClosedPort::new();
    let outcome = json_get(&scratch, port.addr).args(["--retries", "1", "b", "c"]).run();
    told.extend(events(&outcome));
    let found: BTreeSet<_> = told.iter().map(fields).collect();
    assert_eq!(found, expected, "objects on the left, examples of xfer-get(1) on the right");
}
