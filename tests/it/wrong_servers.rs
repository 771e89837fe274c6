//! Servers of other protocols: named as what they are, at once, however their bytes come.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::harness::wire::{read_request, read_to_end};
use crate::harness::wire2::{self, Get, SHUTTING_DOWN, data};
use crate::harness::{Outcome, Program, Scratch, content, get};
use crate::scripted_server::ScriptedServer;

/// What servers say, and what the client calls them.
const SERVERS: [(&[u8], &str); 11] = [
    (b"SSH-2.0-OpenSSH_9.6\r\n", "this is an SSH server ('SSH-2.0-OpenSSH_9.6')"),
    (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "this is a web server ('HTTP/1.1 400 Bad Request')"),
    (b"<html>\r\n<head>", "this is a web server ('<html>')"),
    (b"\x15\x03\x01\x00\x02\x02\x46", "this is a TLS server"),
    (b"220 ProFTPD Server\r\n", "this is an FTP server ('220 ProFTPD Server')"),
    (b"220 mx.test ESMTP Postfix\r\n", "this is an SMTP server ('220 mx.test ESMTP Postfix')"),
    (b"* OK IMAP4rev1\x1b[2J\r\n", "this is an IMAP server ('* OK IMAP4rev1\\x1b[2J')"),
    (b"-ERR Protocol error\r\n", "this is a Redis server ('-ERR Protocol error')"),
    (b"@RSYNCD: 31.0\n", "this is an rsync server ('@RSYNCD: 31.0')"),
    (b"J\x00\x00\x00\x0a8.0.36\x00", "this is a MySQL server"),
    (b"Who are you?\n", "this is not an xfer server (its reply begins with 'Who are you?')"),
];

/// Longer than any of these runs takes, and shorter than their time limits: nothing is waited for.
const AT_ONCE: Duration = Duration::from_secs(20);

fn patient_get(scratch: &Scratch, addr: SocketAddr) -> Program {
    get(scratch, addr).args(["--timeout", "60"])
}

fn assert_named(outcome: &Outcome, addr: SocketAddr, what: &str) {
    let line =
        format!("xfer: cannot fetch 'a' from {addr}: {what}; check the port (xfer serve uses 9999 by default)\n");
    outcome.exits(4).has_one_error_line().made_attempts(1).took_less_than(AT_ONCE).shows_no_control_characters();
    outcome.assert(outcome.stderr == line, &format!("{line:?} expected"));
}

/// Sends it, in one piece or a byte at a time, and then only reads: a close with unread input would be a reset, which can
/// overtake what was sent.
fn say(stream: &mut TcpStream, greeting: &[u8], by_byte: bool) {
    stream.set_nodelay(true).unwrap();
    // The client may have seen enough.
    let _ = greeting.chunks(if by_byte { 1 } else { greeting.len() }).try_for_each(|bytes| stream.write_all(bytes));
    read_to_end(stream);
}

#[test]
fn a_server_that_speaks_first_is_named() {
    for (greeting, what) in SERVERS {
        for (version, by_byte) in [(&[][..], false), (&[], true), (&["--v1"], false), (&["--v1"], true)] {
            let scratch = Scratch::new();
            let server = ScriptedServer::of_any_version(move |_, stream| say(stream, greeting, by_byte));
            assert_named(&patient_get(&scratch, server.addr).args(version).arg("a").run(), server.addr, what);
        }
    }
}

#[test]
fn a_server_that_only_answers_is_named() {
    for (greeting, what) in SERVERS {
        let scratch = Scratch::new();
        let server = ScriptedServer::of_any_version(move |_, stream| {
            Get::read(stream);
            stream.write_all(greeting).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            read_to_end(stream);
        });
        assert_named(&patient_get(&scratch, server.addr).arg("a").run(), server.addr, what);
    }
}

/// It closes on version 2 without a word, as an old server does, and answers the request in version 1.
#[test]
fn a_server_that_answers_only_version_1_is_named() {
    for (greeting, what) in SERVERS {
        let scratch = Scratch::new();
        let server = ScriptedServer::new(move |_, stream| {
            read_request(stream);
            say(stream, greeting, true);
        });
        assert_named(&patient_get(&scratch, server.addr).arg("a").run(), server.addr, what);
    }
}

/// As Apache, Go and Python wait for the end of a request's line, and Redis for that of a command: long after a server of
/// this protocol would have answered, they get one.
#[test]
fn a_server_that_waits_for_the_end_of_a_line_is_named() {
    for version in [&[][..], &["--v1"]] {
        let scratch = Scratch::new();
        let server = ScriptedServer::of_any_version(|_, stream| {
            let line = BufReader::new(stream.try_clone().unwrap()).split(b'\n').next();
            if line.is_some_and(|line| line.is_ok_and(|line| line.ends_with(b"\r"))) {
                say(stream, SERVERS[1].0, false);
            }
        });
        let outcome = get(&scratch, server.addr).args(["--timeout", "0.5"]).args(version).arg("a").run();
        assert_named(&outcome, server.addr, SERVERS[1].1);
    }
}

/// The part says that a server of version 2 was here, and that is over.
#[test]
fn a_server_in_the_place_of_an_earlier_one_is_named() {
    let scratch = Scratch::new();
    let body = content(7, 2_000_000);
    let first = ScriptedServer::answering_gets(move |_, get| {
        let file = wire2::File { algorithm: get.algorithm, ..wire2::File::of(&body) }.bytes();
        [file, data(&body[..1_000_000]), wire2::error(SHUTTING_DOWN, "")].concat()
    });
    let addr = first.addr;
    patient_get(&scratch, addr).args(["--retries", "1", "a"]).run().exits(3).stderr_has("; kept ");
    drop(first);
    std::fs::remove_file(scratch.path("client.log")).unwrap();
    let listener = TcpListener::bind(addr).unwrap();
    let ssh = std::thread::spawn(move || say(&mut listener.accept().unwrap().0, SERVERS[0].0, false));
    let outcome = patient_get(&scratch, addr).arg("a").run();
    outcome.exits(4).stderr_has(SERVERS[0].1).stderr_has("; kept ").made_attempts(1);
    ssh.join().unwrap();
}

/// What is true of one file is true of the server.
#[test]
fn no_other_file_is_asked_of_a_wrong_server() {
    let scratch = Scratch::new();
    let server = ScriptedServer::of_any_version(|_, stream| say(stream, SERVERS[0].0, false));
    let outcome = patient_get(&scratch, server.addr).args(["a", "b", "c"]).run();
    outcome.exits(4).made_attempts(1).stderr_has(SERVERS[0].1);
    outcome.stderr_has(&format!("not tried: 'b', 'c' ({} is not an xfer server)\n", server.addr));
    assert_eq!(server.connections(), 1, "{}", outcome.report());
}

/// Once a server has spoken our protocol, its bytes are not searched for anything else.
#[test]
fn a_server_that_was_right_before_breaks_the_protocol() {
    let scratch = Scratch::new();
    let server = ScriptedServer::answering_gets(|number, get| match number {
        0 => wire2::honest_reply(get, b"body"),
        _ => SERVERS[0].0.to_vec(),
    });
    let outcome = patient_get(&scratch, server.addr).args(["a", "b"]).run();
    outcome.exits(4).stderr_has("1 of 2 saved").stderr_has("bad reply from ").stderr_lacks("SSH");
}

/// It says nothing that could be named: the line says what to check, once.
#[test]
fn a_server_that_closes_without_a_word() {
    let scratch = Scratch::new();
    let server = ScriptedServer::of_any_version(|_, stream| {
        stream.shutdown(Shutdown::Write).unwrap();
        read_to_end(stream);
    });
    for version in [&[][..], &["--v1"]] {
        let program = patient_get(&scratch, server.addr).args(["--retries", "3", "--max-backoff", "0.1"]);
        let outcome = program.args(version).arg("a").run();
        outcome.exits(3).stderr_has(&format!(
            "xfer: {} closed the connection before replying (is this an xfer server? check the port); retrying in",
            server.addr
        ));
        outcome.assert(outcome.stderr.matches("check the port").count() == 1, "the hint once");
    }
}
