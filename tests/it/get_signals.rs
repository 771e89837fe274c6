//! Signals to `xfer get`: an end within a second in every state, with the exit code of the signal.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::wire::{ClosedPort, metadata};
use crate::harness::{Running, Scratch, content, cores, get, wait_for};
use crate::scripted_server::{ScriptedServer, full_listener};

const SIGNALS: [(Signal, i32); 3] = [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)];

/// Starts a client for each signal, waits until it is in the state, and ends it.
fn assert_ends(addr: SocketAddr, reached: impl Fn(&Running, &Scratch)) {
    let _cores = cores::quiet_cores();
    for (signal, code) in SIGNALS {
        let scratch = Scratch::new();
        let running = get(&scratch, addr).args(["--timeout", "30", "a"]).spawn();
        running.wait_for_log("attempt 1 of 5");
        reached(&running, &scratch);
        let outcome = running.finish_after(signal);
        outcome.exits(code).took_less_than(Duration::from_secs(1)).prints_nothing_on_stdout();
        let is_part = |name: &String| name.starts_with(".a.xfer-part");
        outcome.assert(scratch.names("out").iter().all(is_part), "nothing under the right name");
    }
}

#[test]
fn while_connecting() {
    let (listener, _queued) = full_listener();
    assert_ends(listener.local_addr().unwrap(), |_, _| ());
}

#[test]
fn while_waiting_for_the_status() {
    let server = ScriptedServer::stalling_after(Vec::new());
    let connections = std::cell::Cell::new(0);
    assert_ends(server.addr, |_, _| {
        connections.set(connections.get() + 1);
        wait_for("the connection", || server.connections() == connections.get());
    });
}

#[test]
fn while_waiting_for_the_metadata() {
    let server = ScriptedServer::stalling_after(b"OK".to_vec());
    let connections = std::cell::Cell::new(0);
    assert_ends(server.addr, |_, _| {
        connections.set(connections.get() + 1);
        wait_for("the connection", || server.connections() == connections.get());
    });
}

#[test]
fn in_the_middle_of_the_body() {
    let body = content(1, 4_000_000);
    let half = body[..2_000_000].to_vec();
    let server = ScriptedServer::stalling_after([b"OK".to_vec(), metadata("a", &body), half].concat());
    assert_ends(server.addr, |_, scratch| {
        let part = scratch.out().join(".a.xfer-part");
        wait_for("the part to grow", || fs::metadata(&part).is_ok_and(|meta| meta.len() > 0));
    });
}

/// The second wait, because the first one ends within the second that is measured here.
#[test]
fn between_two_attempts() {
    let port = ClosedPort::new();
    assert_ends(port.addr, |running, _| running.wait_for_log("waiting 2 s before attempt 3"));
}

/// The old file stays what it was, and a later run succeeds.
#[test]
fn an_interrupted_get_can_be_run_again() {
    let scratch = Scratch::new();
    let body = content(1, 4_000_000);
    let target = scratch.write("out/a", b"old body");
    let half = body[..2_000_000].to_vec();
    let server = ScriptedServer::stalling_after([b"OK".to_vec(), metadata("a", &body), half].concat());
    let running = get(&scratch, server.addr).arg("a").spawn();
    let part = scratch.out().join(".a.xfer-part");
    wait_for("the part to grow", || fs::metadata(&part).is_ok_and(|meta| meta.len() > 0));
    running.finish_after(Signal::INT).exits(130);
    assert_eq!(fs::read(&target).unwrap(), b"old body");
    let honest = ScriptedServer::answering(metadata("a", &body), body.clone());
    get(&scratch, honest.addr).arg("a").run().exits(0).stderr_has("verified");
    assert!(fs::read(&target).unwrap() == body);
    assert_eq!(scratch.names("out"), ["a"], "the part became the file");
}

/// Killed without a chance to say anything: the next run must cope with what lies there.
#[test]
fn a_killed_get_can_be_run_again() {
    let scratch = Scratch::new();
    let body = content(2, 4_000_000);
    let half = body[..2_000_000].to_vec();
    let server = ScriptedServer::stalling_after([b"OK".to_vec(), metadata("a", &body), half].concat());
    let running = get(&scratch, server.addr).arg("a").spawn();
    let part = scratch.out().join(".a.xfer-part");
    wait_for("the part to grow", || fs::metadata(&part).is_ok_and(|meta| meta.len() > 0));
    running.finish_after(Signal::KILL);
    assert!(!scratch.out().join("a").exists());
    let honest = ScriptedServer::answering(metadata("a", &body), body.clone());
    get(&scratch, honest.addr).arg("a").run().exits(0).stderr_has("verified");
    assert!(fs::read(scratch.out().join("a")).unwrap() == body);
    assert_eq!(scratch.names("out"), ["a"]);
}

/// Nobody reads what it prints about its retries.
#[test]
fn while_its_console_is_full() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    let port = ClosedPort::new();
    let (_reader, mut writer) = std::io::pipe().unwrap();
    rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::NONBLOCK).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::empty()).unwrap();
    let program = get(&scratch, port.addr).args(["--retries", "0", "--max-backoff", "0.01", "a"]).stderr(writer);
    let running = program.spawn();
    running.wait_for_log("attempt 20");
    running.finish_after(Signal::TERM).exits(143).took_less_than(Duration::from_secs(1));
}
