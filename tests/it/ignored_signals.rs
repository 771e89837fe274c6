//! Signals that were ignored when a program was started, as nohup(1) and `&` in a script do: they stay so.

use std::io::Write;

use rustix::process::Signal;

use crate::harness::wire::{ClosedPort, dial_slowly, drain, read_head, request};
use crate::harness::{Scratch, Server, get, serve, wait_for};

/// Far more than the kernel takes in for a reader that does not read.
const BIG: u64 = 100_000_000;

fn server_ignoring(signals: &str, scratch: &Scratch) -> Server {
    Server::start(serve(scratch).after(&format!("trap '' {signals}")))
}

/// A signal that comes behind an ignored one has been heard: the other would have been by then.
fn wait_for_status(server: &Server) {
    let before = server.log().matches("status: ").count();
    server.signal(Signal::USR1);
    wait_for("a line of status", || server.log().matches("status: ").count() > before);
}

/// `nohup xfer serve`: the end of the session is no reason to do anything.
#[test]
fn a_server_started_by_nohup_ignores_sighup() {
    let scratch = Scratch::new();
    let server = server_ignoring("HUP", &scratch);
    server.signal(Signal::HUP);
    wait_for_status(&server);
    let outcome = server.stop_content();
    outcome.log_lacks("reopened").log_has("SIGHUP was ignored at the start");
}

/// A script that ends by Ctrl-C leaves what it has put into the background.
#[test]
fn a_server_in_the_background_of_a_script_ignores_sigint() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = server_ignoring("INT QUIT", &scratch);
    server.signal(Signal::INT);
    wait_for_status(&server);
    get(&scratch, server.addr).arg("a").run().exits(0);
    server.stop_content().log_lacks("stopping: SIGINT").log_has("SIGINT was ignored at the start");
}

#[test]
fn a_server_ignores_what_else_it_was_told_to() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = server_ignoring("TERM USR1", &scratch);
    server.signal(Signal::USR1);
    server.signal(Signal::TERM);
    // In the order in which they came, or at least later than those.
    server.signal(Signal::HUP);
    server.wait_for_log("reopened the directory");
    get(&scratch, server.addr).arg("a").run().exits(0);
    let outcome = server.into_running().finish_after(Signal::INT);
    outcome.exits(0).log_lacks("status: ").log_has("SIGTERM, SIGUSR1 were ignored at the start");
}

/// An ignored one counts neither as the first nor as the second of the two that end a server.
#[test]
fn an_ignored_signal_is_no_second_one() {
    let scratch = Scratch::new();
    scratch.share_sparse("big", BIG);
    let server = server_ignoring("INT", &scratch);
    let mut reader = dial_slowly(server.addr);
    reader.write_all(&request(b"big")).unwrap();
    assert_eq!(read_head(&mut reader).size, BIG);
    server.signal(Signal::INT);
    server.signal(Signal::TERM);
    server.wait_for_log("stopping: ");
    server.signal(Signal::INT);
    wait_for_status(&server);
    assert_eq!(drain(&mut reader), BIG);
    drop(reader);
    server.into_running().finish().exits(0).log_has("reason: complete");
}

/// Nothing is said of signals where none is ignored.
#[test]
fn a_server_hears_all_of_its_signals_otherwise() {
    let scratch = Scratch::new();
    let server = Server::of(&scratch);
    server.signal(Signal::HUP);
    server.wait_for_log("reopened the directory");
    wait_for_status(&server);
    server.into_running().finish_after(Signal::INT).exits(0).log_lacks("ignored");
}

#[test]
fn a_client_ignores_what_it_was_told_to() {
    let scratch = Scratch::new();
    let port = ClosedPort::new();
    for (ignored, signal, heard, code) in
        [("HUP", Signal::HUP, Signal::INT, 130), ("INT QUIT", Signal::INT, Signal::TERM, 143)]
    {
        let program = get(&scratch, port.addr).args(["--retries", "0", "--max-backoff", "0.1", "a"]);
        let running = program.after(&format!("trap '' {ignored}")).spawn();
        running.wait_for_log("attempt 2:");
        running.signal(signal);
        let before = running.log().matches(" - attempt ").count();
        // Each attempt looks for signals, and so does each wait between two.
        wait_for("further attempts", || running.log().matches(" - attempt ").count() > before + 2);
        running.finish_after(heard).exits(code);
        std::fs::remove_file(scratch.path("client.log")).unwrap();
    }
}
