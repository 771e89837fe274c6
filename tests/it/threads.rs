//! A limit on threads, as a service manager or a container has one: the client makes do with those it gets.

use std::fs;
use std::os::unix::process::ExitStatusExt;

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::Signal;

use crate::harness::{Cut, Plan, Program, Relay, Scratch, Server, content, process, wait_for};

/// A client that may have so many threads, its own first one included. For root there is no such limit; nobody runs
/// nothing else.
fn limited(scratch: &Scratch, threads: u32) -> Program {
    // Its name differs from shell to shell.
    let limit = format!("ulimit -u {threads} 2>/dev/null || ulimit -p {threads} || exit 99");
    let program = Program::xfer(scratch).arg("get").unprivileged(scratch).after(&limit);
    program.log_file(scratch.path(format!("client-{threads}.log")))
}

/// Bytes of a file that has a journal, and where its first transfer breaks off.
const LARGE: usize = 34_000_000;
const BROKEN_AT: u64 = 33_600_000;

#[test]
fn a_run_makes_do_with_few_threads_or_none() {
    let scratch = Scratch::for_everybody();
    let large = content(1, LARGE);
    scratch.share("large", &large);
    let small: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    small.iter().for_each(|name| drop(scratch.share(name, name.as_bytes())));
    let server = Server::of(&scratch);
    for threads in [1, 2, 3, 5, 20] {
        let out = scratch.path(format!("out-{threads}"));
        // A name, which has to be looked up; and a part, which has to be read.
        let host = format!("localhost:{}", server.addr.port());
        let relay = Relay::of(server.addr, Plan::cut(BROKEN_AT, Cut::Close));
        let broken = format!("localhost:{}", relay.addr.port());
        let first = limited(&scratch, threads).args(["-H", &broken, "--retries", "1", "large", "-d"]).arg(&out).run();
        first.exits(3).stderr_has("; kept ");
        let outcome = limited(&scratch, threads).args(["-H", &host, "large", "-d"]).arg(&out).args(&small).run();
        outcome.exits(0).stderr_has("101 of 101 saved").stderr_has("resuming 'large' at 98%");
        assert!(fs::read(out.join("large")).unwrap() == large);
        small.iter().for_each(|name| assert_eq!(fs::read(out.join(name)).unwrap(), name.as_bytes()));
        if threads == 1 {
            outcome.log_has("cannot start a thread (write)").log_has("cannot start a thread (commit)");
        }
    }
    server.stop_blaming_peers();
}

/// Without a thread that opens a pipe, or hashes, nobody else would see a signal.
#[test]
fn a_client_without_threads_can_be_stopped() {
    let scratch = Scratch::for_everybody();
    scratch.share("a", b"body");
    let fifo = scratch.path("fifo");
    mkfifoat(CWD, &fifo, Mode::from_raw_mode(0o666)).unwrap();
    fs::set_permissions(&fifo, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let server = Server::of(&scratch);
    let host = server.addr.to_string();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut running = limited(&scratch, 1).args(["-H", &host, "a", "-o"]).arg(&fifo).spawn();
        running.wait_for_log("cannot start a thread (write)");
        assert_eq!(process::threads(running.pid()), 1);
        // One that comes before the pipe is being opened is seen by nobody yet, and the next one ends it.
        wait_for("its end", || {
            running.signal(signal);
            running.has_ended()
        });
        let outcome = running.finish();
        let status = (outcome.status.signal(), outcome.status.code());
        let expected = [(Some(signal.as_raw()), None), (None, Some(128 + signal.as_raw()))];
        outcome.assert(expected.contains(&status), "ended by the signal");
        fs::remove_file(scratch.path("client-1.log")).unwrap();
    }
    server.stop();
}
