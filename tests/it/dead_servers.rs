//! A server that is there and says nothing: it costs the attempts at one file, and not at each.

use std::fs;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::net::sockopt;
use rustix::process::Signal;

use crate::harness::wire::{metadata, read_request};
use crate::harness::wire2::{File, Get, data, honest_reply};
use crate::harness::{Outcome, PATIENCE, Program, Scratch, Server, get};
use crate::scripted_server::ScriptedServer;

/// Far more than could all be tried within a test.
const FILES: usize = 1000;

const ATTEMPTS: usize = 3;

/// Seconds that a silent attempt takes: at a server that answers nothing at all; and at one that answers some requests, for
/// which it has to be given time on a busy machine.
const SILENT: &str = "0.3";
const SILENT_AT_TIMES: &str = "1";

/// A client without long waits.
fn impatient_get(scratch: &Scratch, addr: SocketAddr, timeout: &str, attempts: usize) -> Program {
    let _ = fs::remove_file(scratch.path("client.log"));
    get(scratch, addr).args(["--timeout", timeout, "--max-backoff", "0.1", "--retries", &attempts.to_string()])
}

/// The same for all the files.
fn get_all(scratch: &Scratch, addr: SocketAddr, timeout: &str, attempts: usize) -> Program {
    let names: String = (0..FILES).map(|number| format!("f{number}\n")).collect();
    impatient_get(scratch, addr, timeout, attempts).arg("--from-file").arg(scratch.write("names", names.as_bytes()))
}

/// One line for each file that was tried, one for all that were left, and the sum.
fn assert_left(outcome: &Outcome, saved: usize, failed: usize) {
    let left = FILES - saved - failed;
    outcome.exits(3).stderr_has(&format!("{saved} of {FILES} saved"));
    outcome.stderr_has(&format!("; {failed} failed: 'f")).stderr_has(&format!("; {left} not tried\n"));
    outcome.stderr_has(" does not answer); check the server, then run the same command again");
    let lines = outcome.stderr.lines().filter(|line| line.contains("cannot fetch ")).count();
    outcome.assert(lines == failed, &format!("{failed} lines about files that failed"));
    let named = outcome.log.matches(" - WARN - not tried: ").count();
    outcome.assert(named == left, &format!("{left} names in the log"));
}

/// All attempts at the first file, and one at the second: it could have been the file.
fn assert_dead_from_the_start(outcome: &Outcome) {
    assert_left(outcome, 0, 2);
    outcome.made_attempts(ATTEMPTS + 1);
    outcome.stderr_has("cannot fetch 'f0': ").stderr_has(&format!(" (gave up after {ATTEMPTS} attempts)\n"));
    outcome.stderr_has("cannot fetch 'f1': ");
}

#[test]
fn a_stopped_server_costs_the_attempts_at_one_file() {
    let scratch = Scratch::new();
    scratch.share("f0", b"body");
    let server = Server::of(&scratch);
    server.signal(Signal::STOP);
    assert_dead_from_the_start(&get_all(&scratch, server.addr, SILENT, ATTEMPTS).run());
    assert_dead_from_the_start(&get_all(&scratch, server.addr, SILENT, ATTEMPTS).arg("--v1").run());
    // With one attempt for each file, it is the second file that decides, too.
    assert_left(&get_all(&scratch, server.addr, SILENT, 1).run(), 0, 2);
    server.signal(Signal::CONT);
    server.stop();
}

#[test]
fn a_server_that_only_closes_is_dead_too() {
    let scratch = Scratch::new();
    // What was asked is read, so that the close is no reset.
    let closing = ScriptedServer::of_any_version(|_, stream| {
        stream.shutdown(Shutdown::Write).unwrap();
        read_all(stream);
    });
    for version in [&[][..], &["--v1"]] {
        let outcome = get_all(&scratch, closing.addr, SILENT, ATTEMPTS).args(version).run();
        assert_dead_from_the_start(&outcome);
        outcome.stderr_has("closed the connection before replying");
    }
}

/// The reset may be there before the client has seen that it was connected: then the server could not be reached.
#[test]
fn a_server_that_only_resets_is_dead_too() {
    let scratch = Scratch::new();
    let resetting = ScriptedServer::of_any_version(|_, stream: &mut TcpStream| {
        sockopt::set_socket_linger(&*stream, Some(Duration::ZERO)).unwrap();
    });
    for version in [&[][..], &["--v1"]] {
        let outcome = get_all(&scratch, resetting.addr, SILENT, ATTEMPTS).args(version).run();
        outcome.exits(3).stderr_has("not tried: ").stderr_has(&format!("0 of {FILES} saved"));
        let attempts = outcome.log.matches(" - attempt ").count();
        outcome.assert([ATTEMPTS, ATTEMPTS + 1].contains(&attempts), &format!("{attempts} attempts"));
    }
}

/// Takes what the client says and answers nothing, until it closes.
fn read_all(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = io::copy(stream, &mut io::sink());
}

/// Replies in version 2 until `count` requests are answered, over all connections; the one behind them gets `last`, and
/// from then on nothing is said.
fn dying_server(count: usize, last: Vec<u8>) -> ScriptedServer {
    let asked = AtomicUsize::new(0);
    ScriptedServer::of_any_version(move |_, stream| {
        while let Some(get) = Get::read(stream) {
            let number = asked.fetch_add(1, Ordering::SeqCst);
            let reply = if number < count { honest_reply(&get, b"body") } else { last.clone() };
            if number <= count && stream.write_all(&reply).is_err() {
                return;
            }
            if number >= count {
                return read_all(stream);
            }
        }
    })
}

/// Many requests are under way then, of which all but the first have not been waited for.
#[test]
fn a_server_that_dies_between_two_replies() {
    let scratch = Scratch::new();
    let server = dying_server(10, Vec::new());
    assert_left(&get_all(&scratch, server.addr, SILENT_AT_TIMES, ATTEMPTS).run(), 10, 2);
}

/// The first of the attempts at that file has brought bytes; those at the next one do not.
#[test]
fn a_server_that_dies_within_a_reply() {
    let scratch = Scratch::new();
    let half = [File::of(&[1; 1000]).bytes(), data(&[1; 500])].concat();
    let server = dying_server(10, half);
    assert_left(&get_all(&scratch, server.addr, SILENT_AT_TIMES, ATTEMPTS).run(), 10, 3);
}

/// As a disk that hangs, under one of the files: the others come, wherever it stands among them.
#[test]
fn a_server_that_is_silent_about_one_file_is_not_dead() {
    let version_2 = ScriptedServer::of_any_version(|_, stream| {
        while let Some(get) = Get::read(stream) {
            if get.name == b"silent" {
                return read_all(stream);
            }
            if stream.write_all(&honest_reply(&get, b"body")).is_err() {
                return;
            }
        }
    });
    let version_1 = ScriptedServer::new(|_, stream: &mut TcpStream| {
        let name = String::from_utf8(read_request(stream)).unwrap();
        if name == "silent" {
            return read_all(stream);
        }
        let _ = stream.write_all(&[b"OK".as_slice(), &metadata(&name, b"body"), b"body"].concat());
    });
    let try_order = |addr, version: &[&str], attempts, order: [&str; 3]| {
        let scratch = Scratch::new();
        let program = impatient_get(&scratch, addr, SILENT_AT_TIMES, attempts).args(version).args(order);
        let outcome = program.run();
        outcome.exits(3).stderr_has("2 of 3 saved: ").stderr_has("; 1 failed: 'silent'\n").stderr_lacks("not tried");
        outcome.stderr_has("cannot fetch 'silent': ");
    };
    // They wait most of the time.
    std::thread::scope(|scope| {
        for (addr, version) in [(version_2.addr, &[][..]), (version_1.addr, &["--v1"])] {
            for attempts in [1, ATTEMPTS] {
                for order in [["silent", "a", "b"], ["a", "silent", "b"], ["a", "b", "silent"]] {
                    scope.spawn(move || try_order(addr, version, attempts, order));
                }
            }
        }
    });
}

/// `--retries 0` gives nothing up, and so no server.
#[test]
fn without_a_limit_a_silent_server_is_waited_for() {
    let scratch = Scratch::new();
    let server = ScriptedServer::of_any_version(|number, stream| {
        while number >= 12
            && let Some(get) = Get::read(stream)
        {
            let _ = stream.write_all(&honest_reply(&get, b"body"));
        }
    });
    let program = get(&scratch, server.addr).args(["--max-backoff", "0.1", "--retries", "0", "a", "b"]);
    program.run().exits(0).stderr_has("2 of 2 saved");
}
