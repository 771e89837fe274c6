//! Slow, silent and numerous peers: each is bounded, and none of them stops another.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::wire::{ask, dial, dial_from, dial_slowly, drain, metadata, read_head, read_to_end, request};
use crate::harness::{Running, Scratch, Server, cores, get, plain_get, process, serve, wait_for};
use crate::scripted_server::ScriptedServer;

/// More than the kernel takes in for a reader that does not read.
const BIG: u64 = 50_000_000;

/// A server at rest may use this much of a core.
const AT_REST: Duration = Duration::from_millis(200);

/// The connection is open and nothing has come: looked at for as long as `patience`.
fn stays_silent(stream: &mut TcpStream, patience: Duration) -> bool {
    stream.set_read_timeout(Some(patience)).unwrap();
    let outcome = stream.read(&mut [0]);
    outcome.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

#[test]
fn a_request_has_its_time_and_no_more() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    let server = Server::start(serve(&scratch).args(["--request-timeout", "0.3"]));
    for sent in [&b""[..], b"\0", &request(b"name")[..6]] {
        let start = Instant::now();
        let mut stream = dial(server.addr);
        stream.write_all(sent).unwrap();
        read_to_end(&mut stream);
        let expected = Duration::from_millis(290)..Duration::from_millis(1300);
        assert!(expected.contains(&start.elapsed()), "{sent:?}: closed after {:?}", start.elapsed());
    }
    let log = server.stop().log;
    assert_eq!(log.matches("reason: request timeout").count(), 3, "{log}");
}

/// The deadline is counted from the connection: a byte now and then does not move it.
#[test]
fn trickling_does_not_extend_the_time_of_a_request() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    let server = Server::start(serve(&scratch).args(["--request-timeout", "0.3"]));
    let start = Instant::now();
    let mut stream = dial(server.addr);
    stream.set_nodelay(true).unwrap();
    stream.write_all(&100_u32.to_be_bytes()).unwrap();
    while start.elapsed() < Duration::from_secs(5) && stays_silent(&mut stream, Duration::from_millis(50)) {
        // The server may have closed in between.
        let _ = stream.write_all(b"x");
    }
    let expected = Duration::from_millis(290)..Duration::from_millis(1300);
    assert!(expected.contains(&start.elapsed()), "closed after {:?}", start.elapsed());
    server.wait_for_log("reason: request timeout");
    server.stop();
}

#[test]
fn a_reader_that_stops_is_cut_off() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    scratch.share_sparse("big", BIG);
    let server = Server::start(serve(&scratch).args(["--idle-timeout", "0.5"]));
    let mut stream = dial_slowly(server.addr);
    stream.write_all(&request(b"big")).unwrap();
    read_head(&mut stream);
    let start = Instant::now();
    server.wait_for_log("reason: idle timeout");
    let expected = Duration::from_millis(400)..Duration::from_millis(2000);
    assert!(expected.contains(&start.elapsed()), "cut off after {:?}", start.elapsed());
    assert!(drain(&mut stream) < BIG);
    server.stop();
}

/// Slow is not idle: as long as bytes move, the transfer goes on past the idle timeout.
#[test]
fn a_slow_reader_is_not_cut_off() {
    let scratch = Scratch::new();
    scratch.share_sparse("big", 10_000_000);
    let server = Server::start(serve(&scratch).args(["--idle-timeout", "0.7"]));
    let mut stream = dial_slowly(server.addr);
    stream.write_all(&request(b"big")).unwrap();
    read_head(&mut stream);
    let mut block = vec![0; 600_000];
    for _ in 0..16 {
        stream.read_exact(&mut block).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(drain(&mut stream), 10_000_000 - 16 * 600_000);
    drop(stream);
    server.wait_for_log("reason: complete");
    server.stop();
}

#[test]
fn past_the_limit_of_connections_the_next_one_waits_for_a_slot() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::start(serve(&scratch).args(["--max-conns", "2", "--max-conns-per-ip", "0"]));
    let first = dial(server.addr);
    let _second = dial(server.addr);
    wait_for("two connections", || server.log().matches("connection from ").count() == 2);
    let mut third = dial(server.addr);
    third.write_all(&request(b"a")).unwrap();
    assert!(stays_silent(&mut third, Duration::from_millis(700)), "a third connection must wait");
    drop(first);
    third.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
    assert!(read_to_end(&mut third).ends_with(b"body"));
    drop(third);
    server.stop();
}

/// Being full is nothing to tell of, as long as nobody has to wait for it.
#[test]
fn the_limit_of_connections_is_told_when_somebody_waits() {
    let scratch = Scratch::new();
    let server = Server::start(serve(&scratch).args(["--max-conns", "2", "--max-conns-per-ip", "0"]));
    let held = [dial(server.addr), dial(server.addr)];
    wait_for("two connections", || server.log().matches("connection from ").count() == 2);
    // Its line is of a later pass.
    server.signal(rustix::process::Signal::USR1);
    server.wait_for_log("status: ");
    assert!(!server.log().contains("not accepting connections"), "{}", server.log());
    let third = dial(server.addr);
    server.wait_for_log("not accepting connections");
    drop((held, third));
    server.stop();
}

/// Connections that come and go at the limit do not make it a line each time.
#[test]
fn the_limit_of_connections_is_told_once_in_a_while() {
    let scratch = Scratch::new();
    let server = Server::start(serve(&scratch).args(["--max-conns", "2", "--max-conns-per-ip", "0"]));
    let start = Instant::now();
    let accepted = |count| wait_for("connections", || server.log().matches("connection from ").count() == count);
    let mut held = vec![dial(server.addr), dial(server.addr)];
    for round in 1..=60 {
        accepted(2 * round);
        let waiting = dial(server.addr);
        if round == 1 {
            server.wait_for_log("not accepting connections");
        }
        held.clear();
        accepted(2 * round + 1);
        held = vec![waiting, dial(server.addr)];
    }
    drop(held);
    let log = server.stop().log;
    let told = log.matches("not accepting connections").count();
    let most = 1 + start.elapsed().as_secs() as usize / 10;
    assert!((1..=most).contains(&told), "{told} times, at most {most}: {log}");
}

/// Nothing to do is no work, on either side: a server without clients, and clients of a server that says nothing.
#[test]
fn at_rest_nobody_spins() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    get(&scratch, server.addr).arg("a").run().exits(0);
    let body = [b"OK".to_vec(), metadata("b", &[0; 5000]), vec![0; 1000]].concat();
    let stalling = [Vec::new(), b"OK".to_vec(), body].map(ScriptedServer::stalling_after);
    // Each into a file of its own: two of one would find its part locked, and not connect.
    let clients = stalling.each_ref().map(|stalling| {
        let path = format!("b-{}", stalling.addr.port());
        plain_get(&scratch, stalling.addr).args(["-o", &path, "b"]).spawn()
    });
    for stalling in &stalling {
        wait_for("the client", || stalling.connections() >= 1);
    }
    let pids: Vec<u32> = clients.iter().map(Running::pid).chain([server.pid()]).collect();
    let before: Vec<Duration> = pids.iter().map(|pid| process::cpu_time(*pid)).collect();
    std::thread::sleep(Duration::from_millis(1500));
    for (pid, before) in pids.iter().zip(before) {
        let used = process::cpu_time(*pid) - before;
        assert!(used < AT_REST, "{used:?} of a core in 1.5 s, with nothing to do");
    }
    server.stop_content();
}

/// At the limit the listener rests: no spinning on an event that cannot be dealt with.
#[test]
fn at_the_limit_of_connections_the_server_rests() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server =
        Server::start(serve(&scratch).args(["--max-conns", "2", "--max-conns-per-ip", "0", "--request-timeout", "5"]));
    let held: Vec<TcpStream> = (0..20).map(|_| dial(server.addr)).collect();
    wait_for("two connections", || server.log().matches("connection from ").count() == 2);
    let before = process::cpu_time(server.pid());
    std::thread::sleep(Duration::from_millis(1500));
    let used = process::cpu_time(server.pid()) - before;
    assert!(used < AT_REST, "{used:?} of a core in 1.5 s, with nothing to do");
    drop(held);
    get(&scratch, server.addr).arg("a").run().exits(0);
    server.stop();
}

/// 200 connections and 128 descriptors: those that do not fit wait, all are served, and nothing spins or ends.
#[test]
fn out_of_descriptors_it_goes_on() {
    let _cores = cores::all_cores();
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::start(serve(&scratch).args(["--max-conns-per-ip", "0"]).after("ulimit -n 128"));
    let mut held: Vec<TcpStream> = (0..200).map(|_| dial(server.addr)).collect();
    wait_for("as many connections as fit", || server.log().matches("connection from ").count() >= 32);
    let before = process::cpu_time(server.pid());
    std::thread::sleep(Duration::from_millis(1500));
    let used = process::cpu_time(server.pid()) - before;
    assert!(used < AT_REST, "{used:?} of a core in 1.5 s, with nothing to do");
    held.iter_mut().for_each(|stream| stream.write_all(&request(b"a")).unwrap());
    for stream in &mut held {
        assert!(read_to_end(stream).ends_with(b"body"));
    }
    let log = server.stop().log;
    assert_eq!(log.matches("reason: complete").count(), 200, "{log}");
}

/// What a careless parent has left open in the server is not counted on: there is a file for every socket all the same.
#[test]
fn inherited_descriptors_cost_nobody_the_file() {
    let _cores = cores::all_cores();
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    // Only bash opens descriptors above 9.
    let open = "for n in $(seq 10 69); do eval \"exec $n</dev/null\"; done; ulimit -n 128; exec \"$0\" \"$@\"";
    let line = format!("exec bash -c '{open}' \"$0\" \"$@\"");
    let server = Server::start(serve(&scratch).args(["--max-conns-per-ip", "0"]).after(&line));
    let mut held: Vec<TcpStream> = (0..60).map(|_| dial(server.addr)).collect();
    server.wait_for_log("not accepting connections for now: as many connections are open as the limits allow");
    held.iter_mut().for_each(|stream| stream.write_all(&request(b"a")).unwrap());
    for mut stream in held {
        assert!(read_to_end(&mut stream).ends_with(b"body"));
    }
    let log = server.stop().log;
    assert_eq!(log.matches("reason: complete").count(), 60, "{log}");
}

/// The soft limit of a shell is no reason to refuse anybody.
#[test]
fn the_soft_limit_of_descriptors_is_raised() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::start(serve(&scratch).after("ulimit -S -n 70"));
    let held: Vec<TcpStream> = (0..60).map(|_| dial(server.addr)).collect();
    wait_for("all connections", || server.log().matches("connection from ").count() == 60);
    assert!(ask(server.addr, b"a").ends_with(b"body"));
    drop(held);
    server.stop();
}

/// Sixty readers that do not read keep nobody from reading.
#[test]
fn slow_readers_do_not_slow_down_others() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    scratch.share_sparse("big", BIG);
    let server = Server::of(&scratch);
    let mut held: Vec<TcpStream> = (0..60).map(|_| dial_slowly(server.addr)).collect();
    held.iter_mut().for_each(|stream| stream.write_all(&request(b"big")).unwrap());
    held.iter_mut().for_each(|stream| drop(read_head(stream)));
    let start = Instant::now();
    assert!(ask(server.addr, b"a").ends_with(b"body"));
    assert!(start.elapsed() < Duration::from_secs(1), "after {:?}", start.elapsed());
    let before = process::cpu_time(server.pid());
    std::thread::sleep(Duration::from_millis(1000));
    let used = process::cpu_time(server.pid()) - before;
    assert!(used < AT_REST, "{used:?} of a core in 1 s, with nobody reading");
    server.signal(rustix::process::Signal::TERM);
}

/// A client that shuts down its sending side after the request still wants the answer.
#[test]
fn end_of_input_is_no_reason_to_drop_what_was_asked() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    let mut stream = dial(server.addr);
    stream.write_all(&request(b"a")).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(read_to_end(&mut stream).ends_with(b"body"));
    server.stop();
}

/// Bytes behind the request are a client's mistake; they must not cost it the answer.
#[test]
fn surplus_input_does_not_destroy_the_reply() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    for name in ["a", "none"] {
        let mut bytes = request(name.as_bytes());
        bytes.extend_from_slice(&[b'x'; 30_000]);
        let reply = crate::harness::wire::exchange(server.addr, &bytes);
        let whole = reply.ends_with(b"body") || reply.ends_with(b"' not found on server");
        assert!(whole, "{}", reply.escape_ascii());
    }
    server.stop();
}

/// 64 descriptors, and more clients than fit, of many addresses: who is served goes on, the server waits without
/// spinning and says so once, and a place that gets free is taken within a second.
#[test]
fn out_of_descriptors_transfers_go_on_and_places_are_taken_at_once() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    scratch.share_sparse("big", BIG);
    let server = Server::start(serve(&scratch).after("ulimit -n 64"));
    let accepted = || server.log().matches("connection from ").count();
    let mut running = dial_slowly(server.addr);
    running.write_all(&request(b"big")).unwrap();
    read_head(&mut running);
    let mut waiting: VecDeque<TcpStream> = (0..100).map(|n| dial_from(2 + n % 10, server.addr, None)).collect();
    server.wait_for_log("not accepting connections");
    let full = accepted();
    assert!((20..64).contains(&full), "{full} connections with 64 descriptors");
    let before = process::cpu_time(server.pid());
    std::thread::sleep(Duration::from_millis(1500));
    let used = process::cpu_time(server.pid()) - before;
    assert!(used < AT_REST, "{used:?} of a core in 1.5 s, with nothing to do");
    for freed in 1..=5 {
        let start = Instant::now();
        drop(waiting.pop_front());
        wait_for("the next one to be accepted", || accepted() == full + freed);
        assert!(start.elapsed() < Duration::from_secs(1), "after {:?}", start.elapsed());
    }
    assert_eq!(drain(&mut running), BIG, "the transfer that was running ends whole");
    drop((waiting, running));
    let log = server.stop().log;
    assert_eq!(log.matches("not accepting connections").count(), 1, "{log}");
    assert_eq!(log.matches("- WARN -").count(), 1, "{log}");
}
