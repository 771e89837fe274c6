//! Signals to `xfer serve`: a clean end that waits for running transfers, and one that does not wait.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::wire::{dial, dial_slowly, drain, read_head, read_to_end, request};
use crate::harness::wire2::{Get, Peer};
use crate::harness::{Scratch, Server, cores, get, logfile, serve, wait_for};

const A_SECOND: Duration = Duration::from_secs(1);

/// Far more than the kernel takes in for a reader that does not read.
const BIG: u64 = 100_000_000;

/// A connection in the middle of its file.
fn slow_reader(server: &Server) -> TcpStream {
    let mut stream = dial_slowly(server.addr);
    stream.write_all(&request(b"big")).unwrap();
    assert_eq!(read_head(&mut stream).size, BIG);
    stream
}

fn wait_for_refusal(server: &Server) {
    wait_for("new connections to be refused", || {
        TcpStream::connect(server.addr).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
}

#[test]
fn idle_it_ends_at_once() {
    let _cores = cores::quiet_cores();
    for signal in [Signal::TERM, Signal::INT] {
        let scratch = Scratch::new();
        let server = Server::of(&scratch);
        server.into_running().finish_after(signal).exits(0).took_less_than(A_SECOND);
    }
}

/// Connections without a whole request have nothing to wait for.
#[test]
fn half_a_request_does_not_hold_up_the_end() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    let server = Server::of(&scratch);
    let mut silent = dial(server.addr);
    let mut half = dial(server.addr);
    half.write_all(&request(b"name")[..6]).unwrap();
    wait_for("both connections", || server.log().matches("connection from ").count() == 2);
    let outcome = server.stop();
    outcome.took_less_than(A_SECOND);
    assert_eq!(logfile::reasons(&outcome.log), ["shutdown"; 2], "{}", outcome.log);
    assert_eq!((read_to_end(&mut silent), read_to_end(&mut half)), (Vec::new(), Vec::new()));
}

/// All of them close in one pass: far more lines than fit into a buffer.
#[test]
fn every_connection_has_its_closing_line_also_when_thousands_end_at_once() {
    const CONNECTIONS: usize = 4000;
    let scratch = Scratch::new();
    let server = Server::start(serve(&scratch).args(["--max-conns-per-ip", "0"]));
    let silent: Vec<TcpStream> = (0..CONNECTIONS).map(|_| dial(server.addr)).collect();
    wait_for("all connections", || server.log().matches("connection from ").count() == CONNECTIONS);
    let outcome = server.stop();
    drop(silent);
    assert_eq!(logfile::reasons(&outcome.log).len(), CONNECTIONS);
    outcome.log_has(&format!("stopped: {CONNECTIONS} connections"));
}

#[test]
fn a_running_transfer_is_completed() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    scratch.share_sparse("big", BIG);
    let server = Server::of(&scratch);
    let mut reader = slow_reader(&server);
    server.signal(Signal::TERM);
    wait_for_refusal(&server);
    assert_eq!(drain(&mut reader), BIG);
    drop(reader);
    let mut running = server.into_running();
    wait_for("the end", || running.has_ended());
    let outcome = running.finish();
    outcome.exits(0).log_has("reason: complete").log_lacks("drain timeout");
}

/// The whole of it with the real client: a file on its way is saved although the server is told to go.
#[test]
fn a_running_get_is_completed() {
    let scratch = Scratch::new();
    scratch.share_sparse("big", 200_000_000);
    let server = Server::of(&scratch);
    let client = get(&scratch, server.addr).args(["--no-sync", "big"]).spawn();
    server.wait_for_log("progress of ");
    server.signal(Signal::TERM);
    client.finish().exits(0).made_attempts(1).stderr_has("verified");
    let outcome = server.into_running().finish();
    outcome.exits(0).log_has("reason: complete");
}

/// A request that is whole is a running reply, also while its file is still being hashed.
#[test]
fn a_reply_that_waits_for_its_digest_is_completed() {
    let scratch = Scratch::new();
    scratch.share_sparse("big", BIG);
    let server = Server::of(&scratch);
    let mut reader = dial(server.addr);
    reader.write_all(&request(b"big")).unwrap();
    // `OK` says that the request has been understood, and comes before the metadata.
    let status: [u8; 2] = crate::harness::wire::read_array(&mut reader);
    assert_eq!(status, *b"OK");
    server.signal(Signal::INT);
    assert!(drain(&mut reader) > BIG);
    drop(reader);
    server.into_running().finish().exits(0).log_has("reason: complete");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let _cores = cores::quiet_cores();
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::INT), (Signal::TERM, Signal::INT)] {
        let scratch = Scratch::new();
        scratch.share_sparse("big", BIG);
        let server = Server::of(&scratch);
        let _reader = slow_reader(&server);
        server.signal(first);
        wait_for_refusal(&server);
        server.into_running().finish_after(second).exits(130).took_less_than(A_SECOND);
    }
}

#[test]
fn a_reader_that_does_not_read_is_cut_off_after_the_drain_time() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    scratch.share_sparse("big", BIG);
    let server = Server::start(serve(&scratch).args(["--drain", "0.2"]));
    let mut reader = slow_reader(&server);
    let outcome = server.stop();
    let expected = Duration::from_millis(200)..Duration::from_millis(1500);
    outcome.assert(expected.contains(&outcome.elapsed), &format!("an end within {expected:?}"));
    outcome.log_has("reason: drain timeout");
    assert!(drain(&mut reader) < BIG);
}

#[test]
fn with_no_drain_time_it_waits_for_nobody() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    scratch.share_sparse("big", BIG);
    let server = Server::start(serve(&scratch).args(["--drain", "0"]));
    let _reader = slow_reader(&server);
    server.stop().took_less_than(A_SECOND);
}

/// Connections, bytes, jobs, uptime; and it goes on.
#[test]
fn sigusr1_prints_one_line_of_status() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    let mut held = dial(server.addr);
    server.wait_for_log("connection from ");
    let before = server.log().lines().count();
    server.signal(Signal::USR1);
    wait_for("a line of status", || server.log().lines().count() > before);
    let status = server.log().lines().nth(before).unwrap().to_owned();
    let message = logfile::LogLine::parse(&status).unwrap().message;
    for word in ["connection", "byte", "job", "up"] {
        assert!(message.contains(word), "no {word:?} in {message:?}");
    }
    held.write_all(&request(b"a")).unwrap();
    assert!(read_to_end(&mut held).ends_with(b"body"));
    drop(held);
    assert_eq!(server.log().lines().filter(|line| line.contains(&message)).count(), 1);
    server.stop_content();
}

/// Who fetches what, how far, how fast, for how long: a line for each, and the rest in counts.
#[test]
fn sigusr1_lists_the_transfers() {
    const READERS: usize = 120;
    let scratch = Scratch::new();
    scratch.share_sparse("big", BIG);
    scratch.share_sparse("to be hashed", 8_000_000_000);
    let server =
        Server::start(serve(&scratch).args(["--max-conns-per-ip", "0", "--drain", "0", "--request-timeout", "60"]));
    let mut first = slow_reader(&server);
    let mut some = vec![0; 1_000_000];
    first.read_exact(&mut some).unwrap();
    let mut waits = dial(server.addr);
    waits.write_all(&request(b"to be hashed")).unwrap();
    let _idle = dial(server.addr);
    let status = |sending: usize| {
        let all = sending + 2;
        format!("status: {all} connections ({sending} sending, 1 hashing, 1 idle, 0 closing), ")
    };
    wait_for("the status of three", || {
        server.signal(Signal::USR1);
        server.log().contains(&status(1))
    });
    let peer = first.local_addr().unwrap();
    let shown = |begin: &str| {
        let line = logfile::lines(&server.log()).into_iter().find(|line| line.message.starts_with(begin));
        line.unwrap_or_else(|| panic!("no {begin:?}:\n{}", server.log()))
    };
    let line = shown(&format!("sending 'big' to {peer}: "));
    assert_eq!((line.level.as_str(), line.origin.as_str()), ("INFO", "conn-1"));
    // `1% (1048576/100000000 bytes), 3.1 MiB/s on average, 0.3 s`
    let (_, rest) = line.message.split_once("% (").unwrap();
    let (at, rest) = rest.split_once(&format!("/{BIG} bytes), ")).unwrap();
    assert!((1_000_000..BIG).contains(&at.parse().unwrap()), "{line:?}");
    let (speed, seconds) = rest.split_once("/s on average, ").unwrap();
    assert!(speed.ends_with("iB") && seconds.strip_suffix(" s").unwrap().parse::<f64>().is_ok(), "{line:?}");
    let line = shown(&format!("hashing 'to be hashed' for {}: ", waits.local_addr().unwrap()));
    assert!(line.message.contains("/8000000000 bytes), "), "{line:?}");
    let _more: Vec<Peer> = (1..READERS)
        .map(|_| {
            let mut peer = Peer::dial_slowly(server.addr);
            peer.ask(&Get::of("big"));
            peer.file();
            peer
        })
        .collect();
    let before = server.log().matches("- main - INFO - and ").count();
    assert_eq!(before, 0, "three transfers are no more than are shown");
    server.signal(Signal::USR1);
    server.wait_for_log(" - main - INFO - and 21 more: 21 to 127.0.0.1\n");
    let log = server.log();
    let (_, last) = log.rsplit_once(&status(READERS)).unwrap();
    let lines = last.lines().filter(|line| line.contains(" - sending '") || line.contains(" - hashing '")).count();
    assert_eq!(lines, 100, "{last}");
    // Those that have run for the longest time, the first one on top.
    let numbers: Vec<u32> =
        last.lines().filter_map(|line| line.split(" - conn-").nth(1)?.split(' ').next()?.parse().ok()).collect();
    assert!(numbers.is_sorted() && numbers.first() == Some(&1), "{last}");
    let files = scratch.files().canonicalize().unwrap();
    assert!(
        last.lines().next().unwrap().ends_with(&format!(" s, sharing the directory {}", files.display())),
        "{last}"
    );
    server.stop();
}

/// Each end says by which signal.
#[test]
fn the_signal_that_ends_it_is_named() {
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        let scratch = Scratch::new();
        let server = Server::of(&scratch);
        let outcome = server.into_running().finish_after(signal);
        outcome.exits(0).log_has(&format!(" - main - INFO - stopping: {name}\n"));
    }
}

/// Signals coalesce and come at any time: none of these may end or hurt the server.
#[test]
fn a_shower_of_signals_does_no_harm() {
    let scratch = Scratch::new();
    scratch.share_sparse("big", BIG);
    let server = Server::of(&scratch);
    let mut reader = slow_reader(&server);
    let start = Instant::now();
    for _ in 0..200 {
        [Signal::USR1, Signal::HUP, Signal::PIPE].into_iter().for_each(|signal| server.signal(signal));
    }
    assert_eq!(drain(&mut reader), BIG, "after {:?}", start.elapsed());
    drop(reader);
    server.wait_for_log("reason: complete");
    server.stop();
}

#[test]
fn the_end_says_what_was_done() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    get(&scratch, server.addr).arg("a").run().exits(0);
    let log = server.stop_content().log;
    let last = logfile::lines(&log).pop().unwrap();
    assert_eq!(last.origin, "main");
    let message = &last.message;
    let is_right = message.starts_with("stopped: 1 connection, 1 reply, 4 bytes sent, up ") && message.ends_with(" s");
    assert!(is_right, "{last:?}");
}
