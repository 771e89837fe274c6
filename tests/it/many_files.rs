//! Many files in one command: one connection, requests ahead of the replies, and bounded in everything.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::wait::look_until;
use crate::harness::wire2::{self, BUSY, End, Get, Peer, UNSUPPORTED};
use crate::harness::{Cut, Plan, Program, Relay, Running, Scratch, Server, content, cores, get, process, wait_for};
use crate::scripted_server::{ScriptedServer, hold};

/// What a client may have open, and running, however many files it fetches.
const DESCRIPTORS_MAX: usize = 80;
const THREADS_MAX: usize = 32;

fn impatient_get(scratch: &Scratch, addr: SocketAddr) -> Program {
    get(scratch, addr).args(["--max-backoff", "0.01"])
}

fn body(number: usize) -> Vec<u8> {
    content(number as u64, number * 7 % 3000)
}

/// Files `0` to `count - 1`, and a list of their names.
fn share_many(scratch: &Scratch, count: usize) -> Vec<String> {
    let names: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    names.iter().enumerate().for_each(|(number, name)| drop(scratch.share(name, &body(number))));
    scratch.write("list", names.join("\n").as_bytes());
    names
}

fn assert_all_saved(scratch: &Scratch, names: &[String]) {
    assert_eq!(scratch.names("out").len(), names.len(), "nothing else in the target directory");
    for name in names {
        let saved = fs::read(scratch.out().join(name)).unwrap();
        assert!(saved == body(name.parse().unwrap()), "{name} differs");
    }
}

#[test]
fn three_hundred_files_use_one_connection() {
    let scratch = Scratch::new();
    let names = share_many(&scratch, 300);
    let server = Server::of(&scratch);
    let relay = Relay::of(server.addr, Plan::faithful());
    let outcome = impatient_get(&scratch, relay.addr).args(&names).run();
    outcome.exits(0).stderr_has("300 of 300 saved").prints_nothing_on_stdout();
    assert_all_saved(&scratch, &names);
    assert_eq!(relay.connections(), 1, "{}", relay.report());
    let asked: Vec<Vec<u8>> = relay.all_gets().into_iter().map(|get| get.name).collect();
    assert_eq!(asked, names.iter().map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>());
    server.stop_content();
}

#[test]
fn a_refused_file_in_the_middle_does_not_end_the_others() {
    let scratch = Scratch::new();
    let mut names = share_many(&scratch, 300);
    fs::remove_file(scratch.files().join("150")).unwrap();
    let server = Server::of(&scratch);
    let relay = Relay::of(server.addr, Plan::faithful());
    let outcome = impatient_get(&scratch, relay.addr).args(&names).run();
    outcome.exits(1).stderr_has("299 of 300 saved").stderr_has("150").stderr_has("not found");
    names.retain(|name| name != "150");
    assert_all_saved(&scratch, &names);
    assert_eq!(relay.connections(), 1, "{}", relay.report());
    server.stop();
}

/// The next request does not wait for the last reply: while the relay holds, several have been asked.
#[test]
fn requests_are_ahead_of_replies() {
    let scratch = Scratch::new();
    let names = share_many(&scratch, 50);
    let server = Server::of(&scratch);
    // The first file is empty: this is a few bytes into the second reply.
    let relay = Relay::of(server.addr, Plan::hold(100));
    let running = impatient_get(&scratch, relay.addr).args(&names).spawn();
    relay.wait_until_held(0);
    wait_for("requests ahead of replies", || relay.all_gets().len() >= 10);
    relay.release(0);
    running.finish().exits(0).stderr_has("50 of 50 saved");
    assert_all_saved(&scratch, &names);
    server.stop_content();
}

/// A link that is cut every few dozen files: what is saved is not fetched again.
#[test]
fn a_link_that_is_cut_in_the_middle_of_many() {
    let scratch = Scratch::new();
    let names = share_many(&scratch, 300);
    let server = Server::of(&scratch);
    let relay = Relay::of(server.addr, Plan::cut(100_000, Cut::Reset));
    let outcome = impatient_get(&scratch, relay.addr).args(&names).run();
    outcome.exits(0).stderr_has("300 of 300 saved");
    assert_all_saved(&scratch, &names);
    let size: usize = (0..300).map(|number| body(number).len()).sum();
    assert!(relay.connections() >= size / 100_000, "{}", relay.report());
    assert!(relay.to_client() < size as u64 * 2, "{} bytes for {size}", relay.to_client());
    assert!(!relay.was_asked_in_version_1(), "{}", relay.report());
    server.stop();
}

/// Looked at all the time, from the first file to the last.
#[test]
fn descriptors_threads_and_memory_are_bounded() {
    let _cores = cores::all_cores();
    let scratch = Scratch::new();
    let names = share_many(&scratch, 3000);
    let server = Server::of(&scratch);
    let relay = Relay::of(server.addr, Plan::faithful());
    let mut running = impatient_get(&scratch, relay.addr).args(["--from-file", "list"]).spawn();
    let mut most = (0, 0, 0);
    wait_for("the end of the client", || {
        most = more_of(most, &running);
        running.has_ended()
    });
    running.finish().exits(0).stderr_has("3000 of 3000 saved");
    let (descriptors, threads, resident) = most;
    assert!(descriptors > 3 && threads > 0, "seen at all: {most:?}");
    assert!(descriptors <= DESCRIPTORS_MAX, "{descriptors} descriptors open at once");
    assert!(threads <= THREADS_MAX, "{threads} threads at once");
    assert!(resident < 60_000, "{resident} KiB resident at the peak");
    assert_all_saved(&scratch, &names);
    assert_eq!(relay.connections(), 1, "{} connections", relay.connections());
    server.stop_content();
}

/// The highest numbers so far. A process that has just ended has none.
fn more_of(most: (usize, usize, u64), running: &Running) -> (usize, usize, u64) {
    let count = |dir: &str| fs::read_dir(format!("/proc/{}/{dir}", running.pid())).map_or(0, Iterator::count);
    let resident = process::try_peak_resident_kib(running.pid()).unwrap_or(0);
    (most.0.max(count("fd")), most.1.max(count("task")), most.2.max(resident))
}

/// Busy is worth a retry, for that file alone.
#[test]
fn a_file_that_is_busy_is_tried_again() {
    let scratch = Scratch::new();
    let server = ScriptedServer::answering_gets(|number, get| match (get.name.as_slice(), number) {
        (b"b", 0..4) => wire2::error(BUSY, "Server is busy, try again later"),
        (name, _) => wire2::honest_reply(get, name),
    });
    let outcome = impatient_get(&scratch, server.addr).args(["a", "b", "c"]).run();
    outcome.exits(0).stderr_has("3 of 3 saved");
    assert!(["a", "b", "c"].iter().all(|name| fs::read(scratch.out().join(name)).unwrap() == name.as_bytes()));
}

/// Answers each request for as many bytes as this by half of them and "busy": what came may be of use to the next attempt.
fn busy_in_the_middle(len: usize) -> ScriptedServer {
    let body = content(1, len);
    let head = [wire2::File::of(&body).bytes(), wire2::data(&body[..len / 2])].concat();
    ScriptedServer::answering_gets(move |_, _| [&head[..], &wire2::error(BUSY, "busy")].concat())
}

/// Each of them keeps its part open until it is given up, so no more than some may wait.
#[test]
fn files_that_wait_for_another_attempt_are_bounded() {
    let scratch = Scratch::new();
    let server = busy_in_the_middle(1000);
    let names: Vec<String> = (0..400).map(|number| number.to_string()).collect();
    let options = ["--retries", "2", "--max-backoff", "0.2", "--no-sync"];
    let mut running = get(&scratch, server.addr).args(options).args(&names).spawn();
    let mut most = (0, 0, 0);
    wait_for("the end of the client", || {
        most = more_of(most, &running);
        running.has_ended()
    });
    let outcome = running.finish();
    outcome.exits(3).stderr_has("0 of 400 saved: ").stderr_has("; 400 failed: '0', '1', '2' and 397 more");
    // Part and journal of those that wait and of those that are asked for, and some for the rest.
    let expected = 40..=2 * (32 + 64) + 32;
    outcome.assert(expected.contains(&most.0), &format!("{} descriptors open at once, {expected:?} expected", most.0));
    outcome.stderr_has("; kept 500 bytes of 1000 bytes in ");
    assert_eq!(scratch.names("out").len(), 2 * names.len(), "a part and a journal of each");
    assert_eq!(server.connections(), 1);
}

/// All of them are told of, wherever they were.
#[test]
fn files_that_wait_for_another_attempt_are_kept_after_a_signal() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    let server = busy_in_the_middle(1000);
    let names = ["a", "b", "c", "d", "e"];
    let running = get(&scratch, server.addr).args(["--retries", "0"]).args(names).spawn();
    wait_for("all of them to wait", || running.log().matches(" (attempt 2").count() == names.len());
    assert_eq!(scratch.names("out").len(), 2 * names.len(), "{:?}", scratch.names("out"));
    let outcome = running.finish_after(Signal::INT);
    outcome.exits(130).took_less_than(Duration::from_secs(1));
    for name in names {
        outcome.stderr_has(&format!("kept 500 bytes of 1000 bytes in {}/.{name}.xfer-part;", scratch.out().display()));
    }
    assert_eq!(scratch.names("out").len(), 2 * names.len(), "{:?}", scratch.names("out"));
}

/// Not when the last one is done.
#[test]
fn a_file_is_told_of_while_the_next_one_comes() {
    let scratch = Scratch::new();
    let body = content(1, 1000);
    let told = Arc::new(AtomicBool::new(false));
    let (is_told, rest) = (Arc::clone(&told), body.clone());
    let server = ScriptedServer::of_any_version(move |_, stream| {
        let first = Get::read(stream).unwrap();
        stream.write_all(&wire2::honest_reply(&first, b"first")).unwrap();
        let _ = Get::read(stream);
        stream.write_all(&wire2::File::of(&rest).bytes()).unwrap();
        let (last, others) = rest.split_last().unwrap();
        for byte in others {
            stream.write_all(&wire2::data(&[*byte])).unwrap();
            look_until(Duration::from_millis(5), || is_told.load(Ordering::SeqCst).then_some(()));
        }
        wait_for("the first file to be told of", || is_told.load(Ordering::SeqCst));
        let digest = wire2::digest(&crate::harness::content::digest(wire2::MD5, &rest));
        stream.write_all(&[wire2::data(&[*last]), digest].concat()).unwrap();
        hold(stream);
    });
    let running = impatient_get(&scratch, server.addr).args(["a", "b"]).spawn();
    running.wait_for_stderr("out/a: 5 bytes");
    assert!(!scratch.out().join("b").exists(), "the second one has not come yet");
    told.store(true, Ordering::SeqCst);
    running.finish().exits(0).stderr_has("2 of 2 saved");
    assert!(fs::read(scratch.out().join("b")).unwrap() == body);
}

#[test]
fn a_request_that_is_unsupported_ends_that_file_alone() {
    let scratch = Scratch::new();
    let server = ScriptedServer::answering_gets(|_, get| match get.name.as_slice() {
        b"b" => wire2::error(UNSUPPORTED, "Unsupported: something"),
        name => wire2::honest_reply(get, name),
    });
    let outcome = impatient_get(&scratch, server.addr).args(["a", "b", "c"]).run();
    outcome.exits(1).stderr_has("2 of 3 saved").stderr_has("does not support the request for 'b': something; ");
    assert_eq!(server.connections(), 1, "{}", outcome.report());
}

/// Files that are there already are compared, and the others fetched, in one connection.
#[test]
fn some_are_there_already() {
    let scratch = Scratch::new();
    let names = share_many(&scratch, 100);
    for number in (0..100).step_by(2) {
        scratch.write(format!("out/{number}"), &body(number));
    }
    scratch.write("out/4", &content(999, body(4).len()));
    let server = Server::of(&scratch);
    let relay = Relay::of(server.addr, Plan::faithful());
    let outcome = impatient_get(&scratch, relay.addr).args(&names).run();
    outcome.exits(0).prints_nothing_on_stdout();
    assert_all_saved(&scratch, &names);
    assert_eq!(relay.connections(), 1, "{}", relay.report());
    server.stop_content();
}

/// The server keeps the connection as long as the client uses it: a large file in between is no idle time.
#[test]
fn a_large_file_between_small_ones() {
    let scratch = Scratch::new();
    let large = content(1, 34_000_000);
    scratch.share("a", b"first");
    scratch.share("large", &large);
    scratch.share("z", b"last");
    let server = Server::of(&scratch);
    let relay = Relay::of(server.addr, Plan::faithful());
    let outcome = impatient_get(&scratch, relay.addr).args(["a", "large", "z"]).run();
    outcome.exits(0).stderr_has("3 of 3 saved");
    assert_eq!(scratch.names("out"), ["a", "large", "z"]);
    assert!(fs::read(scratch.out().join("large")).unwrap() == large);
    assert_eq!(relay.connections(), 1, "{}", relay.report());
    server.stop_content();
}

/// The scripted server of this file is an honest one where it means to be.
#[test]
fn the_script_answers_like_a_server() {
    let scratch = Scratch::new();
    scratch.share("a", &content(1, 3_000));
    let honest = content(1, 3_000);
    let scripted = ScriptedServer::answering_gets(move |_, get| wire2::honest_reply(get, &honest));
    let real = Server::of(&scratch);
    for addr in [scripted.addr, real.addr] {
        let mut peer = Peer::dial(addr);
        let body = content(1, 3_000);
        let reply = peer.get(&Get::of("a"));
        reply.assert_brings(&body);
        peer.get(&Get::of("a").resuming(1_000, reply.file().version)).assert_brings(&body);
        peer.get(&Get::of("a").digest_only(3_000)).assert_compares(&body);
        assert_eq!(peer.get(&Get::of("a").digest_only(1)).end, End::SizesDiffer);
    }
    real.stop();
}
