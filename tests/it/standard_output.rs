//! Standard output that is full, closed, or non-blocking: what was to be printed arrives, or the run says that it is lost.

use std::fs::{self, File};
use std::io::{BufRead, PipeReader, PipeWriter, Read};
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::harness::{Program, Running, Scratch, Server, content, get, plain_get, process, serve, wait_for};

fn full_device() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

/// A pipe that takes no byte, and says EAGAIN to who tries; and how many bytes are in it.
fn full_pipe() -> (PipeReader, PipeWriter, usize) {
    let (reader, writer) = std::io::pipe().unwrap();
    fcntl_setfl(&writer, fcntl_getfl(&writer).unwrap() | OFlags::NONBLOCK).unwrap();
    let mut filled = 0;
    for size in [4096, 1] {
        loop {
            match rustix::io::write(&writer, &vec![b'.'; size]) {
                Ok(n) => filled += n,
                Err(Errno::AGAIN) => break,
                Err(error) => panic!("cannot fill a pipe: {error}"),
            }
        }
    }
    (reader, writer, filled)
}

/// What the process writes into the pipe, once it has met that there is no room.
fn drain(running: &mut Running, mut reader: PipeReader, filled: usize) -> Vec<u8> {
    wait_for("the program to wait for room", || {
        assert!(!running.has_ended(), "it ended, and all that it had to print is lost");
        process::is_asleep(running.pid())
    });
    let mut bytes = vec![0; filled];
    reader.read_exact(&mut bytes).unwrap();
    let mut printed = Vec::new();
    reader.read_to_end(&mut printed).unwrap();
    printed
}

fn called(scratch: &Scratch, name: &str) -> Program {
    let path = scratch.path(name);
    if !path.exists() {
        symlink(Path::new(env!("CARGO_BIN_EXE_xfer")), &path).unwrap();
    }
    Program::xfer(scratch).called(&path)
}

#[test]
fn help_and_version_that_are_lost_are_a_failure() {
    let scratch = Scratch::new();
    let cases: [(&str, &[&str], i32); 12] = [
        ("xfer", &["--version"], 5),
        ("xfer", &["-V"], 5),
        ("xfer", &["--help"], 5),
        ("xfer", &["-h"], 5),
        ("xfer", &["help"], 5),
        ("xfer", &["get", "--help"], 5),
        ("xfer", &["get", "--version"], 5),
        ("xfer", &["serve", "--help"], 1),
        ("xfer", &["serve", "--version"], 1),
        ("xfer-get", &["--help"], 5),
        ("xfer-get", &["--version"], 5),
        ("xfer-serve", &["--version"], 1),
    ];
    for (name, args, exit) in cases {
        let outcome = called(&scratch, name).args(args).stdout(full_device()).run();
        outcome.exits(exit).has_one_error_line().stderr_has("cannot write to standard output: the disk is full");
        // A reader that has gone has what it wanted: xfer --help | head -1.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let outcome = called(&scratch, name).args(args).stdout(writer).run();
        outcome.exits(0).assert(outcome.stderr.is_empty(), "nothing on stderr");
    }
}

#[test]
fn help_into_a_full_pipe_that_does_not_block_waits_for_room() {
    let scratch = Scratch::new();
    for args in [&["--version"][..], &["--help"], &["get", "--help"], &["serve", "--help"]] {
        let whole = Program::xfer(&scratch).args(args).run();
        let (reader, writer, filled) = full_pipe();
        let mut running = Program::xfer(&scratch).args(args).stdout(writer).spawn();
        let printed = drain(&mut running, reader, filled);
        let outcome = running.finish();
        outcome.exits(0).assert(printed == whole.stdout, "all of it");
    }
}

/// A program waits for this line.
#[test]
fn a_server_that_cannot_say_that_it_listens_fails() {
    let scratch = Scratch::new();
    let outcome = serve(&scratch).arg("-q").stdout(full_device()).run();
    outcome.exits(1).has_one_error_line().stderr_has("cannot write to standard output: the disk is full");
    outcome.log_has("cannot write to standard output");
}

#[test]
fn a_server_whose_standard_output_nobody_reads_runs() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let running = serve(&scratch).stdout(writer).spawn();
    running.wait_for_stderr("to fetch on this machine (replace NAME): ");
    let stderr = running.stderr();
    let addr = stderr.split(" on ").find_map(|rest| rest.split(": ").next()?.parse::<SocketAddr>().ok());
    get(&scratch, addr.expect("an address")).arg("a").run().exits(0);
    running.finish_after(Signal::TERM).exits(0);
}

#[test]
fn a_server_waits_for_room_for_its_line() {
    let scratch = Scratch::new();
    let (reader, writer, filled) = full_pipe();
    let mut running = serve(&scratch).stdout(writer).spawn();
    running.wait_for_log("sandbox");
    wait_for("the server to wait for room", || process::is_asleep(running.pid()));
    // Signals that end no server do not end its wait either.
    for signal in [Signal::HUP, Signal::USR1] {
        running.signal(signal);
        wait_for("the server to wait again", || process::is_asleep(running.pid()));
    }
    assert!(!running.has_ended());
    let mut reader = reader;
    reader.read_exact(&mut vec![0; filled]).unwrap();
    let line = std::thread::spawn(move || std::io::BufReader::new(reader).lines().next());
    wait_for("the line to come", || line.is_finished());
    let line = line.join().unwrap().expect("a line").unwrap();
    assert!(line.starts_with("listening on 127.0.0.1:"), "{line:?}");
    running.finish_after(Signal::TERM).exits(0);
}

/// Nobody reads, and nobody ever will.
#[test]
fn a_signal_ends_a_server_that_waits_for_room_for_its_line() {
    let scratch = Scratch::new();
    let (_reader, writer, _) = full_pipe();
    let running = serve(&scratch).stdout(writer).spawn();
    running.wait_for_log("sandbox");
    wait_for("the server to wait", || process::is_asleep(running.pid()));
    running.finish_after(Signal::TERM).exits(0);
}

#[test]
fn a_file_into_a_full_pipe_that_does_not_block() {
    let scratch = Scratch::new();
    let body = content(1, 1_000_000);
    scratch.share("a", &body);
    let server = Server::of(&scratch);
    let (mut reader, writer, filled) = full_pipe();
    let running = plain_get(&scratch, server.addr).args(["-o", "-", "a"]).stdout(writer).spawn();
    running.wait_for_log("attempt 1");
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    running.finish().exits(0).stderr_has("verified");
    assert!(bytes[filled..] == body, "{} bytes, behind {filled}", bytes.len());
    server.stop_content();
}

#[test]
fn a_file_into_a_full_device_is_lost() {
    let scratch = Scratch::new();
    scratch.share("small", b"body");
    scratch.share("a", &content(1, 500_000));
    let server = Server::of(&scratch);
    for name in ["small", "a"] {
        let outcome = plain_get(&scratch, server.addr).args(["-o", "-", name]).stdout(full_device()).run();
        outcome.exits(5).has_one_error_line().stderr_has("standard output: the disk is full");
    }
}

/// The file is saved, and the program that asked for lines learns by the exit code that it does not have all of them.
#[test]
fn lines_for_programs_that_are_lost_are_a_failure() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    let json_get = |name: &str| get(&scratch, server.addr).args(["--progress", "json", "--force", name]);
    let lost = "lines of --progress json were lost";
    json_get("a").stderr(full_device()).run().exits(5).log_has(lost).log_has("/out/a: 4 bytes, ");
    assert_eq!(fs::read(scratch.path("out/a")).unwrap(), b"body");
    // Another failure keeps its code.
    json_get("none").stderr(full_device()).run().exits(1).log_has(lost);
    // Nobody wants them, or nobody asked for them.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    json_get("a").stderr(writer).run().exits(0);
    get(&scratch, server.addr).args(["--force", "a"]).stderr(full_device()).run().exits(0);
    server.stop();
}

/// As above, where the reader sleeps: one that wakes up in time finds the line that says so.
#[test]
fn lines_for_programs_that_nobody_takes_in_time_are_lost() {
    let scratch = Scratch::new();
    scratch.share("a", b"body");
    let server = Server::of(&scratch);
    let (reader, writer, _) = full_pipe();
    let outcome = get(&scratch, server.addr).args(["--progress", "json", "a"]).stderr(writer).run();
    outcome
        .exits(5)
        .log_has("lines of --progress json were lost: standard error did not accept them; all files were fetched");
    assert_eq!(fs::read(scratch.path("out/a")).unwrap(), b"body");
    drop(reader);
    server.stop_content();
}
