//! Signals to `xfer get`: an end within a second in every state, with the exit code of the signal.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, mkfifoat};
use rustix::process::Signal;

use crate::harness::wire::{ClosedPort, metadata};
use crate::harness::wire2::{self, Get};
use crate::harness::{Running, Scratch, Server, content, cores, get, plain_get, process, wait_for};
use crate::scripted_server::{ScriptedServer, full_listener, hold};

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

/// A server of version 2 that says so much to every request, and no more.
fn stalling_v2(said: Vec<u8>) -> ScriptedServer {
    ScriptedServer::of_any_version(move |_, stream| {
        if Get::read(stream).is_some() && stream.write_all(&said).is_ok() {
            hold(stream);
        }
    })
}

fn assert_ends_in_version_2(said: Vec<u8>, reached: impl Fn(&Scratch) -> bool) {
    let server = stalling_v2(said);
    let connections = std::cell::Cell::new(0);
    assert_ends(server.addr, |_, scratch| {
        connections.set(connections.get() + 1);
        wait_for("the state", || server.connections() == connections.get() && reached(scratch));
    });
}

fn part_is_there(scratch: &Scratch) -> bool {
    scratch.out().join(".a.xfer-part").exists()
}

#[test]
fn while_waiting_for_the_reply_in_version_2() {
    assert_ends_in_version_2(Vec::new(), |_| true);
}

/// Bytes of a file that has a part before all of it is there, and of one that is held in memory until then.
const LARGE: usize = 2_000_000;
const SMALL: usize = 1000;

#[test]
fn behind_file_in_version_2() {
    assert_ends_in_version_2(wire2::File::of(&[1; LARGE]).bytes(), part_is_there);
    assert_ends_in_version_2(wire2::File::of(&[1; SMALL]).bytes(), |_| true);
}

#[test]
fn within_data_in_version_2() {
    for (len, reached) in [(LARGE, part_is_there as fn(&Scratch) -> bool), (SMALL, |_| true)] {
        let data = wire2::data(&vec![1; len]);
        assert_ends_in_version_2([wire2::File::of(&vec![1; len]).bytes(), data[..500].to_vec()].concat(), reached);
    }
}

#[test]
fn while_waiting_for_the_digest_in_version_2() {
    for (len, reached) in [(LARGE, part_is_there as fn(&Scratch) -> bool), (SMALL, |_| true)] {
        let body = vec![1; len];
        let said = [wire2::File::of(&body).bytes(), wire2::data(&body), wire2::wait(1, len as u64)].concat();
        assert_ends_in_version_2(said, reached);
    }
}

/// A file that is there already is digested: that takes long for this one.
#[test]
fn while_comparing() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    let size = 50 << 30;
    scratch.share_sparse("a", size);
    scratch.write("out/a", b"");
    let target = fs::File::options().write(true).open(scratch.out().join("a")).unwrap();
    target.set_len(size).unwrap();
    let server = Server::of(&scratch);
    for (signal, code) in SIGNALS {
        let running = get(&scratch, server.addr).arg("a").spawn();
        wait_for("the digesting", || process::try_user_time(running.pid()) > Some(Duration::from_millis(100)));
        running.finish_after(signal).exits(code).took_less_than(Duration::from_secs(1));
        assert_eq!(scratch.names("out"), ["a"], "no part is left");
    }
    server.stop();
}

/// What has come is on its way to a reader that does not read, and the thread that writes it waits for that one.
#[test]
fn while_its_output_is_not_read() {
    let _cores = cores::quiet_cores();
    let scratch = Scratch::new();
    scratch.share("a", &content(3, 3_000_000));
    let server = Server::of(&scratch);
    let fifo = scratch.path("fifo");
    mkfifoat(CWD, &fifo, Mode::from_raw_mode(0o600)).unwrap();
    for (signal, code) in SIGNALS {
        let reader = fs::File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(&fifo);
        let reader = reader.unwrap();
        let running = plain_get(&scratch, server.addr).arg("-o").arg(&fifo).arg("a").spawn();
        // A pipe takes 64 KiB, if the user has not too many of them, and a page at least.
        wait_for("a full pipe", || rustix::io::ioctl_fionread(&reader).unwrap() >= 4096);
        running.wait_for_log("attempt 1");
        let outcome = running.finish_after(signal);
        outcome.exits(code).has_one_error_line().took_less_than(Duration::from_secs(1));
    }
    server.stop();
}

/// The second wait, because the first one ends within the second that is measured here.
#[test]
fn between_two_attempts() {
    let port = ClosedPort::new();
    assert_ends(port.addr, |running, _| running.wait_for_log("; retrying in 2 s (attempt 3 of 5)"));
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
