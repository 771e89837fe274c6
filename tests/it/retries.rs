//! Retries: what is tried again, how often, and what is final at once.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::wire::{ClosedPort, metadata, read_request};
use crate::harness::{Program, Scratch, Server, content, get, logfile, wait_for};
use crate::old_server::OldServer;
use crate::scripted_server::{ScriptedServer, answer, hold};

/// Retries without the waits.
fn impatient_get(scratch: &Scratch, addr: std::net::SocketAddr) -> Program {
    get(scratch, addr).args(["--max-backoff", "0.01"])
}

#[test]
fn a_closed_port_is_tried_five_times() {
    let scratch = Scratch::new();
    let port = ClosedPort::new();
    let outcome = impatient_get(&scratch, port.addr).arg("a").run();
    outcome.exits(3).made_attempts(5).has_one_error_line().stderr_has(&port.addr.to_string());
    for attempt in 1..=5 {
        outcome.log_has(&format!("attempt {attempt} of 5: 'a' from {}", port.addr));
    }
    outcome.took_less_than(Duration::from_secs(5));
    assert_eq!(scratch.names("out"), [""; 0]);
}

#[test]
fn the_number_of_attempts_can_be_chosen() {
    let scratch = Scratch::new();
    let port = ClosedPort::new();
    for count in [1, 2, 7] {
        let _ = fs::remove_file(scratch.path("client.log"));
        let outcome = impatient_get(&scratch, port.addr).args(["--retries", &count.to_string(), "a"]).run();
        outcome.exits(3).made_attempts(count).log_has(&format!("attempt {count} of {count}: 'a'"));
    }
}

/// `--retries 0` has no limit: far more than the usual five, and then the server is there.
#[test]
fn attempts_without_limit() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let port = ClosedPort::new();
    let running = impatient_get(&scratch, port.addr).args(["--retries", "0", "a"]).spawn();
    wait_for("twelve attempts", || running.log().matches(" - attempt ").count() >= 12);
    let _server = OldServer::on(port.open(8), Duration::from_millis(20), &scratch.files());
    running.finish().exits(0).stderr_has("verified");
}

#[test]
fn a_server_that_comes_up_in_between_is_found() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let port = ClosedPort::new();
    let running = get(&scratch, port.addr).args(["--max-backoff", "0.5", "a"]).spawn();
    running.wait_for_log(" (attempt 2");
    let _server = OldServer::on(port.open(8), Duration::from_millis(20), &scratch.files());
    let outcome = running.finish();
    outcome.exits(0).stderr_has("verified").stderr_has("attempt");
    assert_eq!(fs::read(scratch.out().join("a")).unwrap(), b"body");
}

#[test]
fn a_body_that_breaks_off_is_fetched_again() {
    let scratch = Scratch::new();
    let body = content(1, 500_000);
    let (head, served) = (metadata("a", &body), body.clone());
    let server = ScriptedServer::new(move |number, stream: &mut TcpStream| {
        let sent = [0, 1, 250_000, 499_999, 500_000][number.min(4)];
        answer(stream, &head, &served[..sent]);
    });
    impatient_get(&scratch, server.addr).arg("a").run().exits(0).made_attempts(5).stderr_has("verified");
    assert!(fs::read(scratch.out().join("a")).unwrap() == body);
    assert_eq!(scratch.names("out"), ["a"], "no part is left");
}

/// Every attempt brings a bit of the file: in version 1 that resets nothing.
#[test]
fn a_body_that_always_breaks_off_ends_the_attempts() {
    let scratch = Scratch::new();
    let body = content(1, 3_000_000);
    let server = ScriptedServer::answering(metadata("a", &body), body[..2_000_000].to_vec());
    impatient_get(&scratch, server.addr).arg("a").run().exits(3).made_attempts(5).has_one_error_line();
    assert!(!scratch.out().join("a").exists());
}

/// More broken bodies, over several files, than there are buffers between network and disk.
#[test]
fn no_number_of_broken_bodies_stops_the_client() {
    let scratch = Scratch::new();
    let body = content(1, 3_000_000);
    let (head, served) = (metadata("b", &body), body.clone());
    let broken = ScriptedServer::new(move |number, stream: &mut TcpStream| {
        let sent = if number < 30 { 1_500_000 } else { served.len() };
        answer(stream, &head, &served[..sent]);
    });
    impatient_get(&scratch, broken.addr).args(["--retries", "31", "b"]).run().exits(0).made_attempts(31);
    assert!(fs::read(scratch.out().join("b")).unwrap() == body);
}

/// What a longer version left behind in an attempt that failed is not in the file.
#[test]
fn a_file_that_became_shorter_between_attempts_has_no_old_end() {
    let scratch = Scratch::new();
    let (long, short) = (content(1, 3_000_000), content(2, 10));
    let (long_head, short_head, expected) = (metadata("a", &long), metadata("a", &short), short.clone());
    let server = ScriptedServer::new(move |number, stream: &mut TcpStream| match number {
        0 => answer(stream, &long_head, &long[..2_900_000]),
        _ => answer(stream, &short_head, &short),
    });
    impatient_get(&scratch, server.addr).arg("a").run().exits(0).made_attempts(2);
    assert_eq!(fs::read(scratch.out().join("a")).unwrap(), expected);
}

/// All bytes and a digest that does not fit are an integrity failure, also where no further attempt is allowed.
#[test]
fn a_wrong_digest_is_tried_once_more_and_never_a_network_failure() {
    let scratch = Scratch::new();
    let body = content(1, 100_000);
    let server = ScriptedServer::answering(metadata("a", &content(2, 100_000)), body);
    impatient_get(&scratch, server.addr).args(["--retries", "1", "a"]).run().exits(4).made_attempts(1);
    fs::remove_file(scratch.path("client.log")).unwrap();
    impatient_get(&scratch, server.addr).arg("a").run().exits(4).made_attempts(2).stderr_has("damaged");
    assert_eq!(scratch.names("out"), [""; 0]);
}

fn assert_idle_timeout(server: &ScriptedServer) {
    let scratch = Scratch::new();
    let outcome = impatient_get(&scratch, server.addr).args(["--timeout", "0.3", "--retries", "2", "a"]).run();
    outcome.exits(3).made_attempts(2).has_one_error_line();
    let expected = Duration::from_millis(600)..Duration::from_secs(5);
    outcome.assert(expected.contains(&outcome.elapsed), &format!("two timeouts of 0.3 s within {expected:?}"));
}

#[test]
fn silence_instead_of_a_status_ends_the_attempt() {
    assert_idle_timeout(&ScriptedServer::stalling_after(Vec::new()));
}

#[test]
fn silence_in_the_middle_of_the_body_ends_the_attempt() {
    let bytes = [b"OK".to_vec(), metadata("a", b"body"), b"bo".to_vec()].concat();
    assert_idle_timeout(&ScriptedServer::stalling_after(bytes));
}

/// A slow sender is no silent one: each byte starts the timeout again.
#[test]
fn a_slow_body_is_no_timeout() {
    let scratch = Scratch::new();
    let server = ScriptedServer::new(|_, stream: &mut TcpStream| {
        read_request(stream);
        stream.write_all(&[b"OK".to_vec(), metadata("a", &[b'x'; 12])].concat()).unwrap();
        for _ in 0..12 {
            std::thread::sleep(Duration::from_millis(100));
            stream.write_all(b"x").unwrap();
        }
    });
    get(&scratch, server.addr).args(["--timeout", "0.8", "--retries", "1", "a"]).run().exits(0).stderr_has("verified");
}

/// Between `OK` and the metadata an old server hashes: that wait has its own, longer limit.
#[test]
fn the_idle_timeout_does_not_count_while_the_server_hashes() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = OldServer::hashing_for(Duration::from_millis(1500), &scratch.files());
    let outcome = get(&scratch, server.addr).args(["--timeout", "0.3", "--retries", "1", "a"]).run();
    outcome.exits(0).stderr_has("verified");
}

/// A label of more than 63 bytes is no host's name (RFC 1035, 2.3.4), whichever name servers answer or do not.
#[test]
fn an_unknown_host_is_final() {
    let scratch = Scratch::new();
    let host = "a".repeat(64);
    let program = Program::xfer(&scratch).args(["get", "-H", &format!("{host}:9999"), "-d", "out", "a", "b"]);
    let outcome = program.log_file(scratch.path("client.log")).run();
    outcome.exits(3).stderr_has(&host).log_lacks(" (attempt 2");
    outcome.assert(outcome.log.matches(" - attempt ").count() <= 1, "one attempt at most");
}

#[test]
fn not_found_is_final() {
    let scratch = Scratch::new();
    let server = Server::of(&scratch);
    let outcome = impatient_get(&scratch, server.addr).arg("none").run();
    outcome.exits(1).made_attempts(1).has_one_error_line().stderr_has("none").stderr_has("not found");
    assert_eq!(scratch.names("out"), [""; 0]);
    let log = server.stop().log;
    assert!(log.contains("refused 'none'"), "{log}");
    assert_eq!(logfile::reasons(&log).len(), 1, "{log}");
}

/// A host that is dead after all attempts is not asked for every other file as well.
#[test]
fn files_after_a_dead_host_are_not_tried() {
    let scratch = Scratch::new();
    let port = ClosedPort::new();
    let outcome = impatient_get(&scratch, port.addr).args(["one", "two", "three"]).run();
    outcome.exits(3).made_attempts(5).stderr_has("not tried").stderr_has("0 of 3 saved");
    outcome.log_lacks("attempt 1 of 5: 'two'");
    for name in ["two", "three"] {
        let told = outcome.stderr.contains(name) || outcome.log.contains(name);
        outcome.assert(told, &format!("{name} must be named as not tried"));
    }
}

/// The first failure decides the exit code.
#[test]
fn the_first_failure_decides() {
    let scratch = Scratch::new();
    let server = ScriptedServer::new(|_, stream: &mut TcpStream| match read_request(stream).as_slice() {
        b"lie" => stream.write_all(&[b"OK".as_slice(), &metadata("other", b"body"), b"body"].concat()).unwrap(),
        _ => stream.write_all(b"ERRORFile not found on server").unwrap(),
    });
    impatient_get(&scratch, server.addr).args(["lie", "none"]).run().exits(4).stderr_has("0 of 2 saved");
    impatient_get(&scratch, server.addr).args(["none", "lie"]).run().exits(1).stderr_has("0 of 2 saved");
}

/// A failure says where the part is, if there is one, and that the same command resumes from there.
#[test]
fn a_failure_says_what_to_do() {
    let scratch = Scratch::new();
    let body = content(1, 3_000_000);
    let server = ScriptedServer::answering(metadata("a", &body), body[..2_000_000].to_vec());
    let outcome = impatient_get(&scratch, server.addr).args(["--retries", "1", "a"]).run();
    outcome.exits(3).stderr_has("a");
    for name in scratch.names("out") {
        outcome.stderr_has(&name);
    }
}

/// A reset counts as a cut.
#[test]
fn a_reset_is_tried_again() {
    let scratch = Scratch::new();
    let server = ScriptedServer::new(|number, stream: &mut TcpStream| {
        if number == 0 {
            // Closing with the request unread makes it a reset.
            let mut first = [0];
            return std::io::Read::read_exact(stream, &mut first).unwrap();
        }
        answer(stream, &metadata("a", b"body"), b"body");
    });
    impatient_get(&scratch, server.addr).arg("a").run().exits(0).stderr_has("verified");
}

/// A listener whose queue is full answers nothing at all: the timeout must cover connecting too.
#[test]
fn connecting_has_a_timeout() {
    let scratch = Scratch::new();
    let (listener, queued) = crate::scripted_server::full_listener();
    let addr = listener.local_addr().unwrap();
    let outcome = impatient_get(&scratch, addr).args(["--timeout", "0.3", "--retries", "2", "a"]).run();
    outcome.exits(3).made_attempts(2).took_less_than(Duration::from_secs(10));
    drop(queued);
}

/// Held to the end of its test: the server says nothing while it waits.
#[test]
fn a_server_that_never_answers_holds_nobody_for_ever() {
    let scratch = Scratch::new();
    let server = ScriptedServer::new(|_, stream: &mut TcpStream| hold(stream));
    let outcome = impatient_get(&scratch, server.addr).args(["--timeout", "0.3", "--retries", "1", "a"]).run();
    outcome.exits(3).took_less_than(Duration::from_secs(5));
}
