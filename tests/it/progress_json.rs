//! `--progress json`: one object a line, for programs, whatever happens.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::harness::content::{digest, hex};
use crate::harness::wire::ClosedPort;
use crate::harness::wire2;
use crate::harness::{Cut, Outcome, Plan, Program, Relay, Scratch, Server, content, get, wait_for};
use crate::resume::{LARGE, part_len};

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
