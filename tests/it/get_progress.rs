//! SIGUSR1 to `xfer get`: one line that says how far it is, in every state, and it goes on.

use std::io::Write;
use std::net::SocketAddr;

use rustix::fs::OFlags;
use rustix::process::Signal;

use crate::harness::wire::ClosedPort;
use crate::harness::wire2::{self, Get};
use crate::harness::{Program, Running, Scratch, Server, get, wait_for};
use crate::scripted_server::{ScriptedServer, full_listener, hold};

const LEN: usize = 2 << 20;

/// Without a terminal, and with -q: somebody has asked.
fn quiet_get(scratch: &Scratch, addr: SocketAddr) -> Program {
    get(scratch, addr).args(["-q", "--timeout", "30"])
}

/// Asks until the answer is such a one: what the client does just before can take a moment.
fn assert_says(running: &mut Running, is_such: impl Fn(&str) -> bool) {
    running.wait_for_log("attempt 1");
    wait_for("the answer", || {
        assert!(!running.has_ended(), "the client ended: {}", running.stderr());
        running.signal(Signal::USR1);
        let said = running.stderr();
        said.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).any(&is_such)
    });
}

/// A server of version 2 that says so much to every request, and no more.
fn stalling(said: Vec<u8>) -> ScriptedServer {
    ScriptedServer::of_any_version(move |_, stream| {
        if Get::read(stream).is_some() && stream.write_all(&said).is_ok() {
            hold(stream);
        }
    })
}

#[test]
fn while_connecting() {
    let scratch = Scratch::new();
    let (listener, _queued) = full_listener();
    let addr = listener.local_addr().unwrap();
    let mut running = quiet_get(&scratch, addr).arg("a").spawn();
    assert_says(&mut running, |line| line == format!("connecting to {addr}"));
    running.finish_after(Signal::INT).exits(130);
}

#[test]
fn while_the_server_says_nothing() {
    let scratch = Scratch::new();
    let server = stalling(Vec::new());
    let mut running = quiet_get(&scratch, server.addr).arg("a").spawn();
    assert_says(&mut running, |line| line == format!("waiting for {} to answer", server.addr));
    running.finish_after(Signal::INT).exits(130);
}

#[test]
fn between_two_attempts() {
    let (scratch, port) = (Scratch::new(), ClosedPort::new());
    let mut running = quiet_get(&scratch, port.addr).arg("a").spawn();
    running.wait_for_log("attempt 3 of 5");
    assert_says(&mut running, |line| {
        ["retrying in 1 s (attempt 3 of 5): 'a'", "retrying in 2 s (attempt 3 of 5): 'a'"].contains(&line)
    });
    running.finish_after(Signal::INT).exits(130);
}

#[test]
fn while_bytes_come_and_while_none_do() {
    let scratch = Scratch::new();
    let body = vec![1; LEN];
    let server = stalling([wire2::File::of(&body).bytes(), wire2::data(&body[..LEN / 2])].concat());
    let mut running = quiet_get(&scratch, server.addr).arg("a").spawn();
    assert_says(&mut running, |line| line.starts_with("receiving 'a': 50% (1.0 MiB of 2.0 MiB), "));
    assert_says(&mut running, |line| line.starts_with("receiving 'a': 50% (1.0 MiB of 2.0 MiB), stalled "));
    running.finish_after(Signal::INT).exits(130);
}

#[test]
fn while_the_server_hashes() {
    let scratch = Scratch::new();
    let body = vec![1; LEN];
    let said = [wire2::File::of(&body).bytes(), wire2::data(&body), wire2::wait(LEN as u64 / 4, LEN as u64)].concat();
    let server = stalling(said);
    let mut running = quiet_get(&scratch, server.addr).arg("a").spawn();
    assert_says(&mut running, |line| line == "server hashing 'a': 25% (512.0 KiB of 2.0 MiB)");
    running.finish_after(Signal::INT).exits(130);
}

/// Somebody asks many times a second, and nobody reads the answers: a write to the full console is given up all the same.
#[test]
fn at_a_full_console() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    let (_reader, mut writer) = std::io::pipe().unwrap();
    rustix::fs::fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    rustix::fs::fcntl_setfl(&writer, OFlags::empty()).unwrap();
    let mut running = get(&scratch, server.addr).arg("a").stderr(writer).spawn();
    wait_for("the file", || scratch.out().join("a").exists());
    wait_for("the end", || {
        // The process is ours until its end is waited for, which happens here.
        running.has_ended() || {
            running.signal(Signal::USR1);
            false
        }
    });
    running.finish().exits(0);
    server.stop();
}

#[test]
fn while_the_target_is_compared() {
    let scratch = Scratch::new();
    let size = 50 << 30;
    scratch.share_sparse("a", size);
    scratch.write("out/a", b"");
    std::fs::File::options().write(true).open(scratch.out().join("a")).unwrap().set_len(size).unwrap();
    let server = Server::of(&scratch);
    let mut running = quiet_get(&scratch, server.addr).arg("a").spawn();
    // Both ends hash: either may be shown.
    assert_says(&mut running, |line| line.ends_with(" of 50.0 GiB)") && line.contains(" 'a': "));
    running.finish_after(Signal::INT).exits(130);
    server.stop();
}

#[test]
fn of_several_files() {
    let scratch = Scratch::new();
    let body = vec![1; LEN];
    let server = ScriptedServer::of_any_version(move |_, stream| {
        while let Some(get) = Get::read(stream) {
            match &get.name[..] {
                b"none" => drop(stream.write_all(&wire2::error(wire2::NOT_FOUND, "no"))),
                b"a" => drop(stream.write_all(&wire2::honest_reply(&get, &body))),
                b"b" => {
                    let _ = stream.write_all(&wire2::File::of(&body).bytes());
                    let _ = stream.write_all(&wire2::data(&body[..LEN / 4]));
                }
                _ => hold(stream),
            }
        }
    });
    let mut running = quiet_get(&scratch, server.addr).args(["none", "a", "b", "c"]).spawn();
    let expected = "2 of 4 files, 2.5 MiB: receiving 'b': 25% (512.0 KiB of 2.0 MiB), ";
    assert_says(&mut running, |line| line.starts_with(expected));
    running.finish_after(Signal::INT).exits(130);
}

/// A program gets an object.
#[test]
fn as_json() {
    let scratch = Scratch::new();
    let server = stalling(Vec::new());
    let mut running = quiet_get(&scratch, server.addr).args(["--progress", "json", "a"]).spawn();
    assert_says(&mut running, |line| {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        object["event"] == "progress" && object["state"] == "asking" && object["files_known"] == 1
    });
    running.finish_after(Signal::INT).exits(130);
}

/// From its first moment to its last, however often somebody asks.
#[test]
fn it_never_ends_a_run() {
    let scratch = Scratch::new();
    scratch.share("a", &[1; LEN]);
    let server = Server::of(&scratch);
    let mut asked = 0;
    for _ in 0..20 {
        let mut running = get(&scratch, server.addr).args(["--force", "-q", "a"]).spawn();
        // Nothing can be promised before the program has come to its first line.
        wait_for("the handler", || catches_usr1(&running) || running.has_ended());
        while !running.has_ended() {
            running.signal(Signal::USR1);
            asked += 1;
        }
        running.finish().exits(0);
    }
    assert!(asked > 0, "no run was asked");
    server.stop();
}

/// Whether a process catches SIGUSR1 (proc(5), SigCgt).
fn catches_usr1(running: &Running) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or_default();
    u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & (1 << (Signal::USR1.as_raw() - 1)) != 0)
}

/// While a list of names is still being read.
#[test]
fn before_the_first_name_is_known() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    let (reader, mut writer) = std::io::pipe().unwrap();
    let program = get(&scratch, server.addr).args(["--from-file", "-"]).stdin(reader);
    let running = program.spawn();
    wait_for("the handler", || catches_usr1(&running));
    running.signal(Signal::USR1);
    writer.write_all(b"a\n").unwrap();
    drop(writer);
    running.finish().exits(0);
    server.stop();
}

/// Somebody who starts it with SIGUSR1 ignored does not want to hear of it.
#[test]
fn an_ignored_signal_stays_ignored() {
    let scratch = Scratch::new();
    let server = stalling(Vec::new());
    let running = quiet_get(&scratch, server.addr).arg("a").after("trap '' USR1").spawn();
    running.wait_for_log("attempt 1");
    running.signal(Signal::USR1);
    let outcome = running.finish_after(Signal::TERM);
    outcome.exits(143).stderr_lacks("waiting for ");
}
